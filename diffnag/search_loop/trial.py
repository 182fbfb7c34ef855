"""The values that the parts of a search exchange: what is proposed, and what came of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from diffnag.arch import Arch


@dataclass(frozen=True)
class Proposal:
    """An architecture worth its evaluation, with what the predictor expected of it, if anything."""

    arch: Arch
    predicted_mean: float | None = None
    predicted_std: float | None = None


@dataclass(frozen=True)
class Generated:
    """Architectures that were generated after so many `labels`, for this choice and those that follow."""

    labels: int
    archs: tuple[Arch, ...]
    guidance: str


@dataclass(frozen=True)
class Batch:
    """What a method proposes at once, and what it cost to find: counted network evaluations."""

    proposals: tuple[Proposal, ...]
    guidance: str = "none"
    nfe: int = 0
    predictor_nfe: int = 0
    generated: Generated | None = None
    """What was generated for it, where that serves later batches, too."""
    notes: tuple[str, ...] = ()
    """What the user should know of how the proposals came about."""


@dataclass(frozen=True)
class Trial:
    """One label: the `number`-th evaluation that was paid for, counted from 0 in the order of proposing."""

    number: int
    round: int
    arch: Arch
    value: float | None
    """What is maximised; None where the evaluation failed, the last value seen where it was stopped early."""
    error: str | None
    """Why it failed."""
    predicted_mean: float | None
    predicted_std: float | None
    cost_s: float
    """Seconds of the evaluation."""
    epochs: int | None = None
    """Epochs that were trained, where the oracle tells."""
    pruned: bool = False
    """Whether the evaluation was stopped early: its value is then no rival to those of whole ones."""
    curve: tuple[tuple[int, float], ...] = ()
    """Epochs and value at each point where it might have been stopped, the last included."""

    @property
    def state(self) -> Literal["done", "pruned", "failed"]:
        return "failed" if self.error is not None else "pruned" if self.pruned else "done"


def expected_values(history: Sequence[Trial]) -> list[float]:
    """What the labels of `history` say of whole evaluations; those that failed say nothing and are left out.

    Of one that was stopped early its value and the median gain of the whole ones from that point on: else an architecture
    would seem poor because its training was short.
    """
    whole = [(dict(trial.curve), trial.value) for trial in history if trial.value is not None and not trial.pruned]

    def gain(epochs: int | None) -> float:
        gains = [value - curve[epochs] for curve, value in whole if epochs in curve]
        return statistics.median(gains) if gains else 0.0

    return [trial.value + (gain(trial.epochs) if trial.pruned else 0.0) for trial in history if trial.value is not None]


def best_first(history: Sequence[Trial]) -> list[Trial]:
    """Those that have a value, the largest first."""
    return sorted((trial for trial in history if trial.value is not None), key=lambda trial: -(trial.value or 0.0))


def best_of(history: tuple[Trial, ...]) -> Trial | None:
    """The whole evaluation of the largest value, the earliest of equals; None where there is none."""
    done = [trial for trial in history if trial.value is not None and not trial.pruned]
    return max(done, key=lambda trial: (trial.value, -trial.number), default=None)
