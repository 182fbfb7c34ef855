"""What the trials of a search amount to: the best so far after each label, and the front with its quality."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from diffnag.objectives.hypervolume import hypervolume
from diffnag.search_loop.result import Front, Member, Wanted

if TYPE_CHECKING:
    from diffnag.objectives.goal import Goal
    from diffnag.protocols import SearchSpace
    from diffnag.search_loop.trial import Trial

BEYOND = 0.1
"""Share of the front's range by which the reference point lies beyond the worst member."""


def wanted(goal: Goal) -> tuple[Wanted, ...]:
    """The objectives of a goal as results list them."""
    return tuple(Wanted(one.name, one.unit, one.maximise, one not in goal.unmeasured, goal.provenance(one)) for one in goal.all)


def incumbents(goal: Goal, history: Sequence[Trial]) -> tuple[float | None, ...]:
    """The best label that meets all limits after each trial, None while there is none."""
    complete = {trial.number for trial in goal.complete(history)}
    best: Trial | None = None
    found: list[float | None] = []
    for trial in history:
        if trial.number in complete and (best is None or (trial.worth or 0.0) > (best.worth or 0.0)):
            best = trial
        found.append(None if best is None else best.value)
    return tuple(found)


def values_of(goal: Goal, trial: Trial) -> dict[str, float]:
    """Value of every objective of a trial; predictions of what is not measured."""
    return dict(trial.values) | {name: mean for name, (mean, _) in _predictions(goal, trial).items()}


def doubts(goal: Goal, trial: Trial) -> dict[str, float]:
    """Standard deviation of each value of a trial that is predicted, by objective; what a device file knows is not."""
    return {name: std for name, (_, std) in _predictions(goal, trial).items() if std > 0}


def with_predictions(goal: Goal, history: Sequence[Trial]) -> tuple[Trial, ...]:
    """The trials with predictions of what is not measured among their values."""
    return tuple(replace(trial, values=values_of(goal, trial)) for trial in history) if goal.unmeasured else tuple(history)


def chance_of(goal: Goal, trial: Trial) -> float:
    """The probability that a trial meets the limits on what can only be predicted, taken as independent and normal."""
    found = _predictions(goal, trial)
    chance = 1.0
    for limit in goal.limits:
        if limit.objective in found:
            mean, std = (np.array([part]) for part in found[limit.objective])
            chance *= float(limit.chance(mean, std)[0])
    return chance


def front_of(goal: Goal, history: Sequence[Trial], space: SearchSpace, *, test: Callable[[Trial], float | None]) -> Front | None:
    """The front of the trials; None for a single objective. `test` returns the test value of a member."""
    if not goal.has_front:
        return None
    complete = goal.complete(history)
    values = goal.signs * goal.values(complete)
    members = goal.front(history)
    reference = _reference(values, goal.signs * goal.values(members))
    places = {trial.number: row for trial, row in zip(complete, values, strict=True)}
    curve, volume, known = [], 0.0, np.empty((0, len(reference)))
    for trial in history:
        if trial.number in places:
            known = np.concatenate([known, places[trial.number][None]])
            volume = hypervolume(known, reference)
        curve.append(volume)
    return Front(
        members=tuple(_member(goal, trial, space, test(trial)) for trial in members),
        reference={
            one.name: float(sign * value) if math.isfinite(value) else None
            for one, sign, value in zip(goal.objectives, goal.signs, reference, strict=True)
        },
        hypervolume=volume, hypervolume_curve=tuple(curve),
    )  # fmt: skip


def _member(goal: Goal, trial: Trial, space: SearchSpace, test: float | None) -> Member:
    return Member(trial.number, space.to_str(trial.arch), values_of(goal, trial), doubts(goal, trial), test)


def _predictions(goal: Goal, trial: Trial) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each objective that can only be predicted."""
    found = {}
    for objective in goal.unmeasured:
        mean, std = goal.predicted(objective, [trial.arch])
        found[objective.name] = (float(mean[0]), float(std[0]))
    return found


def _reference(values: np.ndarray, front: np.ndarray) -> np.ndarray:
    """See `Front.reference`; all values are turned so that more is better."""
    if not len(front):
        return np.full(values.shape[1], math.nan)
    worst = front.min(0)
    reference = worst - BEYOND * np.maximum(front.max(0) - worst, 1e-9 * np.abs(worst))
    reference[0] = np.median(values[:, 0])
    return reference
