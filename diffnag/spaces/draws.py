"""Random architectures of a space, as a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace


def random_archs(space: SearchSpace, count: int, *, seed: int) -> list[Arch]:
    """`count` architectures by `space.random`, duplicates kept; the same `seed` gives the same list."""
    rng = np.random.default_rng(seed)
    return [space.random(rng) for _ in range(count)]
