"""Guidance without a gradient: resampling and moves bring samples to the tilted law.

Resampling tempers the samples from S = 0 to S. Between two rises a move noises each architecture and denoises it again. Such a move
leaves `p` in place, so that a Metropolis step makes the tilted law its own (Del Moral et al. 2006, sequential Monte Carlo samplers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from diffnag.guidance.tilt import Tilt

if TYPE_CHECKING:
    from diffnag.arch import Arch

KEPT = 0.8
"""Share of the particles that stay effective in a rise of the temperature (of 0.5 to 0.9, the least error for its cost)."""


def particles(
    archs: Sequence[Arch],
    tilt: Tilt,
    renoise: Callable[[Sequence[Arch]], Sequence[Arch | None]],
    *,
    rng: np.random.Generator,
    wanted: Callable[[Arch], bool] = lambda _: True,
    sweeps: int = 2,
    final_sweeps: int = 4,
) -> list[Arch]:
    """Bring samples of `p` to the law `p exp(S z)`, or to that law among the `wanted` architectures.

    Args:
        archs: samples of `p`, at least one. Where none is wanted they are returned as they are.
        tilt: the tilt; only `z` and `scale` are used.
        renoise: a move that leaves `p` in place, None where it gave no valid architecture.
        sweeps: moves after each rise of the temperature; `final_sweeps` once it has reached S.
    """
    begin = np.array([wanted(arch) for arch in archs], dtype=float)
    if not begin.any():
        return list(archs)
    now = [archs[k] for k in systematic(begin / begin.sum(), rng)] if not begin.all() else list(archs)
    z, reached = tilt.z(now), 0.0
    while reached < tilt.scale:
        rise = _rise(z, tilt.scale - reached)
        weights = np.exp(rise * (z - z.max()))
        kept = systematic(weights / weights.sum(), rng)
        now, z, reached = [now[k] for k in kept], z[kept], reached + rise
        for _ in range(final_sweeps if reached >= tilt.scale else sweeps):
            proposed = renoise(now)
            valid = [k for k, arch in enumerate(proposed) if arch is not None and arch != now[k]]
            if not valid:
                continue
            z_new = z.copy()
            z_new[valid] = tilt.z([arch for arch in (proposed[k] for k in valid) if arch is not None])
            accepted = np.log(rng.random(len(now))) < reached * (z_new - z)
            for k in valid:
                arch = proposed[k]
                if accepted[k] and arch is not None and wanted(arch):
                    now[k], z[k] = arch, z_new[k]
    return now


def _rise(z: np.ndarray, most: float) -> float:
    """The largest step in scale, up to `most`, that leaves a share `KEPT` of the particles effective."""

    def effective(step: float) -> float:
        weights = np.exp(step * (z - z.max()))
        return float(weights.sum() ** 2 / (weights**2).sum())

    if effective(most) >= KEPT * len(z):
        return most
    low, high = 0.0, most
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if effective(middle) >= KEPT * len(z) else (low, middle)
    return max(low, 1e-3 * most)  # progress even where equal bests leave no room


def systematic(weights: np.ndarray, rng: np.random.Generator, n: int | None = None) -> np.ndarray:
    """`n` indices, by default as many as there are `weights (b,)`, drawn by systematic resampling; the weights add up to 1."""
    n = len(weights) if n is None else n
    places = (rng.random() + np.arange(n)) / n
    return np.minimum(np.searchsorted(np.cumsum(weights), places), len(weights) - 1)
