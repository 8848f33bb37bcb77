"""Faster matrix products for CPUs; plain PyTorch everywhere else.

PyTorch multiplies fp32 matrices with MKL, which is slow on CPUs other than Intel's. oneDNN, which
PyTorch brings along, is 2 to 2.5 times as fast there and as exact (docs/performance.md).
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 512  # queries per product, so that the scores of a head stay in the CPU's cache
WIDE = 4096  # from so many rows on, MKL computes the weights' gradient faster
X86 = platform.machine().lower() in ('x86_64', 'amd64')
AVAILABLE = (
    X86 and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')
)

_plain = False


@contextmanager
def plain() -> Iterator[None]:
    """Use PyTorch's own operators everywhere within this context, as a reference."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def is_plain() -> bool:
    """Tell whether `plain` is active."""
    return _plain


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute F.linear: (..., I), (O, I), (O) -> (..., O)."""
    if not _is_supported(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, weight, bias)
    ):
        return _Linear.apply(x, weight, bias)
    return _product(x, weight, bias)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute a 1x1 convolution, as `linear` if the channels are last in memory.

    (N, I, h, w), (O, I, 1, 1), (O) -> (N, O, h, w)
    """
    channels_last = x.permute(0, 2, 3, 1)
    if _plain or not channels_last.is_contiguous():
        return F.conv2d(x, weight, bias)
    return linear(channels_last, weight.flatten(1), bias).permute(0, 3, 1, 2)


def attention(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Compute softmax(q k / sqrt(d)) v.

    (N, heads, L, d), (N, heads, S, d), (N, heads, S, d) -> (N, heads, L, d)
    """
    if torch.is_grad_enabled() or query.shape[2] < ROWS or not _is_supported(query, keys):
        return F.scaled_dot_product_attention(query, keys, values)
    query = (query * query.shape[-1] ** -0.5).contiguous()
    keys, columns = keys.contiguous(), values.transpose(2, 3).contiguous()
    mixed = torch.empty(query.shape, dtype=query.dtype)
    for n, head in torch.cartesian_prod(*map(torch.arange, query.shape[:2])).tolist():
        for rows, out in zip(query[n, head].split(ROWS), mixed[n, head].split(ROWS)):
            weights = _product(rows, keys[n, head]).softmax(dim=1)
            out.copy_(_product(weights, columns[n, head]))
    return mixed


def _is_supported(*tensors: Tensor) -> bool:
    """Tell whether tensors are fp32 on a CPU, in eager mode and outside autocast."""
    eager = not (torch.compiler.is_compiling() or torch.compiler.is_exporting())
    is_fp32 = all(t.device.type == 'cpu' and t.dtype == torch.float32 for t in tensors)
    return AVAILABLE and not _plain and is_fp32 and eager and not torch.is_autocast_enabled('cpu')


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x, weight = _without_gaps(x), _without_gaps(weight)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


def _without_gaps(matrix: Tensor) -> Tensor:
    """Copy a matrix with wide strides, such as a slice of columns: oneDNN is slow on these."""
    if matrix.is_contiguous() or matrix.ndim == 2 and matrix.t().is_contiguous():
        return matrix
    return matrix.contiguous()


class _Linear(torch.autograd.Function):
    """The linear layer with its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x = _product(grad, weight.t()) if ctx.needs_input_grad[0] else None
        flat, inputs = grad.flatten(0, -2), x.flatten(0, -2)
        grad_weight = grad_bias = None
        if ctx.needs_input_grad[1]:
            narrow = len(flat) < WIDE
            grad_weight = _product(flat.t(), inputs.t()) if narrow else flat.t() @ inputs
        if ctx.has_bias and ctx.needs_input_grad[2]:
            grad_bias = flat.sum(dim=0)
        return grad_x, grad_weight, grad_bias
