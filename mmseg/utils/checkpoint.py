"""Read tensors from files of any layout, and refuse damaged or unsafe files."""

import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from mmseg.errors import UserError

from .describe import describe_file, shown
from .files import hub_errors, in_checkout, reason_of

State = Mapping[str, Tensor]
DTYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)
# Entries of OpenAI's archives that are no weights.
NO_WEIGHTS = ('input_resolution', 'context_length', 'vocab_size')
UNPACKED = 8  # times its size; a file that claims to hold more is refused


def read_file(path: str | Path, *, cure: str = 'check or replace the file') -> Any:
    """Read a file of tensors without running code from it.

    The layout is recognised by the content: PyTorch's zip or older pickle, a TorchScript archive,
    safetensors, or a NumPy array.

    Args:
        cure: what the user can do if the file cannot be read, for the message.

    Returns:
        The content of the file: a dict, a list or a tensor, finite and on the CPU.

    Raises:
        UserError: the file is missing, damaged, no weights file, would run code when read, or
            holds NaN, Inf or tensors that are not dense and real.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f'no weights file {path}; `maskclip download_weights` fetches what the configs need'
        )
    try:
        layout = describe_file(path)
    except OSError as error:
        raise UserError(f'{path} cannot be read: {reason_of(error)}') from error
    if layout not in READERS:
        raise UserError(f'{path} is no weights file: it is {layout}; {cure}')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of old layouts, which a user cannot change
            content = READERS[layout](path)
    except Exception as error:  # parsers of other projects: damage makes them raise anything
        if 'Unsupported ' in str(error):
            raise UserError(
                f'{path} holds Python objects that would run code when read; save its state_dict '
                'alone, best as .safetensors'
            ) from error
        raise UserError(f'{path} is damaged: {layout} ({reason_of(error)}); {cure}') from error
    for name, tensor in _tensors_in(content):
        _require_numbers(tensor, f'{path} holds {name or "a tensor"}', path.stat().st_size, cure)
    return content


def _read_torch(path: Path) -> Any:
    _check_zip(path)
    return torch.load(path, map_location='cpu', weights_only=True)


def _read_script(path: Path) -> dict[str, Tensor]:
    _check_zip(path)
    return dict(torch.jit.load(path, map_location='cpu').state_dict())


READERS: dict[str, Callable[[Path], Any]] = {
    'a PyTorch file': _read_torch,
    'a pickle': _read_torch,
    'a TorchScript archive': _read_script,
    'a safetensors file': load_file,
    'a NumPy array': lambda path: torch.from_numpy(np.load(path, allow_pickle=False)),
}


def _check_zip(path: Path) -> None:
    """Verify the checksums of a zip's members, which PyTorch does not."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(m.file_size for m in members) > UNPACKED * path.stat().st_size + 2**20:
            raise zipfile.BadZipFile('it would unpack to far more than its size')
        for member in members:
            if member.CRC:  # torch.save can leave checksums out
                with archive.open(member) as file:
                    while file.read(2**20):
                        pass


