"""Dual encoders of transformers against the library's own outputs: random weights, two blocks."""

import functools
import json
import sys

import pytest
import torch
import transformers
from conftest import ROOT
from PIL import Image
from torch.nn.functional import normalize, pad
from torch.testing import assert_close

from mmseg.clip import CLIPDenseExtractor, embed_prompts, load_clip
from mmseg.clip.readout import PRESETS
from mmseg.engine import load_config
from mmseg.errors import UserError
from mmseg.registry import MODELS

SIDE, PATCH = 32, 8
SMALL = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
MLP = dict(SMALL, intermediate_size=48)
VISION = dict(MLP, patch_size=PATCH, image_size=SIDE)
TIPS = dict(SMALL, patch_size=PATCH, image_size=SIDE, layerscale_value=0.5, num_register_tokens=2)
TEXT = dict(MLP, vocab_size=64, max_position_embeddings=20, bos_token_id=0, eos_token_id=1)
SQUARE = dict(size=dict(height=SIDE, width=SIDE))
CROP = dict(size=dict(shortest_edge=SIDE), crop_size=SIDE)
NAFLEX = dict(patch_size=PATCH, max_num_patches=16)
ENCODERS = {  # class, settings of its image tower, image processor and its settings
    'CLIP': ('CLIP', VISION, 'CLIP', CROP),
    'MetaCLIP 2': ('MetaClip2', VISION, 'CLIP', CROP),
    'SigLIP': ('Siglip', VISION, 'Siglip', SQUARE),
    'SigLIP 2 NaFlex': ('Siglip2', dict(MLP, patch_size=PATCH, num_patches=16), 'Siglip2', NAFLEX),
    'TIPSv2': ('Tipsv2', TIPS, 'Tipsv2', SQUARE),
    'TIPSv2-g': ('Tipsv2', dict(TIPS, use_swiglu_ffn=True), 'Tipsv2', SQUARE),
}
LETTERS = 'abcdefghijklmnopqrstuvwxyz.'


def tokenizer():
    """Letters; it gives ids and a mask"""
    words = ['<pad>', '<eos>', '▁', '<unk>', *LETTERS]
    return transformers.Tipsv2Tokenizer({word: i for i, word in enumerate(words)}, [])


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """A name of ENCODERS -> the folder of a random one that the library wrote."""

    @functools.cache
    def save(name):
        kind, vision, images, settings = ENCODERS[name]
        torch.manual_seed(0)
        config = getattr(transformers, f'{kind}Config')(text_config=TEXT, vision_config=vision)
        model = getattr(transformers, f'{kind}Model')(config)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        folder = tmp_path_factory.mktemp('encoder')
        model.save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        getattr(transformers, f'{images}ImageProcessor')(**settings).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope='module', params=ENCODERS)
def encoder(request, saved):
    """Ours, the library's model and its processor, of the same folder"""
    folder = saved(request.param)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    return (
        load_clip(None, f'hf:{folder}'),
        model,
        transformers.AutoProcessor.from_pretrained(folder),
    )


def extractor_of(clip, **options):
    return CLIPDenseExtractor(clip.model.visual, mean=clip.mean, std=clip.std, **options)


def pixels(height, width):
    seed = torch.manual_seed(2)
    return torch.randint(0, 256, (1, 3, height, width), generator=seed, dtype=torch.uint8)


