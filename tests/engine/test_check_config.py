"""Values of configs are checked by the signatures of what they build, before anything is built."""

import copy
import inspect
import random
import re
from typing import Annotated, Any, Literal

import pytest
import torch
from annotated_types import Interval
from conftest import ROOT
from mmengine.config import Config

from mmseg.engine import check_config, load_config, resolve_config, resolve_shared_keys
from mmseg.engine.check_config import plain_part
from mmseg.errors import UserError
from mmseg.models import Windows
from mmseg.models.build import build
from mmseg.utils import Builds, Count, Positive, Settings, config_keys, require_setting

CONFIGS = ROOT / 'configs'
STUDENT = CONFIGS / 'miniature/maskclip_plus_vit_segformer_b0_class_weight.py'
PHOTOS = (
    CONFIGS / 'maskclip_plus/beyond/'
    'proxyclip_vit16_segformer_b5_improved_clip_numerics_480x480_8k_pascal_context_59.py'
)
WINDOWS = CONFIGS / 'beyond/vit16_336_slide_voc_21.py'
RANDOM_LEAVES = [STUDENT, PHOTOS, WINDOWS, CONFIGS / 'miniature/clip_vit.py']

BAD_VALUES = [
    (STUDENT, 'optim_wrapper.optimizer.lr', 'abc', "a number of at least 0, not 'abc'"),
    (STUDENT, 'optim_wrapper.optimizer.lr', -1, 'a number of at least 0, not -1'),
    (STUDENT, 'optim_wrapper.optimizer.lr', None, 'a number of at least 0, not None'),
    (STUDENT, 'optim_wrapper.optimizer.weight_decay', -0.1, 'a number of at least 0, not -0.1'),
    (STUDENT, 'optim_wrapper.optimizer.betas', 5, 'a list of 2: each a number of at least 0 and'),
    (STUDENT, 'optim_wrapper.optimizer.betas', (0.9, 2), 'below 1, not (0.9, 2)'),
    (STUDENT, 'optim_wrapper.optimizer.betas', (0.9,), 'below 1, not (0.9,)'),
    (STUDENT, 'optim_wrapper.optimizer.amsgrad', 1, 'True or False, not 1'),
    (STUDENT, 'optim_wrapper.accumulative_counts', 0, 'a whole number of at least 1, not 0'),
    (STUDENT, 'optim_wrapper.clip_grad', 1, 'a dict or None, not 1'),
    (STUDENT, 'optim_wrapper.clip_grad', {'max_norm': 'x'}, "a number above 0, not 'x'"),
    (STUDENT, 'optim_wrapper.constructor', 5, 'a string, not 5'),
    (STUDENT, 'optim_wrapper.paramwise_cfg', 'x', "a dict or None, not 'x'"),
    (STUDENT, 'optim_wrapper.paramwise_cfg.lr_mult.decode_head', 'x', 'a number of at least 0'),
    (STUDENT, 'param_scheduler.0.start_factor', 2, 'a number above 0 and of at most 1, not 2'),
    (STUDENT, 'param_scheduler.0.end', 'x', "a whole number of at least 1, not 'x'"),
    (STUDENT, 'param_scheduler', [None], 'a dict, not None'),
    (STUDENT, 'param_scheduler.7.end', 5, 'Index 7 exceeds the length'),
    (STUDENT, 'train_cfg.max_iters', 1.5, 'a whole number of at least 1, not 1.5'),
    (STUDENT, 'train_cfg.max_iters', -3, 'a whole number of at least 1, not -3'),
    (STUDENT, 'train_cfg.max_iters', None, 'a whole number of at least 1, not None'),
    (STUDENT, 'train_cfg.val_interval', 'x', "a whole number of at least 1, not 'x'"),
    (STUDENT, 'train_cfg.val_interval', 0, 'a whole number of at least 1, not 0'),
    (STUDENT, 'train_cfg.parts', 0, 'a whole number of at least 1, not 0'),
    (STUDENT, 'train_cfg', 5, 'a dict or None, not 5'),
    (STUDENT, 'train_dataloader', 5, 'a dict or None, not 5'),
    (STUDENT, 'train_dataloader.batch_size', 0, 'a whole number of at least 1, not 0'),
    (STUDENT, 'train_dataloader.batch_size', 2.5, 'a whole number of at least 1, not 2.5'),
    (STUDENT, 'train_dataloader.batch_size', '8', "a whole number of at least 1, not '8'"),
    (STUDENT, 'train_dataloader.num_workers', -1, 'a whole number of at least 0, not -1'),
    (STUDENT, 'train_dataloader.num_workers', 'two', "a whole number of at least 0, not 'two'"),
    (STUDENT, 'train_dataloader.drop_last', 'yes', "True or False, not 'yes'"),
    (STUDENT, 'train_dataloader.persistent_workers', 1, 'True or False, not 1'),
    (STUDENT, 'train_dataloader.dataset', None, 'a dict, not None'),
    (STUDENT, 'train_dataloader.sampler', 'StreamSampler', "a dict, not 'StreamSampler'"),
    (STUDENT, 'train_dataloader.sampler.seed', 'x', 'a whole number of at least 0 and below'),
    (STUDENT, 'train_dataloader.dataset.pipeline', 5, 'each item a dict or a function, not 5'),
    (STUDENT, 'train_dataloader.dataset.pipeline', 'Resize', 'each item a dict or a function, not'),
    (STUDENT, 'train_dataloader.dataset.pipeline', [None], 'a dict or a function, not None'),
    (STUDENT, 'train_dataloader.dataset.scenes', 'many', 'a whole number of at least 1, not'),
    (STUDENT, 'val_cfg', 5, 'a dict or None, not 5'),
    (STUDENT, 'val_evaluator', 'IoUMetric', "not 'IoUMetric'"),
    (STUDENT, 'default_hooks.checkpoint.interval', 0, 'a whole number of at least 1'),
    (STUDENT, 'default_hooks.checkpoint.interval', 'x', 'a whole number of at least 1'),
    (STUDENT, 'default_hooks.checkpoint.max_keep_ckpts', 'x', "or -1, not 'x'"),
    (STUDENT, 'default_hooks.logger.interval', 0, 'a whole number of at least 1, not 0'),
    (STUDENT, 'default_hooks.logger', 5, 'a dict or None, not 5'),
    (STUDENT, 'custom_hooks', [None], 'a dict, not None'),
    (STUDENT, 'custom_hooks', 5, 'a list, each item a dict or None, not 5'),
    (STUDENT, 'custom_hooks.1.interval', 0, 'a whole number of at least 1, not 0'),
    (STUDENT, 'custom_hooks.2.interval', 'x', "a whole number of at least 1, not 'x'"),
    (STUDENT, 'randomness.seed', 'x', 'a whole number of at least 0 and below'),
    (STUDENT, 'randomness.seed', -1, 'a whole number of at least 0 and below'),
    (STUDENT, 'log_processor.window_size', 0, 'a whole number of at least 1, not 0'),
    (STUDENT, 'env_cfg.mp_cfg.opencv_num_threads', 'x', "a whole number, not 'x'"),
    (STUDENT, 'visualizer.vis_backends', 5, 'a list, each item a dict or None, not 5'),
    (STUDENT, 'vocabulary', 5, 'a string or a list, each item a string, not 5'),
    (STUDENT, 'unseen', 5, "'all', a list, each item a string or None, not 5"),
    (STUDENT, 'teacher', 5, 'a string or None, not 5'),
    (STUDENT, 'class_weight', 'yes', "a dict or None, not 'yes'"),
    (STUDENT, 'class_weight.tau', 'x', "or None, not 'x'"),
    (STUDENT, 'class_weight.crop_size', 0, 'a whole number of at least 1, not 0'),
    (STUDENT, 'class_weight.crop', 'all', "'clip' or 'image', not 'all'"),
    (STUDENT, 'model.backbone', 5, 'a dict'),
    (STUDENT, 'model.decode_head', 'SegformerHead', "a dict, not 'SegformerHead'"),
    (STUDENT, 'model.decode_head.dropout', 'x', "not 'x'"),
    (STUDENT, 'model.ema_momentum', 'a', "not 'a'"),
    (STUDENT, 'model.conf_thresh', 2, 'a number from 0 to 1'),
    (PHOTOS, 'model.robust_loss.smoothing', 'x', "not 'x'"),
    (PHOTOS, 'model.start_self_train', 'x', 'a list of 2'),
    (PHOTOS, 'train_dataloader.dataset.pipeline.2.scale', 256, 'a list of 2'),
    (PHOTOS, 'train_dataloader.dataset.pipeline.2.ratio_range', 3, 'a list of 2'),
    (PHOTOS, 'train_dataloader.dataset.pipeline.3.size', 0, 'a whole number of at least 1'),
    (PHOTOS, 'train_dataloader.dataset.pipeline.4.prob', 2, 'a number from 0 to 1, not 2'),
    (WINDOWS, 'protocol.windows', 5, 'a dict or None, not 5'),
    (WINDOWS, 'protocol.windows.size', 'x', "a whole number of at least 1, not 'x'"),
    (WINDOWS, 'protocol.scale', 256, 'a list of 2'),
    (WINDOWS, 'model.windows', 5, 'a dict or None, not 5'),
    (WINDOWS, 'model.scoring.scale', 'x', "not 'x'"),
    (WINDOWS, 'readout', 5, 'a string, a dict or None, not 5'),
    (WINDOWS, 'readout', 'sclp', "readout.preset 'sclp' is not known (nearest: 'sclip')"),
    (STUDENT, 'readout', {'preset': ['sclip']}, "readout.preset ['sclip'] is not known"),
    (STUDENT, 'readout', {'resid': True}, "readout has no key 'resid' (nearest: 'residual')"),
    (STUDENT, 'readout', {'mlp': 'x'}, "readout.mlp must be True or False, not 'x'"),
    (STUDENT, 'model.teacher.backbone.readout', 'sclp', "'sclp' is not known"),
    (STUDENT, 'model.teacher.backbone.readout', {'mlp': 'x'}, 'readout.mlp must be True or False'),
    (STUDENT, 'train_dataloader.shuffle', True, 'False, not True'),
    (STUDENT, 'optim_wrapper.clip_grad.max_norm', 0, 'a number above 0, not 0'),
    (WINDOWS, 'test_dataloader.dataset.pipeline.1.scale', 256, 'a list of 2'),
    (WINDOWS, 'test_dataloader.dataset.data_root', 5, 'not 5'),
    (WINDOWS, 'test_cfg.compile', 'x', "True or False, not 'x'"),
    (WINDOWS, 'test_cfg.precision', 'fp8', "not 'fp8' (nearest: 'fp"),
]


