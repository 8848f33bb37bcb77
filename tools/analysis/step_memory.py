"""Estimate the accelerator's memory of a training step, without an accelerator.

python tools/analysis/step_memory.py CONFIG ... [--batch 8] [--crop 480]

The student of a config runs forward on tensors without data, of a device called cuda. What autograd
keeps for the backward pass is added up, each storage once; and weights, gradients, the optimizer's
state and the frozen teacher. Left out: temporary tensors, the CUDA context, the allocator's gaps.
"""

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from mmseg.apis.command import documented_parser, run_command
from mmseg.errors import UserError

GIB = 2**30
STATES = dict(AdamW=2, SGD=1)  # tensors that an optimizer keeps of each weight


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help="a student's")
    parser.add_argument('--batch', type=int, default=8, help='of one device')
    parser.add_argument('--crop', type=int, default=480, help='pixels of its sides')
    args = parser.parse_args()
    for path in args.configs:
        print(path)
        for name, parts in estimates(path, args.batch, args.crop):
            text = ', '.join(f'{part} {size / GIB:.1f}' for part, size in parts.items())
            print(f'    {name}: {sum(parts.values()) / GIB:.1f} GiB ({text})')


def estimates(path: str, batch: int, crop: int) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield ('fp32' or '--amp', bytes of each part) of a step.

    Raises:
        UserError: the config trains no student.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from mmseg.engine import forget_weights, load_config
    from mmseg.registry import MODELS

    config = load_config(path)
    if config.model.type != 'MaskClipPlus':
        raise UserError(f'{path} trains no student (model.type MaskClipPlus)')
    config.model.class_weight = config.model.teacher.class_weight = None
    forget_weights(config)
    model, fake = MODELS.build(config.model).train(), FakeTensorMode()
    teacher = bytes_of(model.teacher)
    move(model, fake)
    weights = bytes_of(model)
    states = STATES[config.optim_wrapper.optimizer.type] * weights
    for name, half in (('fp32', False), ('--amp', True)):
        with fake:
            image = torch.empty(batch, 3, crop, crop, device='cuda:0')
            backward = bytes_kept(model, image, half=half)
        parts = dict(weights=weights, gradients=weights, optimizer=states, teacher=teacher)
        yield name, parts | {'kept for the backward pass': backward}


def bytes_kept(model: Any, image: Any, *, half: bool) -> int:
    """Add up what autograd keeps of a forward pass (N, 3, H, W), other than parameters."""
    import torch

    sizes: dict[int, int] = {}
    alive = []  # or a storage's address might be used again

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage._cdata] = storage.nbytes()
        alive.append(tensor)
        return tensor

    with (
        patch('torch.cuda.amp.common.amp_definitely_not_available', lambda: False),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(image.device.type, torch.float16, enabled=half),
    ):
        model.decode_head.classify(model.features(image))
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    return sum(size for storage, size in sizes.items() if storage not in own)


def move(model: Any, fake: Any) -> None:
    """Put a module's parameters and buffers, in place, on a device without memory."""
    import torch

    with fake:
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                for name, value in tensors.items():
                    if value is not None:
                        moved = torch.empty(value.shape, dtype=value.dtype, device='cuda:0')
                        if isinstance(value, torch.nn.Parameter):
                            moved = torch.nn.Parameter(moved, value.requires_grad)
                        tensors[name] = moved


def bytes_of(module: Any) -> int:
    """Add up the bytes of parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


if __name__ == '__main__':
    run_command(main)
