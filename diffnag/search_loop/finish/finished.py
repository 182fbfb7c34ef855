"""The results of final trainings: an architecture trained fully and judged on the test images, and its rivals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffnag.datasets.images.asked import CLASSIFICATION, MEASURES

if TYPE_CHECKING:
    import numpy as np

    from diffnag.datasets.images import ImageDataset
    from diffnag.networks.classifier_file import Classifier
    from diffnag.networks.plan import Plan
    from diffnag.protocols import Size
    from diffnag.search_loop.finish.eight_bits import EightBits


IN_SEARCH, BY_TRAINING = "in the search", "by the training images alone"
"""What a validation accuracy is of: an evaluation of the search, or a full training without the validation images."""


@dataclass(frozen=True)
class Share:
    """An accuracy: `hits` of `images` are classified correctly."""

    hits: int
    images: int

    @property
    def value(self) -> float:
        """The share, 0 to 1."""
        return self.hits / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of Wilson (1927)."""
        from scipy.stats import binomtest

        found = binomtest(self.hits, self.images).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)

    @classmethod
    def of_percent(cls, value: float | None, images: int) -> Share | None:
        """The share of an accuracy in %; None if `value` is none."""
        return None if value is None or not 0 <= value <= 100 else cls(round(value / 100 * images), images)


@dataclass(frozen=True)
class Score:
    """How good the answers of a model are that does not classify: the score called `measure`, 1 at most."""

    value: float
    images: int
    interval: tuple[float, float] | None
    """The 95 % interval, if it is known."""
    measure: str
    figures: Mapping[str, float]
    """Other measures by name."""

    @classmethod
    def of_percent(cls, value: float | None, images: ImageDataset) -> Share | Score | None:
        """The validation score `value` in %, for a classification as the share of the images that it is."""
        if images.task == CLASSIFICATION:
            return Share.of_percent(value, len(images.val.y))
        return None if value is None else cls(value / 100, len(images.val.y), None, MEASURES[images.task], {})


@dataclass(frozen=True, eq=False)
class Finished:
    """A fully trained architecture, judged on the test images."""

    name: str
    """Method that chose it, or the name of a rival."""
    arch: str
    model: Classifier
    size: Size
    labels: int
    """Evaluations that were paid for to choose it."""
    validation: Share | Score | None
    """Validation accuracy or score; `judged` says of which training."""
    confusion: np.ndarray | None
    """Counts `(classes, classes)` of test images by true class and by chosen class; None unless it classifies."""
    epochs: int
    learning_rate: float
    seconds: float
    judged: str = IN_SEARCH
    score: Score | None = None
    """On the test images, if it does not classify."""
    plan: Plan | None = None
    """How it was trained, if not by the plan of the search."""

    @property
    def test(self) -> Share | Score:
        """Test accuracy or score."""
        if self.confusion is None:
            assert self.score
            return self.score
        return Share(int(self.confusion.trace()), int(self.confusion.sum()))

    def to_json(self) -> dict[str, Any]:
        """A row of the comparison; accuracies and scores are fractions."""
        word = "accuracy" if self.confusion is not None else "score"
        return {
            "name": self.name, "arch": self.arch, "labels": self.labels, "params": self.size.params, "flops": self.size.flops,
            f"validation_{word}": None if self.validation is None else self.validation.value,
            "validation_interval": None if self.validation is None else self.validation.interval,
            f"test_{word}": self.test.value, "test_interval": self.test.interval,
            "epochs": self.epochs, "learning_rate": self.learning_rate, "seconds": round(self.seconds, 2),
        }  # fmt: skip


@dataclass(frozen=True)
class Finish:
    """The best network, the others that were tried or compared, and the exactness of its ONNX file.

    Those that a search has chosen are trained for as many epochs.
    """

    best: Finished
    others: tuple[Finished, ...]
    onnx_max_abs_difference: float | None
    """Largest absolute difference of logits from torch; None without an ONNX file."""
    images: ImageDataset
    plan: Plan
    eight_bits: EightBits | None = None
    """The best network in 8 bits, if that was made."""

    def __post_init__(self) -> None:
        trained = [one for one in (self.best, *self.others) if one.labels]  # what was no part of a search has its time, or needs none
        if odd := [one.name for one in trained if one.epochs != trained[0].epochs]:
            raise ValueError(f"trained for another number of epochs than {trained[0].name}, so not comparable: {', '.join(odd)}")

    def to_json(self) -> dict[str, Any]:
        """The part of `result.json` beside the search's result; accuracies are fractions."""
        best, images = self.best, self.images
        return {
            **self._tested(), "test_interval": best.test.interval, "test_images": best.test.images,
            "classes": list(images.classes), "preprocessing": best.model.preprocessing(),
            "onnx_max_abs_difference": self.onnx_max_abs_difference,
            **({} if self.eight_bits is None else {"eight_bits": self.eight_bits.to_json()}),
            "final": {**best.to_json(), "image_size": best.model.description.image_size, "plan": self.plan.to_json()},
            "images": {
                "name": images.name, "sha256": images.sha256, "size": images.size, "channels": images.channels,
                **({} if images.inputs is None else {"inputs": list(images.inputs)}),
                "train": len(images.train.y), "val": len(images.val.y), "test": len(images.test.y),
                "given_test": images.given_test, "notes": list(images.notes),
            },
            "compare": [finished.to_json() for finished in (best, *self.others)] if self.others else None,
        }  # fmt: skip

    def _tested(self) -> dict[str, Any]:
        """The test accuracy, also of each class; or the score, its name and other measures."""
        best = self.best
        if best.confusion is None:
            assert best.score
            said = {"test_score": best.score.value, "test_measure": best.score.measure, "test_figures": {**best.score.figures}}
            return {"task": self.images.task, **said}
        hits, counts = best.confusion.diagonal().tolist(), best.confusion.sum(1).tolist()
        rates = (hit / count if count else None for hit, count in zip(hits, counts, strict=True))
        return {"test_accuracy": best.test.value, "per_class_accuracy": dict(zip(self.images.classes, rates, strict=True))}
