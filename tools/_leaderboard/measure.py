"""Measure one figure of the leaderboard: a tower under some options, or a student of it."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from safetensors.torch import save_file

from mmseg.apis.inference import init_model
from mmseg.apis.record import bare
from mmseg.apis.result import write_image
from mmseg.apis.test import require_data
from mmseg.apis.train import train
from mmseg.clip.state_dict import prune_vocabulary
from mmseg.datasets.miniature import MiniatureDataset
from mmseg.engine import load_config
from mmseg.errors import UserError
from mmseg.evaluation import RetrievalMetric, confusion_matrix, scores_of
from mmseg.labelling.command import main as label
from mmseg.labelling.distill import distill
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import atomic_path, output_dir, read_json, write_json

from .options import MEASURED, PROXY, VIEWS

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs' / 'miniature'
TOWERS = ('vit', 'rn')
WORLDS = dict(test=1, validation=3)  # of scenes; the towers saw those of 0, the students of 2
UNLABELLED, UNLABELLED_SCENES = 2, 500  # for mean cosines
CAPTIONS = 2000  # whose words a tower's vocabulary keeps
PHOTO_BASE = ROOT / 'tests' / 'configs' / 'real_photos_base.py'
SPLITS = dict(test='val', validation='train')  # of photos: no student and no tower sees a mask
BATCH = 50
Options = dict[str, Any]


def base_of(tower: str) -> Path:
    """Return the config of MaskCLIP on a tower of TOWERS."""
    return CONFIGS / f'maskclip_{tower}.py'


def student_of(tower: str) -> Path:
    """Return the config of the published training of a tower's student."""
    return CONFIGS / f'maskclip_plus_{tower}_segformer_b0.py'


def measure_scenes(
    tower: str, seed: int, options: Options, split: str, scenes: int, *, folder: Path
) -> float:
    """Return the mIoU in per cent of a seed's MaskCLIP on scenes of a split of WORLDS."""
    config = config_of(tower, seed, options, folder)
    return miou(MODELS.build(config.model).eval(), scenes_of(config, split, scenes))


def config_of(tower: str, seed: int, options: Options, folder: Path) -> Config:
    """Load the config of a seed's MaskCLIP, with the seed's files."""
    options = with_files(tower, seed, options, folder)
    weights = {'model.backbone.pretrained': weights_of(tower, seed, folder)}
    return load_config(base_of(tower), {**options, **weights})


def measure_retrieval(tower: str, seed: int, *, folder: Path) -> float:
    """Return R@1 in per cent of a seed's tower, by its config's own validation."""
    config, metric = load_config(CONFIGS / f'clip_{tower}.py'), RetrievalMetric()
    config.model.pretrained = weights_of(tower, seed, folder)
    model = MODELS.build(config.model).eval()
    for sample in predictions(model, require_data(config.val_dataloader)):
        metric.process(None, [sample.to_dict()])
    return round(100 * metric.compute_metrics(metric.results)['R@1'], 2)


def measure_photos(options: Options, split: str, photos: int) -> float:
    """Return the mIoU in per cent on the first photos of a split of SPLITS."""
    config = load_config(PHOTO_BASE, options)
    dataset = config.test_dataloader.dataset
    dataset.update(split=f'ImageSets/Segmentation/{SPLITS[split]}.txt', indices=photos)
    return miou(MODELS.build(config.model).eval(), require_data(config.test_dataloader))


