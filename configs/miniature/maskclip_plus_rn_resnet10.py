# Of labels that its teacher wrote before (docs/students.md).
_base_ = [
    '../_base_/datasets/miniature_unlabeled_double.py',
    '../_base_/students/miniature_resnet10.py',
    '../_base_/schedules/miniature_300.py',
    '../_base_/miniature_runtime.py',
]
teacher = './best_labels_rn.py'
model = dict(robust_loss=dict(balance=0.5))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
