"""The linear layer of the networks: the values of `nn.Linear`, whoever computes them."""

import pytest
import torch
from torch import nn

from diffnag.generators import linear
from diffnag.generators.linear import Linear, by_onednn


@pytest.mark.parametrize("shape", [(3,), (5, 3), (0, 3), (4, 7, 3), (2, 3, 5, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_are_those_of_torch(shape, bias):
    ours, theirs, x = Linear(3, 6, bias=bias), nn.Linear(3, 6, bias=bias), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))
        torch.testing.assert_close(ours(x.mT.contiguous().mT) if x.ndim > 1 else ours(x), theirs(x))
    assert ours(x).requires_grad and torch.equal(ours(x), theirs(x))


def test_without_the_operation_torch_computes_them(monkeypatch):
    layer, x = Linear(3, 6), torch.ones(2, 3)
    monkeypatch.setattr(linear, "by_onednn", lambda: None)
    with torch.no_grad():
        assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("other", [lambda *_: torch.zeros(2, 4, 5), lambda: None])
def test_an_operation_that_gives_something_else_is_not_used(monkeypatch, other):
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", other, raising=False)
    assert by_onednn.__wrapped__() is None


def test_other_numbers_are_left_to_torch():
    layer = Linear(3, 6).double()
    with torch.no_grad():
        assert layer(torch.ones(2, 3, dtype=torch.float64)).dtype == torch.float64