def train_student(
    tower: str,
    seed: int,
    settings: Options,
    *,
    scenes: int,
    iterations: int,
    folder: Path,
    split: str = 'test',
) -> float:
    """Train a student; return its mIoU in per cent.

    Three keys of `settings` belong to the leaderboard: `student` names another config,
    `pseudo_labels` the teacher of precomputed labels, see `labels_written`, and `distill` the
    number of photos for `distilled`.
    """
    settings = {'train_cfg.max_iters': iterations, **settings}
    if 'distill' in settings:
        model = init_model(distilled(tower, seed, settings, folder), device='cpu').student
        return miou(model, scenes_of(load_config(CONFIGS / settings['student']), split, scenes))
    leaf = CONFIGS / settings.pop('student', student_of(tower).name)
    if 'pseudo_labels' in settings:
        folder_of_labels = str(labels_written(tower, seed, settings, folder))
        settings = {k: v for k, v in settings.items() if '.teacher' not in k}
        settings['pseudo_labels'] = folder_of_labels
    else:
        settings = with_files(tower, seed, settings, folder)
        settings['model.teacher.backbone.pretrained'] = weights_of(tower, seed, folder)
    with tempfile.TemporaryDirectory(dir=folder) as work_dir:
        config = load_config(leaf, settings)
        runner = train(config, work_dir=work_dir, seed=seed, validate=False)
    trained = bare(runner.model).cpu()
    student = (trained.frozen.get('average') or trained).eval()  # what its checkpoints hold
    return miou(student, scenes_of(load_config(leaf), split, scenes))


def distilled(tower: str, seed: int, settings: Options, folder: Path) -> Path:
    """Draw scenes into a folder of photos, distill a seed's teacher; return the student's file."""
    root = folder / f'distilled_{tower}_{seed}'
    photos, out, teacher = output_dir(root / 'photos'), root / 'out', root / 'teacher.py'
    data = MiniatureDataset(scenes=settings['distill'], world=UNLABELLED)
    for i in range(len(data)):
        name = data.get_data_info(i)['img_path']
        write_image(Image.fromarray(data.draw(name).image), photos / f'{Path(name).stem}.png')
    config_of(tower, seed, settings['pseudo_labels'], folder).dump(str(teacher))
    distill(
        photos,
        data.metainfo['classes'],
        out,
        teacher=teacher,
        student=CONFIGS / settings['student'],
        iterations=settings['train_cfg.max_iters'],
        seed=seed,
        device='cpu',
    )
    return out / 'student.safetensors'


def labels_written(tower: str, seed: int, settings: Options, folder: Path) -> Path:
    """Write the labels of a student's teacher; return their folder.

    `pseudo_labels` of the settings holds options of the teacher's config; or it is VIEWS: six views
    of the teacher in the student's config.
    """
    teacher, views = settings['pseudo_labels'], []
    if teacher == VIEWS:
        teacher = {k.replace('.teacher', '', 1): v for k, v in settings.items() if '.teacher' in k}
        if 'model.class_weight' in teacher:
            teacher['class_weight'] = teacher.pop('model.class_weight')
        views = ['--scales', '0.75', '1', '1.25', '--flip', '--confidence']
    digest = crc32(json.dumps(teacher, sort_keys=True).encode())
    name = f'{tower}_{"views" if views else "once"}_{seed}_{digest:08x}'
    config, out = folder / f'{name}.py', folder / name
    config_of(tower, seed, teacher, folder).dump(str(config))
    common = ['--photos-of', str(student_of(tower)), '--batch', str(BATCH), '--out', str(out)]
    label([str(config), *views, *common])
    return out


def weights_of(tower: str, seed: int, folder: Path) -> str:
    """Return the weights of a seed's CLIP, trained if missing; those of seed 0 are shipped."""
    if not seed:
        return 'miniature'
    path = folder / f'clip_{tower}_{seed}.safetensors'
    if not path.exists():
        config = load_config(CONFIGS / f'clip_{tower}.py')
        data = require_data(config.train_dataloader)
        captions = [data[i]['data_samples'].caption for i in range(CAPTIONS)]
        with torch.enable_grad():
            runner = train(config, work_dir=path.with_suffix(''), seed=seed)
        with atomic_path(path) as temporary:
            save_file(prune_vocabulary(bare(runner.model).clip.state_dict(), captions), temporary)
    return str(path)


def with_files(tower: str, seed: int, options: Options, folder: Path) -> Options:
    """Return options with the seed's proxy and mean cosines in place of PROXY and MEASURED."""
    changed = dict(options)
    for key, value in options.items():
        if key.endswith('.proxy') and value['pretrained'] == PROXY:
            changed[key] = {**value, 'pretrained': trained_proxy(seed, folder)}
        elif key.endswith('class_weight') and value.get('mean_similarity') == MEASURED:
            changed[key] = {**value, 'mean_similarity': mean_similarity(tower, seed, folder)}
    return changed