@pytest.mark.parametrize(
    'leaf, key, value, message',
    BAD_VALUES,
    ids=[f'{key}={value!r}' for _, key, value, _ in BAD_VALUES],
)
def test_an_unusable_value_is_one_line(leaf, key, value, message):
    path = re.sub(r'\.([0-6])', r'[\1]', key)
    with pytest.raises(UserError) as error:
        load_config(leaf, {key: value})
    text = str(error.value)
    assert path in text and message in text and '\n' not in text, text


def collate(batch, extra):
    """Stand for a function of one's own; the data loader passes the batch"""


@pytest.mark.parametrize(
    'leaf, key, value',
    [
        (STUDENT, 'train_dataloader.collate_fn', {'type': 'pseudo_collate'}),
        (STUDENT, 'train_dataloader.collate_fn', {'type': 'default_collate'}),
        (STUDENT, 'train_dataloader.collate_fn', {'type': collate, 'extra': 1}),
        (STUDENT, 'train_dataloader.shuffle', False),
        (STUDENT, 'optim_wrapper.clip_grad', {'max_norm': float('inf')}),
        (STUDENT, 'optim_wrapper.optimizer.lr', 0),
        (STUDENT, 'auto_scale_lr', {'enable': True, 'base_batch_size': 16}),
        (STUDENT, 'resume', None),
        (STUDENT, 'device', None),
        (STUDENT, 'test_cfg', {'_delete_': True}),
    ],
    ids=range(10),
)
def test_what_mmengine_takes_is_accepted(leaf, key, value):
    load_config(leaf, {key: value})


