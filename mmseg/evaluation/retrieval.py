import torch
from mmengine.evaluator import BaseMetric

from mmseg.registry import METRICS


@METRICS.register_module()
class RetrievalMetric(BaseMetric):
    """Share of images whose own caption is the nearest, or among the five nearest, of all captions.

    Equal captions count once.
    """

    default_prefix = ''
    names = ('R@1', 'R@5')

    def process(self, data_batch, data_samples):
        """Collect the samples' `image_embedding`, `text_embedding` and `caption`."""
        for sample in data_samples:
            self.results.append(
                (
                    sample['caption'],
                    sample['image_embedding'].cpu(),
                    sample['text_embedding'].cpu(),
                )
            )

    def compute_metrics(self, results):
        """-> {'R@1', 'R@5'} in fractions"""
        first = {caption: text for caption, _, text in reversed(results)}
        captions = list(first)
        scores = (
            torch.stack([image for _, image, _ in results]) @ torch.stack(list(first.values())).T
        )
        own = torch.tensor([captions.index(caption) for caption, _, _ in results])
        rank = (scores > scores.gather(1, own[:, None])).sum(dim=1)
        return {f'R@{k}': round((rank < k).float().mean().item(), 4) for k in (1, 5)}
