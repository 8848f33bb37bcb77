"""From a folder of photos and a list of words to a student: labels, training, files, a report."""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from mmseg.apis.export import export
from mmseg.apis.inference import init_model
from mmseg.apis.propose import print_proposal, propose_words
from mmseg.apis.publish import publish
from mmseg.apis.segment_files import AUTO, fetched_clip
from mmseg.apis.train import train
from mmseg.apis.words import Words, names_of
from mmseg.datasets.pseudo_labels import CONFIDENCE
from mmseg.datasets.reading import list_photos, photo_size, read_gray, read_list, read_mask
from mmseg.engine import CONFIGS, device_of, find_config, load_config
from mmseg.engine.shared_keys import MAKES_TARGET
from mmseg.errors import UserError
from mmseg.models.engines import EngineName, Precision
from mmseg.preparation.masks import write_list, write_mask
from mmseg.preparation.read_formats import read_labels
from mmseg.preparation.write_formats import write_labels
from mmseg.structures import ignore_label
from mmseg.utils import atomic_path, digest_file, output_dir, read_json, write_json
from mmseg.utils.checkpoint import newest_checkpoint
from mmseg.vocabularies import Vocabulary, load_vocabulary

from .command import main as label
from .distill_report import write_report

PROBED = 8  # iterations whose time tells how many fit into the minutes
PASSES = 8  # over the photos in a training
LEAST_ITERATIONS = 300  # of a training on few photos
VALIDATIONS = 8  # of a training
REVIEW_FORMATS = ('labelme', 'cvat', 'coco')
KEPT = ('vocabulary', 'model', 'test_dataloader', 'test_cfg', 'test_evaluator', 'default_scope')
Settings = dict[str, Any]


def distill(
    photos: str | Path,
    classes: str | Sequence[str],
    out: str | Path,
    *,
    teacher: str | Path | None = None,
    student: str | Path | None = None,
    minutes: float = 20.0,
    iterations: int | None = None,
    held_out: float = 0.1,
    processes: int = 1,
    masks: str | Path | None = None,
    label_format: str = 'png',
    review: int = 0,
    seed: int = 0,
    device: str | None = None,
    engine: EngineName | None = None,
    precision: Precision | None = None,
) -> Path:
    """Label photos by MaskCLIP, train a student on these labels, and write files and a report.

    `out` gets labels/, config.py, student.safetensors, student.onnx and report.html. A run that
    was stopped goes on when it is called again. Labels in out/corrections/, made by hand for any
    of the photos in any format of `read_labels`, replace the teacher's in training where there is a
    label; other corrections train another student.

    Args:
        photos: a folder.
        classes: names, with '|' between synonyms; a list or separated by commas; 'auto' for those
            that `propose_words` finds.
        out: the folder of the results.
        teacher: config file of a MaskCLIP; None for CLIP's ViT-B/16, or for the miniature's where
            its weights are missing.
        student: config file of a student; None for one that suits the device.
        minutes: the most that the training may take on this machine.
        iterations: the length of the training; None for eight passes over the photos (at least
            300 iterations), or as many as fit into the minutes.
        held_out: share of the photos that choose the checkpoint and that the report shows.
        processes: number of processes that write labels.
        masks: labels of some of the photos, see `read_labels`; the report tells IoU on them.
        label_format: also write the labels in a format of `write_labels`, to out/FORMAT.
        review: write the labels of that many least sure photos to out/review/, to be corrected.
        seed: of all random numbers.
        device: 'cpu', an accelerator's name, or None for the best there is.
        engine, precision: of the teacher that labels, see `init_model`.

    Returns:
        The path of the report.

    Raises:
        UserError: a setting or file that cannot be used, or a folder with labels of other words.
    """
    if minutes <= 0 or (iterations is not None and iterations < 1):
        raise UserError('the training needs time: minutes above 0, or one iteration or more')
    if not 0 < held_out < 1:
        raise UserError(f'held_out is a share between 0 and 1, not {held_out}')
    photos, root, device = Path(photos).resolve(), Path(out).resolve(), device_of(device)
    teacher, student = _configs(teacher, student, device)
    paths = list_photos(photos)
    if classes == AUTO:
        classes = print_proposal(propose_words(init_model(teacher, device=device), paths))
    names = names_of(classes)
    words = load_vocabulary(names)
    if photos in (root, *root.parents):
        raise UserError(f'--out {root} is inside the folder of the photos; choose another one')
    output_dir(root)
    corrected = _corrections(root, photos, paths, words)
    lists = _split(paths, photos, root, held_out, seed, corrected)
    run = dict(device=device, engine=engine, precision=precision)
    _label(teacher, names, photos, root / 'labels', processes, run)
    _write_formats(root, photos, paths, words, label_format, review, corrected)
    _say_what_is_labelled(root / 'labels', photos, paths, words)
    length = dict(minutes=minutes) if iterations is None else dict(iterations=iterations)
    settings: Settings = dict(photos=str(photos), classes=names)
    settings |= dict(teacher=str(teacher), student=str(student))
    settings |= dict(held_out=held_out, seed=seed, corrections=corrected, **length)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    work = root / 'training' / digest[:8]  # other settings are another training
    config = _config_of(work, settings, root, lists, device)
    runner = train(config, work_dir=work, resume=newest_checkpoint(work), seed=seed, device=device)
    if runner.iter < runner.max_iters:
        raise SystemExit(130)
    best = next(work.glob('best_*.pth'))  # the last iteration is validated
    _write_files(root, load_config(work.with_suffix('.py')), best)  # `train` changed the other
    return write_report(root, settings, lists['held_out'], masks=masks, device=device)


