"""The networks of the meta-predictor: what the task is, what an architecture is worth for it, and that seen through noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from diffnag.datasets.features import FEATURES
from diffnag.denoiser import space_attention
from diffnag.transformer import GraphTransformer, noise_embedding

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace
    from diffnag.sde import SDE


@dataclass(frozen=True)
class MetaConfig:
    """Sizes: `width` of a token, transformer `layers` and `heads`, and `features` of an architecture, phi."""

    width: int = 64
    layers: int = 2
    heads: int = 2
    features: int = 16


class AttentionPool(nn.Module):
    """A set `(..., m, width)` -> `(..., width)`: attention by one learned query (Lee et al. 2019, Set Transformer, PMA)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))  # begins as the mean of the set
        self.key = nn.Linear(width, width)
        self.value = nn.Sequential(nn.Linear(width, width), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.key(x) @ self.query / x.shape[-1] ** 0.5).softmax(dim=-1)
        return (weight[..., None] * self.value(x)).sum(dim=-2)


class TaskEncoder(nn.Module):
    """A task `(classes, images, 64)` -> `(width,)`, the same for any order of classes and of images within one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image = nn.Linear(FEATURES, width)
        self.within_class = AttentionPool(width)
        self.over_classes = AttentionPool(width)
        self.out = nn.Linear(width, width)
        self.unknown = nn.Parameter(torch.zeros(width))

    def forward(self, task: Tensor | None) -> Tensor:
        """The embedding; None, a task whose images are not to be had, has a learned one."""
        if task is None:
            return self.unknown
        return self.out(self.over_classes(self.within_class(self.image(task))))


class ArchEncoder(nn.Module):
    """(V, E) and a condition `(b, width)` -> one vector an architecture, `(b, width)`."""

    def __init__(self, space: SearchSpace, config: MetaConfig) -> None:
        super().__init__()
        self.trunk = GraphTransformer(
            nodes=space.nodes, operators=len(space.operators), width=config.width, layers=config.layers, heads=config.heads,
            allowed=space_attention(space),
        )  # fmt: skip
        self.out = nn.Sequential(nn.Linear(space.nodes * config.width, config.width), nn.SiLU())

    def forward(self, V: Tensor, E: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        h = self.trunk(V, E, mask, condition)
        return self.out((h * mask[..., None]).flatten(1))


class CleanNetwork(nn.Module):
    """Features phi(A, task) of an architecture; its value is linear in them, so that a few labels can adapt it."""

    def __init__(self, space: SearchSpace, config: MetaConfig) -> None:
        super().__init__()
        self.task = TaskEncoder(config.width)
        self.arch = ArchEncoder(space, config)
        self.features = nn.Linear(config.width, config.features)
        self.value = nn.Linear(config.features, 1)
        self.log_variance = nn.Linear(config.features, 1)

    def forward(self, V: Tensor, E: Tensor, mask: Tensor, task: Tensor) -> Tensor:
        """`V (b, n, f)`, `E (b, n, n)` in [0, 1], `mask (b, n)`, task embeddings `(b, width)` -> phi `(b, features)`."""
        return self.features(self.arch(V, E, mask, task))


class NoisyNetwork(nn.Module):
    """phi of the clean architecture behind x_t, as a normal distribution.

    Conditional expectation is linear: for any head w, `E[w phi | x_t] = w mu`, `Var[w phi | x_t] = |w L|^2`. A head that
    labels have changed therefore steers at once, with no training.
    """

    lower: Tensor

    def __init__(self, space: SearchSpace, sde: SDE, config: MetaConfig) -> None:
        super().__init__()
        self.sde = sde
        self.task = TaskEncoder(config.width)
        self.time = nn.Sequential(nn.Linear(config.width, config.width), nn.SiLU(), nn.Linear(config.width, config.width))
        self.arch = ArchEncoder(space, config)
        self.mean = nn.Linear(config.width, config.features)
        self.factor = nn.Linear(config.width, config.features * (config.features + 1) // 2)
        self.width = config.width
        self.register_buffer("lower", torch.tril_indices(config.features, config.features), persistent=False)

    def forward(self, V: Tensor, E: Tensor, mask: Tensor, t: Tensor, task: Tensor) -> tuple[Tensor, Tensor]:
        """x_t as `V (b, n, f)`, `E (b, n, n)`, at `t (b,)` -> mean `(b, k)` and lower Cholesky factor `(b, k, k)`."""
        alpha, sigma = self.sde.marginal(t)
        noise = sigma / alpha
        shrink = (1 / (alpha * (1 + noise**2).sqrt()))[:, None, None]
        condition = torch.nn.functional.silu(self.time(noise_embedding(noise, self.width)) + task)
        h = self.arch(V * shrink, E * shrink, mask, condition)
        mean, factor = self.mean(h), h.new_zeros(len(h), self.mean.out_features, self.mean.out_features)
        i, j = self.lower
        factor[:, i, j] = self.factor(h)
        diagonal = torch.diagonal(factor, dim1=1, dim2=2)
        return mean, factor.tril(-1) + torch.diag_embed(torch.nn.functional.softplus(diagonal) + 1e-3)
