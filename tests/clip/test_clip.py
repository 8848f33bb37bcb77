"""The towers against open_clip's own encoders, and every layout of weight files."""

import copy
import dataclasses

import numpy as np
import open_clip
import pytest
import torch
from conftest import TINY
from safetensors.torch import save_file

from mmseg.clip import (
    CLIPDenseExtractor,
    embed_prompts,
    load_clip,
    read_text_embeddings,
    text_embeddings,
)
from mmseg.clip.text_encoder import encode_text
from mmseg.clip.transformer import resize_positions
from mmseg.errors import UserError
from mmseg.vocabularies import load_vocabulary

NATIVE = dict(vit=64, resnet=64, abs_attn=224, siglip=224)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def extractor_of(clip, **options):
    return CLIPDenseExtractor(clip.model.visual, mean=MEAN, std=STD, **options)


def pixels(*size):
    return torch.randint(0, 256, (2, 3, *size), generator=torch.manual_seed(2), dtype=torch.uint8)


@pytest.mark.parametrize('kind', TINY)
def test_embed_is_open_clips_encode_image(tiny_clip, kind):
    clip = tiny_clip(kind)
    view = pixels(NATIVE[kind], NATIVE[kind])
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    with torch.no_grad():
        expected = clip.model.encode_image((view / 255 - mean) / std, normalize=True)
        found = extractor_of(clip).embed(view)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize('name', ['ViT-B-16-quickgelu', 'RN50-quickgelu'])