def library_inputs(clip, model, image):
    """(1, 3, H, W) uint8 of whole patches -> what the library's image tower takes"""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (clip.mean, clip.std))
    image = (image / 255 - mean) / std
    if model.config.model_type == 'tipsv2':
        return dict(pixel_values=image)
    if model.config.model_type != 'siglip2':
        return dict(pixel_values=image, interpolate_pos_encoding=True)
    grid = [image.shape[2] // PATCH, image.shape[3] // PATCH]
    patches = [
        image[0, :, y : y + PATCH, x : x + PATCH].permute(1, 2, 0).flatten()
        for y in range(0, image.shape[2], PATCH)
        for x in range(0, image.shape[3], PATCH)
    ]
    mask = torch.ones(1, len(patches), dtype=torch.int)
    sizes = torch.tensor([grid])
    return dict(
        pixel_values=torch.stack(patches)[None], pixel_attention_mask=mask, spatial_shapes=sizes
    )


@torch.no_grad()
def test_a_photo_is_the_librarys_pixels_and_embedding(encoder):
    clip, model, processor = encoder
    view = pixels(SIDE, SIDE)
    photo = Image.fromarray(view[0].permute(1, 2, 0).numpy())
    inputs = processor.image_processor(images=photo, return_tensors='pt')
    found = library_inputs(clip, model, view)['pixel_values']
    assert_close(found, inputs['pixel_values'], atol=1e-5, rtol=1e-5)
    expected = normalize(model.get_image_features(**inputs).pooler_output, dim=1)
    assert clip.image_size == SIDE and clip.embed_dim == expected.shape[1]
    assert_close(extractor_of(clip).embed(view), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_sentences_are_the_librarys_embeddings(encoder):
    clip, model, processor = encoder
    sentences = ['a cat.', 'a photo of dogs.']
    inputs = processor(text=sentences, padding='max_length', max_length=20, return_tensors='pt')
    expected = normalize(model.get_text_features(**inputs).pooler_output, dim=1)
    found = embed_prompts(clip, [['cat'], ['photo of dogs']], ['a {}.'])
    assert_close(found, expected, atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="'a photo of many small.* reads up to 20 tokens"):
        embed_prompts(clip, [['cat'], ['photo of many small cats']], ['a {}.'])


@pytest.mark.parametrize('size', [(24, 48), (21, 43)], ids=['whole patches', 'padded'])
@torch.no_grad()
def test_patch_tokens_are_the_librarys_at_another_size(encoder, size):
    """The readout 'clip' leaves the last block as it is."""
    clip, model, _ = encoder
    image = pixels(*size)
    extractor = extractor_of(clip, readout=PRESETS['clip'])
    features, embedding = extractor.forward_with_embedding(image)
    mean = (torch.tensor(clip.mean) * 255).view(1, 3, 1, 1)
    whole = pad(image - mean, (0, -size[1] % PATCH, 0, -size[0] % PATCH)) + mean
    outputs = model.get_image_features(**library_inputs(clip, model, whole))
    expected = normalize(outputs.pooler_output, dim=1)
    assert_close(embedding, expected, atol=1e-5, rtol=0)
    tokens = outputs.last_hidden_state[:, extractor.tower.prefix :]
    network = model.vision_model
    if hasattr(network, 'head'):  # SigLIP's attention pool, which has one patch to choose from
        tokens = torch.stack([network.head(tokens[:, i : i + 1]) for i in range(18)], dim=1)
    elif hasattr(network, 'post_layernorm'):  # CLIP
        tokens = model.visual_projection(network.post_layernorm(tokens))
    assert features.patches.shape[2:] == (3, 6)
    assert_close(features.patches.flatten(2).mT, tokens, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_value_path_is_the_last_block_on_each_patch_alone(encoder):
    """Attention of a patch to itself is its value; so TIPSv2's authors segment."""
    clip, model, _ = encoder
    extractor = extractor_of(clip)
    trunk = extractor.trunk(pixels(24, 48))
    last = list(extractor.tower.blocks)[-1]
    tokens = trunk.patches
    if hasattr(model.vision_model, 'head'):  # the block stays whole
        tokens = last(trunk.tokens, attention_mask=None)
        pool = model.vision_model.head.attention
        keys = model.vision_model.post_layernorm(tokens) @ pool.in_proj_weight[32:64].T
        found = extractor(pixels(24, 48)).keys
        assert_close(found, keys + pool.in_proj_bias[32:64], atol=1e-4, rtol=1e-4)
    else:
        tokens = last(tokens.reshape(-1, 1, 32), attention_mask=None).reshape(tokens.shape)
    assert_close(
        extractor.tower.dense(trunk)[0].flatten(2).mT,
        extractor.tower.head(tokens),
        atol=1e-4,
        rtol=1e-4,
    )


@pytest.mark.parametrize('preset', ['scclip', 'gem', 'resclip'])
@torch.no_grad()
def test_readouts_with_registers(saved, preset):
    clip = load_clip(None, f'hf:{saved("TIPSv2")}')
    extractor = extractor_of(clip, readout=PRESETS[preset])
    found = extractor(pixels(24, 48), lambda patches: patches[:, :3]).patches
    assert found.isfinite().all() and found.shape == (1, 32, 3, 6)


@torch.no_grad()
def test_a_whole_maskclip_with_a_class_weight(saved, tmp_path, monkeypatch):
    monkeypatch.setenv('MMSEG_CACHE', str(tmp_path))
    text = dict(templates=['a {}.'])
    model = MODELS.build(
        dict(
            type='MaskClip',
            backbone=dict(type='CLIPDenseExtractor', pretrained=f'hf:{saved("TIPSv2")}'),
            decode_head=dict(type='MaskClipHead', text=text),
            class_weight=dict(type='ClassWeight', tau=0.1, crop='image', text=text),
            vocabulary=['cat', 'dog', 'sky'],
        )
    )
    assert model.scores(pixels(24, 48)).shape == (1, 3, 3, 6)
    assert len(list(tmp_path.iterdir())) == 1  # the text, once for both


def test_the_leaf_is_a_teacher():
    leaf = ROOT / 'configs' / 'maskclip_plus' / 'anno_free'
    leaf = next(leaf.glob('maskclip_plus_vit16_segformer_b0_clip_numerics_*.py'))
    found = load_config(leaf, {'teacher': str(ROOT / 'configs/_base_/teachers/tipsv2_b14.py')})
    backbone = found.model.teacher.backbone
    assert backbone.pretrained == 'hf:google/tipsv2-b14' and 'model' not in backbone


# What cannot be used, in one line


def changed(folder, target, **settings):
    """Copy a saved encoder, with other settings in its config"""
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / 'config.json').read_text())
    (target / 'config.json').write_text(json.dumps(config | settings))
    return f'hf:{target}'


def test_transformers_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(UserError, match=r"pip install 'maskclip-plus\[transformers\]'"):
        load_clip(None, 'hf:google/tipsv2-b14')


def test_an_unknown_name_and_an_unknown_kind(saved, tmp_path):
    with pytest.raises(UserError, match='hf:./nowhere could not be loaded .* as hf:FOLDER'):
        load_clip(None, 'hf:./nowhere')
    with pytest.raises(UserError, match='does not recognize this architecture'):
        load_clip(None, changed(saved('TIPSv2'), tmp_path, model_type='tipsv9'))


def test_other_models_than_dual_encoders(tmp_path):
    transformers.Dinov2Config().save_pretrained(tmp_path)
    with pytest.raises(UserError, match='is a dinov2, without a text tower beside an image'):
        load_clip(None, f'hf:{tmp_path}')
    transformers.AlignConfig().save_pretrained(tmp_path)
    with pytest.raises(UserError, match='is a align, whose image tower cannot .* siglip2, tipsv2'):
        load_clip(None, f'hf:{tmp_path}')


def test_weights_that_do_not_fit_or_are_pickles(saved, tmp_path):
    folder = saved('TIPSv2')
    vision = dict(TIPS, num_hidden_layers=3)
    with pytest.raises(UserError, match='lacks weights of the Tipsv2Model .*encoder.layer.2'):
        load_clip(None, changed(folder, tmp_path, vision_config=vision))
    (tmp_path / 'model.safetensors').rename(tmp_path / 'pytorch_model.bin')
    with pytest.raises(UserError, match='could not be loaded .*safetensors'):
        load_clip(None, f'hf:{tmp_path}')


def test_a_tower_without_a_pool(saved, tmp_path):
    source = changed(saved('SigLIP'), tmp_path, vision_config=dict(VISION, vision_use_head=False))
    with pytest.raises(UserError, match='this SiglipModel has no head that pools'):
        load_clip(None, source)


def test_names_and_options_that_do_not_belong(saved):
    source = f'hf:{saved("SigLIP")}'
    with pytest.raises(UserError, match="names the model too; leave out model='ViT-B-16'"):
        load_clip('ViT-B-16', source)
    with pytest.raises(UserError, match="pretrained='openai' needs the name of its model"):
        load_clip(None, 'openai')
    with pytest.raises(UserError, match='has none; set readout.cls_weight=0'):
        extractor_of(load_clip(None, source), readout=PRESETS['scclip'])
    with pytest.raises(UserError, match="no choice of positions; set positions='size'"):
        extractor_of(load_clip(None, source), positions='factor')
