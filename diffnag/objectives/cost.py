"""What the network of an architecture costs, counted without building it: parameters and multiply-adds."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, ClassVar

from diffnag.errors import UserError

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.networks.plan import Skeleton
    from diffnag.protocols import SearchSpace, Size


REMEMBERED = 30_000
"""Architectures whose size is kept where networks are built to be counted, because a search asks for the same ones again and again."""


class _Count:
    """A field of `Size`, minimised."""

    name: ClassVar[str]
    unit: ClassVar[str] = ""
    maximise: ClassVar[bool] = False
    paid: ClassVar[bool] = False
    _size: Callable[[Arch], Size]

    def setup(self, *, space: SearchSpace, task: Task, skeleton: Skeleton | None) -> None:
        """Count the network that `skeleton` makes of an architecture for `task`; see `NeedsNetwork`."""
        self._size = size_for(space, task, skeleton=skeleton)

    def measure(self, arch: Arch, *, task: Task) -> float:
        """The count, exact."""
        return float(getattr(self._size(arch), self.name))


class Params(_Count):
    """Trainable parameters of the network."""

    name = "params"


class Flops(_Count):
    """Multiply-adds of one forward pass on one image."""

    name = "flops"


def shape_for(space: SearchSpace, task: Task) -> tuple[int, int]:
    """Number of classes and image side of a task: those of the user's own images, or of a dataset that the space knows.

    Raises `UserError` for other datasets.
    """
    if task.images is not None:
        return len(task.images.classes), task.images.size
    if task.name in space.datasets:
        return space.datasets[task.name]
    known = ", ".join(space.datasets)
    raise UserError(f"limits on the size need the shape of the dataset, known for {known}, not for {task.name!r}")


def size_for(space: SearchSpace, task: Task, *, skeleton: Skeleton | None = None) -> Callable[[Arch], Size]:
    """A function that returns the size of an architecture's network for `task`.

    With a user's own images that is the network that `skeleton` makes for them. For a dataset that the space knows it is the
    network of the space's default width and depth, unless a `skeleton` is given. Raises `UserError` for other datasets, whose
    images have no known shape.
    """
    classes, side = shape_for(space, task)
    if skeleton is None:
        return lambda arch: space.size(arch, num_classes=classes, image_size=side)
    size = partial(skeleton.size, space=space, num_classes=classes, image_size=side)
    return size if skeleton.inputs is None else lru_cache(maxsize=REMEMBERED)(size)
