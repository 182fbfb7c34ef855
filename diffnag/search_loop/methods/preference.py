"""What candidates for a front are guided by: the improvement that is expected of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.search_loop.outlook import Outlook, Standing

LEAST = 1e-12
"""Share of the largest improvement that counts as none, so that the logarithm exists."""
FLOOR = 0.3
"""Quantile up to which architectures are equally poor: the logarithm of almost nothing would decide the spread of all others."""


@dataclass(frozen=True)
class ExpectedImprovement:
    """The logarithm of the expected growth of the hypervolume as a predictor, so that a generator can be tilted by it.

    Against drawn trade-offs (the augmented Chebyshev function), the label alone, and no guidance it left the least front regret after 50
    labels on two devices and one language-model space (three to four seeds each).
    """

    outlook: Outlook
    standing: Standing

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Nothing: the outlook learns by itself."""

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """The logarithm `(b,)`, and deviations of 0."""
        archs = list(archs)
        growth = self.outlook.improvement(archs, self.outlook.label.predict(archs), self.standing)
        value = np.log(np.maximum(growth, LEAST * max(float(growth.max(initial=0.0)), LEAST)))
        return np.maximum(value, np.quantile(value, FLOOR)), np.zeros(len(archs))
