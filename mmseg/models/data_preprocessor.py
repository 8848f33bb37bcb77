from mmengine.model import BaseDataPreprocessor


class SegDataPreprocessor(BaseDataPreprocessor):
    """Move a batch of photos and their samples to the model's device.

    Photos may differ in size and stay a list of uint8 tensors: the CLIP towers normalise and pad by
    themselves, each with its own mean and std.
    """

    def forward(self, data, training=False):
        """{'inputs': [(3, H, W) uint8], 'data_samples': [SegDataSample]} -> the same."""
        return dict(
            data,
            inputs=[image.to(self.device, non_blocking=True) for image in data['inputs']],
            data_samples=[sample.to(self.device) for sample in data['data_samples']],
        )
