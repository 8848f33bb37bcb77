"""Train CLIP: images and captions in, two towers of one space out (ICML 2021)."""

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor

from mmseg.clip import LoadedCLIP, load_clip
from mmseg.evaluation.functional import name_the_same
from mmseg.structures import SegDataSample
from mmseg.utils import Settings

from .build import builds


class ClipPretraining(BaseModel):
    """Train the towers of a CLIP on images and captions.

    Captions that name the same are positives of each other's images.
    """

    def __init__(self, clip: LoadedCLIP, /) -> None:
        super().__init__(data_preprocessor=BaseDataPreprocessor(non_blocking=True))
        self.clip: Any = clip.model
        self.context = clip.text_cfg.get('context_length', 77)
        for name in ('mean', 'std'):
            values = torch.tensor(getattr(clip, name)).view(3, 1, 1) * 255
            self.register_buffer(name, values, persistent=False)

    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: Sequence[SegDataSample],
        mode: str = 'tensor',
        **context: Any,
    ) -> Any:
        """[(3, S, S) uint8], samples -> {name: ()}, or samples with embeddings

        Samples have `caption` and, for the loss, `named`.
        """
        captions = [sample.caption for sample in data_samples]
        image, text = self.embed(torch.stack(list(inputs)), captions)
        if mode == 'loss':
            positive = name_the_same([sample.named for sample in data_samples], image.device)
            scale = self.clip.logit_scale.exp().clamp(max=100)
            return contrastive_loss(scale * image @ text.T, positive)
        for sample, *pair in zip(data_samples, image, text):
            sample.image_embedding, sample.text_embedding = pair
        return data_samples

    def embed(self, image: Tensor, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embed pairs: (N, 3, S, S) in 0..255, N sentences -> (N, D), (N, D) of unit norm"""
        tokens = open_clip.tokenize(list(captions), context_length=self.context)
        tokens = tokens.to(image.device, non_blocking=True)
        image = self.clip.encode_image((image - self.mean) / self.std)
        return F.normalize(image, dim=1), F.normalize(self.clip.encode_text(tokens), dim=1)


@builds(ClipPretraining)
def build_clip_pretraining(
    model: str | Settings, vocabulary: Any = None, *, pretrained: str = 'random'
) -> ClipPretraining:
    """Build a ClipPretraining of what `load_clip` reads."""
    return ClipPretraining(load_clip(model, pretrained))


def contrastive_loss(logits: Tensor, positive: Tensor) -> dict[str, Tensor]:
    """Compute cross entropy in both directions, its mass shared among the positives.

    (N, N) image x text, (N, N) bool -> {'loss_clip': (), 'retrieval': () in 0..100}
    """
    share = positive / positive.sum(dim=1, keepdim=True)
    loss = (F.cross_entropy(logits, share) + F.cross_entropy(logits.T, share)) / 2
    correct = positive.gather(1, logits.argmax(dim=1, keepdim=True))
    return dict(loss_clip=loss, retrieval=100 * correct.float().mean())
