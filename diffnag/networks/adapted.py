"""A pretrained network that is adapted to some images: the probe, the shared weights, and the network of each architecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from diffnag.networks.elastic import (
    MOMENTS,
    Adaptation,
    adapt,
    features,
    fit_probe,
    logistic,
    memory_format,
    rebase,
    resized,
    with_better_statistics,
    write_classifier,
)
from diffnag.networks.training import as_input, channel_statistics

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.images import ImageDataset
    from diffnag.protocols import Inherits

Part = tuple[Tensor, Tensor]
"""Standardised images `(n, c, h, w)` and their labels `(n,)`."""


@dataclass(frozen=True)
class Adapted:
    """The pretrained network, adapted to the user's images."""

    network: nn.Module
    probe_accuracy: float
    """Validation accuracy in % of a linear probe on the whole pretrained network, at the space's `side`."""
    probe: tuple[np.ndarray, np.ndarray]
    """Weights and biases of the probe that is fitted to the images of training and validation."""

    def inherited(self, arch: Arch, space: Inherits, train: Part) -> nn.Module:
        """A network of its own with the weights that `arch` inherits, in evaluation mode; see `with_better_statistics`."""
        x, y = (part[:MOMENTS] for part in train)
        return with_better_statistics(space.inherit(self.network, arch), resized(x, space.resolution(arch)), y)


def adapted(
    space: Inherits, train: Part, val: Part, how: Adaptation, *, classes: int, seed: int, on_share: Callable[[float], object] = lambda share: None
) -> Adapted:
    """Adapt the pretrained network of `space` to the images `train`, which are in an order that mixes the classes.

    The penalty of the probe is chosen by the images `val`, which nothing else is fitted to but the probe that is returned. `on_share` is
    called with the share that is done. Raises `Diverged`, and `UserError` if the pretrained weights are not there.
    """
    network = pretrained(space, classes=classes, device=train[0].device)
    (x, y), (x_val, y_val) = ((features(network, images, side=space.side), labels.cpu().numpy()) for images, labels in (train, val))
    probe = fit_probe(x, y, x_val, y_val)
    of_both = logistic(np.concatenate([x, x_val]), np.concatenate([y, y_val]), probe.strength)
    write_classifier(network, probe.weight, probe.bias)
    some = resized(train[0][:MOMENTS], space.side)
    rebase(network, some)
    space.sort_channels(network, some)
    for share in adapt(network, space, *train, how, seed=seed):
        on_share(share)
    return Adapted(network.eval(), probe.accuracy, of_both)


def as_part(
    x: np.ndarray, y: np.ndarray, statistics: tuple[Tensor, Tensor], *, device: torch.device | str, seed: int = 0, most: int | None = None
) -> Part:
    """Images and their labels as the network takes them, the first `most` of them if given, in an order that mixes the classes."""
    chosen = np.random.default_rng(seed).permutation(len(y))[:most]
    return as_input(x[chosen], device=device, statistics=statistics), torch.from_numpy(y[chosen]).to(device)


def pixel_statistics(space: Inherits) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation `(3,)` by which photos are standardised, in units of 0 to 255."""
    return 255 * torch.tensor(space.mean), 255 * torch.tensor(space.std)


def statistics_of(images: ImageDataset, space: Inherits) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation by which a user's images are standardised: of photos those of the space, of arrays their own in training."""
    return pixel_statistics(space) if images.inputs is None else channel_statistics(images.train.x)


def pretrained(space: Inherits, *, classes: int, device: torch.device | str) -> nn.Module:
    """The pretrained network with a classifier of zeros."""
    network: nn.Module = space.pretrained(num_classes=classes)
    return network.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