def _tensors_in(content: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested dicts and lists with their names: 'state_dict.conv1.weight'."""
    stack: list[tuple[str, Any]] = [('', content)]
    visited = set()
    while stack:
        name, item = stack.pop()
        if torch.is_tensor(item):
            yield shown(name), item
        elif isinstance(item, (dict, list, tuple)) and id(item) not in visited:
            visited.add(id(item))  # a damaged pickle can hold itself
            pairs: Iterable[Any] = item.items() if isinstance(item, dict) else enumerate(item)
            stack += [(f'{name}.{key}' if name else str(key), value) for key, value in pairs]


def _require_numbers(tensor: Tensor, subject: str, size: int, cure: str) -> None:
    plain = type(tensor) is torch.Tensor or isinstance(tensor, nn.Parameter)
    plain = plain and not tensor.is_nested and tensor.layout == torch.strided
    if not plain or tensor.device.type != 'cpu' or tensor.dtype not in DTYPES:
        raise UserError(f'{subject}, which is not a dense tensor of real numbers; {cure}')
    if tensor.nbytes > UNPACKED * size:
        raise UserError(f'{subject}, which claims to be larger than the file; {cure}')
    require_finite(tensor, subject, cure)


def require_finite(tensor: Tensor, subject: str, cure: str) -> None:
    """Refuse a tensor with NaN or Inf in it.

    Raises:
        UserError: the message begins with `subject` and ends with `cure`.
    """
    if tensor.is_floating_point() and tensor.numel():
        low, high = tensor.detach().aminmax()  # NaN propagates; ten times as fast as isfinite()
        if not (low.isfinite() and high.isfinite()):
            raise UserError(f'{subject} with NaN or Inf in it; {cure}')


def require_finite_state(state: State, subject: str, cure: str) -> None:
    """Refuse weights with NaN or Inf in them; see `require_finite`."""
    for name, tensor in state.items():
        require_finite(tensor, f'{subject} {name}', cure)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a network from a file or a checkpoint.

    Raises:
        UserError: see `read_file`; or the file holds no weights.
    """
    return state_of(read_file(path), path)


def meta_of(content: Any, path: str | Path) -> dict[str, Any]:
    """Return the metadata of a file: a checkpoint's `meta`, or those of safetensors.

    Args:
        content: result of `read_file`.
    """
    if describe_file(path) == 'a safetensors file':
        with safe_open(path, 'pt') as file:
            return dict(file.metadata() or {})
    meta = content.get('meta') if isinstance(content, dict) else None
    return meta if isinstance(meta, dict) else {}


def state_of(content: Any, path: object) -> dict[str, Tensor]:
    """Take the weights out of the content of a file, without 'state_dict' and 'module.'.

    Args:
        content: result of `read_file`.
        path: of the file, for messages.

    Raises:
        UserError: there are none.
    """
    if not isinstance(content, dict):
        raise UserError(f'{path} holds a {type(content).__name__}, not the weights of a network')
    state = content.get('state_dict', content)
    if not isinstance(state, dict):
        raise UserError(f'{path} has a state_dict that is no dict of weights')
    state = {
        name.removeprefix('module.'): tensor
        for name, tensor in state.items()
        if isinstance(name, str) and torch.is_tensor(tensor) and name not in NO_WEIGHTS
    }
    if not state:
        raise UserError(f'{path} holds no weights (found: {_list_some(content) or "nothing"})')
    return state


def misfit(expected: State, state: State, optional: Iterable[str] = ()) -> str:
    """Describe why weights do not fit a network.

    Args:
        expected: weights of the network.
        optional: names that may be missing.

    Returns:
        'missing: a, b, c and 3 more; shapes: ...', or '' if they fit.
    """
    both = sorted(set(expected) & set(state))
    reasons: dict[str, Collection[str]] = dict(
        missing=set(expected) - set(state) - set(optional),
        unexpected=set(state) - set(expected),
        shapes=[
            f'{name} is {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}'
            for name in both
            if state[name].shape != expected[name].shape
        ],
        types=[
            f'{name} is {state[name].dtype}, expected {expected[name].dtype}'
            for name in both
            if expected[name].is_floating_point() and not state[name].is_floating_point()
        ],
    )
    return '; '.join(f'{reason}: {_list_some(names)}' for reason, names in reasons.items() if names)


def joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Concatenate two tensors; None if one is missing or their rows differ in shape."""
    if first is None or second is None or not first.ndim or not second.ndim:
        return None
    return torch.cat([first, second]) if first.shape[1:] == second.shape[1:] else None


def _list_some(names: Iterable[object], most: int = 3) -> str:
    texts = sorted(map(shown, names))
    more = f' and {len(texts) - most} more' if len(texts) > most else ''
    return ', '.join(texts[:most]) + more


def read_checkpoint(path: str | Path, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint of `SegRunner`, to resume from it.

    Args:
        map_location: ignored; mmengine passes it. Model and optimizer move what they load.

    Raises:
        UserError: see `read_file`; or it is no checkpoint of a training.
    """
    content = read_file(path, cure='name an earlier one, or start a new run')
    state_of(content, path)
    if not _is_training(content):
        raise UserError(
            f'{path} holds weights, but no state of a training to resume; start a new run from '
            'them with --load-from'
        )
    return content


def _is_training(content: dict[str, Any]) -> bool:
    """Tell whether a checkpoint has all that a resumed run relies on."""
    known = [content.get(name) for name in ('meta', 'optimizer', 'message_hub')]
    if not all(isinstance(part, dict) for part in known):
        return False
    meta, optimizer, hub = (part or {} for part in known)
    groups = optimizer.get('param_groups')
    parts = [hub.get('runtime_info'), meta.get('settings', {}), meta.get('dataset_meta', {})]
    parts += groups if isinstance(groups, list) else [None]
    counts = [meta.get(name) for name in ('iter', 'epoch')]
    return all(isinstance(part, dict) for part in parts) and all(
        type(count) is int and count >= 0 for count in counts
    )


def newest_checkpoint(folder: str | Path) -> Path | None:
    """Find the newest checkpoint of a folder that is not damaged."""
    files = [p for p in Path(folder).glob('iter_*.pth') if re.fullmatch(r'iter_\d+', p.stem)]
    for path in sorted(files, key=lambda path: int(path.stem[5:]), reverse=True):
        try:
            read_checkpoint(path)
        except UserError as error:
            warnings.warn(f'{error}; the one before it is used', stacklevel=2)
        else:
            return path
    return None


def create_with_weights(model: str, **options: Any) -> nn.Module:
    """Build a timm model with timm's weights, from `pretrain` or from the network.

    Args:
        model: a name of timm.
        options: of `timm.create_model`.

    Raises:
        UserError: the weights cannot be fetched, are damaged, or hold NaN or Inf.
    """
    import timm

    known = timm.get_pretrained_cfg(model)
    repo = (known and known.hf_hub_id) or model
    file = Path(in_checkout(f'pretrain/{repo.split("/")[-1]}.safetensors'))
    if file.is_file():
        read_state(file)  # for its message about damage
        options['pretrained_cfg_overlay'] = dict(file=str(file))
    else:
        print(f'weights {model}: from timm, or its cache', file=sys.stderr, flush=True)
    cure = 'fetch the file elsewhere and set pretrained to it'
    with hub_errors(f'the weights of {model} could not be fetched', cure):
        network = timm.create_model(model, pretrained=True, **options)
    subject = f'{model} of timm has'
    require_finite_state(network.state_dict(), subject, 'set pretrained to another file')
    return network
