import sys
from pathlib import Path

import timm
from torch import nn

from mmseg.errors import UserError

from .checkout import in_checkout
from .checkpoint import read_state, require_finite_state
from .files import reason_of


def create_with_weights(model: str, **options) -> nn.Module:
    """Build a timm model with its own weights: those in `pretrain`, else from the network.

    Args:
        model: a name of timm.
        options: of `timm.create_model`.

    Raises:
        UserError: the weights cannot be had, are damaged, or hold NaN or Inf.
    """
    repo = timm.get_pretrained_cfg(model).hf_hub_id or model
    file = Path(in_checkout(f'pretrain/{repo.split("/")[-1]}.safetensors'))
    if file.is_file():
        read_state(file)  # damage is said in one line
        options['pretrained_cfg_overlay'] = dict(file=str(file))
    else:
        print(f'weights {model}: from timm, or its cache', file=sys.stderr, flush=True)
    try:
        network = timm.create_model(model, pretrained=True, **options)
    except Exception as error:  # the hub client's errors have no common type
        raise UserError(
            f'the weights of {model} could not be fetched ({reason_of(error)}); fetch the file '
            'elsewhere and set pretrained to it'
        ) from error
    what = f'{model} of timm has'
    require_finite_state(network.state_dict(), what, 'set pretrained to another file')
    return network
