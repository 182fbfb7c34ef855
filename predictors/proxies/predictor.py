"""Predictors `naswot`, `synflow`, `zen`, `params`, `flops`: they score the untrained network, so that they need no label to start.

A training-free score ranks architectures but is no accuracy. It is therefore a prior, in units of its standard deviation over the space.
Labels correct it by a Gaussian process, or reject it (`DoubtfulAdaptation`), as for `meta`. With 5 labels this ranks better than the
process alone, with 20 and more it ranks no better (experiments/proxy_quality.py). These predictors have no gradient: they rank architectures,
and can steer a generator by particles. Particles need about twenty scored architectures for each one that they give; a score takes about
10 ms (30 ms on `darts` and `mobilenetv3`, 0.1 ms for sizes).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor, nn
from torch.nn import functional

from diffnag.errors import UserError, in_a_line
from diffnag.networks.build import seeded
from diffnag.networks.plan import Skeleton
from diffnag.predictors.adaptation import DoubtfulAdaptation
from diffnag.predictors.path_features import PathFeatures
from diffnag.predictors.proxies.scores import naswot, synflow, zen
from diffnag.protocols import TrainsSmall
from diffnag.spaces.draws import random_archs
from diffnag.spaces.tokens import refuse_tokens

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.images import ImageDataset
    from diffnag.datasets.tasks import Task
    from diffnag.protocols import SearchSpace, Size

SHAPE = (10, 32)
"""Classes and image side for a dataset of which neither is known: those of CIFAR-10."""
SIDE, CELLS_SIDE = 16, 8
"""Side in pixels of the images that networks get, and of the maps behind the stem; larger ones rank hardly better."""
IMAGES, ZEN_IMAGES = 32, 8
"""Number of these images, and of those for `zen`."""
REFERENCE_DRAWS = 64
"""Random architectures over which scores are standardised."""
LOWEST = -4.0
"""Standardised scores are raised to at least this value; lower ones belong to networks that pass no signal."""
PRIOR_STD = 1.0
"""Standard deviation before any label, in units of the score's: that of a rank correlation of 0.7."""


class ProxyPredictor(ABC):
    """A score as the prior of an adaptation to labels. Before any label the predicted values are standardised scores."""

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        """Keep space and seed, and the number of classes and image side of the task's dataset; unknown datasets get `SHAPE`."""
        self._space, self._seed = space, seed
        self._own: ImageDataset | None = task.images
        shape = space.datasets.get(task.name, SHAPE)
        self._num_classes, self._image_size = (len(self._own.classes), self._own.size) if self._own else shape
        self._known: dict[str, float] = {}
        self._adaptation: DoubtfulAdaptation | None = None

    @property
    def labels_source(self) -> Mapping[str, int]:
        """Empty: no training is involved."""
        return {}

    def scores(self, archs: Sequence[Arch]) -> np.ndarray:
        """Raw scores, float64 `(b,)`, higher is better; each is computed once.

        They are kept for each architecture and not for each canonical form. Two architectures that compute the same differ by the draw
        of their weights, and the score of one may not depend on which of them came first.
        """
        names = [self._space.to_str(arch) for arch in archs]  # strings need less memory than architectures
        for name, arch in zip(names, archs, strict=True):
            if name not in self._known:
                self._known[name] = self._score(arch)
        return np.array([self._known[name] for name in names])

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Adapt to all labels `y (m,)` so far, m >= 1."""
        self._adaptation = DoubtfulAdaptation()
        self._adaptation.fit(self._prior(archs), self._features(archs), y)

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation `(b,)`: standardised scores before any label, in the labels' units afterwards."""
        prior = self._prior(archs)
        if self._adaptation is None:
            return prior, np.full(len(prior), PRIOR_STD)
        return self._adaptation.predict(prior, self._features(archs))

    def quantiles(self, archs: Sequence[Arch], levels: Sequence[float]) -> np.ndarray:
        """Quantiles `(levels, b)`, in the units of `predict`."""
        prior = self._prior(archs)
        if self._adaptation is None:
            return prior + PRIOR_STD * ndtri(levels)[:, None]
        return self._adaptation.quantiles(prior, self._features(archs), levels)

    def _prior(self, archs: Sequence[Arch]) -> np.ndarray:
        """Standardised scores `(b,)`."""
        centre, spread = self._reference
        return np.maximum((self.scores(archs) - centre) / spread, LOWEST)

    @cached_property
    def _reference(self) -> tuple[float, float]:
        """Median and robust standard deviation of the score over random architectures."""
        scores = self.scores(random_archs(self._space, REFERENCE_DRAWS, seed=0))
        centre = float(np.median(scores))
        return centre, 1.4826 * float(np.median(np.abs(scores - centre))) or float(scores.std()) or 1.0

    @cached_property
    def _features(self) -> PathFeatures:
        """The features on which labels correct the score."""
        return PathFeatures(self._space)

    @abstractmethod
    def _score(self, arch: Arch) -> float:
        """The raw score of an architecture: finite, higher is better, the same at every call."""


