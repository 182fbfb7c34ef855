"""Plug-ins that break their contracts, for the corpus of bad inputs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

NUMBER = 3
"""No class at all."""


class Raises:
    """Cannot be made."""

    def __init__(self, *_: object, **__: object) -> None:
        raise RuntimeError("no\nsuch luck")


class Leaves:
    """Ends the program as if all were well."""

    def __init__(self, *_: object, **__: object) -> None:
        sys.exit(0)


class Empty:
    """Has no member that a plug-in needs."""


class NaNObjective:
    """Measures nothing."""

    name, unit, maximise, paid = "nan", "", False, False

    def setup(self, **_: object) -> None:
        pass

    def measure(self, arch: object, **_: object) -> float:
        return float("nan")


class RaisingObjective(NaNObjective):
    """Fails whenever it is asked."""

    name = "raising"

    def measure(self, arch: object, **_: object) -> float:
        raise ValueError("no\nvalue")


class TextObjective(NaNObjective):
    """Answers with a text."""

    name = "text"

    def measure(self, arch: object, **_: object) -> Any:
        return "small"


class RaisingOracle:
    """Fails whenever it is asked."""

    kind = "raising"
    available: Mapping[str, tuple[str, ...]] = {"cifar10": ("val", "test")}

    def setup(self, **_: object) -> None:
        pass

    def query(self, arch: object, *, dataset: str, split: str, epochs: int | None = None) -> Any:
        raise RuntimeError("no\nlabel")

    def provenance(self) -> Mapping[str, str | float]:
        return {"version": "1"}


class NaNOracle(RaisingOracle):
    """Every evaluation ends as NaN."""

    kind = "nan"

    def query(self, arch: object, *, dataset: str, split: str, epochs: int | None = None) -> Any:
        return float("nan")


class TextOracle(RaisingOracle):
    """Answers with a text."""

    def query(self, arch: object, *, dataset: str, split: str, epochs: int | None = None) -> Any:
        return "good"


class HugeOracle(RaisingOracle):
    """Answers with numbers that overflow."""

    def query(self, arch: object, *, dataset: str, split: str, epochs: int | None = None) -> Any:
        return float("inf")


class SetupOracle(RaisingOracle):
    """Cannot be set up."""

    def setup(self, **_: object) -> None:
        raise OSError("no\ndisk")


class LeavingOracle(RaisingOracle):
    """Ends the program as if all were well."""

    def query(self, arch: object, *, dataset: str, split: str, epochs: int | None = None) -> Any:
        sys.exit(0)


class NoDatasetsOracle(RaisingOracle):
    """Knows no dataset."""

    available: Mapping[str, tuple[str, ...]] = {}


class RaisingPredictor:
    """Cannot be fitted."""

    def fit(self, archs: Sequence[object], y: np.ndarray) -> None:
        raise RuntimeError("no\nfit")

    def predict(self, archs: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(len(archs)), np.ones(len(archs))


class NaNPredictor(RaisingPredictor):
    """Predicts NaN."""

    def fit(self, archs: Sequence[object], y: np.ndarray) -> None:
        pass

    def predict(self, archs: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(archs), np.nan), np.ones(len(archs))


class HugePredictor(NaNPredictor):
    """Predicts what overflows."""

    def predict(self, archs: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(archs), 1e308), np.full(len(archs), 1e308)


class ShortPredictor(NaNPredictor):
    """Predicts one architecture too few."""

    def predict(self, archs: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(len(archs) - 1), np.ones(len(archs) - 1)


class NegativePredictor(NaNPredictor):
    """Is less than certain."""

    def predict(self, archs: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(len(archs)), -np.ones(len(archs))


class NonePredictor(NaNPredictor):
    """Predicts nothing."""

    def predict(self, archs: Sequence[object]) -> Any:
        return None


class LeavingPredictor(NaNPredictor):
    """Ends the program as if all were well."""

    def predict(self, archs: Sequence[object]) -> Any:
        sys.exit(0)


class NoProposals:
    """A method that proposes nothing new."""

    uses: tuple[str, ...] = ()
    defaults: Mapping[str, object] = {}

    @classmethod
    def of(cls, *_: object, **__: object) -> NoProposals:
        return cls()

    def propose(self, known: object, q: int) -> Any:
        return None


class LeavingMethod(NoProposals):
    """Ends the program as if all were well."""

    def propose(self, known: object, q: int) -> Any:
        sys.exit(0)


class Branching(nn.Module):
    """Cannot be traced: its way depends on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


class Perceptron(nn.Module):
    """Has no convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 12 * 12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x.flatten(1))
        return out


class Grey(nn.Module):
    """Takes twelve channels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(12, 8, 3, padding=1)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.layer(x).mean((2, 3)))
        return out


def branching() -> nn.Module:
    return Branching()


def perceptron() -> nn.Module:
    return Perceptron()


def twelve_channels() -> nn.Module:
    return Grey()


def convolutional() -> nn.Module:
    """A model that is fine."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip


def raising() -> nn.Module:
    raise RuntimeError("no\nmodel")


def leaving() -> nn.Module:
    sys.exit(0)


def a_number() -> int:
    return 3


def needs_arguments(width: int) -> nn.Module:
    return nn.Conv2d(3, width, 3)


def endless() -> Iterator[int]:
    """Is a generator, and no module."""
    number = 0
    while True:
        yield number
        number += 1
