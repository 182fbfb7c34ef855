"""mistakes.json: the confusion counts of the final model, and the test images that it is most certain of and wrong."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.datasets.images.shown import as_bytes
from diffnag.io.files import write_json

if TYPE_CHECKING:
    import numpy as np

    from diffnag.datasets.images import Images
    from diffnag.networks.classifier_file import Classifier

MISTAKES = "mistakes.json"
"""File in the run's folder."""
SHOWN = 10
"""Most mistakes that are kept."""


@dataclass(frozen=True)
class Mistake:
    """A test image that was given the wrong class."""

    image: int
    """Its place among the test images, counted from 0."""
    true: str
    chosen: str
    confidence: float
    """Probability of the chosen class, 0 to 1."""
    png: str
    """The image before it was standardised, as `as_bytes` shows it: PNG in base64."""


@dataclass(frozen=True)
class Mistakes:
    """How a model chose on the test images."""

    arch: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    """Test images by true class and by chosen class."""
    worst: tuple[Mistake, ...]
    """The mistakes of the highest confidence, in this order."""


def mistakes_of(model: Classifier, images: Images, confusion: np.ndarray) -> Mistakes:
    """The mistakes of `model` on test images, whose counts `(classes, classes)` are known."""
    from diffnag.networks.answers import answers

    sure, chosen = (part.numpy() for part in answers(model, images).softmax(1).max(1))
    wrong = (chosen != images.y).nonzero()[0]
    worst = wrong[(-sure[wrong]).argsort(kind="stable")][:SHOWN]
    classes = model.classes
    pictures = map(_png, as_bytes(images.x[worst], like=images.x))
    shown = (Mistake(int(k), classes[images.y[k]], classes[chosen[k]], round(float(sure[k]), 4), png) for k, png in zip(worst, pictures, strict=True))
    return Mistakes(model.description.arch, classes, tuple(tuple(row) for row in confusion.tolist()), tuple(shown))


def _png(pixels: np.ndarray) -> str:
    """An image `(h, w, 3)` of bytes as PNG in base64."""
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(pixels).save(written, format="PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def write_mistakes(path: Path, mistakes: Mistakes) -> None:
    """Write the file."""
    write_json(path, asdict(mistakes))


def read_mistakes(path: Path, *, arch: str) -> Mistakes | None:
    """What the file holds, if it is whole and of the model of `arch`; else None."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        worst = tuple(
            Mistake(int(one["image"]), str(one["true"]), str(one["chosen"]), float(one["confidence"]), _base64(one["png"]))
            for one in read["worst"]
        )
        classes = tuple(map(str, read["classes"]))
        counts = tuple(tuple(map(int, row)) for row in read["counts"])
        whole = {len(counts), *map(len, counts)} == {len(classes)}
        return Mistakes(arch, classes, counts, worst) if whole and read["arch"] == arch else None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _base64(text: str) -> str:
    """The text, if it is base64; else `ValueError`."""
    base64.b64decode(text, validate=True)
    return text
