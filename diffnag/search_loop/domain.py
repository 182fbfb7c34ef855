"""The architectures that a search may evaluate: those of a space that meet the limits, one of each canonical class."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice

import numpy as np

from diffnag.arch import Arch
from diffnag.objectives.goal import Goal
from diffnag.protocols import Inherits, Objective, SearchSpace
from diffnag.spaces.draws import random_archs

MISSES = 1_000
"""Random draws in a row without anything new, after which the rest of the space is enumerated."""
KNOWN_DRAWS = 64
"""Random draws of which one at least must have a value in each objective."""
LARGEST, PATIENCE_S = 20_000, 5.0
"""Most architectures of a space that is looked at as a whole, and processor time after which that is given up: `memory` takes minutes."""
STARTS = 2
"""Random architectures from which edits lead towards the limits."""
DRAWS = 10_000
"""Random draws that represent a space that cannot be enumerated."""


@dataclass(frozen=True)
class Domain:
    """The architectures of `space` that meet the limits of `goal` which can be checked without paying.

    Raises `UserError` if no architecture meets the limits, those included that can only be predicted, and for an objective without values.
    """

    space: SearchSpace
    goal: Goal
    first: tuple[Arch, ...] = ()
    """What a guided search evaluates first, where these are known to be good."""
    _keys: dict[Arch, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.goal.has_front:
            self.goal.check_known(random_archs(self.space, KNOWN_DRAWS, seed=0))
        if self.goal.is_checkable:
            self.goal.check_reachable(self.space, chain(self._towards(), self.space.enumerate() or _draws(self.space, DRAWS)))

    def allows(self, arch: Arch) -> bool:
        """Whether `arch` meets the limits."""
        return self.goal.allows(arch)

    def taken(self, archs: Iterable[Arch]) -> set[str]:
        """Canonical forms of `archs`, which are remembered: labels and places only ever become more."""
        archs = list(archs)
        self._keys.update((arch, self.space.canonical(arch)) for arch in archs if arch not in self._keys)
        return {self._keys[arch] for arch in archs}

    def fresh(self, archs: Iterable[Arch], seen: set[str]) -> Iterator[Arch]:
        """Those of `archs` that are allowed and whose canonical form is not in `seen`, to which it is added."""
        for arch in archs:
            if (key := self.fresh_key(arch, seen)) is not None:
                seen.add(key)
                yield arch

    def fresh_key(self, arch: Arch, seen: Collection[str]) -> str | None:
        """The canonical form of `arch`, or None if it is in `seen` or `arch` is not allowed."""
        key = self.space.canonical(arch)
        return key if key not in seen and self.allows(arch) else None

    def cheapest_copy(self, arch: Arch) -> Arch:
        """A canonical copy of `arch` that no edit makes better in the objectives that cost nothing; `arch` if there are none of these.

        Copies compute the same, but not all in the same time: some have operators that nothing depends on.
        """
        best, improved = self._free_values(arch), bool(self._free)
        while improved:
            improved = False
            for copy in self._copies(arch):
                if self.allows(copy) and _better(values := self._free_values(copy), best):
                    arch, best, improved = copy, values, True
        return arch

    @cached_property
    def cheapest(self) -> dict[str, Arch]:
        """Canonical form -> the copy that is allowed and that no other makes better in the objectives that cost nothing.

        Edits alone often end at a dearer one. Empty for a space of more than `LARGEST` architectures, and where this takes longer than
        `PATIENCE_S`.
        """
        archs, until = list(islice(self.space.enumerate() or (), LARGEST + 1)), time.process_time() + PATIENCE_S
        if len(archs) > LARGEST:
            return {}
        found: dict[str, tuple[Arch, np.ndarray]] = {}
        for arch in filter(self.allows, archs):
            key, values = self.space.canonical(arch), self._free_values(arch)
            if key not in found or _better(values, found[key][1]):
                found[key] = arch, values
            if time.process_time() > until:
                return {}
        return {key: arch for key, (arch, _) in found.items()}

    @cached_property
    def _free(self) -> list[Objective]:
        return [one for one in self.goal.objectives[1:] if not one.paid]

    def _free_values(self, arch: Arch) -> np.ndarray:
        """Values of the objectives beside the label that cost nothing, more being better; a failure is the worst."""
        values = np.array([(1.0 if one.maximise else -1.0) * self.goal.measure(one, arch) for one in self._free])
        return np.where(np.isnan(values), -np.inf, values)

    def within(self, archs: Iterable[Arch]) -> Iterator[Arch]:
        """`archs`, but in place of each that is beyond a limit a canonical copy within, if edits lead to one that bring it ever nearer.

        Copies compute the same, but not all in the same time or size. In a tight limit many good architectures are known by dear copies.
        """
        for arch in archs:
            *_, (beyond, copy) = self._nearer(arch, self._copies)
            yield arch if beyond else copy

    def _towards(self) -> Iterator[Arch]:
        """The smallest part of a pretrained network; random architectures, and edit after edit that comes nearest to limits that cost nothing."""
        if isinstance(self.space, Inherits):
            yield self.space.smallest
        for start in random_archs(self.space, STARTS, seed=0):
            yield from (arch for _, arch in self._nearer(start, self.space.neighbours))

    def _nearer(self, arch: Arch, moves: Callable[[Arch], Iterable[Arch]]) -> Iterator[tuple[float, Arch]]:
        """How far `arch` is beyond the limits, and itself; then the same of one of its `moves` after the other, each time the nearest."""
        beyond = self.goal.beyond(arch)
        yield beyond, arch
        while beyond:
            found = {self.goal.beyond(one): one for one in moves(arch)}
            nearest = min(found, default=beyond)
            if not nearest < beyond:
                return
            beyond, arch = nearest, found[nearest]
            yield beyond, arch

    def _copies(self, arch: Arch) -> list[Arch]:
        """The canonical copies of `arch` that are one edit away."""
        key = self.space.canonical(arch)
        return [one for one in self.space.neighbours(arch) if self.space.canonical(one) == key]

    def random(self, rng: np.random.Generator, seen: set[str]) -> Iterator[Arch]:
        """Fresh architectures, each drawn uniformly from those that are left; ends when none is left.

        A space that cannot be enumerated counts as exhausted after `MISSES` draws in a row without anything new.
        """
        misses = 0
        while misses < MISSES:
            found = next(self.fresh([self.space.random(rng)], seen), None)
            misses = 0 if found else misses + 1
            if found:
                yield found
        left = list(self.space.enumerate() or ())
        yield from self.fresh((left[i] for i in rng.permutation(len(left))), seen)


def _better(values: np.ndarray, others: np.ndarray) -> bool:
    """Whether `values` are at least as good in everything, and better in something."""
    return bool((values >= others).all() and (values > others).any())


def _draws(space: SearchSpace, count: int) -> Iterator[Arch]:
    rng = np.random.default_rng(0)
    return (space.random(rng) for _ in range(count))
