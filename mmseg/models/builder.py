"""From a config to a MaskCLIP: its parts, and what its scores mean."""

from mmseg.errors import UserError
from mmseg.registry import MODELS
from mmseg.utils import require_choice
from mmseg.vocabularies import load_vocabulary

from .clip_parts import build_class_weight, build_extractor, build_head
from .part import build_part
from .refine import LOGIT_SCALE
from .scoring import SYNONYMS, Scoring
from .segmentors import MaskClip
from .windows import Windows


@MODELS.register_module(name='MaskClip')
def build_maskclip(
    backbone,
    decode_head,
    vocabulary,
    *,
    class_weight=None,
    resize_twice=False,
    windows=None,
    scoring=None,
    post=None,
):
    """Config of the model `MaskClip` -> MaskClip.

    Args:
        backbone: see `build_extractor`.
        decode_head: see `build_head`.
        vocabulary: name, file or list of classes; filled in from the config's own `vocabulary`.
        class_weight: see `build_class_weight`; None for none.
        resize_twice: see `MaskClip`.
        windows: see `Windows`; None for the whole input in one piece.
        scoring: see `build_scoring`; None for the defaults.
        post: PAMR or Superpixels, or a list of both; None for none.
    """
    clip, extractor = build_part(build_extractor, 'model.backbone', backbone)
    return assemble_maskclip(
        clip,
        extractor,
        decode_head,
        load_vocabulary(vocabulary),
        class_weight=class_weight,
        resize_twice=resize_twice,
        windows=windows,
        scoring=scoring,
        post=post,
    )


def assemble_maskclip(
    clip,
    extractor,
    decode_head,
    vocabulary,
    *,
    class_weight=None,
    resize_twice=False,
    windows=None,
    scoring=None,
    post=None,
    background=0,
):
    """What `build_extractor` gave, and the rest of `build_maskclip` -> MaskClip; no copies.

    Args:
        background: how many of the last classes are one together, the background.
    """
    queries, scoring = build_part(
        build_scoring, 'model.scoring', scoring or {}, vocabulary, background, decode_head
    )
    weight, prior_encoder = None, None
    if class_weight is not None:
        weight, prior_encoder = build_part(
            build_class_weight, 'class_weight', class_weight, clip, queries, scoring.groups
        )
    head = build_part(build_head, 'model.decode_head', decode_head, clip, queries, weight)
    return MaskClip(
        extractor,
        head,
        prior_encoder=prior_encoder,
        resize_twice=resize_twice,
        prior_crop=(class_weight or {}).get('crop', 'clip'),
        windows=None if windows is None else build_part(Windows, 'model.windows', windows),
        scoring=scoring,
        post=build_post(post),
    )


def build_scoring(
    vocabulary,
    background,
    decode_head,
    *,
    synonyms='mean',
    scale=LOGIT_SCALE,
    prob_thd=0.0,
    area_thd=0.0,
):
    """Config of the scoring -> Vocabulary of the queries, Scoring.

    Args:
        synonyms: of a class: 'mean' makes one query of all of them, 'max' one of each, the best of
            which is the class's score.
        scale, prob_thd, area_thd: see `Scoring`. The background is the class of this name.
    """
    require_choice('scoring.synonyms', synonyms, SYNONYMS)
    queries, groups = vocabulary, None
    if synonyms == 'max' and any(len(prompts) > 1 for prompts in vocabulary.prompts):
        queries, groups = vocabulary.by_prompt()
    behind = vocabulary.labels.index('background') if 'background' in vocabulary.labels else None
    if background:
        behind = len(vocabulary) - background
        groups = tuple(min(group, behind) for group in groups or range(len(vocabulary)))
    if isinstance(decode_head, dict) and decode_head.get('ks_thresh'):
        scale = None  # key smoothing gives probabilities
    return queries, Scoring(groups, behind, scale, prob_thd, area_thd)


build_scoring.not_from_config = {'vocabulary', 'background', 'decode_head'}


def build_post(post):
    """None, a config or a list of them -> the modules of post-processing"""
    if post is None:
        return []
    parts = []
    for config in post if isinstance(post, (list, tuple)) else [post]:
        if not isinstance(config, dict) or 'type' not in config:
            raise UserError(f"model.post is such as dict(type='PAMR'), not {config!r}")
        parts.append(build_part(None, 'model.post', config))
        if not hasattr(parts[-1], 'acts_on'):
            raise UserError(
                f'model.post: {config["type"]} is no post-processing; use PAMR or Superpixels'
            )
    return parts
