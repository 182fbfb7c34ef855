"""What is wanted of an architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.networks.plan import Skeleton
    from diffnag.protocols.spaces import SearchSpace


class Objective(Protocol):
    """A property of architectures, as a number. The class is made without arguments."""

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