def test_a_collate_function_needs_its_other_arguments():
    with pytest.raises(UserError, match="lacks the key 'extra'"):
        load_config(STUDENT, {'train_dataloader.collate_fn': {'type': collate}})


WRONG = (None, 'x', -1, 0, 1.5, 10**30, 1e300, True, {'a': 1}, [], [None], (1, 2), float('nan'))
EITHER = {'vocabulary', 'unseen', 'readout', 'suppress_labels', 'val_evaluator', 'test_evaluator'}


def keys_of(node, path=()):
    """A config -> the path of each of its keys, as a tuple"""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict)):
            yield from keys_of(value, (*path, key))


def kind_of(value):
    """Values of one kind may stand for each other"""
    kinds = {bool: 'flag', int: 'number', float: 'number', tuple: 'list'}
    return kinds.get(type(value), type(value).__name__)


@pytest.mark.parametrize('leaf', RANDOM_LEAVES, ids=lambda path: path.stem[:30])
def test_a_random_value_is_accepted_or_is_one_line(leaf):
    rng, config = random.Random(leaf.stem), load_config(leaf).to_dict()
    for path in keys_of(config):
        value, changed = rng.choice(WRONG), copy.deepcopy(config)
        node = changed
        for key in path[:-1]:
            node = node[key]
        good, node[path[-1]] = node[path[-1]], value
        text = ''.join(f'[{k}]' if isinstance(k, int) else f'.{k}' for k in path).lstrip('.')
        try:
            check_config(Config(changed))
        except UserError as error:
            message = str(error)
            assert '\n' not in message and message.startswith(text.removesuffix('.type')), message
            named = repr(value) in message or repr(value)[1:-1] in message
            assert named or isinstance(value, (dict, list, tuple)) or path[-1] == 'type', message
        else:
            alike = value is None or good is None or kind_of(value) == kind_of(good)
            assert alike or path[-1] in EITHER, f'{text}={value!r} (good: {good!r})'
            assert value == value, text  # not NaN


