"""Reads objectives and limits from their texts: `latency:pixel3`, `params<=5e5`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from diffnag.errors import UserError
from diffnag.objectives.goal import Goal, Limit
from diffnag.objectives.quantities import read_quantity
from diffnag.plugins import make, named_errors
from diffnag.protocols import NeedsNetwork

if TYPE_CHECKING:
    from diffnag.datasets.tasks import Task
    from diffnag.networks.plan import Skeleton
    from diffnag.protocols import Objective, SearchSpace

EXAMPLES = "'params<=5e5', 'params<=500k' or 'flops>=1M'"
MEMBERS = ("name", "unit", "maximise", "paid", "measure")


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
        number = read_quantity(self.quantity, unit, of=f"limit '{''.join(self)}'", example=EXAMPLES)
        return Limit(self.objective, **{"high" if self.sign == "<=" else "low": number})


def load_objective(name: str, *, space: SearchSpace, task: Task, skeleton: Skeleton | None = None) -> Objective:
    """Make the objective behind a registered name or dotted path and set it up, if it has a `setup`.

    Args:
        skeleton: The network around an architecture, where it is not the space's default.
    """
    objective: Objective = make("objective", name, MEMBERS)
    if isinstance(objective, NeedsNetwork):
        with named_errors("objective", name, "setup", type(objective)):
            objective.setup(space=space, task=task, skeleton=skeleton)
    return objective


def read_goal(
    task: Task, label: Objective, load: Callable[[str], Objective], *,
    minimise: Iterable[str] = (), maximise: Iterable[str] = (), limits: Iterable[str] = (),
) -> Goal:  # fmt: skip
    """The goal of `label`, further objectives and limits, all by their texts; `load` makes an objective by name.

    Raises `UserError` for a text that is not understood, and for an objective that is to be optimised in the wrong direction.
    """
    loaded: dict[str, Objective] = {label.name: label}

    def found(name: str) -> Objective:
        if name not in loaded:
            loaded[name] = load(name)
        return loaded[name]

    objectives = [label]
    for names, wanted in ((minimise, False), (maximise, True)):
        for name in names:
            objective = found(name)
            if any(objective is one for one in objectives[1:]):
                raise UserError(f"objective {name!r} is named twice; name it once")
            if objective is label:
                raise UserError(f"{name} is the label of the task, and always an objective; leave it out")
            if objective.maximise is not wanted:
                right = "maximise" if objective.maximise else "minimise"
                raise UserError(f"{'more' if objective.maximise else 'less'} of objective {name!r} is better: use --{right} {name}")
            objectives.append(objective)
    read, named = read_limits(limits, found)
    return Goal(task, tuple(objectives), read, tuple(one for one in named if not any(one is other for other in objectives)))


def read_limits(texts: Iterable[str], load: Callable[[str], Objective]) -> tuple[tuple[Limit, ...], tuple[Objective, ...]]:
    """Limits from their texts, and the objectives that they name, which `load` makes by name. Raises `UserError`."""
    limits: list[Limit] = []
    loaded: dict[str, Objective] = {}
    for text in texts:
        parts = LimitText.split(text)
        objective = loaded[parts.objective] = loaded.get(parts.objective) or load(parts.objective)
        limits.append(parts._replace(objective=objective.name).limit(objective.unit))
    return tuple(limits), tuple(loaded.values())
