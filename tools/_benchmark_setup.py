"""Configs to runners that measure: their own data or made-up photos, their own weights or none."""

import math
from pathlib import Path

import numpy as np
from mmengine.config import ConfigDict
from PIL import Image

from mmseg.apis.test import DEFAULT_HOOKS
from mmseg.engine import SegRunner, device_of, init_processes, load_config
from mmseg.errors import UserError
from mmseg.vocabularies import load_vocabulary

DATASET_KEYS = ('pipeline', 'vocabulary', 'prior_crop_size', 'unseen', 'seed')


def test_runner(path, args, folder, size=None):
    """-> (runner, data loader's config) of a config's test"""
    config = _config(path, args, folder)
    loader = config.test_dataloader
    _use_photos(loader, config.vocabulary, args, folder)
    loader.dataset.indices = args.number
    if args.batch:
        loader.batch_size = args.batch
    _resize(loader.dataset.pipeline, size)
    config.test_cfg = dict(type='SegTestLoop', precision=args.precision, compile=args.compile)
    if args.photos:
        config.test_evaluator = []
    return SegRunner.from_cfg(config)


def train_runner(path, args, folder, size=None):
    """-> runner of a config's training, without validation"""
    config = _config(path, args, folder)
    if config.model.type != 'MaskClipPlus':
        raise UserError(f'{path} trains no student (model.type MaskClipPlus): leave out --train')
    loader = config.train_dataloader
    _use_photos(loader, config.vocabulary, args, folder)
    if args.batch:
        loader.batch_size = args.batch
    _resize(loader.dataset.pipeline, size)
    config.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    config.update(test_dataloader=None, test_cfg=None, test_evaluator=None)
    return SegRunner.from_cfg(config)


def _config(path, args, folder):
    config = load_config(path, args.cfg_options)
    if args.random_weights:
        forget_weights(config)
    config.work_dir = str(folder)
    config.device = init_processes('none', device_of(args.device))
    config.custom_hooks, config.visualizer = [], dict(type='Visualizer')
    config.default_hooks = DEFAULT_HOOKS
    return config


def forget_weights(config):
    """Random towers, students from scratch, and text by one short sentence a class; in place."""
    for model in filter(None, (config.model, config.model.get('teacher'))):
        parts = [model.backbone]
        weight = model.get('class_weight')
        texts = [model.decode_head] if model.type == 'MaskClip' else []
        if weight:
            parts += filter(None, [weight.get('prior_encoder')])
            texts.append(weight)
        for part in parts:
            part.pretrained = 'random' if part.type == 'CLIPDenseExtractor' else False
        for part in texts:
            part.text = dict(templates='name')


def _use_photos(loader, vocabulary, args, folder):
    old = loader.dataset
    kept = {key: old[key] for key in DATASET_KEYS if key in old}
    if args.synthetic:
        make_photos(folder, args.number, len(load_vocabulary(vocabulary)))
        dirs = dict(img_dir='photos', ann_dir='masks', split='list.txt')
        loader.dataset = ConfigDict(type='SegDataset', data_root=str(folder), **dirs, **kept)
    elif args.photos:
        loader.dataset = ConfigDict(type='ImageFolderDataset', data_root=args.photos, **kept)


def _resize(pipeline, size):
    if size is None:
        return
    for step in pipeline:
        if 'scale' in step:
            ratio = size / min(step.scale)
            step.scale = tuple(round(side * ratio) for side in step.scale)
        elif 'size' in step:
            step.size = size


def make_photos(folder, number, num_classes, size=(500, 375)):
    """Smooth noise as JPEG, as costly to decode as photos, every other one upright; PNG masks."""
    folder, rng = Path(folder), np.random.default_rng(0)
    for part in ('photos', 'masks'):
        (folder / part).mkdir(exist_ok=True)
    names = [f'{i:05d}' for i in range(number)]
    (folder / 'list.txt').write_text('\n'.join(names))
    for i, name in enumerate(names):
        shape = size if i % 2 == 0 else size[::-1]
        coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8))
        photo = coarse.resize(shape, Image.Resampling.BICUBIC)
        photo.save(folder / 'photos' / f'{name}.jpg', quality=92)
        kind = np.uint8 if num_classes < 256 else np.uint16
        labels = rng.integers(0, num_classes, (6, 8)).astype(kind)
        tall, wide = (math.ceil(side / n) for side, n in zip(shape[::-1], labels.shape))
        labels = labels.repeat(tall, 0).repeat(wide, 1)[: shape[1], : shape[0]]
        Image.fromarray(labels).save(folder / 'masks' / f'{name}.png')
