"""Compare this set-up with a right one, part by part: so that 2 % mIoU has a cause."""

import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from PIL import Image

from mmseg.apis.command import parse_value
from mmseg.apis.test import require_data
from mmseg.datasets.miniature import render
from mmseg.engine import load_config
from mmseg.registry import MODELS
from mmseg.structures import ignore_label
from mmseg.utils import read_json

FACTS = Path(__file__).with_name('facts.json')
SHAPE = 600, 840  # of the picture that goes through the pipeline, a rendered scene
GRID = 8  # rows and columns of the pixels that are compared
NEAR = dict(pixels=0.04, text=0.05)  # tolerances: of normalised pixels (two levels), of cosines
Facts = dict[str, Any]


def right_facts(key: str) -> Facts:
    """Read what is known of a right set-up for a row: a part of what `facts_of` returns.

    The masks are those of 50 photos of the val set; the cosines are of OpenAI's ViT-B/16 as other
    projects publish its text embeddings (ZegCLIP, OTSeg), which have other templates than the
    original's 85 and therefore a wide tolerance.
    """
    known = read_json(FACTS)
    facts = dict(masks=known['masks'])
    for part in ('pixels', 'activation'):
        values = [value for name, value in known[part].items() if name in key]
        if values:
            facts[part] = values[0]
    if 'vit16_520x520' in key:
        lower = known['text']  # row i has the cosines with the classes before i
        cosines = np.eye(len(lower))
        for i, row in enumerate(lower):
            cosines[i, :i] = cosines[:i, i] = row
        facts['text'] = cosines.tolist()
    return facts


def facts_of(config: Path, options: Sequence[str], photos: Collection[str]) -> Facts:
    """Measure what a config's figures rest on: pixels, text, activation, masks.

    Args:
        options: `--cfg-options` of the config.
        photos: names of those whose masks are known.

    Returns:
        pixels: (3, GRID, GRID) of what the network gets of a rendered scene.
        text: (C, C) cosines of the classes' text embeddings.
        activation: of the CLIP's MLPs; '' of one without.
        masks: {photo: [pixels of each class, ..., of none]}.
    """
    pairs = (option.partition('=') for option in options)
    loaded = load_config(config, {key: parse_value(text) for key, _, text in pairs})
    model = MODELS.build(loaded.model).eval()
    rows = F.normalize(model.decode_head.conv_seg.embeddings.float(), dim=1)
    names = [type(module).__name__ for module in model.backbone.tower.modules()]
    found = [name for name in names if name in ('QuickGELU', 'GELU')]
    return dict(
        pixels=_rounded(_pixels(loaded, model)),
        text=_rounded(rows @ rows.T),
        activation=found[0] if found else '',
        masks=areas_of(loaded, photos),
    )


def _pixels(config: Config, model: Any) -> torch.Tensor:
    """Pass a rendered scene through the test pipeline: -> (3, GRID, GRID) for the network."""
    steps = config.test_dataloader.dataset.pipeline
    steps = [dict(step) for step in steps if step.type != 'LoadAnnotations']
    height, width = SHAPE
    picture = render(np.random.default_rng(0), width).image[:height]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'scene.png')
        Image.fromarray(picture).save(path)
        dataset = dict(
            type='ImageFolderDataset', vocabulary='voc_20', data_root=str(path), pipeline=steps
        )
        image = require_data(dict(dataset=dataset))[0]['inputs'][None].float()
    with torch.inference_mode():
        ready = (image - model.backbone.mean) / model.backbone.std
    rows, columns = (torch.linspace(0, side - 1, GRID).long() for side in ready.shape[2:])
    return ready[0][:, rows][:, :, columns]


def areas_of(config: Config, photos: Collection[str]) -> dict[str, list[int]]:
    """Count each class's pixels in the masks of some photos, unlabelled ones last."""
    dataset, areas = require_data(config.test_dataloader), {}
    classes = len(dataset.metainfo['classes'])
    for i in range(len(dataset)):
        name = Path(dataset.get_data_info(i)['img_path']).stem
        if name in photos:
            labels = np.asarray(dataset[i]['data_samples'].gt_sem_seg)
            labels = np.where(labels == ignore_label(classes), classes, labels)
            areas[name] = np.bincount(labels.ravel(), minlength=classes + 1).tolist()
    return areas


def _rounded(values: torch.Tensor) -> Any:
    return np.round(values.detach().cpu().numpy().astype(float), 3).tolist()


def differences(found: Facts, right: Facts) -> Iterator[str]:
    """Say what differs from a right set-up, the most likely cause in words."""
    if 'pixels' in right:
        yield from _pixel_differences(np.array(found['pixels']), np.array(right['pixels']))
    if 'activation' in right and found['activation'] != right['activation']:
        yield (
            f'activation: the tower has {found["activation"] or "none"}, this figure needs '
            f'{right["activation"]} (model.backbone.act and model.backbone.model)'
        )
    if 'text' in right:
        yield from _text_differences(np.array(found['text']), np.array(right['text']))
    if right.get('masks'):
        yield from _mask_differences(found['masks'], right['masks'])


def _pixel_differences(found: np.ndarray, right: np.ndarray) -> Iterator[str]:
    worst = abs(found - right).max()
    if worst <= NEAR['pixels']:
        return
    cause = 'another resize than PIL or OpenCV bilinear, or another mean and std'
    if abs(found[::-1] - right).mean() < 0.5 * abs(found - right).mean():
        cause = 'red and blue are swapped (BGR for RGB)'
    yield f'pixels: the network gets other pixels, by up to {worst:.2f} after scaling: {cause}'


def _text_differences(found: np.ndarray, right: np.ndarray) -> Iterator[str]:
    if found.shape != right.shape:
        yield f'text: {len(found)} classes, not {len(right)}: another vocabulary'
        return
    worst = abs(found - right).max()
    if worst > NEAR['text']:
        cause = 'another template set, other words, or another text tower'
        orders = [np.lexsort(np.sort(rows, axis=1).T[::-1]) for rows in (found, right)]
        mine, theirs = (x[np.ix_(o, o)] for x, o in zip((found, right), orders))
        if abs(mine - theirs).max() < NEAR['text']:
            cause = 'the classes are in another order'
        yield f'text: cosines between classes differ by up to {worst:.2f}: {cause}'


def _mask_differences(found: dict[str, list[int]], right: dict[str, list[int]]) -> Iterator[str]:
    missing = sorted(set(right) - set(found))
    if missing:
        yield f'masks: {len(missing)} known photos are not in the split, such as {missing[0]}'
    shared = sorted(set(right) & set(found))
    wrong = [name for name in shared if found[name] != right[name]]
    if not wrong:
        return
    mine = np.array([found[name] for name in shared])
    theirs = np.array([right[name] for name in shared])
    cause = 'they were made from something else'
    if mine.shape != theirs.shape:
        cause = f'they have {mine.shape[1] - 1} classes, not {theirs.shape[1] - 1}'
    elif np.array_equal(mine[:, 1:-1], theirs[:, :-2]):
        cause = 'the zero label is not reduced: every class is one too high'
    elif np.array_equal(np.sort(mine[:, :-1]), np.sort(theirs[:, :-1])):
        cause = "the classes are in another order, such as the FCN release's"
    yield f'masks: {len(wrong)} of {len(shared)} known masks differ, such as {wrong[0]}: {cause}'
