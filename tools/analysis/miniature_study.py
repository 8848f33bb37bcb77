"""How MaskCLIP depends on its settings, on the rendered world, over several seeds.

python tools/analysis/miniature_study.py [--seeds 0 1 2 3 4] [--towers rn vit vit16]

For each tower and seed: CLIP from scratch, MaskCLIP under each setting, students; their mIoU in per
cent go to one JSON file. What is there is not done again: a stopped study goes on, and several
processes may share the seeds. `draw_miniature_study.py` makes tables and figures of the files.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import _checkout  # noqa: F401  first: it decides which mmseg is found

from mmseg.apis.command import run_command
from mmseg.apis.record import bare
from mmseg.apis.test import require_data
from mmseg.apis.train import train
from mmseg.clip.state_dict import prune_vocabulary
from mmseg.datasets.miniature import MiniatureDataset
from mmseg.engine import load_config
from mmseg.evaluation import confusion_matrix, scores_of
from mmseg.models import ClassWeight, build_maskclip, key_smooth, prompt_denoise
from mmseg.utils import atomic_path, output_dir

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs' / 'miniature'
TOWERS = dict(rn='rn', vit='vit', vit16='vit')  # whose configs; vit16 has patches of 16 pixels
READ_AT = dict(rn=128, vit=64, vit16=64)  # pixels of a side, as in those configs
SIZES = (48, 64, 96, 128, 160, 192, 256)
TAUS = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
TYPICAL = (0.0, 0.25, 0.5, 0.7, 1.0)  # share of things in their shape's own colour; 0.7 in training
SCENES = 500  # of world 1, to judge by; and of world 2, without masks, for mean cosines
STUDENTS = dict(
    guided={},
    self_trained={'model.start_clip_guided': (1, 200), 'model.start_self_train': (201, -1)},
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument('--towers', nargs='+', choices=TOWERS, default=list(TOWERS))
    parser.add_argument('--work-dir', default='work_dirs/miniature_study')
    args = parser.parse_args()
    root = output_dir(args.work_dir)
    for seed in args.seeds:
        for tower in args.towers:
            path = root / f'{tower}_{seed}.json'
            if not path.exists():
                write_json(path, study(tower, seed, root))


@torch.no_grad()
def study(tower, seed, root):
    """-> {'base': mIoU, 'tokens', 'retrieval': {..}, 'students': {..}, 'sweeps': {name: {..}}}"""
    weights, retrieval = trained_tower(tower, seed, root)
    backbone = dict(model=architecture(tower), pretrained=str(weights))
    model = build_maskclip(
        backbone=backbone,
        decode_head=dict(text=dict(templates='miniature')),
        vocabulary='miniature',
    )
    judged, size = Scenes(1), READ_AT[tower]
    found = dict(
        base=judged.miou(scores_at(model, judged.images, size)),
        retrieval=retrieval,
        sweeps=dict(
            **sweeps_of_settings(model, judged, size),
            size={s: judged.miou(scores_at(model, judged.images, s)) for s in SIZES},
            typical={t: Scenes(1, t).miou_of(model, size) for t in TYPICAL},
        ),
    )
    if tower != 'rn':
        found['tokens'] = judged.miou(scores_of_tokens(model, judged.images))
    if tower in ('rn', 'vit'):
        found['students'] = students_of(tower, seed, root, weights, judged, model)
    return found


def sweeps_of_settings(model, judged, size):
    """-> {'tau': {value: mIoU}, 'tau_centred', 'pd_thresh', 'ks_thresh'}"""
    features = model.backbone(resized(judged.images, size))
    scores, text = model.decode_head.conv_seg(features.patches), text_of(model)
    embedding = model.backbone.embed(judged.images)
    usual = (model.backbone.embed(Scenes(2).images) @ text.T).mean(dim=0)
    sweeps = dict(tau={}, tau_centred={}, pd_thresh={}, ks_thresh={})
    for tau in TAUS:
        weight = ClassWeight(text, tau=tau)
        sweeps['tau'][tau] = judged.miou(weight.reweight(scores, embedding))
        weight = ClassWeight(text, tau=tau, mean_similarity=usual)
        sweeps['tau_centred'][tau] = judged.miou(weight.reweight(scores, embedding))
    for threshold in THRESHOLDS:
        denoised = prompt_denoise(scores, threshold=threshold)
        smoothed = key_smooth(scores, features.keys, threshold=threshold)
        sweeps['pd_thresh'][threshold] = judged.miou(denoised)
        sweeps['ks_thresh'][threshold] = judged.miou(smoothed)
    return sweeps


def students_of(tower, seed, root, weights, judged, teacher):
    """-> {'guided': mIoU, 'guided + class weight', 'self_trained', ...}"""
    path, found = CONFIGS / f'maskclip_plus_{tower}_segformer_b0.py', {}
    weight = ClassWeight(text_of(teacher), tau=1.0)
    embedding = teacher.backbone.embed(judged.images)
    for name, options in STUDENTS.items():
        options = {'model.teacher.backbone.pretrained': str(weights), **options}
        folder = root / f'{tower}_{name}_{seed}'
        with torch.enable_grad():
            runner = train(load_config(path, options), work_dir=folder, seed=seed, validate=False)
        scores = scores_at(bare(runner.model).cpu().eval(), judged.images, READ_AT[tower])
        found[name] = judged.miou(scores)
        found[f'{name} + class weight'] = judged.miou(weight.reweight(scores, embedding))
    return found


class Scenes:
    """The first scenes of a world: images (N, 3, 64, 64) in 0..255, masks (N, 64, 64)."""

    def __init__(self, world, typical=0.7):
        data = MiniatureDataset(scenes=SCENES, world=world, typical=typical)
        drawn = [data.draw(data.get_data_info(i)['img_path']) for i in range(SCENES)]
        images = torch.from_numpy(np.stack([scene.image for scene in drawn]))
        self.images = images.permute(0, 3, 1, 2).float()
        self.masks = torch.from_numpy(np.stack([scene.mask for scene in drawn]))

    def miou(self, scores):
        """(N, C, h, w) -> mIoU in per cent"""
        labels = resized(scores, self.masks.shape[1]).argmax(dim=1)
        confusion = confusion_matrix(labels, self.masks, scores.shape[1])
        return round(100 * scores_of(confusion).iou.nanmean().item(), 2)

    def miou_of(self, model, size):
        return self.miou(scores_at(model, self.images, size))


def resized(maps, size):
    """(N, C, h, w) -> (N, C, size, size)"""
    return F.interpolate(maps, (size, size), mode='bilinear', align_corners=False)


def scores_at(model, images, size):
    """(N, 3, 64, 64) shown at this size -> (N, C, h, w)"""
    return torch.cat([model.scores(resized(part, size)) for part in images.split(50)])


def text_of(model):
    return model.decode_head.conv_seg.embeddings


def scores_of_tokens(model, images):
    """(N, 3, 64, 64) -> (N, C, h, w) by the ViT's tokens behind its last attention"""
    backbone = model.backbone
    tokens, grid = backbone.trunk(images)[:2]
    visual = backbone.tower.visual
    tokens = visual.ln_post(visual.transformer.resblocks[-1](tokens)[:, 1:]) @ visual.proj
    return (F.normalize(tokens, dim=-1) @ text_of(model).T).mT.unflatten(2, grid)


