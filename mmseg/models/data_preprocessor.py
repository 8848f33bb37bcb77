from typing import Any

from mmengine.model import BaseDataPreprocessor


class SegDataPreprocessor(BaseDataPreprocessor):
    """Move a batch of photos and their samples to the model's device.

    Photos may differ in size and stay a list of uint8 tensors: networks normalise and pad by
    themselves, each with its own mean and std.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Move {'inputs': [(3, H, W) uint8], 'data_samples': [SegDataSample]}."""
        inputs, samples = (
            [item.to(self.device, non_blocking=True) for item in data[name]]
            for name in ('inputs', 'data_samples')
        )
        return dict(data, inputs=inputs, data_samples=samples)
