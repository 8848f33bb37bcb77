"""Published methods as sets of switches, and the reader of a config's `readout`.

A preset follows its paper. Where the published code differs, `..._as_published` follows the code.
No preset changes the position embeddings. They are resized to the exact grid by default; to
reproduce published figures, set the extractor's `positions` ('factor', or 'antialias' for GEM).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from mmseg.errors import UserError
from mmseg.utils import nearest, require_known

from .switches import Feedback, Layers, Readout, Repair, SelfSelf

NACLIP = Readout(('k-k',), gaussian=5.0, residual=False, mlp=False)
RESCLIP = dataclasses.replace(
    NACLIP, terms=('k-k', 'early_attention'), weights=(1.2, 0.8), feedback=Feedback()
)
SCCLIP = Readout(
    ('layer_similarity', 'k-k'),
    (0.5, 0.5),
    use_cls_token=False,
    residual=False,
    mlp=False,
    cls_weight=0.3,
    repair=Repair(),
    layers=Layers(),
)
PRESETS = {
    'maskclip': Readout(),
    'maskclip_plain': Readout(residual=False, mlp=False),
    'clip': Readout(('q-k',)),
    'sclip': Readout(('q-q', 'k-k')),
    'clearclip': Readout(('q-q',), residual=False, mlp=False),
    'naclip': NACLIP,
    'gem': Readout(('v-v', 'k-k', 'q-q'), (1 / 3,) * 3, mlp=False, self_self=SelfSelf()),
    'resclip': RESCLIP,
    'scclip': SCCLIP,
    'proxyclip': Readout(('proxy',), use_cls_token=False, residual=False, mlp=False, margin=1.2),
    'resclip_as_published': dataclasses.replace(
        RESCLIP, feedback=Feedback(unsure='first', line='start', smooth='rows', half=True)
    ),
    'scclip_as_published': dataclasses.replace(SCCLIP, repair=Repair(reach='patch')),
}
PARTS: dict[str, Any] = dict(self_self=SelfSelf, repair=Repair, layers=Layers, feedback=Feedback)
S = TypeVar('S', Readout, SelfSelf, Repair, Layers, Feedback)


def readout_of(
    config: Readout | str | Mapping[str, Any], path: str = 'model.backbone.readout'
) -> Readout:
    """Read a config's `readout`.

    Args:
        config: a Readout, the name of a preset, or a dict of switches that change the preset named
            by its `preset` ('maskclip' by default). A part such as `repair` is a dict of changes
            too, or None to switch it off.
        path: of the setting, for messages.

    Raises:
        UserError: an unknown name or key (with the nearest one), or a value that is not allowed.
    """
    if isinstance(config, Readout):
        return config
    if isinstance(config, str):
        config = dict(preset=config)
    if not isinstance(config, Mapping):
        raise UserError(f'{path} must be a name or a dict of switches, not {config!r}')
    switches = dict(config)
    name = switches.pop('preset', 'maskclip')
    if not isinstance(name, str) or name not in PRESETS:
        raise UserError(
            f'{path}.preset {name!r} is not known{nearest(str(name), PRESETS)}; '
            f'known: {", ".join(PRESETS)}'
        )
    preset = PRESETS[name]
    for key in PARTS.keys() & switches.keys():
        if isinstance(switches[key], Mapping):
            default = getattr(preset, key) or PARTS[key]()
            switches[key] = _changed(default, switches[key], f'{path}.{key}')
    return _changed(preset, switches, path)


def _changed(preset: S, switches: Mapping[str, Any], path: str) -> S:
    """Replace some switches; lists become tuples, and one string a tuple where some are meant."""
    fields = {field.name for field in dataclasses.fields(preset)}
    require_known(set(switches), fields, path)
    values = {}
    for key, value in switches.items():
        if isinstance(value, list):
            value = tuple(value)
        elif isinstance(value, str) and isinstance(getattr(preset, key), tuple):
            value = (value,)
        values[key] = value
    return dataclasses.replace(preset, **values)