def _configs(
    teacher: str | Path | None, student: str | Path | None, device: str
) -> tuple[Path, Path]:
    """Choose the config files of teacher and student."""
    miniature = teacher is None and not fetched_clip()
    if miniature:
        print('no CLIP is fetched yet (maskclip download_weights --models ViT-B-16): this is')
        print('the miniature, which knows the words of its own small world', flush=True)
        defaults = 'miniature/best_labels_rn.py', 'miniature/maskclip_plus_rn_resnet10.py'
    else:
        size = 'efficientnet_lite0' if device == 'cpu' else 'segformer_b5'
        defaults = 'photos/vit16_336_slide.py', f'photos/{size}.py'
    pair = tuple(
        find_config(file or CONFIGS / name).resolve()
        for file, name in zip((teacher, student), defaults)
    )
    for file, role, kind in zip(pair, ('teacher', 'student'), ('MaskClip', 'MaskClipPlus')):
        if load_config(file).model.type != kind:
            raise UserError(f'the {role} {file} is no config of a {kind}')
    return pair[0], pair[1]


def _split(
    paths: Sequence[Path],
    photos: Path,
    root: Path,
    share: float,
    seed: int,
    corrected: Mapping[str, str],
) -> dict[str, Path]:
    """Write lists of the photos to train on and of those that are held out.

    Photos that were corrected by hand are trained on.
    """
    if len(paths) < 2:
        raise UserError(f'{photos} holds one photo; a student needs two, one of them is held out')
    count = min(max(1, round(share * len(paths))), len(paths) - 1)
    drawn = {paths[i] for i in np.random.default_rng(seed).permutation(len(paths))[:count]}
    held = {p for p in drawn if str(p.relative_to(photos).with_suffix('.png')) not in corrected}
    if not held:
        raise UserError(f'all {count} held-out photos are corrected by hand: hold out more')
    lists = {}
    for name, is_held in (('train', False), ('held_out', True)):
        lists[name] = root / f'{name}.txt'
        chosen = [p for p in paths if (p in held) == is_held]
        write_list(lists[name], [str(p.relative_to(photos)) for p in chosen])
    return lists


