"""Networks of the meta-predictor: an encoder of tasks, a value of architectures for a task, and its distribution under diffusion noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from diffnag.datasets.sources import FIDELITIES
from diffnag.datasets.tasks import DESCRIPTORS, TaskFeatures
from diffnag.generators.network import space_attention
from diffnag.generators.transformer import GraphTransformer, noise_embedding

if TYPE_CHECKING:
    from diffnag.generators.diffusion.sde import SDE
    from diffnag.protocols import SearchSpace


@dataclass(frozen=True)
class MetaConfig:
    """Sizes of the two networks."""

    hidden: int = 256
    """Width of the clean network's layers."""
    task: int = 16
    """Size of a task's embedding."""
    width: int = 64
    """Width of a token of the noisy network, a transformer."""
    layers: int = 2
    heads: int = 2
    features: int = 16
    """Size of phi, the features of an architecture."""
    knows: str = "images"
    """Inputs of a task: `nothing`, `descriptors`, or `images` (descriptors and images)."""


NOISE = (0.19, 20.1)
"""Range of the noise levels sigma / alpha in training: those of the default VE process, with a margin for rounding."""


class TaskEncoder(nn.Module):
    """Embeds a task as `(size,)`. The order and the number of classes, and of images within a class, do not matter.

    Images are pooled within classes, then over classes, by `separability`. With only a few hundred tasks to learn from, learned pooling
    (Lee et al. 2019, Set Transformer) fits properties of these tasks alone.
    """

    def __init__(self, size: int, knows: str) -> None:
        super().__init__()
        self.knows = knows
        self.descriptors = 0 if knows == "nothing" else len(DESCRIPTORS)
        """Number of inputs that are descriptors; these come first, and the rest comes from images."""
        self.fidelity = nn.Embedding(len(FIDELITIES), size)
        inputs = {"nothing": 0, "descriptors": len(DESCRIPTORS), "images": len(DESCRIPTORS) + 1}[knows]
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        self.inner = nn.Sequential(nn.Linear(inputs, size), nn.SiLU(), nn.Linear(size, size)) if inputs else None
        nn.init.zeros_(self.fidelity.weight)

    centre: Tensor
    spread: Tensor

    def standardise(self, tasks: Sequence[TaskFeatures]) -> None:
        """Shift and scale the inputs so that they have mean 0 and standard deviation 1 over `tasks`; unknown inputs are left out."""
        inputs = torch.stack([self.inputs(task) for task in tasks])
        self.centre.copy_(inputs.nanmean(0).nan_to_num(0.0))
        self.spread.copy_((inputs - self.centre).square().nanmean(0).sqrt().nan_to_num(1.0).clamp_min(0.05))

    def inputs(self, task: TaskFeatures) -> Tensor:
        """Inputs of `task`, `(inputs,)`; NaN for the images of a task without images."""
        parts = [task.descriptors] if self.knows != "nothing" else [torch.empty(0)]
        if self.knows == "images":
            parts.append(separability(task.features) if task.features is not None else torch.full((1,), torch.nan))
        return torch.cat(parts)

    def forward(self, inputs: Tensor, fidelity: Tensor) -> Tensor:
        """`inputs (b, inputs)` and indices into `FIDELITIES` `fidelity (b,)`, -1 if unknown -> embeddings `(b, size)`.

        Unknown inputs (NaN) count as the mean of the tasks in training.
        """
        how = self.fidelity(fidelity.clamp_min(0)) * (fidelity >= 0)[:, None]
        if self.inner is None:
            return how
        return self.inner(((inputs - self.centre) / self.spread).nan_to_num(0.0).clamp(-3, 3)) + how


def separability(features: Tensor) -> Tensor:
    """Separability of the classes in a set of image features `(classes, images, FEATURES)`, `(1,)`.

    It is the log odds that the nearest class mean (prototypes; Snell et al. 2017) gives the right class of an image that is left out of
    its own mean. Hard classes, few images for each class and noisy labels all lower it. Among several ways to pool images this one had
    the largest evidence on the training tasks.
    """
    features = features.clamp(-6, 6)
    classes = [torch.unique(images, dim=0) for images in features]  # a small class repeats its images
    means = torch.stack([images.mean(0) for images in classes])
    within = torch.cat([images - mean for images, mean in zip(classes, means, strict=True)]).var(0) + 0.1
    right = total = 0
    for k, images in enumerate(classes):
        if len(images) < 2:
            continue
        without = (len(images) * means[k] - images) / (len(images) - 1)
        apart = ((images[:, None] - means) ** 2 / within).sum(2)
        apart[:, k] = ((images - without) ** 2 / within).sum(1)
        right, total = right + int((apart.argmin(1) == k).sum()), total + len(images)
    return torch.tensor([(right + 0.5) / (total - right + 0.5)]).log()


