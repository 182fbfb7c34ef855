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
UNSEEN, MANY = 0.02, 10
"""Share of the law's weight that a pool may lack, and its samples for each of its least effective size, to do with a smaller effective size:
a few architectures may have most of the weight."""
MOST = 100
"""Largest pool, in samples for each of its least effective size."""


def pool(
    begin: Sequence[Arch], tilt: Tilt, n: int, draw: Callable[[], Sequence[Arch]], *, rng: np.random.Generator, wanted: Callable[[Arch], bool]
) -> list[Arch]:
    """`n` samples of the law `p exp(S z)` among the `wanted` architectures, from samples of `p`; none where no sample is wanted.

    `begin` are the first samples of the pool and `draw` gives more. The pool grows until its effective size is `SPARE` n and `EFFECTIVE`,
    or it is large and lacks little of the law, or it holds `MOST` times as many samples.
    """
    enough = max(SPARE * n, EFFECTIVE)
    places: dict[Arch, int] = {}
    z, counts = np.zeros(0), np.zeros(0, dtype=int)
    drawn, new = 0, begin
    while True:
        drawn += max(len(new), 1)  # an invalid draw counts as well, so that this ends
        if unknown := [arch for arch in dict.fromkeys(new) if arch not in places]:
            allowed = [k for k, arch in enumerate(unknown) if wanted(arch)]
            found = np.full(len(unknown), -np.inf)
            if allowed:
                found[allowed] = tilt.z([unknown[k] for k in allowed])
            places |= {arch: place for place, arch in enumerate(unknown, start=len(places))}
            z = np.concatenate([z, found])
        counts = np.pad(counts, (0, len(z) - len(counts))) + np.bincount([places[arch] for arch in new], minlength=len(z))
        each = _weights(z, tilt.scale)
        if _is_effective(each, counts, enough) or (drawn >= MANY * enough and _lacks_little(each, counts)) or drawn >= MOST * enough:
            break
        new = draw()
    if not (weights := counts * each).any():
        return []
    archs = list(places)
    return [archs[k] for k in rng.permutation(systematic(weights / weights.sum(), rng, n))]


def _weights(z: np.ndarray, scale: float) -> np.ndarray:
    """`exp(S z)` up to a factor, `(m,)`; 0 where z is minus infinity."""
    weights, allowed = np.zeros(len(z)), z > -np.inf
    if allowed.any():
        weights[allowed] = np.exp(scale * (z[allowed] - z[allowed].max()))
    return weights


def _is_effective(weights: np.ndarray, counts: np.ndarray, enough: int) -> bool:
    """Whether architectures of these `weights (m,)`, drawn `counts (m,)` times, have an effective size of `enough` samples."""
    return 0 < enough * float(weights**2 @ counts) <= float(weights @ counts) ** 2


def _lacks_little(weights: np.ndarray, counts: np.ndarray) -> bool:
    """Whether what was drawn once, which has about as much weight as what was not drawn yet (Good 1953), has little."""
    return float(weights[counts == 1].sum()) <= UNSEEN * float(weights @ counts) > 0