def builder(given, /, *, rate: Positive, mode: Literal['near', 'far'] = 'near', plain=3):
    """Stand for the function that builds Thing"""


class Thing:
    def __init__(self, inner, /, size: Count, *, part: Annotated[Settings, Builds(builder)] = None):
        pass


class Derived(Thing):
    def __init__(self, *args, size=2, deep: list[Annotated[float, Interval(lt=1)]] = (), **options):
        super().__init__(*args, size=size, **options)


def test_keys_are_the_parameters_that_no_caller_gives():
    keys, takes_any = config_keys(Derived)
    assert list(keys) == ['size', 'deep', 'part'] and not takes_any
    assert not any(key.required for key in keys.values())  # Derived fills in the size
    keys, _ = config_keys(builder)
    assert list(keys) == ['rate', 'mode', 'plain'] and keys['rate'].required
    assert keys['plain'].annotation is Any and keys['rate'].annotation is Positive

    def with_options(clip, /, *, text: str, **options):
        pass

    keys, _ = config_keys(with_options, Thing)
    assert list(keys) == ['text', 'size', 'part'] and keys['text'].required
    assert not keys['size'].required and keys['size'].annotation is Count
    assert config_keys(lambda **anything: 0) == ({}, True)


def test_what_a_config_cannot_hold_is_left_out_of_foreign_annotations():
    assert plain_part(float | torch.Tensor) is float
    assert plain_part(tuple[float | torch.Tensor, torch.Tensor]) == tuple[float, Any]
    assert plain_part(torch.Tensor | None) is Any and plain_part(int | None) == int | None
    parameters = inspect.signature(torch.optim.AdamW.__init__).parameters
    assert config_keys(torch.optim.AdamW)[0].keys() == parameters.keys() - {'self'}


