"""CLIP from scratch: images and captions in, two towers of one space out (ICML 2021)."""

import open_clip
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel

from mmseg.clip import load_clip
from mmseg.registry import MODELS

from .data_preprocessor import SegDataPreprocessor


@MODELS.register_module(name='ClipPretraining')
def build_clip_pretraining(model, vocabulary=None, *, pretrained='random'):
    """An architecture, as `load_clip` reads it -> ClipPretraining."""
    return ClipPretraining(load_clip(model, pretrained))


class ClipPretraining(BaseModel):
    """Two towers of a LoadedCLIP on pairs; those with the same caption are right for each other."""

    def __init__(self, clip):
        super().__init__(data_preprocessor=SegDataPreprocessor())
        self.clip = clip.model
        self.context = clip.text_cfg.get('context_length', 77)
        for name in ('mean', 'std'):
            values = torch.tensor(getattr(clip, name)).view(3, 1, 1) * 255
            self.register_buffer(name, values, persistent=False)

    def forward(self, inputs, data_samples=None, mode='tensor', **context):
        """[(3, S, S) uint8], samples with `caption` -> {name: ()}, or samples with embeddings"""
        captions = [sample.caption for sample in data_samples]
        image, text = self.embed(torch.stack(inputs), captions)
        if mode == 'loss':
            scale = self.clip.logit_scale.exp().clamp(max=100)
            return contrastive_loss(scale * image @ text.T, same_caption(captions, image.device))
        for sample, *pair in zip(data_samples, image, text):
            sample.image_embedding, sample.text_embedding = pair
        return data_samples

    def embed(self, image, captions):
        """(N, 3, S, S) in 0..255, N sentences -> (N, D), (N, D) unit rows"""
        tokens = open_clip.tokenize(captions, context_length=self.context)
        tokens = tokens.to(image.device, non_blocking=True)
        image = self.clip.encode_image((image - self.mean) / self.std)
        return F.normalize(image, dim=1), F.normalize(self.clip.encode_text(tokens), dim=1)


def same_caption(captions, device):
    """N sentences -> (N, N) bool"""
    ids = {sentence: i for i, sentence in enumerate(dict.fromkeys(captions))}
    rows = torch.tensor([ids[sentence] for sentence in captions]).to(device, non_blocking=True)
    return rows[:, None] == rows


def contrastive_loss(logits, positive):
    """(N, N) image x text, (N, N) bool -> {'loss_clip': (), 'retrieval': () in 0..100}

    Cross entropy in both directions, its mass shared among the positives.
    """
    share = positive / positive.sum(dim=1, keepdim=True)
    loss = (F.cross_entropy(logits, share) + F.cross_entropy(logits.T, share)) / 2
    right = positive.gather(1, logits.argmax(dim=1, keepdim=True))
    return dict(loss_clip=loss, retrieval=100 * right.float().mean())
