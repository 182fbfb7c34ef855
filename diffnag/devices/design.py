"""Which architectures to measure: those that say the most about all others, as far as is known of devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diffnag.devices.fewshot import LEVEL, Hypothesis, prior_design
from diffnag.devices.prior import LEAST
from diffnag.errors import UserError
from diffnag.spaces.draws import random_archs

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.devices.features import Features
    from diffnag.devices.prior import Prior

CANDIDATES = 1000
"""Random architectures from which is chosen, and over which the variance counts."""


def choose(features: Features, prior: Prior, count: int, *, seed: int, measured: Sequence[Arch] = ()) -> list[Arch]:
    """`count` different architectures to measure beside those that are `measured`.

    One after the other is chosen so that the variance of the relative latencies, summed over random architectures and averaged over
    the ways to count, falls the most (A-optimal design). What a measurement says, not its value, decides: all can be chosen before
    anything is measured. Raises `UserError` where the space has too few architectures.
    """
    measured = list(dict.fromkeys(measured))
    candidates = [arch for arch in dict.fromkeys(random_archs(features.space, max(CANDIDATES, 4 * count), seed=seed)) if arch not in set(measured)]
    if len(candidates) < count:
        raise UserError(f"{count} samples are asked for, and space {features.space.name!r} has {len(candidates)} more architectures, or hardly more")
    archs = [*measured, *candidates]
    countings = [counting for counting in features.countings if counting in prior.counted]
    covariances, noises = zip(*(_known(features, prior, archs, counting) for counting in countings), strict=True)
    chosen: list[int] = []
    for place in range(len(measured) + count):
        gains = sum(
            prior.counted[counting] * (covariance**2).sum(0) / (np.diag(covariance) + noise)
            for counting, covariance, noise in zip(countings, covariances, noises, strict=True)
        )
        gains[chosen] = -np.inf
        best = place if place < len(measured) else int(np.argmax(gains))
        chosen.append(best)
        for covariance, noise in zip(covariances, noises, strict=True):
            column = covariance[:, best].copy()
            covariance -= np.outer(column, column) / (column[best] + noise[best])
    return [archs[place] for place in chosen[len(measured) :]]


def _known(features: Features, prior: Prior, archs: Sequence[Arch], counting: str) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of the relative latencies `(m, m)` before any measurement, and variance of the noise `(m,)`, relative to the expected ones."""
    described = features(archs, counting)
    hypothesis = Hypothesis(counting, noise=1.0, detail=float(np.median(prior.details)), scale=float(np.median(prior.scales)))
    design = prior_design(prior, described.columns, described.detail, hypothesis, level=LEVEL)
    return design @ design.T, (prior.noise * np.maximum(described.columns @ prior.mean, LEAST)) ** 2