@pytest.mark.parametrize(
    'value, annotation, message',
    [
        (5, Literal['a', 'b'] | None, "x must be 'a', 'b' or None, not 5"),
        ('neer', Literal['near', 'far'], "must be 'near' or 'far', not 'neer' (nearest: 'near')"),
        ((1, 'a'), tuple[int, int], "x must be a list of 2: each a whole number, not (1, 'a')"),
        ('y' * 200, int, f"x must be a whole number, not '{'y' * 76}..."),
        ({1: 2}, list[str], 'x must be a list, each item a string, not {1: 2}'),
        (3, torch.Tensor, 'x must be of type Tensor, not 3'),
    ],
)
def test_a_requirement_in_words(value, annotation, message):
    with pytest.raises(UserError) as error:
        require_setting('x', value, annotation)
    assert message in str(error.value)


def test_a_number_that_cannot_be_printed_is_refused():
    with pytest.raises(UserError, match='a number, not an integer of thousands of digits'):
        require_setting('x', 10**5000, float)


def test_a_list_stands_for_a_tuple():
    for value in ([1, 2], (1, 2)):
        for annotation in (tuple[int, int], list[int], tuple[int, ...] | None):
            require_setting('x', value, annotation)


# Shared keys


def test_resolving_shared_keys_changes_no_config():
    config = Config.fromfile(STUDENT)
    before = copy.deepcopy(config.to_dict())
    resolved = resolve_shared_keys(config, dict(type='MaskClip', backbone=dict(model='tiny')))
    assert config.to_dict() == before
    assert resolved.config.model.teacher.backbone.model == 'tiny'
    again = resolve_shared_keys(resolved.config)
    assert again.config.to_dict() == resolved.config.to_dict()


def test_filled_in_values_name_their_source():
    config, sources = resolve_config(STUDENT, {'readout': 'sclip'})
    assert sources == {
        'model.teacher': 'teacher',
        'model.vocabulary': 'vocabulary',
        'train_dataloader.dataset.vocabulary': 'vocabulary',
        'val_dataloader.dataset.vocabulary': 'vocabulary',
        'test_dataloader.dataset.vocabulary': 'vocabulary',
        'model.unseen': 'unseen',
        'train_dataloader.dataset.unseen': 'unseen',
        'val_dataloader.dataset.unseen': 'unseen',
        'test_dataloader.dataset.unseen': 'unseen',
        'model.class_weight': 'class_weight',
        'model.teacher.backbone.readout': 'readout',
        'train_dataloader.dataset.prior_crop_size': 'model.class_weight',
        'val_dataloader.dataset.prior_crop_size': 'model.class_weight',
        'test_dataloader.dataset.prior_crop_size': 'model.class_weight',
        'val_dataloader.dataset.pipeline.1.scale': 'protocol',
        'test_dataloader.dataset.pipeline.1.scale': 'protocol',
        'param_scheduler.1.end': 'train_cfg.max_iters',
    }
    _, sources = resolve_config(WINDOWS)
    assert sources['model.windows'] == sources['test_dataloader.dataset.pipeline.1.scale']
    assert sources['model.windows'] == 'protocol'
    labels = {'pseudo_labels': 'labels', 'model.conf_thresh': 0.5}
    config, sources = resolve_config(PHOTOS, labels)
    pipeline = config.train_dataloader.dataset.pipeline
    (place,) = [i for i, step in enumerate(pipeline) if step['type'] == 'LoadPseudoLabels']
    assert sources[f'train_dataloader.dataset.pipeline.{place}'] == 'pseudo_labels'
    assert config.model.teacher is None and sources['model.teacher'] == 'pseudo_labels'
    assert config.train_dataloader.dataset.pseudo_confidence


@pytest.mark.parametrize(
    'leaf, iterations, ends',  # of the warm-up, one more than its iterations, and of all
    [
        ('maskclip_plus_vit_segformer_b0', 300, (20, 301)),  # as written: under a fifth
        ('maskclip_plus_vit_segformer_b0', 20, (5, 21)),
        ('maskclip_plus_vit_segformer_b0', 1, (2, 2)),
        ('clip_rn', 1000, (60, 1001)),
        ('clip_rn', 50, (11, 51)),
    ],
)
def test_a_warm_up_takes_at_most_a_fifth(leaf, iterations, ends):
    path = CONFIGS / f'miniature/{leaf}.py'
    config, sources = resolve_config(path, {'train_cfg.max_iters': iterations})
    warm_up, decay = config.param_scheduler
    assert (warm_up.end, decay.end) == ends
    assert decay.begin == (warm_up.end if leaf == 'clip_rn' else 0)  # its cosine follows
    changed = ends[0] not in (20, 60)
    assert (sources.get('param_scheduler.0.end') == 'train_cfg.max_iters') == changed


