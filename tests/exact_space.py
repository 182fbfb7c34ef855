"""A space small enough to be summed over: its denoiser and a noise-aware predictor are exact, for every diffusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from diffnag.arch import Arch, ArchBatch, Packing
from diffnag.generators.diffusion.sde import SDE, expand_like
from diffnag.spaces.categorical import CategoricalSpace

LAYERS = ("conv3x3", "conv1x1", "maxpool3x3")
PLACES = range(1, 4)


class Chain(CategoricalSpace):
    """Three layers in a chain, and a bridge over the middle one or not: 54 architectures, uniform."""

    name, nodes, operators = "exact-chain", 5, ("input", "output", *LAYERS)
    parameters: Mapping[str, tuple[str, ...]] = {f"layer{i}": LAYERS for i in PLACES} | {"bridge": ("no", "yes")}

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        layers = [self.operators.index(parameters[f"layer{i}"]) for i in PLACES]
        bridge = [(1, 3)] if parameters["bridge"] == "yes" else []
        return Arch((0, *layers, 1), (*[(i, i + 1) for i in range(4)], *bridge))

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        layers = {f"layer{i}": self.operators[arch.ops[i]] for i in PLACES}
        return layers | {"bridge": "yes" if (1, 3) in arch.edges else "no"}

    def build(self, arch: Arch, *, channels: int = 4, cells: int = 1, num_classes: int, stem_stride: int = 1) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, channels, 3, stem_stride, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


SPACE = Chain()
ARCHS = list(SPACE.enumerate() or ())


@cache
def points() -> Tensor:
    """All architectures packed, `(m, d)`."""
    batch = ArchBatch.of(ARCHS, SPACE)
    return Packing.of(SPACE).pack(batch.V, batch.E)


def posterior(y: Tensor, noise: Tensor) -> Tensor:
    """Probability `(b, m)` of each architecture given `y (b, d)`, itself plus normal noise of standard deviation `noise (b,)`."""
    return (y @ points().T / noise[:, None] ** 2).softmax(1)  # the squared length of a point, d, and that of y cancel


class ExactDenoiser(nn.Module):
    """E[x_0 | x_t] by Bayes' rule over all architectures, with the attributes that a generator reads of a score network."""

    def __init__(self, sde: SDE) -> None:
        super().__init__()
        self.sde, self.packing, self.space_name, self.split = sde, Packing.of(SPACE), SPACE.name, "canonical-sha256-1.0"
        self.origin: Mapping[str, str] = {}
        self.family, self.device = "sde", torch.device("cpu")
        self.somewhere = nn.Parameter(torch.zeros(()))

    @property
    def evaluated(self) -> nn.Module:
        return self

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.sde.marginal(t)
        return posterior(x / expand_like(alpha, x), sigma / alpha) @ points()

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (expand_like(value, x) for value in self.sde.marginal(t))
        return (alpha * self(x, t) - x) / sigma**2


class Values:
    """Known values of all architectures; noise-aware, and exact at every noise level."""

    labels_source: Mapping[str, int] = {}

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        weight = {name: rng.normal(size=len(choices)) for name, choices in SPACE.parameters.items()}
        chosen = [SPACE.to_parameters(arch) for arch in ARCHS]
        self.values = np.array([
            sum(weight[name][SPACE.parameters[name].index(choice)] for name, choice in parameters.items()) for parameters in chosen
        ])  # fmt: skip
        self._value = dict(zip(ARCHS, self.values, strict=True))

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        raise AssertionError("nothing to fit")

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([self._value[arch] for arch in archs]), np.zeros(len(archs))

    def forward_noisy(self, V: Tensor, E: Tensor, mask: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        i, j = Packing.of(SPACE).upper(V.device)
        y = torch.cat([V.flatten(1), E[:, i, j]], dim=1)
        weights, values = posterior(y, noise), torch.as_tensor(self.values, dtype=y.dtype)
        mean = weights @ values
        return mean, (weights @ values**2 - mean**2).clamp_min(0)


def tilted_mean(values: np.ndarray, scale: float) -> float:
    """Mean of z under the law proportional to exp(scale z), z the standardised values."""
    z = (values - values.mean()) / values.std()
    weights = np.exp(scale * (z - z.max()))
    return float((weights * z).sum() / weights.sum())
