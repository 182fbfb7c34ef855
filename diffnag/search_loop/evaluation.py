"""Pays for one label: asks for the value of an architecture, watches the evaluation, and turns failures into outcomes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from diffnag.oracles.checked import EvaluationFailed
from diffnag.search_loop.study.records import Outcome

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.objectives.accuracy import Label
    from diffnag.objectives.goal import Goal

Stop = Callable[[int, float], bool]
"""Called with epochs and value at each stage of an evaluation that can be watched; returns whether to stop there."""


def evaluate(arch: Arch, label: Label, goal: Goal, *, stop: Stop) -> Outcome:
    """The outcome of one evaluation. If it raises, or gives no finite number, that is a failed label; a `UserError` passes."""
    begin = time.perf_counter()
    outcome = _watched(arch, label, goal.task, stop) if label.watched else Outcome(*ask(arch, label, goal.task), cost_s=0.0)
    outcome = replace(outcome, cost_s=time.perf_counter() - begin)
    values = goal.free_values(arch) | ({} if outcome.value is None else {label.name: outcome.value})
    return replace(outcome, values={name: value for name, value in values.items() if math.isfinite(value)})


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