class ArchEncoder(nn.Module):
    """Embeds matrices (V, E), given a condition `(b, width)`, as one vector for each architecture, `(b, width)`."""

    def __init__(self, space: SearchSpace, config: MetaConfig) -> None:
        super().__init__()
        self.trunk = GraphTransformer(
            nodes=space.nodes, operators=len(space.operators), width=config.width, layers=config.layers, heads=config.heads,
            allowed=space_attention(space),
        )  # fmt: skip
        self.out = nn.Sequential(nn.Linear(space.nodes * config.width, config.width), nn.SiLU())

    def forward(self, V: Tensor, E: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """`V (b, n, f)`, `E (b, n, n)`, `mask (b, n)`, `condition (b, width)` or `(1, width)` -> `(b, width)`."""
        whole = not self.training and bool(mask.all())  # training keeps the sums that the shipped weights come from, to the last digit
        h = self.trunk(V, E, None if whole else mask, condition)
        return self.out((h * mask[..., None]).flatten(1))


class CleanNetwork(nn.Module):
    """Features phi(A, task) of an architecture, and a value that is linear in them, so that labels can change it later.

    The task scales the hidden units of the architecture (FiLM; Perez et al. 2018).
    """

    def __init__(self, inputs: int, config: MetaConfig) -> None:
        super().__init__()
        self.inputs = inputs
        self.task = TaskEncoder(config.task, config.knows)
        self.body = nn.Sequential(
            nn.Linear(inputs, config.hidden), nn.SiLU(), nn.Linear(config.hidden, config.hidden), nn.SiLU()
        )
        self.scale = nn.Linear(config.task, config.hidden)
        self.features = nn.Linear(config.hidden, config.features)
        self.value = nn.Linear(config.features, 1)
        nn.init.zeros_(self.scale.weight)
        nn.init.zeros_(self.scale.bias)

    def forward(self, archs: Tensor, task: Tensor) -> Tensor:
        """Path features `archs (..., inputs)` and embeddings `task (..., size)` -> phi `(..., features)`."""
        return self.features(self.body(archs) * (1 + self.scale(task)))


class NoisyNetwork(nn.Module):
    """Normal distribution of phi of the clean architecture, given the noisy state x_t.

    Conditional expectation is linear: for any head w, `E[w phi | x_t] = w mu` and `Var[w phi | x_t] = |w L|^2`. A head that labels have
    changed therefore steers at once, without new training.
    """

    lower: Tensor

    def __init__(self, space: SearchSpace, sde: SDE, config: MetaConfig) -> None:
        super().__init__()
        self.sde = sde
        self.task = nn.Linear(config.task, config.width)
        self.time = nn.Sequential(nn.Linear(config.width, config.width), nn.SiLU(), nn.Linear(config.width, config.width))
        self.arch = ArchEncoder(space, config)
        self.mean = nn.Linear(config.width, config.features)
        self.factor = nn.Linear(config.width, config.features * (config.features + 1) // 2)
        self.width = config.width
        self.register_buffer("lower", torch.tril_indices(config.features, config.features), persistent=False)

    def forward(self, V: Tensor, E: Tensor, mask: Tensor, noise: Tensor, task: Tensor) -> tuple[Tensor, Tensor]:
        """Mean `(b, k)` and lower Cholesky factor `(b, k, k)` of the distribution of phi.

        Args:
            V: Noisy operators `(b, n, f)` in the data's scale.
            E: Noisy edges `(b, n, n)` in the data's scale.
            mask: Nodes that exist `(b, n)`.
            noise: Noise levels `(b,)`. Outside of `NOISE`, the range in training, the nearest level of the range counts.
            task: Embeddings by the clean network's task encoder, `(b, size)`, or `(1, size)` for all rows.
        """
        if not self.training and (noise == noise[0]).all():
            noise = noise[:1]  # with one task, one condition serves all rows, which is faster
        shrink = (1 / (1 + noise**2).sqrt())[:, None, None]
        noise = noise.clamp(*NOISE)
        condition = torch.nn.functional.silu(self.time(noise_embedding(noise, self.width)) + self.task(task))
        h = self.arch(V * shrink, E * shrink, mask, condition)
        mean, factor = self.mean(h), h.new_zeros(len(h), self.mean.out_features, self.mean.out_features)
        i, j = self.lower
        factor[:, i, j] = self.factor(h)
        diagonal = torch.diagonal(factor, dim1=1, dim2=2)
        return mean, factor.tril(-1) + torch.diag_embed(torch.nn.functional.softplus(diagonal) + 1e-3)
