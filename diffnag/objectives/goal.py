"""What a search is for: the objectives that it optimises and the limits that it keeps to."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from diffnag.errors import UserError
from diffnag.objectives.front import non_dominated
from diffnag.objectives.quantities import shown, with_unit
from diffnag.oracles.checked import LARGEST
from diffnag.plugins import named_errors
from diffnag.protocols import Predicts, Sourced

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.protocols import Objective, SearchSpace
    from diffnag.search_loop.trial import Trial

AT_ONCE, PATIENCE_S = 100, 20.0
"""Architectures that are looked at together for one that meets the limits, and seconds after which the others are left out."""
AT_ONCE_S = 5.0
"""Seconds after which fewer are looked at: where a limit takes long to compute, edits that lead towards it do so too."""


@dataclass(frozen=True)
class Limit:
    """An interval, ends included, in which the value of an objective must lie."""

    objective: str
    low: float = -math.inf
    high: float = math.inf

    def allows(self, value: float) -> bool:
        """Whether `value` lies within; NaN, which stands for a failure, does not."""
        return self.low <= value <= self.high

    def chance(self, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        """Probability `(b,)` that normal values lie within; a deviation of 0 stands for a value that is known."""
        return _below(self.high, mean, std) - _below(self.low, mean, std)

    def __str__(self) -> str:
        """Without a unit: `params<=500,000`."""
        return self.text("")

    def text(self, unit: str) -> str:
        """With the unit of its objective: `latency:pixel3<=18 ms`."""
        ends = ((">=", self.low), ("<=", self.high))
        return " and ".join(f"{self.objective}{sign}{shown(end)} {unit}".rstrip() for sign, end in ends if math.isfinite(end))


@dataclass(frozen=True)
class Goal:
    """What a search is for.

    Args:
        task: What the architectures are wanted for.
        objectives: What is optimised; the first is the task's own label.
        limits: What every result must meet. Each names one of `objectives` or of `others`.
        others: Objectives that are no goals and that limits name.
    """

    task: Task
    objectives: tuple[Objective, ...] = ()
    limits: tuple[Limit, ...] = ()
    others: tuple[Objective, ...] = ()

    def __post_init__(self) -> None:
        names = [one.name for one in self.all]
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"there are two objectives called {double[0]!r}; the name of each must be its own")

    # -- what is wanted

    @property
    def all(self) -> tuple[Objective, ...]:
        """Every objective that has a value for each trial."""
        return (*self.objectives, *self.others)

    @property
    def beside(self) -> tuple[Objective, ...]:
        """The objectives other than the label."""
        return (*self.objectives[1:], *self.others)

    @property
    def has_front(self) -> bool:
        """Whether the result is a front, and not one best."""
        return len(self.objectives) > 1

    @cached_property
    def named(self) -> dict[str, Objective]:
        """Objective by name."""
        return {one.name: one for one in self.all}

    @cached_property
    def measured(self) -> tuple[Objective, ...]:
        """The objectives beside the label that are paid for and can be measured here."""
        return tuple(one for one in self.beside if one.paid and not (isinstance(one, Predicts) and not one.measurable))

    @cached_property
    def unmeasured(self) -> tuple[Objective, ...]:
        """The objectives that can only be predicted here."""
        return tuple(one for one in self.beside if one.paid and one not in self.measured)

    @cached_property
    def free_limits(self) -> tuple[tuple[Limit, Objective], ...]:
        """Limits on what is computed without paying, with their objectives: they are met before anything is evaluated."""
        return tuple((limit, self.named[limit.objective]) for limit in self.limits if not self.named[limit.objective].paid)

    @cached_property
    def paid_limits(self) -> tuple[tuple[Limit, Objective], ...]:
        """Limits on what is paid for, with their objectives: predictions say whether they are likely to be met."""
        return tuple((limit, self.named[limit.objective]) for limit in self.limits if self.named[limit.objective].paid)

    @property
    def limit_texts(self) -> tuple[str, ...]:
        """The limits with their units."""
        return tuple(limit.text(self.named[limit.objective].unit) for limit in self.limits)

    @property
    def measures_limits_first(self) -> bool:
        """Whether every limit on what is paid for is on what can be measured here, before the label is paid for."""
        return all(objective in self.measured for _, objective in self.paid_limits)

    @cached_property
    def signs(self) -> np.ndarray:
        """1 for each objective that is maximised, -1 for the others, `(k,)`."""
        return np.array([1.0 if one.maximise else -1.0 for one in self.objectives])

    @property
    def label_sign(self) -> float:
        """1 if the label is maximised, -1 if it is minimised."""
        return float(self.signs[0]) if self.objectives else 1.0

    # -- what is known of an architecture without paying

    def measure(self, objective: Objective, arch: Arch) -> float:
        """The value of an objective, NaN for a failure; raises `UserError` for no number, and for one beyond `LARGEST`."""
        with named_errors("objective", objective.name, "measure", type(objective)):
            value = float(objective.measure(arch, task=self.task))
        if abs(value) > LARGEST:
            accepted = f"numbers up to {LARGEST:g} in size, and NaN for a failure"
            raise UserError(f"objective {objective.name!r}: measure returned {value:g}; accepted are {accepted}")
        return value

    def allows(self, arch: Arch) -> bool:
        """Whether `arch` meets every limit that can be checked without paying."""
        return all(limit.allows(self.measure(objective, arch)) for limit, objective in self.free_limits)

    def beyond(self, arch: Arch) -> float:
        """How far `arch` is beyond the limits that can be checked without paying, relative to its own values; 0 within, infinity for a failure."""
        values = ((limit, self.measure(objective, arch)) for limit, objective in self.free_limits)
        distances = ((max(_distance(limit, value), 0.0), value) for limit, value in values)
        return sum(distance / abs(value) if value and math.isfinite(distance) else distance for distance, value in distances)

    def predicted(self, objective: Objective, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of an objective that predicts itself, `(b,)` each; NaN where it knows nothing.

        Raises `UserError` for other shapes, and for numbers that are no means and no deviations.
        """
        name = objective.name
        assert isinstance(objective, Predicts)
        with named_errors("objective", name, "predict", type(objective)):
            mean, std = (np.asarray(part, dtype=np.float64) for part in objective.predict(archs))
        if mean.shape != (len(archs),) or std.shape != mean.shape:
            raise UserError(
                f"objective {name!r}: predict returned shapes {mean.shape} and {std.shape} for {len(archs)} architectures; accepted "
                f"are means and standard deviations, one of each for every architecture"
            )
        known = ~np.isnan(mean)
        if not (np.abs(mean[known]) <= LARGEST).all() or not ((std[known] >= 0) & (std[known] <= LARGEST)).all():
            raise UserError(
                f"objective {name!r}: predict returned a mean or a standard deviation that is none; accepted are means up to {LARGEST:g} in "
                f"size, NaN where nothing is known, and deviations of at least 0"
            )
        return mean, std

    def free_values(self, arch: Arch) -> dict[str, float]:
        """The value of every objective that is computed without paying."""
        return {one.name: self.measure(one, arch) for one in self.all if not one.paid}

    # -- what is known of trials

    def values(self, trials: Sequence[Trial]) -> np.ndarray:
        """Values of the objectives `(m, k)` in their own units; NaN where one failed or is unknown, predictions of what is unmeasured."""
        found = np.array([[trial.values.get(one.name, math.nan) for one in self.objectives] for trial in trials])
        found = found.reshape(len(trials), len(self.objectives))
        for column, objective in enumerate(self.objectives):
            if objective in self.unmeasured and trials:
                found[:, column], _ = self.predicted(objective, [trial.arch for trial in trials])
        return found

    def meets(self, trials: Sequence[Trial]) -> np.ndarray:
        """Whether each trial meets every limit, bool `(m,)`, by its own values or by predictions of what is unmeasured."""
        met = np.ones(len(trials), dtype=bool)
        for limit in self.limits:
            objective = self.named[limit.objective]
            values = [trial.values.get(limit.objective, math.nan) for trial in trials]
            if objective in self.unmeasured and trials:
                values = self.predicted(objective, [trial.arch for trial in trials])[0].tolist()
            met &= np.array([limit.allows(value) for value in values], dtype=bool)
        return met

    def front(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        """The whole evaluations that meet every limit and that no other dominates, in order; of equal ones the first.

        With one objective that is the best so far, or nothing.
        """
        if not (whole := self.complete(trials)):
            return ()
        return tuple(whole[i] for i in non_dominated(self.signs * self.values(whole)))

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """Member of the front with the best label, the earliest of equal ones; None if nothing meets the limits."""
        return max(self.front(trials), key=lambda trial: (trial.worth, -trial.number), default=None)

    def complete(self, trials: Sequence[Trial]) -> list[Trial]:
        """The whole evaluations that have a value for every objective and meet every limit."""
        usable = np.isfinite(self.values(trials)).all(1) & self.meets(trials)
        return [trial for trial, use in zip(trials, usable, strict=True) if use and not trial.pruned]

    # -- where values come from

    @cached_property
    def origins(self) -> dict[str, str]:
        """Objective whose values come from a file or a machine -> which one, see `Sourced`."""
        found: dict[str, str | None] = {}
        for one in self.beside:
            if isinstance(one, Sourced):
                with named_errors("objective", one.name, "origin", type(one)):
                    found[one.name] = one.origin
        return {name: str(origin) for name, origin in found.items() if origin is not None}

    def provenance(self, objective: Objective) -> dict[str, str]:
        """What results say of where the values of an objective come from; empty if it does not say so."""
        if not isinstance(objective, Sourced):
            return {}
        with named_errors("objective", objective.name, "provenance", type(objective)):
            return {str(key): str(value) for key, value in objective.provenance().items()}

    # -- what can be reached

    def check_reachable(self, space: SearchSpace, archs: Iterable[Arch]) -> None:
        """Raise `UserError` if none of `archs` meets the limits, with the value nearest to each limit that one of them has.

        Some objectives take so long to compute that not all of a space can be looked at; the error says so. Predictions stand for what is
        paid for, within two standard deviations: of a device of which nothing is measured yet, little is known. Limits on what cannot be
        predicted without labels are passed over.
        """
        nearest: dict[Limit, float] = {}
        left, looked_at, until = iter(archs), 0, time.monotonic() + PATIENCE_S
        while some := _next_of(left):
            looked_at += len(some)
            met = np.ones(len(some), dtype=bool)
            for limit, values, margins in self._checkable(some):
                met &= np.array([
                    limit.allows(value - margin) or limit.allows(value + margin) for value, margin in zip(values, margins, strict=True)
                ], dtype=bool)  # fmt: skip
                nearest[limit] = min((nearest.get(limit, math.nan), *values), key=lambda value: _distance(limit, value))
            if met.any():
                return
            if time.monotonic() > until:
                break
        none = f"no architecture of {space.name}"
        if next(left, None) is not None:
            none = f"none of {looked_at:,} architectures of {space.name} that were looked at in {PATIENCE_S:g} s"
        parts = (f"{limit.text(unit)} ({_nearest(limit, value, unit)})" for limit, value, unit in (
            (limit, value, self.named[limit.objective].unit) for limit, value in nearest.items()
        ))  # fmt: skip
        together = f"{' and '.join(parts)}{' at once' if len(nearest) > 1 else ''}"
        raise UserError(f"{none} meets {together} on {self.task.name}")

    def check_known(self, archs: Sequence[Arch]) -> None:
        """Raise `UserError` if an objective that is computed or predicted has no finite value for any of `archs`."""
        for objective in self.objectives[1:]:
            if isinstance(objective, Predicts):
                known = np.isfinite(self.predicted(objective, archs)[0]).any()
            else:
                known = objective.paid or any(math.isfinite(self.measure(objective, arch)) for arch in archs)
            if not known:
                raise _unknown(objective, len(archs))

    def refuse_unknown(self, values: np.ndarray) -> None:
        """Raise `UserError` if an objective has no finite value in its column of `values (m, k)`, which are those of random architectures."""
        for objective, column in zip(self.objectives, values.T, strict=True):
            if not np.isfinite(column).any():
                raise _unknown(objective, len(values))

    @property
    def is_checkable(self) -> bool:
        """Whether there are limits that `check_reachable` can check."""
        return any(not objective.paid or isinstance(objective, Predicts) for objective in (self.named[limit.objective] for limit in self.limits))

    def _checkable(self, archs: Sequence[Arch]) -> Iterator[tuple[Limit, list[float], list[float]]]:
        """Each limit with the values that `archs` have, computed or predicted, and two standard deviations of them."""
        for limit in self.limits:
            objective = self.named[limit.objective]
            if not objective.paid:
                yield limit, [self.measure(objective, arch) for arch in archs], [0.0] * len(archs)
            elif isinstance(objective, Predicts):
                mean, std = self.predicted(objective, archs)
                yield limit, mean.tolist(), (2 * std).tolist()


def _next_of(archs: Iterator[Arch]) -> list[Arch]:
    """The next `AT_ONCE` architectures, or as many as come within `AT_ONCE_S`, one at least if there is one."""
    found, until = [], time.monotonic() + AT_ONCE_S
    for arch in archs:
        found.append(arch)
        if len(found) == AT_ONCE or time.monotonic() > until:
            break
    return found


def _below(end: float, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Probability `(b,)` that a normal value is at most `end`."""
    if math.isinf(end):
        return np.full(len(mean), float(end > 0))
    gap = end - mean
    return np.where(std > 0, ndtr(np.divide(gap, std, out=np.zeros_like(gap), where=std > 0)), (gap >= 0).astype(np.float64))


def _unknown(objective: Objective, count: int) -> UserError:
    return UserError(f"objective {objective.name!r} has no finite value for any of {count} random architectures")


def _distance(limit: Limit, value: float) -> float:
    """How far `value` is beyond the limit; NaN counts as infinitely far."""
    return math.inf if math.isnan(value) else max(limit.low - value, value - limit.high)


def _nearest(limit: Limit, value: float, unit: str) -> str:
    if math.isnan(value):
        return "none has a value"
    return f"the {'least' if math.isfinite(limit.high) else 'most'} is {with_unit(value, unit)}"