def test_only_a_rising_start_is_a_warm_up():
    falling = dict(type='LinearLR', start_factor=1.0, end_factor=0.1, end=90, by_epoch=False)
    later = dict(type='LinearLR', start_factor=0.1, begin=10, end=90, by_epoch=False)
    config = Config(dict(train_cfg=dict(max_iters=100), param_scheduler=[falling, later]))
    config.model = dict(type='MaskClip')
    assert [s.end for s in resolve_shared_keys(config).config.param_scheduler] == [90, 90]


def test_tuples_in_configs_are_lists(tmp_path):
    leaf = tmp_path / 'leaf.py'
    leaf.write_text(
        f"_base_ = '{STUDENT}'\npseudo_labels = 'labels'\nprotocol = dict(scale=(64, 64))\n"
        "param_scheduler = (dict(type='PolyLR', power=0.9, by_epoch=False),)\n"
        "steps = (dict(type='LoadImage'), dict(type='Resize', scale=(9, 9)))\n"
        'train_dataloader = dict(dataset=dict(pipeline=steps))\n'
        'val_dataloader = dict(dataset=dict(pipeline=steps))\n'
        'test_dataloader = dict(dataset=dict(pipeline=steps))\n'
        'del steps'
    )
    config = load_config(leaf)
    assert config.param_scheduler[0].end == config.train_cfg.max_iters + 1
    assert config.test_dataloader.dataset.pipeline[1].scale == (64, 64)
    types = [step['type'] for step in config.train_dataloader.dataset.pipeline]
    assert types == ['LoadImage', 'LoadPseudoLabels', 'Resize']


def test_a_scale_skips_data_without_a_pipeline():
    config = Config.fromfile(WINDOWS)
    del config.test_dataloader.dataset['pipeline']
    resolved = resolve_shared_keys(config).config
    assert 'pipeline' not in resolved.test_dataloader.dataset and resolved.model.windows


WEIGHTED = CONFIGS / 'miniature/maskclip_text_vit.py'


@pytest.mark.parametrize(
    'leaf, options, message',
    [
        (
            WEIGHTED,
            {'model.class_weight.tau': 0.1},
            'class_weight and model.class_weight differ; set only class_weight.tau',
        ),
        (
            WEIGHTED,
            {'model.vocabulary': 'voc_20'},
            'vocabulary and model.vocabulary differ; set only vocabulary',
        ),
        (
            WINDOWS,
            {'model.backbone.readout': 'sclip'},
            'readout and model.backbone.readout differ; set only readout',
        ),
    ],
)
def test_two_values_for_a_shared_key_are_refused(leaf, options, message):
    with pytest.raises(UserError, match=f'^{re.escape(message)}$'):
        load_config(leaf, options)


def test_shared_keys_of_a_dumped_config_can_be_overridden(tmp_path):
    load_config(WEIGHTED).dump(tmp_path / 'dumped.py')
    config = load_config(tmp_path / 'dumped.py', {'class_weight.tau': 0.1, 'vocabulary': 'voc_20'})
    assert config.model.class_weight.tau == 0.1
    assert config.model.vocabulary == config.test_dataloader.dataset.vocabulary == 'voc_20'


def test_a_missing_teacher_is_named_with_its_config(tmp_path):
    leaf = tmp_path / 'my_student.py'
    leaf.write_text(f"_base_ = '{STUDENT}'\nteacher = './x.py'")
    with pytest.raises(UserError, match=re.escape(f"teacher './x.py' in {leaf} does not exist")):
        load_config(leaf)


def test_a_type_may_be_a_class():
    built = build(dict(type=Windows, size=32, stride=16))
    assert isinstance(built, Windows)
    with pytest.raises(UserError, match='no model part is called 5'):
        build(dict(type=5))
