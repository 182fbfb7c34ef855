"""A linear layer that a CPU computes by oneDNN where torch would take another library, which on some processors needs twice the time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

Operation = Callable[[Tensor, Tensor, Tensor | None, str, list[float], str], Tensor]


class Linear(nn.Linear):
    """`nn.Linear`, faster on a CPU without gradients; the same values up to rounding."""

    def forward(self, input: Tensor) -> Tensor:
        """`input (..., in_features)` -> `(..., out_features)`."""
        fits = not torch.is_grad_enabled() and input.device.type == "cpu" and input.dtype == self.weight.dtype == torch.float32
        operation = by_onednn() if fits else None
        return super().forward(input) if operation is None else operation(input, self.weight, self.bias, "none", [], "")


@cache
def by_onednn() -> Operation | None:
    """The operation, which torch's compiler uses; None where this build of torch has none that gives the same values."""
    x, weight, bias = torch.linspace(-1, 1, 24).view(2, 4, 3), torch.linspace(-2, 1, 15).view(5, 3), torch.ones(5)
    try:
        operation = cast(Operation, torch.ops.mkldnn._linear_pointwise)
        with torch.no_grad():
            same = torch.allclose(operation(x, weight, bias, "none", [], ""), functional.linear(x, weight, bias))
    except (AttributeError, RuntimeError, TypeError):
        return None
    return operation if same and torch.backends.mkldnn.is_available() else None
