"""Which architectures a generator may be trained on. The split needs no seed and no list: a hash decides."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import UserError

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

DRAWS = 200_000
"""How many random architectures stand for a space that is too large to enumerate. Of ten times fewer a network learns single ones by heart."""


@dataclass(frozen=True)
class CanonicalSplit:
    """A canonical class trains if `int(sha256(canonical)) / 2**256 < fraction`."""

    fraction: float

    @classmethod
    def named(cls, name: str) -> CanonicalSplit:
        """`canonical-sha256-0.5` -> the split; raises `UserError` for any other form."""
        match = re.fullmatch(r"canonical-sha256-(\d*\.?\d+)", name)
        if match is None or not 0 < float(match[1]) <= 1:
            raise UserError(f"unknown split {name!r}; expected canonical-sha256-F with 0 < F <= 1, such as canonical-sha256-0.5")
        return cls(float(match[1]))

    @property
    def name(self) -> str:
        return f"canonical-sha256-{self.fraction}"

    def trains(self, canonical: str) -> bool:
        """Whether the class with this canonical key belongs to the training side."""
        return int.from_bytes(hashlib.sha256(canonical.encode()).digest()) / 2**256 < self.fraction

    def training_archs(self, space: SearchSpace) -> list[Arch]:
        """The unlabelled training set: all of the space on the training side, or of `DRAWS` seeded draws."""
        archs = space.enumerate()
        if archs is None:
            rng = np.random.default_rng(0)
            archs = iter(dict.fromkeys(space.random(rng) for _ in range(DRAWS)))
        return [arch for arch in archs if self.trains(space.canonical(arch))]
