"""Trade-offs: several objectives as one, with weights that are drawn at random, so that each draw asks for another part of the front.

The augmented Chebyshev function of objectives v, scaled so that the front lies between 0 and 1 and more is better, is
`-(max_j w_j (1 - v_j) + 0.05 sum_j w_j (1 - v_j))` (Knowles, ParEGO, IEEE TEVC 2006, eq. 2, with the signs turned for maximising).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.search_loop.outlook import Outlook
    from diffnag.search_loop.trial import Trial

AUGMENTED = 0.05
"""Share of the weighted sum, which keeps weakly dominated points from being as good as those that dominate them."""


def draw_weights(count: int, objectives: int, rng: np.random.Generator) -> np.ndarray:
    """Weights `(count, k)`, uniform on the simplex."""
    return rng.dirichlet(np.ones(objectives), size=count)


def chebyshev(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The augmented Chebyshev function `(b,)` of values `(b, k)` in [0, 1] or beyond, 1 being the best, with weights `(k,)`."""
    lack = weights * (1.0 - values)
    return -(lack.max(1) + AUGMENTED * lack.sum(1))


@dataclass(frozen=True)
class TradeOff:
    """One trade-off as a predictor: the function of the expected values, scaled so that the front lies between 0 and 1."""

    outlook: Outlook
    weights: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Nothing: the outlook learns by itself."""

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """The function `(b,)`, and deviations of 0."""
        archs = list(archs)
        mean, _ = self.outlook.expected(archs, self.outlook.label.predict(archs))
        mean = np.where(np.isfinite(mean), mean, self.low)
        return chebyshev((mean - self.low) / (self.high - self.low), self.weights), np.zeros(len(archs))


def trade_offs(outlook: Outlook, history: Sequence[Trial], count: int, rng: np.random.Generator) -> list[TradeOff]:
    """`count` trade-offs with drawn weights. Objectives are scaled by what the front and random architectures have."""
    mean, _ = outlook.expected(outlook.draws, outlook.label.predict(outlook.draws))
    known = outlook.goal.signs * outlook.goal.values(outlook.goal.front(history))
    low = np.nanquantile(mean, 0.05, axis=0)
    low[0] = np.nanmedian(mean[:, 0])
    high = np.nanmax(np.concatenate([mean, known]), axis=0)
    high = np.where(high > low, high, low + 1.0)
    return [TradeOff(outlook, weights, low, high) for weights in draw_weights(count, len(low), rng)]
