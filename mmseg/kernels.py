"""Matrix products that a CPU does faster than PyTorch's defaults; plain PyTorch everywhere else.

PyTorch multiplies fp32 matrices with MKL, which is slow on CPUs that are not Intel's; oneDNN, which
comes with PyTorch too, is 2 to 2.5 times as fast there and as exact (docs/performance.md).
"""

import platform
from contextlib import contextmanager

import torch
import torch.nn.functional as F

ROWS = 512  # queries at a time: a head's scores stay in the cache
WIDE = 4096  # rows beyond which MKL sums the weights' gradient faster
X86 = platform.machine().lower() in ('x86_64', 'amd64')
AVAILABLE = (
    X86 and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')
)

_plain = False


@contextmanager
def plain():
    """Within it everything is PyTorch's own, also where the project has a faster way: a referee."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def is_plain():
    """Whether `plain` is in force."""
    return _plain


def linear(x, weight, bias=None):
    """(..., I), (O, I), (O) -> (..., O), as F.linear"""
    if not _suits(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, weight, bias)
    ):
        return _Linear.apply(x, weight, bias)
    return _product(x, weight, bias)


def pointwise(x, weight, bias=None):
    """(N, I, h, w), (O, I, 1, 1), (O) -> (N, O, h, w): a 1x1 convolution.

    Where the channels come last in memory, it is `linear` of the places.
    """
    places = x.permute(0, 2, 3, 1)
    if _plain or not places.is_contiguous():
        return F.conv2d(x, weight, bias)
    return linear(places, weight.flatten(1), bias).permute(0, 3, 1, 2)


def attention(query, keys, values):
    """(N, heads, L, d), (N, heads, S, d) twice -> (N, heads, L, d): softmax(q k / sqrt(d)) v"""
    if torch.is_grad_enabled() or query.shape[2] < ROWS or not _suits(query, keys):
        return F.scaled_dot_product_attention(query, keys, values)
    query = (query * query.shape[-1] ** -0.5).contiguous()
    keys, columns = keys.contiguous(), values.transpose(2, 3).contiguous()
    mixed = torch.empty(query.shape, dtype=query.dtype)
    for place in torch.cartesian_prod(*map(torch.arange, query.shape[:2])).tolist():
        n, head = place
        for rows, out in zip(query[n, head].split(ROWS), mixed[n, head].split(ROWS)):
            share = _product(rows, keys[n, head]).softmax(dim=1)
            out.copy_(_product(share, columns[n, head]))
    return mixed


def _suits(*tensors):
    """fp32 on a CPU, in eager mode, not within autocast"""
    eager = not (torch.compiler.is_compiling() or torch.compiler.is_exporting())
    right = all(t.device.type == 'cpu' and t.dtype == torch.float32 for t in tensors)
    return AVAILABLE and not _plain and right and eager and not torch.is_autocast_enabled('cpu')


def _product(x, weight, bias=None):
    x, weight = _dense(x), _dense(weight)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


def _dense(matrix):
    """oneDNN crawls through wide strides, such as those of some columns of a larger matrix"""
    if matrix.is_contiguous() or matrix.ndim == 2 and matrix.t().is_contiguous():
        return matrix
    return matrix.contiguous()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
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
