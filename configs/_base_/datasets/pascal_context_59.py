_base_ = './520_whole.py'
vocabulary = 'pascal_context_59'
test_dataloader = dict(dataset=dict(type='PascalContextDataset59'))
