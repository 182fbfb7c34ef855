"""What a meta-predictor may learn from: measured values on datasets other than the target, counted by origin."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.datasets.tasks import TaskFeatures, features_of_images, task_features, without_images
from diffnag.errors import DataNotFound, UserError, unknown
from diffnag.io.files import data_folder
from diffnag.io.tables import load_table

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.drawn_tasks import TaskSpec
    from diffnag.protocols import SearchSpace

TRANSFERS = ("sister-tables", "meta-only")
TUPLES = "imagenet32_tasks.csv.gz"


OWN_IMAGES = "own-images"
"""The target that stands for a user's own dataset: every source is allowed."""
FIDELITIES = ("table", "imagenet32/a", "imagenet32/b", "small")
"""How networks were trained: the benchmark's 200 epochs, the two regimes of the tuples, and our own short trainings."""


@dataclass(frozen=True)
class Source:
    """Values `(m,)` of architectures on one task, comparable with each other (and with no other source's).

    `fidelity` is one of `FIDELITIES`; `labels` counts the (arch, dataset, split, epochs) values behind `values`, of which
    one may be a mean of several.
    """

    origin: str
    task: TaskFeatures
    fidelity: str
    archs: Sequence[Arch]
    values: np.ndarray
    labels: int
    better: np.ndarray | None = None
    """Share of the architectures `(m,)` whose test accuracy is higher, where a table has all of a space."""
    reliability: float = 1.0
    """Signal to noise of the order among the best, as far as another training of the same architectures tells."""


def load_sources(transfer: str, space: SearchSpace, target: str) -> list[Source]:
    """The sources that a transfer protocol allows for `target`; raises `UserError`, or `DataNotFound` for a missing file."""
    if target not in (*space.datasets, OWN_IMAGES):
        raise unknown("target", target, (*space.datasets, OWN_IMAGES))
    if transfer not in TRANSFERS:
        raise unknown("transfer protocol", transfer, TRANSFERS)
    tables = sister_tables(space, target) if transfer == "sister-tables" else []
    return [*tables, *imagenet32_tuples(space), *own_measurements(space, target)]


def labels_by_origin(sources: Sequence[Source]) -> dict[str, int]:
    """Origin -> labels behind its sources."""
    labels: dict[str, int] = {}
    for source in sources:
        labels[source.origin] = labels.get(source.origin, 0) + source.labels
    return labels


def sister_tables(space: SearchSpace, target: str) -> list[Source]:
    """The benchmark tables of the space's other datasets: normal scores of validation and test, averaged."""
    from scipy.stats import rankdata

    table = load_table(space)
    archs = [space.from_str(text) for text in table.archs]
    sources = []
    for dataset in sorted({key.split("/")[0] for key in table.values} - {target}, key=str.lower):
        val, test = (table.values[f"{dataset}/{split}/200"] for split in ("val", "test"))
        scores = normal_scores(np.mean([normal_scores(val), normal_scores(test)], axis=0))
        better = rankdata(-test) / len(test)
        sources.append(Source(
            f"{space.name}/{dataset}", task_features(dataset), "table", archs, scores, len(val) + len(test), better, _reliability(val, test)
        ))  # fmt: skip
    return sources


BEST = 0.01
"""Share of a table among which its reliability is told: which of them is the very best is what a search asks."""


def _reliability(val: np.ndarray, test: np.ndarray) -> float:
    """r / (1 - r), r the correlation of two accuracies that differ in training and images, among the best by both."""
    from scipy.stats import rankdata

    best = np.argsort(-(rankdata(val) + rankdata(test)), kind="stable")[: max(3, int(BEST * len(val)))]
    r = float(np.clip(np.corrcoef(val[best], test[best])[0, 1], 0.05, 0.95))
    return r / (1 - r)


def imagenet32_tuples(space: SearchSpace, folder: Path | None = None) -> list[Source]:
    """The (task, architecture, accuracy) tuples published with MetaD2A and DiffusionNAG, one source a training regime."""
    folder = folder or data_folder()
    if folder is None or not (folder / TUPLES).is_file():
        raise DataNotFound(f"the ImageNet-32 tuples are not there: set $DIFFNAG_DATA to a folder with {TUPLES}")
    with gzip.open(folder / TUPLES, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    sources = []
    for regime in sorted({row["regime"] for row in rows}):
        mine = [row for row in rows if row["regime"] == regime]
        values = np.array([float(row["accuracy"]) for row in mine])
        if not np.isfinite(values).all():
            raise UserError(f"{folder / TUPLES} has accuracies that are no finite numbers")
        archs, task = [space.from_str(row["arch_str"]) for row in mine], without_images(20, 1300, 32, 3)
        sources.append(Source(f"imagenet32/{regime}", task, f"imagenet32/{regime}", archs, _standardised(values), len(mine)))
    return sources


def own_measurements(space: SearchSpace, target: str) -> list[Source]:
    """The package's meta-dataset, one source a task; without those of CIFAR-100 images for target cifar100.

    ImageNet16-120 are the first 120 classes of ImageNet, animals as far as Tiny-ImageNet shares them: for that target
    tasks with an animal among their classes are left out. The images of the tasks must be in `$DIFFNAG_DATA`.
    """
    from diffnag.datasets.drawn_tasks import task_images
    from diffnag.datasets.meta_dataset import TRAINING, read_together

    data, sources = read_together(TRAINING), []
    if data.about["space"] != space.name:
        return []
    for number, spec in data.tasks.items():
        mine = [m for m in data.measurements if m.task == number and m.accuracy is not None]
        if len(mine) < 3 or _shares_images(spec, target):
            continue
        images = task_images(spec)
        values = _standardised(np.array([m.accuracy for m in mine], dtype=float))
        archs = [space.from_str(m.arch) for m in mine]
        sources.append(Source("own measurements", features_of_images(images.x_train, images.y_train), "small", archs, values, len(mine)))
    return sources


TINY_IMAGENET_ANIMALS = 59
"""So many of the first labels of Tiny-ImageNet, in the order of their WordNet ids, are animals."""


def _shares_images(spec: TaskSpec, target: str) -> bool:
    if target == "ImageNet16-120":
        return spec.source.startswith("tiny_imagenet") and min(spec.classes) < TINY_IMAGENET_ANIMALS
    return target in (spec.source, spec.source.partition("_")[0])


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / (values.std() + 1e-9)


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Ranks `(m,)` as quantiles of the standard normal; equal values share a score."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return ndtri((rankdata(values) - 0.5) / len(values))
