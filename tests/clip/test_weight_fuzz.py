"""Damaged and odd files of weights give a result or one line, never another exception.

`pytest tests/clip/test_weight_fuzz.py -n 0 --fuzz 1500` mutates as many files of each
layout of names, and three times as many of each layout of bytes; mutation number i is the same on
every machine.
"""

import io
import random
import zipfile
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from test_clip import maskclip_layout
from test_weight_files import LAYOUTS, WORDS, training

from mmseg.clip import read_text_embeddings
from mmseg.clip.state_dict import read_clip_state
from mmseg.engine import CheckpointContentHook
from mmseg.errors import UserError
from mmseg.models.build import read_student
from mmseg.models.checkpoints import read_mit
from mmseg.models.student_file import require_same_run, require_same_training
from mmseg.utils import describe_file
from mmseg.utils.checkpoint import misfit, read_checkpoint

READERS = {
    'checkpoint': read_checkpoint,
    'CLIP': read_clip_state,
    'student': lambda path: require_same_training(path, read_student(path)[1], WORDS, None),
    'training': lambda path: go_on_from(path),
    'MiT': read_mit,
    'text': lambda path: read_text_embeddings(path, WORDS, dim=8),
}


def go_on_from(path):
    """Take back from a checkpoint what a resumed run does."""
    content = read_checkpoint(path)
    meta = dict(classes=WORDS.labels)
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=meta))
    runner = SimpleNamespace(train_dataloader=loader, hooks=[], max_iters=20, work_dir=path.parent)
    runner._resume, runner._load_from = True, path
    group = dict(lr=0.2, params=[])
    optimizer = SimpleNamespace(param_groups=[group])
    runner.optim_wrapper = SimpleNamespace(optimizer=optimizer, base_param_settings=group)
    CheckpointContentHook(dict(seed='0')).after_load_checkpoint(runner, content)
    require_same_run(path, content, runner)
    MessageHub.get_instance('fuzz').load_state_dict(content['message_hub'])


def repacked(archive, change):
    """bytes of a zip, (name, bytes) -> bytes: the zip with members changed, checksums right"""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, 'w') as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


def mutated(content, chance):
    """bytes, random.Random -> bytes with one to four of the usual kinds of damage"""
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(content) + 1)
        length = chance.choice((1, 1, 2, 8, 64, 1024))
        kind = chance.randrange(7)
        if kind == 0:
            del content[at:]
        elif kind == 1:
            del content[at : at + length]
        elif kind == 2:
            content[at:at] = chance.randbytes(length)
        elif kind == 3:
            content[at : at + length] = bytes(length)
        elif kind == 4:
            content[at : at + length] = content[chance.randrange(len(content) + 1) :][:length]
        else:
            content[at : at + length] = chance.randbytes(length)
    return bytes(content)


ODD = (
    None, 3, -1, 'x', '\udc80\n', [], {}, [1], {'w': 1}, torch.tensor(1.0), torch.zeros(0),
    torch.zeros(2, 0, 3), torch.ones(2, 2, 2, 2), torch.tensor([1, 2]), torch.tensor([torch.nan]),
)  # fmt: skip


def rearranged(content, chance):
    """Nested dicts -> the same with a key or two lost, renamed, or given an odd value"""
    content = dict(content)
    for _ in range(chance.choice((1, 2))):
        if not content:
            break
        key = chance.choice(list(content))
        kind = chance.randrange(5)
        if isinstance(content[key], dict) and kind < 3:
            content[key] = rearranged(content[key], chance)
        elif kind == 3:
            content[chance.choice((f'{key}.x', str(key)[:-2], 3, 'state_dict'))] = content.pop(key)
        elif kind == 4:
            del content[key]
        else:
            content[key] = chance.choice(ODD)
    return content


