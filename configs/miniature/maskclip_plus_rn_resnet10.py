# Of labels that its teacher wrote before (docs/students.md).
_base_ = [
    '../_base_/datasets/miniature_unlabeled.py',
    '../_base_/students/miniature_resnet10.py',
    '../_base_/schedules/miniature_300_muon.py',
    '../_base_/miniature_runtime.py',
]
teacher = './best_labels_rn.py'
train_dataloader = dict(batch_size=8, dataset=dict(scenes=2000))
model = dict(robust_loss=dict(balance=0.5))