def test_full_size_towers_against_open_clip(name):
    torch.manual_seed(0)
    clip = load_clip(name, 'random')
    view = pixels(224, 224)[:1]
    extractor = CLIPDenseExtractor(clip.model.visual, mean=clip.mean, std=clip.std)
    tokens = open_clip.tokenize(['a photo of a cat.', 'a much longer sentence about two dogs'])
    with torch.no_grad():
        ready = (view / 255 - torch.tensor(clip.mean).view(3, 1, 1)) / torch.tensor(clip.std).view(
            3, 1, 1
        )
        torch.testing.assert_close(
            extractor.embed(view), clip.model.encode_image(ready, normalize=True), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            encode_text(clip.model, tokens), clip.model.encode_text(tokens), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize('kind', ['resnet', 'abs_attn', 'siglip'])
def test_with_a_single_place_dense_and_pooled_are_one(tiny_clip, kind):
    """One place: attention has nothing to choose from, so the pool IS its value path."""
    clip = copy.deepcopy(tiny_clip(kind))
    for name, parameter in clip.model.visual.named_parameters():
        if name.endswith(('attnpool.positional_embedding', 'pool.pos_embed')):
            parameter.data.zero_()
    extractor = extractor_of(clip)
    image = pixels(extractor.stride, extractor.stride)
    with torch.no_grad():
        features, pooled = extractor.forward_with_embedding(image)
    assert features.patches.shape[2:] == (1, 1)
    dense = torch.nn.functional.normalize(features.patches.flatten(1), dim=1)
    torch.testing.assert_close(dense, pooled, atol=1e-5, rtol=0)


def test_vit_dense_is_the_last_block_with_the_identity_as_attention(tiny_clip):
    clip = tiny_clip('vit')
    visual, extractor = clip.model.visual, extractor_of(clip)
    trunk = extractor.trunk(pixels(64, 64))
    block = visual.transformer.resblocks[-1]
    x = trunk.tokens[:, 1:]
    # Attention of a token to itself alone is softmax over one entry: each token as its own
    # sequence.
    with torch.no_grad():
        alone = block(x.reshape(-1, 1, x.shape[-1])).reshape(x.shape)
        expected = visual.ln_post(alone) @ visual.proj
        patches = extractor.tower.dense(trunk)[0].flatten(2).transpose(1, 2)
    torch.testing.assert_close(patches, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize('kind', TINY)
def test_any_size(tiny_clip, kind):
    extractor = extractor_of(tiny_clip(kind))
    s = extractor.stride
    for height, width in ((2 * s, 3 * s), (2 * s + 1, 3 * s - 1), (s - 3, s)):
        with torch.no_grad():
            features, pooled = extractor.forward_with_embedding(pixels(height, width))
        h, w = -(-height // s), -(-width // s)
        assert features.patches.shape[2:] == (h, w)
        assert features.keys.shape[:2] == (2, h * w)
        assert pooled.shape == (2, features.patches.shape[1])
        assert features.patches.isfinite().all() and pooled.isfinite().all()


def test_resnet_without_padding_drops_the_remainder(tiny_clip):
    extractor = extractor_of(tiny_clip('resnet'), pad=False)
    assert extractor(pixels(70, 100)).patches.shape[2:] == (2, 3)


def test_positions_keep_the_class_row_and_a_constant():
    rows = torch.cat([torch.full((1, 5), 7.0), torch.full((9, 5), 2.0)])
    resized = resize_positions(rows, (4, 6))
    assert resized.shape == (25, 5) and (resized[0] == 7).all()
    torch.testing.assert_close(resized[1:], torch.full((24, 5), 2.0))
    assert resize_positions(rows, (3, 3)) is rows


def test_frozen_is_structural(tiny_clip):
    extractor = extractor_of(tiny_clip('resnet')).train()
    assert not any(p.requires_grad for p in extractor.parameters())
    assert not any(m.training for m in extractor.modules())


# Weight files


def maskclip_layout(state):
    """OpenAI's names -> the original repositories' file contents, as its converter writes them."""
    visual = {k.removeprefix('visual.'): v for k, v in state.items() if k.startswith('visual.')}
    trunk, projections = {}, {}
    stem = dict(conv1=0, bn1=1, conv2=3, bn2=4, conv3=6, bn3=7)
    for name, tensor in visual.items():
        parts = name.split('.')
        if name == 'proj':
            projections['proj'] = dict(weight=tensor.t())
        elif parts[0] == 'attnpool':
            if parts[-1] != 'positional_embedding':
                projections.setdefault(parts[1], {})[parts[2]] = tensor
        elif 'proj' in visual:
            name = name.replace('class_embedding', 'cls_token').replace(
                'conv1', 'patch_embed.projection'
            )
            name = name.replace('positional_embedding', 'pos_embed')
            name = name.replace('ln_pre', 'ln0').replace('ln_post', 'ln1')
            name = name.replace('transformer.resblocks', 'layers').replace('attn.', 'attn.attn.')
            name = name.replace('ln_', 'ln').replace('mlp.c_fc', 'ffn.layers.0.0')
            name = name.replace('mlp.c_proj', 'ffn.layers.1')
            trunk[name] = (
                tensor[None, None]
                if name == 'cls_token'
                else (tensor[None] if name == 'pos_embed' else tensor)
            )
        else:
            if parts[0] in stem:
                name = f'stem.{stem[parts[0]]}.{parts[1]}'
            if 'downsample' in parts:
                name = '.'.join([*parts[:3], str(int(parts[3]) + 1), parts[4]])
            trunk[name] = tensor
    return trunk, projections


def saved(tmp_path, layout, state):
    """Write a tiny CLIP's weights in one of the layouts; return the file to load."""
    trunk, projections = maskclip_layout(state)
    if layout == 'safetensors':
        save_file(state, tmp_path / 'clip.safetensors')
        return tmp_path / 'clip.safetensors'
    if layout == 'image tower alone':
        save_file(
            {k.removeprefix('visual.'): v for k, v in state.items() if 'visual.' in k},
            tmp_path / 'visual.safetensors',
        )
        return tmp_path / 'visual.safetensors'
    if layout == 'open_clip training checkpoint':
        torch.save(
            {'epoch': 3, 'state_dict': {f'module.{k}': v for k, v in state.items()}},
            tmp_path / 'epoch_3.pt',
        )
        return tmp_path / 'epoch_3.pt'
    torch.save({**projections, 'clip': trunk}, tmp_path / 'RN50_clip_weights.pth')
    if layout == 'clip_weights':
        return tmp_path / 'RN50_clip_weights.pth'
    torch.save(
        {'meta': {}, 'state_dict': {f'backbone.{k}': v for k, v in trunk.items()}},
        tmp_path / 'RN50_clip_backbone.pth',
    )
    return tmp_path / 'RN50_clip_backbone.pth'


@pytest.mark.parametrize('kind', ['vit', 'resnet'])
@pytest.mark.parametrize(
    'layout',
    [
        'safetensors',
        'image tower alone',
        'clip_weights',
        'clip_backbone',
        'open_clip training checkpoint',
    ],
)
def test_weight_files(tiny_clip, tmp_path, kind, layout):
    clip = tiny_clip(kind)
    path = saved(tmp_path, layout, clip.model.state_dict())
    torch.manual_seed(1)
    loaded = load_clip(TINY[kind], str(path))
    both_towers = layout in ('safetensors', 'open_clip training checkpoint')
    assert loaded.has_text == both_towers
    assert loaded.can_pool == (kind == 'vit' or layout not in ('clip_weights', 'clip_backbone'))
    own = clip.model.state_dict()
    for name, tensor in loaded.model.state_dict().items():
        if name.startswith('visual.') and name != 'visual.attnpool.positional_embedding':
            torch.testing.assert_close(tensor, own[name], rtol=0, atol=0)
    original = layout.startswith('clip_')
    gelu = [m for m in loaded.model.visual.modules() if type(m).__name__ == 'QuickGELU']
    assert bool(gelu) == (original and kind == 'vit')


class Archive(torch.nn.Module):
    """What OpenAI's archives hold: both towers, and three entries that are no weights."""

    def __init__(self, model):
        super().__init__()
        for name, child in model.named_children():
            self.add_module(name, child)
        for name, parameter in model.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, value in dict(input_resolution=64, context_length=77, vocab_size=49408).items():
            self.register_buffer(name, torch.tensor(value))

    def forward(self, x):
        return x


def test_openai_archive(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = Archive(load_clip(TINY['vit'], 'random').model.half())
    (tmp_path / 'pretrain').mkdir()
    path = tmp_path / 'pretrain' / 'ViT-B-16.pt'
    torch.jit.trace(model, torch.zeros(1)).save(str(path))
    monkeypatch.setattr(open_clip, 'get_model_config', lambda name: copy.deepcopy(TINY['vit']))
    loaded = load_clip('ViT-B-16-quickgelu', 'openai', pretrain_dir=tmp_path / 'pretrain')
    assert loaded.source == str(path) and loaded.has_text
    assert any(type(m).__name__ == 'QuickGELU' for m in loaded.model.modules())
    for name, tensor in loaded.model.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, model.state_dict()[name].float(), rtol=0, atol=0)


@pytest.mark.parametrize(
    'model, pretrained, message',
    [
        ('ViT-B-61', 'openai', "no model 'ViT-B-61' .nearest: 'ViT-B-16'"),
        ('ViT-B-16', 'openia', "no pretrained tag 'openia' .nearest: 'openai'"),
        ('ViT-B-16', 'pretrain/nowhere.pt', 'no weights file pretrain/nowhere.pt'),
        ('ViT-B-16', None, 'no weights are named'),
        ('nowhere.json', 'random', 'nowhere.json cannot be read as JSON'),
    ],
)
def test_bad_names(model, pretrained, message):
    with pytest.raises(UserError, match=message):
        load_clip(model, pretrained)


def test_mean_and_std_are_the_architectures_own():
    assert load_clip('ViT-B-16-SigLIP', 'random').mean == (0.5, 0.5, 0.5)
    assert load_clip(TINY['vit'], 'random').mean == open_clip.OPENAI_DATASET_MEAN


COCA = dict(
    TINY['vit'],
    vision_cfg=dict(TINY['vit']['vision_cfg'], attentional_pool=True, output_tokens=True),
    text_cfg=dict(TINY['vit']['text_cfg'], context_length=76, embed_cls=True, output_tokens=True),
    multimodal_cfg=dict(width=32, heads=2, layers=1),
)


def test_coca_has_both_towers():
    clip = load_clip(COCA, 'random')
    rows = embed_prompts(clip, [('cat',), ('dog', 'puppy')], ('a {}.', 'the {}.'))
    sentences = clip.model.encode_text(
        open_clip.tokenize(['a dog.', 'the dog.', 'a puppy.', 'the puppy.'], context_length=76)
    )
    expected = torch.nn.functional.normalize(sentences.mean(dim=0), dim=0)
    torch.testing.assert_close(rows[1], expected, atol=1e-6, rtol=0)
    view = pixels(64, 64)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    with torch.no_grad():
        expected = clip.model.encode_image((view / 255 - mean) / std)
        found = extractor_of(clip).embed(view)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert extractor_of(clip)(pixels(40, 70)).patches.shape == (2, 32, 3, 5)


def test_two_attention_pools_are_refused():
    vision = dict(COCA['vision_cfg'], attentional_pool='parallel')
    with pytest.raises(UserError, match='two attention pools, .* no image embedding'):
        extractor_of(load_clip(dict(TINY['vit'], vision_cfg=vision), 'random'))


def test_bad_files(tiny_clip, tmp_path):
    state = tiny_clip('vit').model.state_dict()
    save_file(state, tmp_path / 'vit.safetensors')
    with pytest.raises(UserError, match='does not fit custom: missing: visual.attnpool'):
        load_clip(TINY['resnet'], str(tmp_path / 'vit.safetensors'))
    content = (tmp_path / 'vit.safetensors').read_bytes()
    (tmp_path / 'cut.safetensors').write_bytes(content[: len(content) // 2])
    torch.save(state, tmp_path / 'vit.pt')
    (tmp_path / 'cut.pt').write_bytes((tmp_path / 'vit.pt').read_bytes()[:-1000])
    (tmp_path / 'text.pt').write_text('no weights')
    torch.save({'model': torch.nn.Linear(1, 1)}, tmp_path / 'pickle.pt')
    torch.save(torch.zeros(3, 4), tmp_path / 'tensor.pt')
    torch.save({'clip': {}, 'proj': torch.zeros(1)}, tmp_path / 'odd.pt')
    for name, message in (('tensor.pt', 'holds a Tensor'), ('odd.pt', 'lacks proj')):
        with pytest.raises(UserError, match=f'{name} {message}'):
            load_clip(TINY['vit'], str(tmp_path / name))
    for name, message in (
        ('cut.safetensors', 'damaged'),
        ('cut.pt', 'cut short'),
        ('text.pt', 'cut short'),
        ('pickle.pt', 'would run code'),
    ):
        with pytest.raises(UserError, match=f'{name} .*{message}'):
            load_clip(TINY['vit'], str(tmp_path / name))
    trunk, _ = maskclip_layout(state)
    torch.save(
        {'state_dict': {f'backbone.{k}': v for k, v in trunk.items()}},
        tmp_path / 'ViT16_clip_backbone.pth',
    )
    with pytest.raises(UserError, match='put ViT16_clip_weights.pth beside it'):
        load_clip(TINY['vit'], str(tmp_path / 'ViT16_clip_backbone.pth'))


# Text


def test_text_is_the_mean_of_unit_sentences(tiny_clip):
    clip = tiny_clip('vit')
    rows = embed_prompts(clip, [('cat',), ('dog', 'puppy')], ('a {}.', 'the {}.'))
    with torch.no_grad():
        sentences = clip.model.encode_text(
            open_clip.tokenize(['a dog.', 'the dog.', 'a puppy.', 'the puppy.']), normalize=True
        )
    expected = torch.nn.functional.normalize(sentences.mean(dim=0), dim=0)
    torch.testing.assert_close(rows[1], expected, atol=1e-6, rtol=0)
    short = embed_prompts(clip, [('cat',)], ('a {}.', 'the {}.'), renormalize=False)
    assert short.norm() < 1


def test_cache_is_keyed_by_all_that_goes_in(tiny_clip, tmp_path, monkeypatch):
    clip = tiny_clip('vit')
    clip = dataclasses.replace(clip, text_cfg=dict(clip.text_cfg))
    object.__setattr__(clip, 'source', 'a file')  # random weights are not cached
    words = load_vocabulary(['cat', 'dog'])
    first = text_embeddings(clip, words, 'plain', cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(
            'mmseg.clip.text_encoder.embed_prompts', None
        )  # a second look must not compute
        assert torch.equal(text_embeddings(clip, words, 'plain', cache_dir=tmp_path), first)
    for change in (dict(words=['cat', 'cow']), dict(templates='name'), dict(renormalize=False)):
        text_embeddings(
            clip,
            load_vocabulary(change.get('words', ['cat', 'dog'])),
            change.get('templates', 'plain'),
            cache_dir=tmp_path,
            renormalize=change.get('renormalize', True),
        )
    clip.model.ln_final.bias.data += 1
    text_embeddings(clip, words, 'plain', cache_dir=tmp_path)
    clip.text_cfg['heads'] = 4  # the same weights, other heads
    text_embeddings(clip, words, 'plain', cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 6
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:20])  # a damaged cache is computed again
    del clip.text_cfg['heads']
    assert text_embeddings(clip, words, 'plain', cache_dir=tmp_path).isfinite().all()


def test_a_cached_file_of_another_shape_is_computed_again(tiny_clip, tmp_path):
    clip = dataclasses.replace(tiny_clip('vit'), source='a file')  # random weights are not cached
    words = load_vocabulary(['cat', 'dog', 'sky'])
    rows = text_embeddings(clip, words, 'plain', cache_dir=tmp_path)
    (path,) = tmp_path.iterdir()
    for wrong in (rows[:1], rows[:, :8], rows * torch.nan):
        save_file({'text': wrong.contiguous()}, path)
        assert torch.equal(text_embeddings(clip, words, 'plain', cache_dir=tmp_path), rows)


def test_text_files(tmp_path):
    words, rows = load_vocabulary(['cat', 'dog']), torch.randn(2, 8)
    np.save(tmp_path / 'a.npy', rows.numpy())
    torch.save(rows, tmp_path / 'a.pth')
    save_file({'text': rows}, tmp_path / 'a.safetensors')
    for suffix in ('npy', 'pth', 'safetensors'):
        assert torch.equal(read_text_embeddings(tmp_path / f'a.{suffix}', words, dim=8), rows)
    with pytest.raises(UserError, match='2 rows, but the vocabulary .* has 3'):
        read_text_embeddings(tmp_path / 'a.npy', load_vocabulary(['a', 'b', 'c']))
    with pytest.raises(UserError, match='8 wide, but the image tower gives 512'):
        read_text_embeddings(tmp_path / 'a.npy', words, dim=512)
    with pytest.raises(UserError, match='no weights file'):
        read_text_embeddings(tmp_path / 'b.npy', words)