def contents():
    """The layouts of names that are converted, small -> {layout: content}"""
    vit = {
        'visual.class_embedding': torch.ones(4),
        'visual.positional_embedding': torch.ones(5, 4),
        'visual.proj': torch.ones(4, 2),
        'visual.transformer.resblocks.0.mlp.c_fc.weight': torch.ones(8, 4),
    }
    resnet = {
        'visual.conv1.weight': torch.ones(2, 3, 3, 3),
        'visual.layer1.0.downsample.0.weight': torch.ones(2, 2, 1, 1),
        'visual.attnpool.positional_embedding': torch.ones(5, 4),
    } | {f'visual.attnpool.{x}_proj.weight': torch.ones(4, 4) for x in 'qkvc'}
    (trunk, ends), (stem, pool) = maskclip_layout(vit), maskclip_layout(resnet)
    nvidia = {
        'patch_embed1.proj.weight': torch.ones(2, 3, 7, 7),
        'block1.0.attn.q.weight': torch.ones(2, 2),
        'block1.0.attn.kv.weight': torch.ones(4, 2),
        'block1.0.mlp.fc1.weight': torch.ones(8, 2),
    }
    block = 'segformer.encoder.block.0.0.attention.self'
    hub = {
        'segformer.encoder.patch_embeddings.0.proj.weight': torch.ones(2, 3, 7, 7),
        **{f'{block}.{x}.weight': torch.ones(2, 2) for x in ('query', 'key', 'value')},
    }
    original = {
        'backbone.stem.0.weight': torch.ones(2),
        'decode_head.decode_module.convs.0.bn.bias': torch.ones(1),
        'decode_head.text_embeddings': torch.ones(2, 3),
        'decode_head.bg_embeddings': torch.ones(1, 3),
    }
    own = {'decode_head.conv_seg.embeddings': torch.ones(2, 3)}
    few = {'visual.proj': torch.ones(4, 2), 'token_ids': torch.tensor([0, 9]).int()}
    return {
        'training': training(),
        'maskclip ViT': {**ends, 'clip': trunk},
        'maskclip ResNet': {**pool, 'clip': stem},
        'NVIDIA': nvidia,
        'hub': hub,
        'original student': {'meta': {}, 'state_dict': original},
        'published': {'meta': dict(student='{"model": {"vocabulary": 5}}')} | own,
        'few words': few | {'token_embedding.weight': torch.ones(2, 4)},
    }


def read_by_all(path, seed):
    """Whatever it holds: a result, or one line."""
    assert isinstance(describe_file(path), str)
    for name, read in READERS.items():
        try:
            found = read(path)
        except UserError as error:
            line = str(error)
            assert line.isprintable() and len(line) < 800, (name, seed, line)
        except Exception as error:
            raise AssertionError(f'{name}, mutation {seed!r}') from error
        else:
            if name == 'CLIP':
                misfit({'visual.proj': torch.ones(4, 2)}, found[0])


@pytest.mark.parametrize('layout', [*LAYOUTS, 'members'])
def test_damaged_bytes_give_one_line(layout, tmp_path, request):
    path = tmp_path / 'w.pt'
    whole = LAYOUTS['zip' if layout == 'members' else layout]()
    for i in range(3 * request.config.getoption('--fuzz')):
        chance = random.Random(f'{layout} {i}')
        if layout == 'members':
            damage = lambda name, data: mutated(data, chance) if 'pkl' in name else data  # noqa: E731, B023
            path.write_bytes(repacked(whole, damage))
        else:
            path.write_bytes(mutated(whole, chance))
        read_by_all(path, f'{layout} {i}')


@pytest.mark.parametrize('layout', contents())
def test_odd_contents_give_one_line(layout, tmp_path, request):
    path, content = tmp_path / 'w.pt', contents()[layout]
    torch.save(content, path)
    for i in range(request.config.getoption('--fuzz')):
        chance = random.Random(f'{layout} {i}')
        torch.save(rearranged(content, chance), path)
        read_by_all(path, f'{layout} {i}')
