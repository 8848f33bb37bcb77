"""Published methods as sets of switches, and a config's readout.

Presets are what the papers mean; where published code differs, it is `..._as_published`. None of
them touches the position embeddings: these reach the grid's exact size by default, and a protocol
that reproduces published figures sets the extractor's `positions` ('factor'; 'antialias' for GEM).
"""

import dataclasses

from mmseg.errors import UserError
from mmseg.utils import require_choice, require_known

from .switches import Feedback, Layers, Readout, Repair, SelfSelf

_NACLIP = Readout(('k-k',), gaussian=5.0, residual=False, mlp=False)
_SCCLIP = Readout(
    ('layer_similarity', 'k-k'),
    (0.5, 0.5),
    use_cls_token=False,
    residual=False,
    mlp=False,
    cls_weight=0.3,
    repair=Repair(),
    layers=Layers(),
)
_RESCLIP = dataclasses.replace(
    _NACLIP, terms=('k-k', 'early_attention'), weights=(1.2, 0.8), feedback=Feedback()
)
PRESETS = {
    'maskclip': Readout(),
    'maskclip_plain': Readout(residual=False, mlp=False),
    'clip': Readout(('q-k',)),
    'sclip': Readout(('q-q', 'k-k')),
    'clearclip': Readout(('q-q',), residual=False, mlp=False),
    'naclip': _NACLIP,
    'gem': Readout(('v-v', 'k-k', 'q-q'), (1 / 3,) * 3, mlp=False, self_self=SelfSelf()),
    'resclip': _RESCLIP,
    'scclip': _SCCLIP,
    'proxyclip': Readout(('proxy',), use_cls_token=False, residual=False, mlp=False, margin=1.2),
    'resclip_as_published': dataclasses.replace(
        _RESCLIP, feedback=Feedback(unsure='first', line='start', smooth='rows', half=True)
    ),
    'scclip_as_published': dataclasses.replace(_SCCLIP, repair=Repair(reach='own')),
}
PARTS = dict(self_self=SelfSelf, repair=Repair, layers=Layers, feedback=Feedback)


def readout_of(config, where='model.backbone.readout') -> Readout:
    """A preset's name, a dict of switches (`preset` is what they change) or a Readout -> Readout.

    A part that the preset has may be given as a dict of what differs, or as None to take it away.

    Raises:
        UserError: an unknown name, key or choice, and the nearest right one.
    """
    if isinstance(config, Readout):
        return config
    if isinstance(config, str):
        config = dict(preset=config)
    if not isinstance(config, dict):
        raise UserError(f'{where} is a name or a dict of switches, not {config!r}')
    config = dict(config)
    name = config.pop('preset', 'maskclip')
    require_choice(f'{where}.preset', name, tuple(PRESETS))
    preset = PRESETS[name]
    for key in PARTS.keys() & config.keys():
        config[key] = _part(config[key], getattr(preset, key) or PARTS[key](), f'{where}.{key}')
    return _changed(preset, config, where)


def _part(config, preset, where):
    if config is None or isinstance(config, type(preset)):
        return config
    if not isinstance(config, dict):
        raise UserError(f'{where} is a dict of switches or None, not {config!r}')
    return _changed(preset, config, where)


def _changed(preset, config, where):
    """A dataclass with some fields replaced, each by a value of its kind."""
    known = {field.name: getattr(preset, field.name) for field in dataclasses.fields(preset)}
    require_known(set(config), known, where)
    values = {}
    for key, value in config.items():
        if isinstance(known[key], tuple):
            value = (value,) if isinstance(value, str) else value
            if not isinstance(value, (list, tuple)):
                raise UserError(f'{where}.{key} is a list, not {value!r}')
            value = tuple(value)
        elif isinstance(known[key], bool) != isinstance(value, bool) or (
            isinstance(known[key], (int, float)) and not isinstance(value, (int, float))
        ):
            raise UserError(f'{where}.{key} is {_kind(known[key])}, not {value!r}')
        values[key] = value
    return dataclasses.replace(preset, **values)


def _kind(value):
    return 'True or False' if isinstance(value, bool) else 'a number'
