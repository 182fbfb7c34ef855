"""What a network learns: its loss, its score, and what its outputs mean. A new task is a class here, and an entry of `TARGETS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from torch import Tensor
from torch.nn import functional

from diffnag.datasets.images.asked import CLASSIFICATION, MEASURES, MULTI_LABEL, REGRESSION
from diffnag.errors import unknown

if TYPE_CHECKING:
    from diffnag.datasets.images import ImageDataset

LOWEST = -100.0
"""The smallest score of a regression: how much worse than the mean a network is says nothing."""
LIKELY = 0.5
"""Probability from which a label is predicted."""


class Target(Protocol):
    """The task of a network with one output for each class, number or label. Plain data, so that a file can hold it."""

    task: ClassVar[str]
    measure: ClassVar[str]
    """Name of the score."""

    @property
    def unit(self) -> float:
        """How large answers are, about: their rounding errors are in units of it."""
        ...

    @classmethod
    def of(cls, y: np.ndarray) -> Self:
        """The target whose labels are distributed as those of the training, `y`."""
        ...

    def loss(self, outputs: Tensor, y: Tensor, *, smoothing: float) -> Tensor:
        """The mean loss of `outputs (b, k)` on labels `y`; `smoothing` moves certain labels towards uncertain ones."""
        ...

    def score(self, answers: Tensor, y: Tensor) -> float:
        """The score in % of the `answers (b, k)` of a model, larger is better, at most 100."""
        ...

    def answer(self, outputs: Tensor) -> Tensor:
        """What a model returns for `outputs (b, k)`: logits, or numbers in the units of the labels."""
        ...

    def decode(self, answers: Tensor, names: Sequence[str]) -> list[Any]:
        """Predictions for a user from the `answers (b, k)` of a model; `names` are those of the outputs."""
        ...

    def figures(self, answers: Tensor, y: Tensor, names: Sequence[str]) -> dict[str, float]:
        """Other measures of the `answers` of a model, by name."""
        ...


class Logits:
    """What targets share whose models return logits: nothing of the labels is needed."""

    unit: ClassVar[float] = 1.0

    @classmethod
    def of(cls, y: np.ndarray) -> Self:
        """The target."""
        return cls()

    def answer(self, outputs: Tensor) -> Tensor:
        """Logits; of labels, their sigmoids are probabilities."""
        return outputs


@dataclass(frozen=True)
class Classification(Logits):
    """One class an image: cross-entropy, accuracy."""

    task: ClassVar[str] = CLASSIFICATION
    measure: ClassVar[str] = MEASURES[CLASSIFICATION]

    def loss(self, outputs: Tensor, y: Tensor, *, smoothing: float) -> Tensor:
        """Cross-entropy."""
        return functional.cross_entropy(outputs, y, label_smoothing=smoothing)

    def score(self, answers: Tensor, y: Tensor) -> float:
        """Accuracy in %: the share of images whose largest output is at their class."""
        return 100 * (answers.argmax(1) == y).float().mean().item()

    def decode(self, answers: Tensor, names: Sequence[str]) -> list[Any]:
        """The name of the class of each image."""
        return [names[k] for k in answers.argmax(1).tolist()]

    def figures(self, answers: Tensor, y: Tensor, names: Sequence[str]) -> dict[str, float]:
        """None."""
        return {}


@dataclass(frozen=True)
class Regression:
    """Numbers: the squared error of standardised numbers, and the share of their variance that is explained (R2).

    Errors of more than a standard deviation count linearly (Huber, 1964): the learning rate, which is that of classes, is too large for steeper
    losses.
    """

    task: ClassVar[str] = REGRESSION
    measure: ClassVar[str] = MEASURES[REGRESSION]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    """Statistics of each number over the training images."""

    @property
    def unit(self) -> float:
        """The largest number within a standard deviation of its mean."""
        return max(abs(mean) + std for mean, std in zip(self.mean, self.std, strict=True))

    @classmethod
    def of(cls, y: np.ndarray) -> Self:
        """The target with mean and standard deviation of `y (n, k)`."""
        std = y.std(0, dtype=np.float64)
        return cls(tuple(y.mean(0, dtype=np.float64).tolist()), tuple(np.where(std > 0, std, 1.0).tolist()))

    def loss(self, outputs: Tensor, y: Tensor, *, smoothing: float) -> Tensor:
        """Half of the squared error of the standardised numbers, linear from 1 on."""
        return functional.smooth_l1_loss(outputs, (y - outputs.new_tensor(self.mean)) / outputs.new_tensor(self.std))

    def score(self, answers: Tensor, y: Tensor) -> float:
        """R2 in %: 100 (1 - sum of squared errors / sum of squares around the mean), the mean over all numbers, at least `LOWEST`."""
        answers, y = answers.double(), y.double()
        around = (y - y.mean(0)).square().sum(0)
        known = around > 0
        share = 1 - (answers - y).square().sum(0)[known] / around[known]
        return max(LOWEST, 100 * share.mean().item()) if bool(known.any()) else LOWEST

    def answer(self, outputs: Tensor) -> Tensor:
        """Numbers in the units of the labels."""
        return outputs * outputs.new_tensor(self.std) + outputs.new_tensor(self.mean)

    def decode(self, answers: Tensor, names: Sequence[str]) -> list[Any]:
        """The number of each image; a dictionary where there are several."""
        rows: list[list[float]] = answers.tolist()
        return [row[0] for row in rows] if len(names) == 1 else [dict(zip(names, row, strict=True)) for row in rows]

    def figures(self, answers: Tensor, y: Tensor, names: Sequence[str]) -> dict[str, float]:
        """Root mean squared error and mean absolute error of each number, in its unit."""
        error = answers.double() - y.double()
        found = {"RMSE": error.square().mean(0).sqrt(), "MAE": error.abs().mean(0)}
        one = len(names) == 1
        return {what if one else f"{what} of {name}": value for what, row in found.items() for name, value in zip(names, row.tolist(), strict=True)}


@dataclass(frozen=True)
class MultiLabel(Logits):
    """Any number of labels an image: binary cross-entropy, mean average precision."""

    task: ClassVar[str] = MULTI_LABEL
    measure: ClassVar[str] = MEASURES[MULTI_LABEL]

    def loss(self, outputs: Tensor, y: Tensor, *, smoothing: float) -> Tensor:
        """Binary cross-entropy."""
        return functional.binary_cross_entropy_with_logits(outputs, y * (1 - smoothing) + smoothing / 2)

    def score(self, answers: Tensor, y: Tensor) -> float:
        """Mean average precision in %, over the labels that some image has."""
        pairs = zip(answers.double().cpu().numpy().T, y.cpu().numpy().T, strict=True)
        found = [average_precision(scores, labels) for scores, labels in pairs if labels.any()]
        return 100 * float(np.mean(found)) if found else 0.0

    def decode(self, answers: Tensor, names: Sequence[str]) -> list[Any]:
        """The names of the labels of each image that are more likely than not, as a tuple."""
        return [tuple(name for name, there in zip(names, row, strict=True) if there) for row in (answers.sigmoid() > LIKELY).tolist()]

    def figures(self, answers: Tensor, y: Tensor, names: Sequence[str]) -> dict[str, float]:
        """The share of all labels, 0 or 1, that are right at a probability of 1/2."""
        return {"share of labels right": ((answers.sigmoid() > LIKELY) == (y > LIKELY)).float().mean().item()}


TARGETS: Mapping[str, type[Target]] = {target.task: target for target in (Classification, Regression, MultiLabel)}
"""Task -> its target."""


def target_of(images: ImageDataset) -> Target:
    """The target of a user's own images."""
    return target_class(images.task).of(images.train.y)


def target_class(task: str) -> type[Target]:
    """The class of a task; raises `UserError` for an unknown one."""
    if task not in TARGETS:
        raise unknown("task", task, TARGETS)
    return TARGETS[task]


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Sum over thresholds of (recall - recall before) x precision, for labels 0 and 1 with one 1 at least; equal scores are one threshold."""
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(labels[order])
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    found = hits[ends]
    return float((np.diff(found, prepend=0) * found / (ends + 1)).sum() / found[-1])