def architecture(tower):
    """-> the description of a CLIP, as `load_clip` reads it"""
    file = ROOT / 'mmseg' / 'clip' / 'miniature' / f'miniature-{TOWERS[tower]}.json'
    described = json.loads(file.read_text())
    if tower == 'vit16':
        described['vision_cfg']['patch_size'] = 16
    return described


def trained_tower(tower, seed, root):
    """-> its file and {'R@1', 'R@5'}; trained unless the file is there"""
    path, figures = root / f'clip_{tower}_{seed}.safetensors', root / f'clip_{tower}_{seed}.json'
    if not path.exists():
        config = load_config(CONFIGS / f'clip_{TOWERS[tower]}.py')
        config.model.model = architecture(tower)
        data = require_data(config.train_dataloader)
        words = [data[i]['data_samples'].caption for i in range(2000)]
        with torch.enable_grad():
            runner = train(config, work_dir=path.with_suffix(''), seed=seed)
        write_json(figures, {k: 100 * v for k, v in runner.val_loop.run().items()})
        with atomic_path(path) as temporary:
            save_file(prune_vocabulary(bare(runner.model).clip.state_dict(), words), temporary)
    return path, json.loads(figures.read_text())


def write_json(path, values):
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1))
    print(f'written: {path}', flush=True)


if __name__ == '__main__':
    run_command(main)