class _SizePredictor(ProxyPredictor):
    """Score from the size of the network that the space builds by default; larger counts as better."""

    def _size(self, arch: Arch) -> Size:
        return self._space.size(arch, num_classes=self._num_classes, image_size=self._image_size)


class ParamsPredictor(_SizePredictor):
    """Score: logarithm of the number of parameters."""

    def _score(self, arch: Arch) -> float:
        return float(np.log(self._size(arch).params))


class FlopsPredictor(_SizePredictor):
    """Score: logarithm of the multiply-adds for one image."""

    def _score(self, arch: Arch) -> float:
        return float(np.log(self._size(arch).flops))


class _NetworkPredictor(ProxyPredictor):
    """Score of a small untrained network: the space's own small one, else its narrowest, with maps of side `CELLS_SIDE`."""

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        """As for the others; raises `UserError` if the networks of the space take tokens."""
        refuse_tokens(space, "the score of an untrained network (naswot, synflow, zen)")
        super().setup(space=space, task=task, seed=seed)

    def _score(self, arch: Arch) -> float:
        images = self._images
        side = images.shape[-1]
        try:
            with seeded(self._seed):
                network = self._skeleton.build(arch, self._space, num_classes=self._num_classes, image_size=side)
                return self._score_of(network, images)
        except (RuntimeError, ValueError) as error:
            what = f"the network of {self._space.to_str(arch)} cannot take images of {side} pixels a side"
            raise UserError(f"{what}: {in_a_line(error)}") from error

    @abstractmethod
    def _score_of(self, network: nn.Module, images: Tensor) -> float:
        """Score of a fresh network on `images (b, 3, h, w)`; the network may be changed."""

    @cached_property
    def _skeleton(self) -> Skeleton:
        """Sizes of the networks that are scored."""
        if isinstance(self._space, TrainsSmall):
            return Skeleton(0, 0, small=True)
        return Skeleton(*self._space.skeletons[0], stem_stride=max(1, self._images.shape[-1] // CELLS_SIDE))

    @cached_property
    def _images(self) -> Tensor:
        """Images `(IMAGES, 3, h, w)` of variance 1: training images of the user, else noise."""
        if self._own is None:
            return torch.randn(IMAGES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(self._seed))
        x = self._own.looks.x
        chosen = np.resize(np.random.default_rng(self._seed).permutation(len(x)), IMAGES)
        images = torch.from_numpy(x[chosen]).permute(0, 3, 1, 2).float()
        if self._own.size > SIDE or x.shape[1] != x.shape[2]:
            images = functional.adaptive_avg_pool2d(images, SIDE)
        return (images - images.mean()) / images.std().clamp_min(1e-6)


class NaswotPredictor(_NetworkPredictor):
    """Score: how different the network's activations are for different images; see `naswot`."""

    def _score_of(self, network: nn.Module, images: Tensor) -> float:
        return naswot(network, images)


class SynflowPredictor(_NetworkPredictor):
    """Score: logarithm of the flow through the network's weights; see `synflow`."""

    def _score_of(self, network: nn.Module, images: Tensor) -> float:
        return synflow(network, image_size=images.shape[-1])


class ZenPredictor(_NetworkPredictor):
    """Score: how strongly the network's features respond to a change of the image; see `zen`."""

    def _score_of(self, network: nn.Module, images: Tensor) -> float:
        generator = torch.Generator().manual_seed(self._seed)
        return zen(network, batch=ZEN_IMAGES, image_size=images.shape[-1], generator=generator)
