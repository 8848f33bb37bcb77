"""One figure of the leaderboard: a tower under some options, or a student of it."""

import json
import sys
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from safetensors.torch import save_file

from mmseg.apis.record import bare
from mmseg.apis.test import require_data
from mmseg.apis.train import train
from mmseg.engine import load_config
from mmseg.evaluation import confusion_matrix, scores_of
from mmseg.labelling.command import main as label
from mmseg.registry import MODELS
from mmseg.utils import atomic_path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'analysis'))
from miniature_study import CONFIGS, Scenes, trained_tower

from .options import PROXY, USUAL, VIEWS

BASE = CONFIGS / 'maskclip_vit.py'
STUDENT = CONFIGS / 'maskclip_plus_vit_segformer_b0.py'
AUTOENCODER = CONFIGS / 'proxy_vit.py'
WORLDS = dict(test=1, validation=3)  # of scenes; the towers saw those of 0, the students of 2
UNLABELLED = 2
PHOTO_BASE = Path(__file__).resolve().parents[2] / 'tests' / 'configs' / 'real_photos_base.py'
SPLITS = dict(test='val', validation='train')  # of photos: no student and no tower sees a mask
BATCH = 50


def measure_scenes(seed, options, split, scenes, *, folder):
    """A seed, {key: value}, a key of WORLDS -> mIoU in per cent"""
    config = config_of(seed, options, folder)
    return miou(MODELS.build(config.model).eval(), scenes_of(config, split, scenes))


def config_of(seed, options, folder):
    """A seed, {key: value} -> Config of its MaskCLIP, with the files that are its own"""
    options = with_proxy(seed, options, folder)
    config = load_config(BASE, {**options, 'model.backbone.pretrained': tower(seed, folder)})
    weight = config.get('class_weight') or {}
    if weight.get('mean_similarity') == USUAL:
        weight['mean_similarity'] = mean_similarity(seed, folder)
    return config


def measure_photos(options, split, photos):
    """{key: value}, a key of SPLITS -> mIoU in per cent on the first photos of the split"""
    config = load_config(PHOTO_BASE, options)
    dataset = config.test_dataloader.dataset
    dataset.update(split=f'ImageSets/Segmentation/{SPLITS[split]}.txt', indices=photos)
    return miou(MODELS.build(config.model).eval(), require_data(config.test_dataloader))


def train_student(seed, settings, *, scenes, iterations, folder, split='test'):
    """A seed, {key: value} of a student's config -> mIoU of the student

    Two keys are the leaderboard's own: `student` names the config, where it is another one, and
    `pseudo_labels` says who writes the labels once, see `labels_written`.
    """
    settings = {'train_cfg.max_iters': iterations, **settings}
    leaf = CONFIGS / settings.pop('student', STUDENT.name)
    if 'pseudo_labels' in settings:
        folder_of_labels = str(labels_written(seed, settings, folder))
        settings = {k: v for k, v in settings.items() if '.teacher' not in k}
        settings['pseudo_labels'] = folder_of_labels
    else:
        settings = with_proxy(seed, settings, folder)
        settings['model.teacher.backbone.pretrained'] = tower(seed, folder)
    runner = train(
        load_config(leaf, settings), work_dir=folder / 'student', seed=seed, validate=False
    )
    trained = bare(runner.model).cpu()
    student = (trained.frozen.get('average') or trained).eval()  # what its checkpoints hold
    return miou(student, scenes_of(load_config(leaf), split, scenes))


def labels_written(seed, settings, folder):
    """A seed, {key: value} of a student's config -> folder of its teacher's labels, now written

    `pseudo_labels` is {key: value} of the teacher's config; or VIEWS: six views of the teacher that
    the student's config has.
    """
    teacher, views = settings['pseudo_labels'], []
    if teacher == VIEWS:
        teacher = {k.replace('.teacher', '', 1): v for k, v in settings.items() if '.teacher' in k}
        if 'model.class_weight' in teacher:
            teacher['class_weight'] = teacher.pop('model.class_weight')
        views = ['--scales', '0.75', '1', '1.25', '--flip', '--confidence']
    name = f'{"views" if views else "once"}_{seed}_{digest_of(teacher)}'
    config, out = folder / f'{name}.py', folder / name
    config_of(seed, teacher, folder).dump(str(config))
    common = ['--photos-of', str(STUDENT), '--batch', str(BATCH), '--out', str(out)]
    label([str(config), *views, *common])
    return out


def digest_of(options):
    """{key: value} -> eight hexadecimal digits"""
    return f'{crc32(json.dumps(options, sort_keys=True).encode()):08x}'


def tower(seed, folder):
    """A seed -> the weights of its CLIP, trained if they are not there; of 0, the shipped ones"""
    return str(trained_tower('vit', seed, folder)[0]) if seed else 'miniature'


def with_proxy(seed, options, folder):
    """A seed, {key: value} -> the same, with the weights of the seed's proxy where it has one"""
    found = dict(options)
    for key, value in options.items():
        if key.endswith('.proxy') and value['pretrained'] == PROXY:
            found[key] = {**value, 'pretrained': trained_proxy(seed, folder)}
    return found


def trained_proxy(seed, folder, **options):
    """A seed -> the weights of its proxy in timm's names, trained if they are not there"""
    path = Path(folder) / f'proxy_{seed}.safetensors'
    if not path.exists():
        with torch.enable_grad():
            config = load_config(AUTOENCODER, options)
            runner = train(config, work_dir=path.with_suffix(''), seed=seed, validate=False)
        state = bare(runner.model).proxy.vit.cpu().state_dict()
        with atomic_path(path) as temporary:
            save_file(state, temporary)
    return str(path)


def scenes_of(config, split, scenes):
    """-> the data set of the config's tests with scenes of this split"""
    config.test_dataloader.dataset.update(world=WORLDS[split], scenes=scenes)
    return require_data(config.test_dataloader)


@torch.inference_mode()
def miou(model, data):
    """A Segmentor, a data set -> mIoU in per cent, by the path of `tools/test.py`"""
    total = 0
    for first in range(0, len(data), BATCH):
        rows = [data[i] for i in range(first, min(first + BATCH, len(data)))]
        samples = [row['data_samples'] for row in rows]
        for sample in model([row['inputs'] for row in rows], samples, mode='predict'):
            classes = len(sample.seg_logits)
            total = total + confusion_matrix(sample.pred_sem_seg, sample.gt_sem_seg, classes)
    return round(100 * scores_of(total).iou.nanmean().item(), 2)


@torch.inference_mode()
def mean_similarity(seed, folder):
    """A seed -> the file of each class's mean cosine with unlabelled scenes"""
    path = Path(folder) / f'usual_{seed}.npy'
    if not path.exists():
        config = load_config(BASE, {'model.backbone.pretrained': tower(seed, folder)})
        model = MODELS.build(config.model)
        seen = model.backbone.embed(Scenes(UNLABELLED).images)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, (seen @ model.decode_head.conv_seg.embeddings.T).mean(dim=0).numpy())
    return str(path)
