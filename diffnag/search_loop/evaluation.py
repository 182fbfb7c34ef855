"""Pays for one label: asks for the value of an architecture, watches the evaluation, and turns failures into outcomes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from diffnag.errors import UserError
from diffnag.objectives.quantities import with_unit
from diffnag.oracles.checked import EvaluationFailed
from diffnag.search_loop.study.records import Outcome

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.objectives.accuracy import Label
    from diffnag.objectives.goal import Goal
    from diffnag.protocols import Objective

Stop = Callable[[int, float], bool]
"""Called with epochs and value at each stage of an evaluation that can be watched; returns whether to stop there."""
MOST_IN_A_ROW = 3
"""Measurements of an objective that may raise one after the other: then whatever measures is taken for broken."""


class Measurements:
    """Measurements of the objectives beside the label in one search. One that raises is a failure, as one that returns NaN is.

    Args:
        goal: Objectives and limits.
        on_note: Called with a sentence for each that raises.
    """

    def __init__(self, goal: Goal, on_note: Callable[[str], object]) -> None:
        self._goal, self._on_note = goal, on_note
        self._in_a_row: dict[str, int] = {}
        self._raised: Exception | None = None

    def take(self, objective: Objective, arch: Arch) -> float:
        """The value of `arch`, NaN for a failure."""
        name = objective.name
        try:
            value = self._goal.measure(objective, arch)
        except UserError as error:
            self._in_a_row[name] = self._in_a_row.get(name, 0) + 1
            self._on_note(f"{error}; this evaluation has no value of it")
            if self._in_a_row[name] >= MOST_IN_A_ROW:
                row = f"it has failed {MOST_IN_A_ROW} times in a row"
                self._raised = UserError(f"{error}; {row}; all labels are kept, and the same command goes on")
            return math.nan
        except Exception as defect:  # of an objective of this package: raised when the label is kept
            self._raised = defect
            return math.nan
        self._in_a_row[name] = 0
        return value

    def check(self) -> None:
        """Raise what ends the search: an objective has raised too often. Call it when the label is kept."""
        if self._raised is not None:
            raise self._raised


def evaluate(
    arch: Arch, label: Label, goal: Goal, *, stop: Stop, take: Callable[[Objective, Arch], float] | None = None, untried: bool = False
) -> Outcome:
    """The outcome of one evaluation. If it raises, or gives no finite number, that is a failed label; a `UserError` passes.

    What limits name is measured first: an architecture that misses a limit is not worth a label. Other objectives are measured last, or
    first if they are `untried`: one that raises then costs no label. Later ones are measured by `take`, such as `Measurements.take`.
    """
    begin = time.perf_counter()
    values = goal.free_values(arch)
    limited = {limit.objective for limit in goal.limits}
    first = [one for one in goal.measured if untried or one.name in limited]
    for objective in first:
        values[objective.name] = (goal.measure if untried or take is None else take)(objective, arch)
    if missed := [limit for limit in goal.limits if limit.objective in {one.name for one in first} and not limit.allows(values[limit.objective])]:
        unit, value = goal.named[missed[0].objective].unit, values[missed[0].objective]
        said = "it has no value" if math.isnan(value) else f"it is {with_unit(value, unit)}"
        outcome = Outcome(None, f"{missed[0].text(unit)} is not met: {said}, so no label was paid for", 0.0, asked=False)
    else:
        outcome = _watched(arch, label, goal.task, stop) if label.watched else Outcome(*ask(arch, label, goal.task), cost_s=0.0)
    if outcome.value is not None:
        values[label.name] = outcome.value
        if not outcome.pruned:
            values |= {one.name: (take or goal.measure)(one, arch) for one in goal.measured if one not in first}
    known = {name: value for name, value in values.items() if math.isfinite(value)}
    return replace(outcome, cost_s=time.perf_counter() - begin, values=known)


def ask(arch: Arch, label: Label, task: Task) -> tuple[float | None, str | None]:
    """The oracle's finite answer, or the error in its place; a `UserError` passes."""
    try:
        return label.measure(arch, task=task), None
    except EvaluationFailed as failure:
        return None, str(failure)


def _watched(arch: Arch, label: Label, task: Task, stop: Stop) -> Outcome:
    value, epochs = math.nan, 0
    try:
        for epochs, value in label.stages(arch, task=task):
            if not math.isfinite(value):
                break
            if stop(epochs, value) and epochs < label.epochs:
                return Outcome(value, None, 0.0, epochs, pruned=True)
    except EvaluationFailed as failure:
        return Outcome(None, str(failure), 0.0, epochs)
    if not math.isfinite(value):
        return Outcome(None, f"the oracle returned {value}", 0.0, epochs)
    return Outcome(value, None, 0.0, epochs)
