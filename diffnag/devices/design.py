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
MOST_SAMPLES = 500
DETAIL = 0.1
"""Standard deviation, relative to the level, of what depends on the node of an operator. Without it the design would trust that latencies
add up, and choose extreme architectures alone; with it predictions are better (experiments/device_transfer.py)."""


def choose(features: Features, prior: Prior, count: int, *, seed: int, measured: Sequence[Arch] = ()) -> list[Arch]:
    """`count` different architectures to measure beside those that are `measured`.

    One after the other is chosen so that the variance of the relative latencies, summed over random architectures,
    falls the most (A-optimal design). What a measurement says, not its value, decides: all can be chosen before
    anything is measured. Raises `UserError` for too many samples, and where the space has too few architectures.
    """
    if count > MOST_SAMPLES:
        raise UserError(f"{count:,} samples are asked for; up to {MOST_SAMPLES} are accepted at a time")
    known = dict.fromkeys(measured)
    drawn = random_archs(features.space, max(CANDIDATES, 4 * count), seed=seed)
    candidates = [arch for arch in dict.fromkeys(drawn) if arch not in known]
    if len(candidates) < count:
        raise UserError(f"{count} samples are asked for, and space {features.space.name!r} has {len(candidates)} more architectures, or hardly more")
    archs = [*known, *candidates]
    covariance, noise = _known(features, prior, archs)
    chosen: list[int] = []
    for place in range(len(known) + count):
        gains = (covariance**2).sum(0) / (np.diag(covariance) + noise)
        gains[chosen] = -np.inf
        best = place if place < len(known) else int(np.argmax(gains))
        chosen.append(best)
        column = covariance[:, best].copy()
        covariance -= np.outer(column, column) / (column[best] + noise[best])
    return [archs[place] for place in chosen[len(known) :]]


def _known(features: Features, prior: Prior, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of the relative latencies `(m, m)` before any measurement, and variance of the noise `(m,)`.

    It is the covariance over the ways to count as well, equally probable, so that architectures are chosen which tell them apart.
    """
    means, designs = [], []
    countings = [counting for counting in features.countings if counting in prior.counted]
    for counting in countings:
        described = features(archs, counting)
        hypothesis = Hypothesis(counting, noise=1.0, detail=DETAIL, scale=float(np.median(prior.scales)))
        designs.append(prior_design(prior, described.columns, described.detail, hypothesis, level=LEVEL))
        means.append(described.columns @ prior.mean)
    expected = np.mean(means, axis=0)
    root = np.column_stack([*designs, *(mean - expected for mean in means)]) / np.sqrt(len(countings))
    return root @ root.T, (prior.noise * np.maximum(expected, LEAST)) ** 2
