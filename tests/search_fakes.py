"""Plug-ins with known behaviour for tests of the search: an oracle in closed form, and others that fail."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffnag.arch import Arch
from diffnag.datasets.tasks import Task
from diffnag.generators.base import Steer
from diffnag.guidance.checked import CheckedPredictor
from diffnag.networks.training import Diverged
from diffnag.objectives.goal import Goal
from diffnag.objectives.reading import load_objective, read_limits
from diffnag.protocols import SearchSpace
from diffnag.search_loop.domain import Domain
from diffnag.search_loop.model import Model
from diffnag.search_loop.outlook import Outlook
from diffnag.search_spaces.nasbench201.space import NASBench201

WEIGHTS = (0.0, 1.0, 4.0, 9.0, 2.0)
"""What each operation of NAS-Bench-201 adds to the value on its connection; position i counts i + 1 times."""


def value(arch: Arch) -> float:
    """The toy accuracy in (0, 100); the all-3x3 cell is its one maximum."""
    return sum((i + 1) * WEIGHTS[op - 2] for i, op in enumerate(arch.ops[1:-1])) / 2 + 3


def domain(space: SearchSpace, *limits: str, dataset: str = "cifar10") -> Domain:
    """The architectures of `space` within `limits`, such as `params<=5e5`."""
    task = Task(dataset)
    return Domain(space, Goal(task, (), *read_limits(limits, lambda name: load_objective(name, space=space, task=task))))


def model_of(predictor: CheckedPredictor, acquisition: str) -> Model:
    """A model of the label alone."""
    space = NASBench201()
    return Model(Outlook(space, domain(space).goal, predictor), acquisition)


class ToyOracle:
    """Returns `value` on validation and one less on test, and records its queries."""

    kind = "toy"

    def __init__(self) -> None:
        self.asked: list[tuple[Arch, str]] = []

    def setup(self, *, space: SearchSpace) -> None:
        pass

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        return {"cifar10": ("val", "test"), "no-test": ("val",)}

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        time.sleep(float(os.environ.get("TOY_ORACLE_SECONDS", "0")))
        self.asked.append((arch, split))
        return value(arch) - (split == "test")

    def provenance(self) -> Mapping[str, str | float]:
        return {"version": "1"}


class LoggedOracle(ToyOracle):
    """Takes `seconds`, and writes the begin and the end of each evaluation to a file that all processes share."""

    def __init__(self, log: Path, *, seconds: float = 0.0) -> None:
        super().__init__()
        self.log, self.seconds = log, seconds

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        if split == "val":
            self._write("begin", arch)
        time.sleep(self.seconds)
        found = super().query(arch, dataset=dataset, split=split)
        if split == "val":
            self._write("end", arch)
        return found

    def _write(self, what: str, arch: Arch) -> None:
        handle = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{what} {NASBench201().canonical(arch)}\n".encode())
        os.close(handle)


class SlowToLeave(ToyOracle):
    """Makes its process take a second to end, and write a file first."""

    def __init__(self) -> None:
        super().__init__()
        atexit.register(time.sleep, 1)
        atexit.register(Path(os.environ["TOY_ORACLE_LEAVES"]).touch)


class FlakyOracle(ToyOracle):
    """Fails in every way an evaluation can: each third raises, each fifth is NaN."""

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        found = super().query(arch, dataset=dataset, split=split)
        if len(self.asked) % 3 == 0:
            raise RuntimeError("out of memory")
        return float("nan") if len(self.asked) % 5 == 0 else found


class StagedOracle(ToyOracle):
    """Multi-fidelity: a quarter of `value` after each of 4 epochs. From the `at`-th evaluation on it dies halfway, if asked to."""

    epochs = 4

    def __init__(self, *, at: int = 0, seconds: float = 0.0) -> None:
        super().__init__()
        self.at, self.seconds, self.trained = at, seconds, 0

    def stages(self, arch: Arch, *, dataset: str, split: str) -> Iterator[tuple[int, float]]:
        self.asked.append((arch, split))
        for epoch in range(1, 5):
            time.sleep(self.seconds)
            if 0 < self.at <= len(self.asked) and epoch == 3:
                raise KeyboardInterrupt
            self.trained += 1
            yield epoch, value(arch) * epoch / 4


class FlakyStagedOracle(StagedOracle):
    """Each third diverges after an epoch, each fifth ends as NaN."""

    def stages(self, arch: Arch, *, dataset: str, split: str) -> Iterator[tuple[int, float]]:
        for epoch, found in super().stages(arch, dataset=dataset, split=split):
            if len(self.asked) % 3 == 0 and epoch == 2:
                raise Diverged("the loss is nan after epoch 2")
            yield epoch, float("nan") if len(self.asked) % 5 == 0 else found


class KilledOracle(ToyOracle):
    """Dies in its `at`-th evaluation, as a killed process does, and reports nothing."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        if len(self.asked) == self.at - 1:
            raise KeyboardInterrupt
        return super().query(arch, dataset=dataset, split=split)


class Nearest:
    """A predictor with nothing but `fit` and `predict`: the value of the nearest label, its distance as deviation."""

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        self.known, self.y = np.array([arch.ops for arch in archs]), y

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        distance = (np.array([arch.ops for arch in archs])[:, None] != self.known[None]).sum(2)
        return self.y[distance.argmin(1)], distance.min(1).astype(float)


class Prior(Nearest):
    """Knows the answer before any label."""

    @property
    def labels_source(self) -> Mapping[str, int]:
        return {"elsewhere": 7}

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        pass

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([value(arch) for arch in archs]), np.zeros(len(archs))


class BreaksLater(Nearest):
    """Predicts well after one fit, and NaN after more."""

    fits = 0

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        super().fit(archs, y)
        self.fits += 1

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        mean, std = super().predict(archs)
        return (mean, std) if self.fits < 2 else (mean * np.nan, std)


@dataclass(frozen=True)
class Made:
    """The part of a `Generation` that the loop reads."""

    archs: list[Arch]
    guidance: str
    nfe: int
    predictor_nfe: int


class RandomGenerator:
    """Uniform draws in place of a network; guided, it keeps the better half of twice as many."""

    def __init__(self, space: SearchSpace, *, only: Sequence[Arch] = ()) -> None:
        self.space, self.only, self.calls = space, only, 0

    def sample(self, n: int, *, seed: int, steer: Steer = Steer(), sampling: object = None) -> Made:  # noqa: B008 - frozen
        del sampling
        self.calls += 1
        predictor = None if steer.tilt is None else steer.tilt.predictor
        rng = np.random.default_rng(seed)
        if self.only:
            return Made([self.only[i] for i in rng.integers(len(self.only), size=n)], "none", 20, 0)
        archs = [self.space.random(rng) for _ in range(n if predictor is None else 2 * n)]
        if predictor is not None:
            archs = [archs[i] for i in np.argsort(-predictor.predict(archs)[0])[:n]]
        return Made(archs, "none" if predictor is None else "particles", 20, 0 if predictor is None else 10)

    def provenance(self) -> Mapping[str, str]:
        return {"generator": "random"}

    def vary(self, archs: Sequence[Arch], n: int, *, seed: int) -> Made:
        rng = np.random.default_rng(seed)
        if self.only:
            return Made([], "none", 6, 0)
        around = [self.space.neighbours(archs[k % len(archs)]) for k in range(n)]
        return Made([near[int(rng.integers(len(near)))] for near in around], "none", 6, 0)