def _label(
    teacher: Path,
    names: Sequence[str],
    photos: Path,
    out: Path,
    processes: int,
    run: Mapping[str, str | None],
) -> None:
    """Write labels and confidences of all photos that have none yet."""
    options = ['--classes', ', '.join(names), '--confidence']
    options += [word for key, value in run.items() if value for word in (f'--{key}', value)]
    command = [str(teacher), str(photos), '--out', str(out), *options]
    if processes < 2:
        label(command)
        return
    call = [sys.executable, '-m', 'mmseg.cli', 'pseudo_label', *command]
    parts = [f'{i + 1}/{processes}' for i in range(processes)]
    running = [subprocess.Popen([*call, '--part', part]) for part in parts]
    if any([process.wait() for process in running]):
        raise UserError('some photos could not be labelled; see above')


def _corrections(
    root: Path, photos: Path, paths: Sequence[Path], words: Vocabulary
) -> dict[str, str]:
    """Write the labels made by hand to OUT/corrected/; return {path below it: sha256}."""
    folder, digests = root / 'corrections', {}
    shutil.rmtree(root / 'corrected', ignore_errors=True)  # of earlier corrections
    if not folder.is_dir() or not any(folder.iterdir()):
        return {}
    known = {folder / p.relative_to(photos).with_suffix('.png') for p in paths}
    if not (folder / 'labelmap.txt').is_file():  # whose PNGs lie in other folders
        for path in sorted(set(folder.rglob('*.png')) - known):
            raise UserError(f'{path} corrects no photo: {photos} has none of that name')
    for photo, labels in read_labels(folder, paths, words, root=photos):
        name = Path(photo).relative_to(photos).with_suffix('.png')
        write_mask(root / 'corrected' / name, labels, words.palette)
        digests[str(name)] = hashlib.sha256(labels.tobytes()).hexdigest()
    return digests


def _write_formats(
    root: Path,
    photos: Path,
    paths: Sequence[Path],
    words: Vocabulary,
    label_format: str,
    review: int,
    corrected: Mapping[str, str],
) -> None:
    """Write the labels in another format, and those of the least sure photos for review."""
    names = {path: path.relative_to(photos).with_suffix('.png') for path in paths}
    labels = {path: root / 'labels' / name for path, name in names.items()}
    out = root / label_format
    if not out.exists():
        write_labels(label_format, list(labels.items()), words, out, root=photos)
    if not review:
        return
    if (root / 'review').exists():
        print(f'{root / "review"} stays as it is; move it away for another one')
        return
    sure = {
        path: read_gray(png.with_suffix(CONFIDENCE), photo_size(path)).mean()
        for path, png in labels.items()
        if str(names[path]) not in corrected
    }
    least = sorted(sure, key=lambda path: sure[path])[:review]
    for name in REVIEW_FORMATS:
        pairs = [(path, labels[path]) for path in least]
        write_labels(name, pairs, words, root / 'review' / name, root=photos)


def _say_what_is_labelled(
    labels: Path, photos: Path, paths: Sequence[Path], words: Vocabulary
) -> None:
    """Print the share of each class in the labels, and name classes that no label has."""
    counts = np.zeros(len(words), np.int64)
    for path in paths:
        file = labels / path.relative_to(photos).with_suffix('.png')
        mask = read_mask(file, photo_size(path), num_classes=len(words), reduce_zero_label=False)
        counts += np.bincount(mask[mask != ignore_label(len(words))], minlength=len(words))
    shares = counts / max(1, counts.sum())
    print('labels: ' + ', '.join(f'{n} {100 * s:.1f} %' for n, s in zip(words.labels, shares)))
    absent = [name for name, count in zip(words.labels, counts) if not count]
    if absent:
        print(f'no label names {", ".join(absent)}: the student cannot learn it', file=sys.stderr)


def _config_of(
    work: Path, settings: Settings, root: Path, lists: Mapping[str, Path], device: str
) -> Config:
    """Load the config of a training; write it first where the training has not begun."""
    path = work.with_suffix('.py')
    if not path.is_file():
        iterations = settings.get('iterations')
        if iterations is None:
            iterations = _iterations_in(settings, root, lists, device)
        config = student_config(settings, root, lists, iterations)
        with atomic_path(path) as temporary:
            config.dump(temporary)
    return load_config(path)


