"""The conditions of a network: what they are, their laws in the training set, and how values become tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from diffnag.datasets.tasks import Task
from diffnag.errors import UserError
from diffnag.generators.base import Condition
from diffnag.plugins import make
from diffnag.protocols import NeedsNetwork

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import Objective, SearchSpace

WORDS = ("low", "medium", "high")
"""What a condition can be called in place of a number: the thirds of the training set."""
KNOTS = 65
"""Quantiles that are kept of each condition."""
KNOWN = 1024
"""Architectures of the training set of which all conditions are kept."""
NEAR = 1.0
"""Standard deviations from a known architecture within which a combination of conditions counts as possible."""


class Measures:
    """The objectives `names` of architectures, for the first dataset of the space.

    Raises `UserError` for an objective that costs a measurement.
    """

    def __init__(self, names: Sequence[str], space: SearchSpace) -> None:
        self._task, self._objectives = Task.of(next(iter(space.datasets), space.name), space), []
        for name in names:
            objective = cast("Objective", make("objective", name, ("name", "unit", "paid", "measure")))
            if isinstance(objective, NeedsNetwork):
                objective.setup(space=space, task=self._task, skeleton=None)
            if objective.paid:
                raise UserError(
                    f"{name} costs a measurement for each architecture here; training on it and --nearest need the table of it, see diffnag.data"
                )
            self._objectives.append(objective)
        self.units = {objective.name: objective.unit for objective in self._objectives}
        """Condition -> unit in which its values are counted."""

    def __call__(self, archs: Sequence[Arch]) -> Tensor:
        """Values `(m, c)`, float64; raises `UserError` where an architecture lacks one."""
        values = np.array([[objective.measure(arch, task=self._task) for objective in self._objectives] for arch in archs])
        if lacking := [name for name, known in zip(self.units, np.isfinite(values).all(0), strict=True) if not known]:
            raise UserError(f"{lacking[0]} is not known of all architectures of the space")
        return torch.from_numpy(values)


class Laws:
    """How the conditions are spread over the training set.

    Args:
        names: The c conditions.
        quantiles: `(c, KNOTS)`
        centre: Means `(c,)`.
        spread: Standard deviations `(c,)`.
        known: Values of some architectures, `(KNOWN, c)`.
    """

    def __init__(self, names: Sequence[str], quantiles: Tensor, centre: Tensor, spread: Tensor, known: Tensor) -> None:
        self.names, self._quantiles, self._centre, self._spread, self._known = tuple(names), quantiles, centre, spread, known

    @staticmethod
    def described(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Quantiles, centre and spread of values `(m, c)`, float64, and evenly chosen rows, float32."""
        grid = torch.linspace(0, 1, KNOTS, dtype=torch.float64)
        rows = torch.linspace(0, len(values) - 1, KNOWN).round().long()
        return values.quantile(grid, dim=0).T.contiguous(), values.mean(0), values.std(0).clamp_min(1e-12), values[rows].float()

    def standard(self, values: Tensor) -> Tensor:
        """Values `(m, c)` in standard deviations from the mean, float32."""
        return ((values - self._centre.to(values)) / self._spread.to(values)).float()

    def thirds(self, standard: Tensor) -> Tensor:
        """The third of the training set that standardised values `(m, c)` lie in: 0, 1 or 2."""
        places = [(KNOTS - 1) // 3, 2 * (KNOTS - 1) // 3]
        ends = self.standard(self._quantiles[:, places].T.to(standard.device))  # (2, c)
        return (standard > ends[0]).long() + (standard > ends[1]).long()

    def apart(self, values: Tensor, numbers: Tensor, words: Tensor) -> Tensor:
        """Distances `(b,)` of values `(b, c)` from what is asked, `numbers` and `words` as `read` returns them, one row or b of them.

        A distance is the sum over conditions of standard deviations, where a word that does not hold counts as one.
        """
        standard = self.standard(values)
        missed = (standard - numbers.to(standard)).abs().nan_to_num(0.0)
        other = (words.to(standard) >= 0) & (self.thirds(standard) != words.to(standard))
        return (missed + other).sum(1)

    def within(self, name: str, values: Tensor) -> tuple[float, ...]:
        """Values `(m,)` of one condition, each brought within what training saw."""
        low, *_, high = self._quantiles[self.names.index(name)]
        return tuple(values.clamp(low, high).tolist())

    def read(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """What a draw asks for, as `numbers (m, c)`, NaN where open, and `words (m, c)`, -1 where there is none; m is the length of tuples.

        Raises `UserError` for a value that the training set does not reach, for a word that is none of `WORDS`, for tuples of different
        lengths, and for single values that no known architecture comes near to together.
        """
        lengths = {len(value) for value in condition.values() if isinstance(value, tuple)} or {1}
        if len(lengths) > 1 or 0 in lengths:
            raise UserError(f"conditions have {' and '.join(map(str, sorted(lengths)))} values; accepted is one number of them, at least 1")
        asked = torch.full((*lengths, len(self.names)), torch.nan, dtype=torch.float64)
        words = torch.full(asked.shape, -1)
        for k, name in enumerate(self.names):
            if name in condition:
                self._read_one(name, condition[name], asked[:, k], words[:, k], self._quantiles[k, [0, -1]].tolist())
        asked = self.standard(asked)
        if len(asked) == 1:
            self._refuse_conflict(condition, asked, words)
        return asked, words

    @staticmethod
    def _read_one(name: str, value: float | str | tuple[float, ...], numbers: Tensor, words: Tensor, seen: list[float]) -> None:
        """Write what is asked of one condition, whose training saw values between two, into `numbers (m,)` or `words (m,)`."""
        low, high = seen
        if isinstance(value, str):
            if value not in WORDS:
                raise UserError(f"condition {name} is {value!r}; accepted is a number from {low:.7g} to {high:.7g}, or {', '.join(WORDS)}")
            words.fill_(WORDS.index(value))
            return
        numbers.copy_(torch.tensor(value, dtype=torch.float64))
        outside = ~((low <= numbers) & (numbers <= high))
        if outside.any():
            raise UserError(f"condition {name} is {numbers[outside][0]:.7g}, outside what the training saw: {low:.7g} to {high:.7g}")

    def _refuse_conflict(self, condition: Condition, asked: Tensor, words: Tensor) -> None:
        if len(condition) < 2:
            return
        known = self.standard(self._known)
        apart = (known - asked.to(known)).abs().nan_to_num(0.0).amax(1)
        other = ((words.to(known) >= 0) & (self.thirds(known) != words.to(known))).any(1)
        nearest = int((apart + other * 1e6).argmin())
        if other[nearest] or apart[nearest] > NEAR:
            has = ", ".join(f"{name} {self._known[nearest, k]:.4g}" for k, name in enumerate(self.names) if name in condition)
            together = " and ".join(f"{name}={value:.7g}" if isinstance(value, float) else f"{name}={value}" for name, value in condition.items())
            raise UserError(f"{together} conflict: no architecture that training saw comes near all of them; the nearest has {has}")
