"""Random architectures for the contract suites."""

from __future__ import annotations

from diffnag.arch import Arch
from diffnag.protocols import SearchSpace
from diffnag.spaces.draws import random_archs


def draws(space: SearchSpace, count: int, *, seed: int = 0) -> list[Arch]:
    """`count` random architectures of `space`."""
    return random_archs(space, count, seed=seed)
