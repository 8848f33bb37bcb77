"""How photos are shown to a network at test: said once in a config, named beside every figure."""

from mmseg.errors import UserError
from mmseg.utils import require_known

KEYS = {'scale', 'windows'}
SHOWN_AT = ('val_dataloader', 'test_dataloader')


def apply_protocol(config):
    """The config's `protocol`, if it has one, into its pipelines and its model, in place.

    `scale`: of the pipelines' Resize, (long, short). `windows`: of the model, or None.

    Raises:
        UserError: an unknown key, or a pipeline without Resize.
    """
    protocol = config.get('protocol')
    if not protocol:
        return
    require_known(protocol, KEYS, 'protocol')
    if 'scale' in protocol:
        for name in SHOWN_AT:
            steps = _steps(config, name)
            found = [step for step in steps if step['type'] == 'Resize']
            if steps and not found:
                raise UserError(f'protocol.scale needs a Resize in the pipeline of {name}')
            for step in found:
                step['scale'] = tuple(protocol.scale)
    if protocol.get('windows'):
        config.model.windows = protocol.windows


def protocol_of(config):
    """A Config -> what its test does: '336-slide: short side 336, windows of 224 every 112'.

    It is read off the pipeline and the model, so that it is true whatever was overridden.
    """
    steps = {step['type']: step for step in _steps(config, 'test_dataloader')}
    if 'Resize' in steps:
        long, short = max(steps['Resize']['scale']), min(steps['Resize']['scale'])
        if long >= 3 * short:
            name, text = f'{short}', f'short side {short}, long side up to {long}'
        else:
            name = f'{short}' if long == short else f'{long}x{short}'
            text = f'inside {long} x {short}'
    elif 'ResizeShortSide' in steps:
        name = str(steps['ResizeShortSide']['size'])
        text = f'short side {name}'
    else:
        name, text = 'native', 'as large as they are'
    windows = config.model.get('windows')
    if not windows:
        return f'{name}-whole: photos {text}, in one piece'
    return f'{name}-slide: photos {text}, windows of {windows["size"]} every {windows["stride"]}'


def _steps(config, loader):
    return (config.get(loader) or {}).get('dataset', {}).get('pipeline', ())
