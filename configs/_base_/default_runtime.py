default_scope = 'mmseg'
custom_hooks = [dict(type='ProgressHook')]
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
visualizer = dict(type='Visualizer')
test_cfg = dict(type='SegTestLoop', precision='fp32')
test_evaluator = dict(type='IoUMetric')
