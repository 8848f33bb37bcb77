_base_ = './real_photos_base.py'
vocabulary = 'pascal_context_59'
test_dataloader = dict(
    dataset=dict(type='PascalContextDataset59', data_root='../shared/mini/context59_mini')
)
model = dict(decode_head=dict(text=dict(file='../shared/mini/text_context59.npy')))
