"""Pays for one label: asks for the value of an architecture, watches the evaluation, and turns failures into outcomes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from diffnag.objectives.quantities import with_unit
from diffnag.oracles.checked import EvaluationFailed
from diffnag.search_loop.study.records import Outcome

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.objectives.accuracy import Label
    from diffnag.objectives.goal import Goal

Stop = Callable[[int, float], bool]
"""Called with epochs and value at each stage of an evaluation that can be watched; returns whether to stop there."""


def evaluate(arch: Arch, label: Label, goal: Goal, *, stop: Stop, untried: bool = False) -> Outcome:
    """The outcome of one evaluation. If it raises, or gives no finite number, that is a failed label; a `UserError` passes.

    What limits name is measured first: an architecture that misses a limit is not worth a label. Other objectives are measured last, or
    first if they are `untried`: one that raises then costs no label.
    """
    begin = time.perf_counter()
    values = goal.free_values(arch)
    limited = {limit.objective for limit in goal.limits}
    first = [one for one in goal.measured if untried or one.name in limited]
    for objective in first:
        values[objective.name] = goal.measure(objective, arch)
    if missed := [limit for limit in goal.limits if limit.objective in {one.name for one in first} and not limit.allows(values[limit.objective])]:
        unit, value = goal.named[missed[0].objective].unit, values[missed[0].objective]
        said = "it has no value" if math.isnan(value) else f"it is {with_unit(value, unit)}"
        outcome = Outcome(None, f"{missed[0].text(unit)} is not met: {said}, so no label was paid for", 0.0, asked=False)
    else:
        outcome = _watched(arch, label, goal.task, stop) if label.watched else Outcome(*ask(arch, label, goal.task), cost_s=0.0)
    if outcome.value is not None:
        values[label.name] = outcome.value
        if not outcome.pruned:
            values |= {one.name: goal.measure(one, arch) for one in goal.measured if one not in first}
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
