"""The values that the parts of a search exchange: proposals, trials, and what a method knows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from diffnag.arch import Arch


@dataclass(frozen=True)
class Proposal:
    """An architecture to evaluate, with the predictor's mean and deviation when it was chosen, if there was a predictor."""

    arch: Arch
    predicted_mean: float | None = None
    predicted_std: float | None = None


@dataclass(frozen=True)
class Generated:
    """Candidates that were generated when there were `labels` labels. All workers choose from them until more are generated."""

    labels: int
    archs: tuple[Arch, ...]
    guidance: str


@dataclass(frozen=True)
class Batch:
    """What a method proposes at once, and the network evaluations that it took, counted."""

    proposals: tuple[Proposal, ...]
    guidance: str = "none"
    nfe: int = 0
    predictor_nfe: int = 0
    generated: Generated | None = None
    """New candidates, for later batches as well; None if none were generated."""
    notes: tuple[str, ...] = ()
    """Sentences for the user."""


@dataclass(frozen=True)
class Trial:
    """One label: the evaluation `number`, counted from 0 in the order of proposing."""

    number: int
    round: int
    arch: Arch
    value: float | None
    """The label of the task: None if the evaluation failed, the last value seen if it was stopped early."""
    error: str | None
    """Why it failed, in one line."""
    predicted_mean: float | None
    predicted_std: float | None
    cost_s: float
    """Seconds of the evaluation."""
    epochs: int | None = None
    """Epochs that were trained, if the oracle reports them."""
    pruned: bool = False
    """Whether the evaluation was stopped early; its value is then not compared with those of whole evaluations."""
    curve: tuple[tuple[int, float], ...] = ()
    """Epochs and value at each point at which it could have been stopped, and at its end."""
    labels_known: int = 0
    """Labels with a value that were known when it was chosen. With 0 of them, a prediction is a standardised score, no value."""
    values: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Value by objective: the label under the name of the task's own objective, and the objectives that the goal names."""
    maximise: bool = True
    """Whether more of the label is better."""
    asked: bool = True
    """Whether the oracle was asked: not if a measurement that comes first has shown that a limit is not met."""

    @property
    def worth(self) -> float | None:
        """The label, or its negative if less is better: methods make it as large as they can."""
        return self.value if self.value is None or self.maximise else -self.value

    @property
    def state(self) -> Literal["done", "pruned", "failed"]:
        return "failed" if self.error is not None else "pruned" if self.pruned else "done"


@dataclass(frozen=True)
class Known:
    """What a method may know when it proposes."""

    history: tuple[Trial, ...] = ()
    """All labels, in the order of proposing."""
    pending: tuple[Arch, ...] = ()
    """Architectures that are planned and have no label yet. One worker alone has none."""
    generated: Generated | None = None
    """The candidates that were generated last, by whichever worker."""


def expected_values(history: Sequence[Trial]) -> list[float]:
    """The worth of whole evaluations that the labels of `history` suggest; failed ones are left out.

    An evaluation that was stopped early counts as its value plus the median gain of the whole ones from that point on. Otherwise
    an architecture would seem poor because its training was short.
    """
    whole = [(dict(trial.curve), trial.value) for trial in history if trial.value is not None and not trial.pruned]

    def gain(epochs: int | None) -> float:
        gains = [value - curve[epochs] for curve, value in whole if epochs in curve]
        return statistics.median(gains) if gains else 0.0

    valued = [trial for trial in history if trial.value is not None]
    found = [(trial.value or 0.0) + (gain(trial.epochs) if trial.pruned else 0.0) for trial in valued]
    return [value if trial.maximise else -value for trial, value in zip(valued, found, strict=True)]


def best_first(history: Sequence[Trial]) -> list[Trial]:
    """The trials that have a value, the best value first."""
    return sorted((trial for trial in history if trial.value is not None), key=lambda trial: -(trial.worth or 0.0))


def best_of(history: Sequence[Trial]) -> Trial | None:
    """The whole evaluation with the best value, the earliest of equal ones; None if there is none."""
    done = [trial for trial in history if trial.value is not None and not trial.pruned]
    return max(done, key=lambda trial: (trial.worth, -trial.number), default=None)
