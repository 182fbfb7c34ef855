"""Training-free scores of an architecture, computed on a freshly built, untrained network.

The scores change the network: its weights, its mode and its statistics. A network that passes no signal (a dead cell) gets a finite
score, which no network with a signal falls below.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ACTIVATIONS = {"relu", "relu6", "hardswish", "silu", "mish", "gelu", "elu", "celu", "selu", "leaky_relu", "prelu", "clamp_min"}
"""Names of torch functions that switch on at an input of 0, however they are called."""
POOLINGS = {"mean", "amax", "avg_pool2d", "adaptive_avg_pool2d"}
"""Names of torch functions that can pool a map to one pixel."""
PERTURBATION = 0.01
"""Standard deviation of the change of the images in `zen`; their pixels have variance 1."""


@torch.no_grad()
def naswot(network: nn.Module, images: Tensor) -> float:
    """log det K, where K (b, b) counts the activations that are on, or off, for both of two images (Mellor et al., ICML 2021, eq. 2).

    The identity is added to K: otherwise two images with equal activations would give -inf. `images (b, 3, h, w)`, b >= 2; layers
    normalise by the statistics of these images.
    """
    with _Codes(len(images)) as codes:
        _by_batch(network)(images)
    return float(torch.linalg.slogdet(codes.common + torch.eye(len(images), dtype=torch.float64)).logabsdet)


def synflow(network: nn.Module, *, image_size: int) -> float:
    """Logarithm of the sum of |w dR/dw| over the weights of convolutions and linear layers (Tanaka et al., NeurIPS 2020, eq. 4).

    R is the sum of the logits for one image of ones, with the absolute values of all weights and without normalisation, as in
    Abdelfattah et al. (ICLR 2021). It is computed in float64, as it reaches 1e67 in NAS-Bench-201; larger values count as the largest
    float64. `image_size` is the side of the image in pixels.
    """
    _reset_normalisation(network.double().eval())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    weights = [module.weight for module in network.modules() if isinstance(module, nn.modules.conv._ConvNd | nn.Linear)]
    with torch.enable_grad():
        total = network(torch.ones(1, 3, image_size, image_size, dtype=torch.float64)).sum()
        slopes = torch.autograd.grad(total, weights, allow_unused=True)
    flows = [(weight.detach() * slope).sum() for weight, slope in zip(weights, slopes, strict=True) if slope is not None]
    return _log(torch.stack(flows).nan_to_num().sum())


@torch.no_grad()
def zen(network: nn.Module, *, batch: int, image_size: int, generator: torch.Generator) -> float:
    """Logarithm of the change of the last feature map when the image changes (Lin et al., ICCV 2021, algorithm 1).

    It is log E ||f(x) - f(x + 0.01 e)|| plus the sum of log sigma over the normalisation layers, where sigma^2 is the mean variance of
    the channels: normalisation has divided by it. All weights, x and e `(batch, 3, image_size, image_size)` are standard normal.
    """
    _reset_normalisation(_by_batch(network))
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.normal_(generator=generator)
    x, e = torch.randn(2, batch, 3, image_size, image_size, generator=generator)
    norms = _normalisation(network)
    for norm in norms:
        norm.momentum = 1.0  # the running variance is that of the last batch
    moved, still = (_last_map(network, images) for images in (x + PERTURBATION * e, x))
    scales = sum(_log(norm.running_var.mean()) / 2 for norm in norms if norm.running_var is not None)
    return _log((moved - still).flatten(1).norm(dim=1).mean()) + scales


def _last_map(network: nn.Module, images: Tensor) -> Tensor:
    """The map `(b, c, h, w)` that the network pools to one pixel last, or its output if it pools none."""
    with _LastMap() as watched:
        output: Tensor = network(images)
    return output if watched.map is None else watched.map


class _Codes(TorchFunctionMode):
    """Context that counts activations: `common (b, b)` is the number of those that are on, or off, for both of two images."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.common = torch.zeros(batch, batch, dtype=torch.float64)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = args[0] if args else None
        if getattr(func, "__name__", "").rstrip("_") in ACTIVATIONS and isinstance(given, Tensor):
            sign = (given > 0).flatten(1).float() * 2 - 1
            self.common += (sign.shape[1] + sign @ sign.T) / 2
        return func(*args, **(kwargs or {}))


class _LastMap(TorchFunctionMode):
    """Context that keeps the `map (b, c, h, w)` that was pooled to one pixel last; None if there was none."""

    def __init__(self) -> None:
        super().__init__()
        self.map: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = args[0] if args else None
        if getattr(func, "__name__", "") in POOLINGS and isinstance(given, Tensor) and given.ndim == 4:
            self.map = given if result.numel() == given.shape[0] * given.shape[1] else self.map
        return result


def _by_batch(network: nn.Module) -> nn.Module:
    """The network in a mode that normalises by the statistics of its batch, without dropout."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    return network


def _normalisation(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The batch normalisation layers of a network."""
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def _reset_normalisation(network: nn.Module) -> None:
    """Set all normalisation to mean 0, variance 1 and no scale: the identity in evaluation mode."""
    for norm in _normalisation(network):
        norm.reset_parameters()


def _log(value: Tensor) -> float:
    """Finite logarithm: 0 counts as the smallest positive number."""
    return float(value.double().clamp(min=torch.finfo(torch.float64).tiny).log())
