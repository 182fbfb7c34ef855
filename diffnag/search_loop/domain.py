"""What a search may evaluate: the architectures of a space within the limits on size, each class of them once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.protocols import SearchSpace, Size

MISSES = 1_000
"""Random draws in a row that bring nothing new before what is left is enumerated."""
DRAWS = 10_000
"""Random draws that stand for a space which cannot be enumerated."""


@dataclass(frozen=True)
class Domain:
    """The architectures of `space` whose network for `dataset` has at most `max_params` and `max_flops`.

    `size` measures that network; by default it is the one of the space's default width and depth, for a dataset it knows.
    """

    space: SearchSpace
    dataset: str
    max_params: int | None = None
    max_flops: int | None = None
    size: Callable[[Arch], Size] | None = None

    def __post_init__(self) -> None:
        if not self.limited:
            return
        if self.size is None and self.dataset not in self.space.datasets:
            known = ", ".join(self.space.datasets)
            raise UserError(f"limits on the size need the shape of the dataset, known for {known}, not for {self.dataset!r}")
        least: dict[str, int] = {}
        for arch in self.space.enumerate() or _draws(self.space, DRAWS):
            size = self._size(arch)
            if self._within(size):
                return
            least = {"params": min(size.params, least.get("params", size.params)), "flops": min(size.flops, least.get("flops", size.flops))}
        limits = {"params": self.max_params, "flops": self.max_flops}
        told = " and ".join(
            f"--max-{name} {value:,} (the least is {least[name]:,})" for name, value in limits.items() if value is not None
        )
        raise UserError(f"no architecture of {self.space.name} meets {told} on {self.dataset}")

    @property
    def limited(self) -> bool:
        return self.max_params is not None or self.max_flops is not None

    def allows(self, arch: Arch) -> bool:
        """Whether `arch` is within the limits."""
        return not self.limited or self._within(self._size(arch))

    def _within(self, size: Size) -> bool:
        return not (
            (self.max_params is not None and size.params > self.max_params)
            or (self.max_flops is not None and size.flops > self.max_flops)
        )

    def _size(self, arch: Arch) -> Size:
        if self.size:
            return self.size(arch)
        num_classes, image_size = self.space.datasets[self.dataset]
        return self.space.size(arch, num_classes=num_classes, image_size=image_size)

    def fresh(self, archs: Iterable[Arch], seen: set[str]) -> Iterator[Arch]:
        """Those of `archs` that are allowed and whose canonical form is not in `seen`, which takes them up."""
        for arch in archs:
            if (key := self.fresh_key(arch, seen)) is not None:
                seen.add(key)
                yield arch

    def fresh_key(self, arch: Arch, seen: Collection[str]) -> str | None:
        """The canonical form of `arch` if it is not in `seen` and `arch` is allowed."""
        key = self.space.canonical(arch)
        return key if key not in seen and self.allows(arch) else None

    def random(self, rng: np.random.Generator, seen: set[str]) -> Iterator[Arch]:
        """Fresh architectures, each a uniform draw of those left; ends when none is left.

        A space that cannot be enumerated counts as exhausted after `MISSES` draws in a row that bring nothing new.
        """
        misses = 0
        while misses < MISSES:
            found = next(self.fresh([self.space.random(rng)], seen), None)
            misses = 0 if found else misses + 1
            if found:
                yield found
        left = list(self.space.enumerate() or ())
        yield from self.fresh((left[i] for i in rng.permutation(len(left))), seen)


def _draws(space: SearchSpace, count: int) -> Iterator[Arch]:
    rng = np.random.default_rng(0)
    return (space.random(rng) for _ in range(count))
