"""Random architectures for the contract suites."""

from __future__ import annotations

import numpy as np

from diffnag.arch import Arch
from diffnag.protocols import SearchSpace


def draws(space: SearchSpace, count: int, *, seed: int = 0) -> list[Arch]:
    """`count` random architectures of `space`."""
    rng = np.random.default_rng(seed)
    return [space.random(rng) for _ in range(count)]
