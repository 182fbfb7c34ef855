"""Guidance by a pool: many samples are drawn, and few are kept, each with a probability in proportion to `exp(S z)`.

Importance resampling (Rubin 1988). It needs a generator that draws fast, and nothing of the predictor but `predict`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from diffnag.guidance.particles import systematic
from diffnag.guidance.tilt import Tilt

if TYPE_CHECKING:
    from diffnag.arch import Arch

EFFECTIVE = 256
"""Least effective size of a pool: a mean over it is off by a sixteenth of its spread."""
SPARE = 2
"""Effective size of a pool for each sample that is kept: with 1, more samples would be kept twice than the law itself repeats."""
MOST = 100
"""Largest pool, in samples for each of its least effective size."""


def pool(
    begin: Sequence[Arch], tilt: Tilt, n: int, draw: Callable[[], Sequence[Arch]], *, rng: np.random.Generator, wanted: Callable[[Arch], bool]
) -> list[Arch]:
    """`n` samples of the law `p exp(S z)` among the `wanted` architectures, from samples of `p`; none where no sample is wanted.

    `begin` are the first samples of the pool and `draw` gives more. The pool grows until its effective size is `SPARE` n and `EFFECTIVE`, or
    until it holds `MOST` times as many.
    """
    enough = max(SPARE * n, EFFECTIVE)
    z: dict[Arch, float] = {}
    kept: list[Arch] = []
    drawn, new = 0, begin
    while True:
        drawn += len(new)
        if unknown := [arch for arch in dict.fromkeys(new) if arch not in z]:
            allowed = [arch for arch in unknown if wanted(arch)]
            z |= dict.fromkeys(unknown, -np.inf) | (dict(zip(allowed, tilt.z(allowed).tolist(), strict=True)) if allowed else {})
        kept += [arch for arch in new if z[arch] > -np.inf]
        weights = _weights(tilt.scale * np.array([z[arch] for arch in kept]))
        if weights.sum() ** 2 >= enough * (weights**2).sum() > 0 or drawn >= MOST * enough:
            break
        new = draw()
        drawn += not new  # an invalid draw counts as well, so that this ends
    if not kept:
        return []
    chosen = systematic(weights / weights.sum(), rng, n)
    return [kept[k] for k in rng.permutation(chosen)]


def _weights(logs: np.ndarray) -> np.ndarray:
    return np.exp(logs - logs.max()) if len(logs) else np.zeros(0)
