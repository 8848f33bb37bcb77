"""The faster matrix products against PyTorch's own, in values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from mmseg import kernels


def random(*shape):
    return torch.randn(*shape, generator=torch.manual_seed(sum(shape)))


WEIGHTS = {
    'rows': lambda: random(24, 16),
    'columns of a wider matrix': lambda: random(24, 64).chunk(4, dim=1)[1],
    'transposed': lambda: random(16, 24).t(),
}


@pytest.mark.parametrize('weight', WEIGHTS.values(), ids=WEIGHTS)
def test_linear_and_its_gradients(weight):
    values = random(2, 5, 16), weight(), random(24)
    found, expected = [], []
    for call, results in ((kernels.linear, found), (F.linear, expected)):
        leaves = [value.detach().requires_grad_() for value in values]
        out = call(*leaves)
        out.square().sum().backward()
        results += [out, *(leaf.grad for leaf in leaves)]
    for ours, theirs in zip(found, expected):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


@pytest.mark.skipif(not kernels.AVAILABLE, reason='oneDNN is not used on this machine')
def test_onednn_is_never_given_wide_strides(monkeypatch):
    seen = []

    def product(x, weight, *_):
        seen.extend([x.stride(), weight.stride()])
        return F.linear(x, weight)

    monkeypatch.setattr(torch.ops.mkldnn, '_linear_pointwise', product)
    kernels.linear(random(5, 64)[:, 16:32], random(24, 64).chunk(4, dim=1)[1])
    kernels.linear(random(5, 16), random(16, 24).t())
    assert seen == [(16, 1), (16, 1), (16, 1), (1, 24)]


def test_attention_with_many_queries():
    query, keys, values = (random(1, 2, kernels.ROWS + 3, 8) for _ in range(3))
    with torch.no_grad():
        found = kernels.attention(query, keys, values)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(query, keys, values))


def test_a_pointwise_convolution_in_either_memory_order():
    x, weight = random(2, 16, 5, 7), random(24, 16, 1, 1)
    expected = F.conv2d(x, weight)
    for ordered in (x, x.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(
            kernels.pointwise(ordered, weight), expected, atol=1e-5, rtol=1e-5
        )
