"""What is wanted of an architecture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.networks.plan import Skeleton
    from diffnag.protocols.spaces import SearchSpace


class Objective(Protocol):
    """A property of architectures, as a number.

    The class is made without arguments. One that has a class method `of` is made by it, from what follows the colon of a name such as
    `latency:pixel3`.
    """

    @property
    def name(self) -> str:
        """The name that limits and results use."""
        ...

    @property
    def unit(self) -> str:
        """The unit of the values, such as `ms`; empty for plain numbers."""
        ...

    @property
    def maximise(self) -> bool:
        """Whether larger values are better."""
        ...

    @property
    def paid(self) -> bool:
        """Whether a value costs an evaluation. Otherwise it is computed, and limits on it are met before anything is evaluated."""
        ...

    def measure(self, arch: Arch, *, task: Task) -> float:
        """The value, NaN for a failure. If it is not paid for, it is a function of the architecture and the task."""
        ...


@runtime_checkable
class NeedsNetwork(Protocol):
    """An objective that needs to know the space, the task and the network around an architecture."""

    def setup(self, *, space: SearchSpace, task: Task, skeleton: Skeleton | None) -> None:
        """Called once, before `measure`. The network is the one that `skeleton` builds; None stands for the space's default."""
        ...


@runtime_checkable
class Predicts(Protocol):
    """An objective that is paid for and can be predicted. A search predicts all others that are paid for by the predictor `gp`."""

    measurable: bool
    """Whether `measure` works on this machine. Otherwise the search uses predictions alone, and says so."""

    def learn(self, archs: Sequence[Arch], values: np.ndarray) -> None:
        """Take all values `(m,)` that this search has measured so far; they replace earlier ones."""
        ...

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation `(b,)`, in the unit of the objective."""
        ...
