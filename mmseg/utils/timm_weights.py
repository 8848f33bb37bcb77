import sys
from pathlib import Path

import timm
from torch import nn

from mmseg.errors import UserError

from .checkpoint import read_state, require_finite
from .describe import shown


def create_with_weights(model: str, file: Path | None = None, **options) -> nn.Module:
    """Build a timm model with its own pretrained weights.

    Args:
        model: a name of timm.
        file: these weights, fetched before; None for timm's source of them, or its cache.
        options: of `timm.create_model`.

    Raises:
        UserError: the weights cannot be had, are damaged, or hold NaN or Inf.
    """
    if file is not None:
        read_state(file)  # damage is said in one line
        options['pretrained_cfg_overlay'] = dict(file=str(file))
    else:
        print(f'weights {model}: from timm, or its cache', file=sys.stderr, flush=True)
    try:
        network = timm.create_model(model, pretrained=True, **options)
    except Exception as error:  # the hub client's errors have no common type
        raise UserError(
            f'the weights of {model} could not be fetched ({shown(error)}); fetch the file '
            'elsewhere and set pretrained to it'
        ) from error
    for name, tensor in network.state_dict().items():
        require_finite(tensor, f'{model} of timm has {name}', 'set pretrained to another file')
    return network
