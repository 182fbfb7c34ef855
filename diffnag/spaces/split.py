"""Split of a space into architectures for training a generator and others. It needs no seed and no list: a hash decides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffnag.errors import UserError
from diffnag.protocols import HasExamples
from diffnag.spaces.draws import random_archs

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

DRAWS = 200_000
"""Random architectures that stand for a space that is too large to enumerate. From ten times fewer, a network memorises single ones."""


@dataclass(frozen=True)
class CanonicalSplit:
    """Split by canonical class: a class is for training if `int(sha256(canonical)) / 2**256 < fraction`."""

    fraction: float

    @classmethod
    def named(cls, name: str) -> CanonicalSplit:
        """The split called `name`, such as `canonical-sha256-0.5`; raises `UserError` for a name of another form."""
        match = re.fullmatch(r"canonical-sha256-(\d*\.?\d+)", name)
        if match is None or not 0 < float(match[1]) <= 1:
            raise UserError(f"unknown split {name!r}; expected canonical-sha256-F with 0 < F <= 1, such as canonical-sha256-0.5")
        return cls(float(match[1]))

    @property
    def name(self) -> str:
        """The name that `named` reads."""
        return f"canonical-sha256-{self.fraction}"

    def trains(self, canonical: str) -> bool:
        """Whether the class with this canonical key is for training."""
        return int.from_bytes(hashlib.sha256(canonical.encode()).digest()) / 2**256 < self.fraction

    def training_archs(self, space: SearchSpace) -> list[Arch]:
        """The unlabelled training set: architectures for training among the examples of `space`, or all of it, or `DRAWS` random ones.

        Examples are taken where a space `HasExamples`, random ones where it can neither give examples nor be enumerated.
        """
        archs: Iterable[Arch] | None = space.examples() if isinstance(space, HasExamples) else space.enumerate()
        if archs is None:
            archs = dict.fromkeys(random_archs(space, DRAWS, seed=0))
        return [arch for arch in archs if self.trains(space.canonical(arch))]
