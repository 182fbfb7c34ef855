"""What a search is for: the objectives that it optimises and the limits that it keeps to."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diffnag.errors import UserError
from diffnag.objectives.front import non_dominated
from diffnag.plugins import make, named_errors
from diffnag.protocols import NeedsNetwork

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.networks.plan import Skeleton
    from diffnag.protocols import Objective, SearchSpace
    from diffnag.search_loop.trial import Trial

PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
"""Decimal prefixes of a limit's number."""
EXAMPLES = "'params<=5e5', 'params<=500k' or 'flops>=1M'"


@dataclass(frozen=True)
class Limit:
    """An interval, ends included, in which the value of an objective must lie."""

    objective: str
    low: float = -math.inf
    high: float = math.inf

    def allows(self, value: float) -> bool:
        """Whether `value` lies within; NaN, which stands for a failure, does not."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        """As it may be written on the command line: `params<=500,000`."""
        ends = ((">=", self.low), ("<=", self.high))
        return " and ".join(f"{self.objective}{sign}{shown(end)}" for sign, end in ends if math.isfinite(end))


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

    @property
    def all(self) -> tuple[Objective, ...]:
        """Every objective that has a value for each trial."""
        return (*self.objectives, *self.others)

    @cached_property
    def free_limits(self) -> tuple[tuple[Limit, Objective], ...]:
        """Limits on what is computed without paying, with their objectives: they are met before anything is evaluated."""
        named = {one.name: one for one in self.all}
        return tuple((limit, named[limit.objective]) for limit in self.limits if not named[limit.objective].paid)

    def measure(self, objective: Objective, arch: Arch) -> float:
        """The value of an objective that is not paid for, NaN for a failure; raises `UserError` for an answer that is no number."""
        with named_errors("objective", objective.name, "measure", type(objective)):
            return float(objective.measure(arch, task=self.task))

    def allows(self, arch: Arch) -> bool:
        """Whether `arch` meets every limit that can be checked without paying."""
        return all(limit.allows(self.measure(objective, arch)) for limit, objective in self.free_limits)

    def free_values(self, arch: Arch) -> dict[str, float]:
        """The value of every objective that is computed without paying."""
        return {one.name: self.measure(one, arch) for one in self.all if not one.paid}

    def front(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        """The whole evaluations that meet every limit and that no other dominates, in order; of equal ones the first.

        With one objective that is the best so far, or nothing.
        """
        names = [one.name for one in self.objectives]
        whole = [trial for trial in trials if not trial.pruned and all(math.isfinite(trial.values.get(name, math.nan)) for name in names)]
        whole = [trial for trial in whole if all(limit.allows(trial.values.get(limit.objective, math.nan)) for limit in self.limits)]
        if not whole:
            return ()
        signs = np.array([1.0 if one.maximise else -1.0 for one in self.objectives])
        values = signs * np.array([[trial.values[name] for name in names] for trial in whole])
        return tuple(whole[i] for i in non_dominated(values))

    def check_reachable(self, space: SearchSpace, archs: Iterable[Arch]) -> None:
        """Raise `UserError` if none of `archs` meets the limits, with the value nearest to each limit that one of them has."""
        nearest: dict[Limit, float] = {}
        for arch in archs:
            met = True
            for limit, objective in self.free_limits:
                value = self.measure(objective, arch)
                met = met and limit.allows(value)
                if _distance(limit, value) < _distance(limit, nearest.get(limit, math.nan)):
                    nearest[limit] = value
            if met:
                return
        parts = (f"{limit} ({_nearest_word(limit)} {shown(nearest.get(limit, math.nan))})" for limit, _ in self.free_limits)
        raise UserError(f"no architecture of {space.name} meets {' and '.join(parts)} on {self.task.name}")


class LimitText(NamedTuple):
    """A limit as it was written: `params<=5e5` is ("params", "<=", "5e5")."""

    objective: str
    sign: str
    quantity: str

    @classmethod
    def split(cls, text: str) -> LimitText:
        """Take a limit apart; raises `UserError` with what is accepted."""
        if not (found := re.fullmatch(r"\s*(\S+?)\s*(<=|>=)\s*(\S+)\s*", text)):
            raise UserError(f"limit {text!r} is not understood; accepted are an objective, <= or >=, and a number, such as {EXAMPLES}")
        return cls(*found.groups())

    def limit(self, unit: str) -> Limit:
        """The limit, of an objective that is counted in `unit`; raises `UserError` for another unit."""
        found = re.fullmatch(r"([-+]?[\d.]+(?:[eE][-+]?\d+)?)([^\d.].*)?", self.quantity)
        suffix = (found and found[2]) or ""
        factors = {prefix + unit: factor for prefix, factor in PREFIXES.items()} | {"": 1.0}
        try:
            number = float(found[1]) * factors[suffix] if found else math.nan
        except (ValueError, KeyError):
            number = math.nan
        if not math.isfinite(number):
            units = ", ".join(filter(None, factors))
            raise UserError(f"limit '{''.join(self)}' needs a finite number, alone or with one of {units} behind it, such as {EXAMPLES}")
        return Limit(self.objective, **{"high" if self.sign == "<=" else "low": number})


def load_objective(name: str, *, space: SearchSpace, task: Task, skeleton: Skeleton | None = None) -> Objective:
    """Make the objective behind a registered name or dotted path and set it up, if it has a `setup`.

    Args:
        skeleton: The network around an architecture, where it is not the space's default.
    """
    objective: Objective = make("objective", name, ("name", "unit", "maximise", "paid", "measure"))
    if isinstance(objective, NeedsNetwork):
        with named_errors("objective", name, "setup", type(objective)):
            objective.setup(space=space, task=task, skeleton=skeleton)
    return objective


def read_limits(texts: Iterable[str], load: Callable[[str], Objective]) -> tuple[tuple[Limit, ...], tuple[Objective, ...]]:
    """Limits from their texts, and the objectives that they name, which `load` makes by name. Raises `UserError`."""
    limits: list[Limit] = []
    loaded: dict[str, Objective] = {}
    for text in texts:
        parts = LimitText.split(text)
        objective = loaded.get(parts.objective) or load(parts.objective)
        loaded[parts.objective] = objective
        if objective.paid:
            raise UserError(f"limit {text!r} is on an objective that is paid for; accepted are limits on what is computed, such as {EXAMPLES}")
        limits.append(parts._replace(objective=objective.name).limit(objective.unit))
    return tuple(limits), tuple(loaded.values())


def shown(number: float) -> str:
    """A number as messages write it: whole ones with commas."""
    return f"{int(number):,}" if math.isfinite(number) and number == int(number) else f"{number:g}"


def _distance(limit: Limit, value: float) -> float:
    """How far `value` is beyond the limit; NaN counts as infinitely far."""
    return math.inf if math.isnan(value) else max(limit.low - value, value - limit.high)


def _nearest_word(limit: Limit) -> str:
    return "the least is" if math.isfinite(limit.high) else "the most is"
