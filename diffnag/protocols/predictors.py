"""A predictor, and what a predictor may offer beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.protocols.spaces import SearchSpace


@runtime_checkable
class Predictor(Protocol):
    """Predicts a value (higher is better) of architectures. The class is made without arguments."""

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Learn from all labels so far: `y (m,)` belongs to `archs`. Called anew, with all, for each update."""
        ...

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean `(b,)` and standard deviation `(b,)`."""
        ...


@runtime_checkable
class HasQuantiles(Protocol):
    """A predictor that knows the law of a value, not only its mean and deviation: the search for a front weighs gains by it."""

    def quantiles(self, archs: Sequence[Arch], levels: Sequence[float]) -> np.ndarray:
        """Quantiles `(levels, b)` at `levels` in (0, 1), in the units of `predict`."""
        ...


@runtime_checkable
class NeedsSetup(Protocol):
    """A predictor that needs to know space and task before it is used."""

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        """Called once, before anything else. The task carries the dataset's name, a user's own images, and descriptors."""
        ...


@runtime_checkable
class RelaxedPredictor(Protocol):
    """A predictor that is differentiable on relaxed architectures: allows `denoised` guidance."""

    def forward(self, V: Tensor, E: Tensor, mask: Tensor) -> Tensor:
        """`V (b, n, f)`, `E (b, n, n)` in [0, 1], `mask (b, n)`, on the CPU -> mean `(b,)`, in the units of `predict`."""
        ...


@runtime_checkable
class NoisyPredictor(Protocol):
    """A noise-aware predictor: allows `gradient` guidance."""

    def forward_noisy(self, V: Tensor, E: Tensor, mask: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean `(b,)` and variance `(b,)` of what `predict` would return for the clean architecture behind a noisy one.

        `V (b, n, f)` and `E (b, n, n)` are the clean entries, -1 or 1, plus normal noise of standard deviation `noise (b,)`: states
        x_t / alpha in the data's scale and noise levels sigma / alpha, whatever the diffusion. All are on the CPU.
        """
        ...


@runtime_checkable
class HasPrior(Protocol):
    """A predictor that can predict before any `fit`: it was trained on source labels, or needs none.

    With an attribute `prior_labels: float` a search leaves the prior behind after so many labels: up to its `initial` labels it
    then takes unguided samples.
    """

    @property
    def labels_source(self) -> Mapping[str, int]:
        """Origin -> number of (arch, dataset, split, epochs) values that it was trained on."""
        ...
