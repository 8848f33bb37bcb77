default_scope = 'mmseg'
default_hooks = dict(
    timer=None,
    param_scheduler=None,
    checkpoint=None,
    logger=None,
    runtime_info=dict(type='RuntimeInfoHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
custom_hooks = [dict(type='ProgressHook')]
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
visualizer = dict(type='Visualizer')
test_cfg = dict()
test_evaluator = dict(type='IoUMetric')
