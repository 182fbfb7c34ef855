"""`naswot`, `synflow`, `zen`, `params`, `flops`: predictors that look at the untrained network, so they need no label to begin.

A training-free score tells better from worse, not how good: so it is the prior, in units of its spread over the space, that labels
sharpen by a Gaussian process or refute (`DoubtfulAdaptation`), as those of `meta`; with 5 labels that ranks better than the process
alone, with 20 and more no better (experiments/proxy_quality.py). There is no gradient: they rank, and steer by particles, which asks for some
twenty times as many architectures as come of it, at about 10 ms each (`darts` and `mobilenetv3` 30, sizes 0.1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.errors import UserError, in_a_line
from diffnag.networks.build import seeded
from diffnag.networks.plan import Skeleton
from diffnag.predictors.adaptation import DoubtfulAdaptation
from diffnag.predictors.path_features import PathFeatures
from diffnag.predictors.proxies.scores import naswot, synflow, zen
from diffnag.protocols import TrainsSmall

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.images import ImageDataset
    from diffnag.datasets.tasks import Task
    from diffnag.protocols import SearchSpace, Size

SHAPE = (10, 32)
"""Classes and image side where neither the space nor images tell them: those of CIFAR-10."""
SIDE, CELLS_SIDE = 16, 8
"""Pixels a side of the images that networks are looked at with, and that the stem makes of them; larger ones rank hardly better."""
IMAGES, ZEN_IMAGES = 32, 8
REFERENCE_DRAWS = 64
"""Random architectures that scores are compared with."""
LOWEST = -4.0
"""Scores further below the median, in robust standard deviations, count as being there: they are of networks without a signal."""
PRIOR_STD = 1.0
"""What a score leaves open before any label, in units of its spread: that of a rank correlation of 0.7."""


class ProxyPredictor(ABC):
    """A score as the prior of an adaptation to labels. Before any label its values are standardised scores."""

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        """Take the shape of the task's dataset: one that the space knows, a user's own images, or else `SHAPE`."""
        self._space, self._seed = space, seed
        self._own: ImageDataset | None = task.images
        shape = space.datasets.get(task.name, SHAPE)
        self._num_classes, self._image_size = (len(self._own.classes), self._own.size) if self._own else shape
        self._known: dict[str, float] = {}
        self._adaptation: DoubtfulAdaptation | None = None

    @property
    def labels_source(self) -> Mapping[str, int]:
        """None: no training has anything to do with it."""
        return {}

    def scores(self, archs: Sequence[Arch]) -> np.ndarray:
        """The scores themselves, float64 `(b,)`, higher is better; measured once each.

        They are kept by architecture and not by canonical form: two that compute the same differ by the draw of their weights,
        and what is said of either may not depend on which was asked for first.
        """
        names = [self._space.to_str(arch) for arch in archs]  # strings need less room than what they name
        for name, arch in zip(names, archs, strict=True):
            if name not in self._known:
                self._known[name] = self._score(arch)
        return np.array([self._known[name] for name in names])

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Adapt to labels `y (m,)`, m >= 1, all that there are."""
        self._adaptation = DoubtfulAdaptation()
        self._adaptation.fit(self._prior(archs), self._features(archs), y)

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation `(b,)`: standardised scores before any label, then in the labels' units."""
        prior = self._prior(archs)
        if self._adaptation is None:
            return prior, np.full(len(prior), PRIOR_STD)
        return self._adaptation.predict(prior, self._features(archs))

    def _prior(self, archs: Sequence[Arch]) -> np.ndarray:
        centre, spread = self._reference
        return np.maximum((self.scores(archs) - centre) / spread, LOWEST)

    @cached_property
    def _reference(self) -> tuple[float, float]:
        """Median and robust standard deviation over the space."""
        rng = np.random.default_rng(0)
        scores = self.scores([self._space.random(rng) for _ in range(REFERENCE_DRAWS)])
        centre = float(np.median(scores))
        return centre, 1.4826 * float(np.median(np.abs(scores - centre))) or float(scores.std()) or 1.0

    @cached_property
    def _features(self) -> PathFeatures:
        return PathFeatures(self._space)

    @abstractmethod
    def _score(self, arch: Arch) -> float:
        """Finite, higher is better, the same whenever it is asked for."""


class _SizePredictor(ProxyPredictor):
    """Of the network that the space's `build` gives by default; larger counts as better."""

    def _size(self, arch: Arch) -> Size:
        return self._space.size(arch, num_classes=self._num_classes, image_size=self._image_size)


class ParamsPredictor(_SizePredictor):
    """Logarithm of the number of parameters."""

    def _score(self, arch: Arch) -> float:
        return float(np.log(self._size(arch).params))


class FlopsPredictor(_SizePredictor):
    """Logarithm of the multiply-adds of one image."""

    def _score(self, arch: Arch) -> float:
        return float(np.log(self._size(arch).flops))


class _NetworkPredictor(ProxyPredictor):
    """Of a small network: the space's own small one, else its narrowest, on maps of `CELLS_SIDE` pixels a side."""

    def _score(self, arch: Arch) -> float:
        images = self._images
        side = images.shape[-1]
        try:
            with seeded(self._seed):
                network = self._skeleton.build(arch, self._space, num_classes=self._num_classes, image_size=side)
                return self._of(network, images)
        except (RuntimeError, ValueError) as error:
            told = f"the network of {self._space.to_str(arch)} cannot take images of {side} pixels a side"
            raise UserError(f"{told}: {in_a_line(error)}") from error

    @abstractmethod
    def _of(self, network: nn.Module, images: Tensor) -> float:
        """The score of a fresh network; `images (b, 3, h, w)`."""

    @cached_property
    def _skeleton(self) -> Skeleton:
        if isinstance(self._space, TrainsSmall):
            return Skeleton(0, 0, small=True)
        return Skeleton(*self._space.skeletons[0], stem_stride=max(1, self._images.shape[-1] // CELLS_SIDE))

    @cached_property
    def _images(self) -> Tensor:
        """`(IMAGES, 3, h, w)` of variance 1: training images where there are the user's, else noise."""
        if self._own is None:
            return torch.randn(IMAGES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(self._seed))
        x = self._own.train.x
        chosen = np.resize(np.random.default_rng(self._seed).permutation(len(x)), IMAGES)
        images = torch.from_numpy(x[chosen]).permute(0, 3, 1, 2).float()
        if self._own.size > SIDE:
            images = functional.adaptive_avg_pool2d(images, SIDE)
        return (images - images.mean()) / images.std().clamp_min(1e-6)


class NaswotPredictor(_NetworkPredictor):
    """How well the network's activations tell images apart; see `naswot`."""

    def _of(self, network: nn.Module, images: Tensor) -> float:
        return naswot(network, images)


class SynflowPredictor(_NetworkPredictor):
    """How much flows through the network's weights, as a logarithm; see `synflow`."""

    def _of(self, network: nn.Module, images: Tensor) -> float:
        return synflow(network, image_size=images.shape[-1])


class ZenPredictor(_NetworkPredictor):
    """How strongly the network's features respond to its image; see `zen`."""

    def _of(self, network: nn.Module, images: Tensor) -> float:
        generator = torch.Generator().manual_seed(self._seed)
        return zen(network, batch=ZEN_IMAGES, image_size=images.shape[-1], generator=generator)
