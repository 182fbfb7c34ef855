"""What is wanted of an architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

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
class Predicts(Protocol):
    """A paid objective that is predicted before it is measured, and that learns from what is measured.

    A search predicts other objectives that are paid for by the predictor `gp`.
    """

    @property
    def measurable(self) -> bool:
        """Whether `measure` works on this machine. Otherwise a search uses predictions alone, and says so."""
        ...

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of a measurement, `(b,)` each, in the unit of the objective."""
        ...

    def learn(self, archs: Sequence[Arch], values: Sequence[float] | np.ndarray) -> None:
        """Learn all values that a search has measured so far; they replace those of earlier calls."""
        ...


@runtime_checkable
class Explains(Protocol):
    """An objective that says where its values come from, and how predictions become measurements."""

    @property
    def note(self) -> str | None:
        """What the user should know of the values, in one sentence; None for nothing. A search prints it once, at its start."""
        ...

    def how_to_measure(self, archs: Path, *, folder: Path) -> tuple[str, ...]:
        """The commands, one a line, that measure the architectures of a CSV with the column `arch`; `folder` has room for their files."""
        ...


@runtime_checkable
class Sourced(Protocol):
    """An objective whose values come from a file or a machine."""

    @property
    def origin(self) -> str | None:
        """What a resumed search must agree with: the file, by a checksum, or the machine; None for neither. A file that has grown may keep it."""
        ...

    def provenance(self) -> Mapping[str, str]:
        """What stands beside the objective in every result, such as the checksum of the file as it is."""
        ...


@runtime_checkable
class NeedsNetwork(Protocol):
    """An objective that needs to know the space, the task and the network around an architecture."""

    def setup(self, *, space: SearchSpace, task: Task, skeleton: Skeleton | None) -> None:
        """Called once, before `measure`. The network is the one that `skeleton` builds; None stands for the space's default."""
        ...