def trained_proxy(seed: int, folder: Path, **options: Any) -> str:
    """Return the weights of a seed's proxy in timm's names, trained if they are not there."""
    path = Path(folder) / f'proxy_{seed}.safetensors'
    if not path.exists():
        with torch.enable_grad():
            config = load_config(CONFIGS / 'proxy_vit.py', options)
            runner = train(config, work_dir=path.with_suffix(''), seed=seed, validate=False)
        state = bare(runner.model).proxy.vit.cpu().state_dict()
        with atomic_path(path) as temporary:
            save_file(state, temporary)
    return str(path)


def scenes_of(config: Config, split: str, scenes: int) -> Any:
    """Build the data set of the config's tests with scenes of a split."""
    config.test_dataloader.dataset.update(world=WORLDS[split], scenes=scenes)
    return require_data(config.test_dataloader)


def miou(model: Any, data: Any) -> float:
    """Return the mIoU in per cent of a Segmentor, by the path of tools/test.py."""
    total = torch.zeros(())
    for sample in predictions(model, data):
        classes = len(sample.seg_logits)
        total = total + confusion_matrix(sample.pred_sem_seg, sample.gt_sem_seg, classes)
    return round(100 * scores_of(total).iou.nanmean().item(), 2)


def predictions(model: Any, data: Any) -> Iterator[SegDataSample]:
    """Pass a data set through a model in batches."""
    for first in range(0, len(data), BATCH):
        rows = [data[i] for i in range(first, min(first + BATCH, len(data)))]
        samples = [row['data_samples'] for row in rows]
        with torch.inference_mode():
            found = model([row['inputs'] for row in rows], samples, mode='predict')
        yield from found


@torch.inference_mode()
def mean_similarity(tower: str, seed: int, folder: Path) -> str:
    """Return the file of each class's mean cosine with unlabelled scenes, for a seed's tower."""
    path = Path(folder) / f'mean_similarity_{tower}_{seed}.npy'
    if not path.exists():
        weights = {'model.backbone.pretrained': weights_of(tower, seed, folder)}
        config = load_config(base_of(tower), weights)
        model = MODELS.build(config.model)
        data = MiniatureDataset(scenes=UNLABELLED_SCENES, world=UNLABELLED)
        names = [data.get_data_info(i)['img_path'] for i in range(UNLABELLED_SCENES)]
        images = torch.from_numpy(np.stack([data.draw(name).image for name in names]))
        embeddings = model.backbone.embed(images.permute(0, 3, 1, 2).float())
        text = model.decode_head.conv_seg.embeddings
        with atomic_path(path) as temporary:
            np.save(temporary, (embeddings @ text.T).mean(dim=0).numpy())
    return str(path)


def measure_speeds(path: Path, choices: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    """Write a JSON of {name: photos/s} by tools/benchmark.py, of photos of 500 x 375, and 'when'.

    Args:
        choices: {name: (config below `configs`, `--cfg-options`)}.
    """
    speeds: dict[str, Any] = read_json(path) if path.is_file() else {}
    for name, (config, options) in choices.items():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, 'speed.json')
            command = [sys.executable, ROOT / 'tools' / 'benchmark.py', ROOT / 'configs' / config]
            command += ['--random-weights', '--synthetic', '--number', 2, '--repeats', 3]
            command += ['--out', out, *(['--cfg-options', *options] if options else [])]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
            if done.returncode:
                raise UserError(f'tools/benchmark.py {config}: {done.stderr.strip()[-200:]}')
            report = json.loads(out.read_text())
        machine = report['machine']
        cpu = f'{machine["cores"]} cores, {machine["cpu"].get("name", "CPU")}'
        speeds[name] = report['results'][0]['rate']['median']
        speeds['when'] = f'{cpu}, {machine["date"]}, torch {machine["PyTorch"]}'
        print(f'{name}: {speeds[name]:.2f} photos/s', flush=True)
        write_json(path, speeds)