def _iterations_in(settings: Settings, root: Path, lists: Mapping[str, Path], device: str) -> int:
    """Return the iterations of PASSES over the photos, or as many as fit into the minutes.

    A longer training is worse: the student learns its teacher's errors (docs/distill.md).
    """
    with tempfile.TemporaryDirectory(dir=root) as folder:
        config = student_config(settings, root, lists, PROBED)
        runner = train(config, work_dir=folder, validate=False, device=device)
        seconds = runner.message_hub.get_scalar('train/time').mean(PROBED // 2)
    fit = max(1, int(60 * settings['minutes'] / seconds))
    photos = len(read_list(lists['train']))
    wanted = max(LEAST_ITERATIONS, PASSES * photos // config.train_dataloader.batch_size)
    print(
        f'{seconds:.2f} s an iteration: {fit} fit into {settings["minutes"]:g} minutes, '
        f'{wanted} are wanted for {photos} photos'
    )
    return min(fit, wanted)


def student_config(
    settings: Settings, root: Path, lists: Mapping[str, Path], iterations: int
) -> Config:
    """Adapt a student's config to the photos and their labels."""
    config = load_config(settings['student'])
    # Masks made by hand may show any class, so none is unseen to the data.
    common = dict(type='ImageFolderDataset', data_root=settings['photos'], unseen=None)
    labelled = dict(common, pseudo_labels=str(root / 'labels'))
    corrections = str(root / 'corrected') if settings['corrections'] else None
    resizing = [step for step in config.test_dataloader.dataset.pipeline if 'Resize' in step.type]
    testing = [dict(type='LoadImage'), *resizing, dict(type='PackSegInputs')]
    interval = max(1, -(-iterations // VALIDATIONS))
    options: Settings = {
        'vocabulary': settings['classes'],
        'pseudo_labels': str(root / 'labels'),
        'model.robust_loss': config.model.get('robust_loss') or dict(balance=0.5),
        'train_cfg.max_iters': iterations,
        'train_cfg.val_interval': interval,
        'default_hooks.checkpoint': dict(
            interval=interval, save_best='agreement_mIoU', rule='greater'
        ),
        'randomness.seed': settings['seed'],
    }
    replaced: Settings = {
        'train_dataloader.dataset': dict(
            labelled,
            listed=str(lists['train']),
            corrections=corrections,
            pipeline=_on_photos(config.train_dataloader.dataset.pipeline),
        ),
        'val_dataloader': dict(
            config.test_dataloader,
            dataset=dict(labelled, listed=str(lists['held_out']), pipeline=testing),
        ),
        'val_cfg': dict(),
        'val_evaluator': dict(type='AgreementMetric'),
        'test_dataloader.dataset': dict(common, pipeline=testing),
    }
    for key, value in replaced.items():
        top, _, inner = key.partition('.')
        there = config.get(top, {}).get(inner) if inner else config.get(top)
        options[key] = value | dict(_delete_=True) if there is not None else value
    return load_config(settings['student'], options)


def _on_photos(pipeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Change the steps of a training that make its target: the target is what was corrected."""
    others = [dict(step) for step in pipeline if step['type'] not in MAKES_TARGET]
    corrected = dict(type='LoadAnnotations', suppress_labels='ignored')
    return [dict(type='LoadImage'), corrected, *others]


def _write_files(root: Path, config: Config, checkpoint: Path) -> None:
    """Write config.py, student.safetensors and student.onnx, unless they are of this checkpoint."""
    done, digest = root / 'student.json', digest_file(checkpoint)
    if done.is_file() and read_json(done) == dict(checkpoint=digest):
        return
    done.unlink(missing_ok=True)
    publish(config, checkpoint, root / 'student.safetensors')
    kept = Config({k: config[k] for k in KEPT if k in config})
    kept.update(pseudo_labels=None)
    kept.model.text = None
    with atomic_path(root / 'config.py') as temporary:
        kept.dump(temporary)
    model = init_model(root / 'config.py', root / 'student.safetensors', 'cpu')
    export(
        model.network(Words(model.vocabulary)),
        model.vocabulary,
        root / 'student.onnx',
        file_format='onnx',
        transforms=model.transforms,
    )
    write_json(done, dict(checkpoint=digest))
