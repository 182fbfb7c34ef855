"""The data that a meta-predictor may be trained on: values measured on datasets other than the target, counted by origin."""

from __future__ import annotations

import csv
import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.datasets.tasks import TaskFeatures, features_of_images, task_features, without_images
from diffnag.errors import DataNotFound, UserError, in_a_line, unknown
from diffnag.io.archives import read_text
from diffnag.io.files import data_folder
from diffnag.io.tables import load_table

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.drawn_tasks import TaskSpec
    from diffnag.protocols import SearchSpace

TRANSFERS = ("sister-tables", "meta-only")
TUPLES = "imagenet32_tasks.csv.gz"
OWN_IMAGES = "own-images"
"""The target name for a user's own dataset: every source is allowed."""
FIDELITIES = ("table", "imagenet32/a", "imagenet32/b", "small")
"""Kinds of training: the benchmark's 200 epochs, the two regimes of the ImageNet-32 tuples, and our own short trainings."""


@dataclass(frozen=True)
class Source:
    """Values `(m,)` of architectures on one task. They can be compared with each other, but not with values of other sources.

    `fidelity` is one of `FIDELITIES`. `labels` is the number of (arch, dataset, split, epochs) values from which `values` were
    computed: one value may be a mean of several labels.
    """

    origin: str
    task: TaskFeatures
    fidelity: str
    archs: Sequence[Arch]
    values: np.ndarray
    labels: int
    better: np.ndarray | None = None
    """For each architecture, the share of all architectures with a higher test accuracy, `(m,)`; only for tables of a whole space."""
    reliability: float = 1.0
    """Signal-to-noise ratio of the order among the best, estimated from another training of the same architectures."""


def load_sources(transfer: str, space: SearchSpace, target: str) -> list[Source]:
    """Load the sources that a transfer protocol allows for `target`; raises `UserError`, or `DataNotFound` for a missing file."""
    if target not in (*space.datasets, OWN_IMAGES):
        raise unknown("target", target, (*space.datasets, OWN_IMAGES))
    if transfer not in TRANSFERS:
        raise unknown("transfer protocol", transfer, TRANSFERS)
    tables = sister_tables(space, target) if transfer == "sister-tables" else []
    return [*tables, *imagenet32_tuples(space), *own_measurements(space, target)]


def labels_by_origin(sources: Sequence[Source]) -> dict[str, int]:
    """Origin -> number of labels of its sources."""
    labels: dict[str, int] = {}
    for source in sources:
        labels[source.origin] = labels.get(source.origin, 0) + source.labels
    return labels


def sister_tables(space: SearchSpace, target: str) -> list[Source]:
    """One source for each other dataset in the space's benchmark table; values are the mean normal scores of validation and test."""
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
"""Share of a table on which its reliability is estimated: a search has to find the very best among the good ones."""


def _reliability(val: np.ndarray, test: np.ndarray) -> float:
    """Estimate r / (1 - r). r is the correlation of the two accuracies, from different trainings and images, among the best architectures."""
    from scipy.stats import rankdata

    best = np.argsort(-(rankdata(val) + rankdata(test)), kind="stable")[: max(3, int(BEST * len(val)))]
    r = float(np.clip(np.corrcoef(val[best], test[best])[0, 1], 0.05, 0.95))
    return r / (1 - r)


def imagenet32_tuples(space: SearchSpace, folder: Path | None = None) -> list[Source]:
    """The (task, architecture, accuracy) tuples published with MetaD2A and DiffusionNAG, one source for each training regime."""
    folder = folder or data_folder()
    if folder is None or not (folder / TUPLES).is_file():
        raise DataNotFound(f"the ImageNet-32 tuples are not here: set $DIFFNAG_DATA to a folder with {TUPLES}")
    rows = _read_tuples(folder / TUPLES)
    sources = []
    for regime in sorted({regime for regime, _, _ in rows}):
        mine = [(text, accuracy) for name, text, accuracy in rows if name == regime]
        values = np.array([accuracy for _, accuracy in mine])
        archs, task = [space.from_str(text) for text, _ in mine], without_images(20, 1300, 32, 3)
        sources.append(Source(f"imagenet32/{regime}", task, f"imagenet32/{regime}", archs, _standardised(values), len(mine)))
    return sources


def _read_tuples(path: Path) -> list[tuple[str, str, float]]:
    """Regime, architecture and accuracy of each row; raises `UserError` for a damaged file."""
    try:
        reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
        rows = [(row["regime"], row["arch_str"], float(row["accuracy"])) for row in reader]
    except (OSError, EOFError, ValueError, KeyError, TypeError, csv.Error, zlib.error) as error:
        raise UserError(f"{path} is no readable file of ImageNet-32 tuples: {in_a_line(error)}") from error
    if not all(math.isfinite(accuracy) for _, _, accuracy in rows):
        raise UserError(f"{path} has accuracies that are no finite numbers")
    if others := {regime for regime, _, _ in rows if f"imagenet32/{regime}" not in FIDELITIES}:
        raise UserError(f"{path} has the regime {min(others)!r}; accepted are a and b")
    return rows


def own_measurements(space: SearchSpace, target: str) -> list[Source]:
    """The package's meta-dataset, one source for each task. Tasks that share images with `target` are left out.

    For cifar100 these are tasks of CIFAR-100 images. ImageNet16-120 has the first 120 classes of ImageNet; those that it shares
    with Tiny-ImageNet are animals, so for that target all tasks with an animal are left out. The images of the tasks must be
    in `$DIFFNAG_DATA`.
    """
    from diffnag.datasets.drawn_tasks import task_images
    from diffnag.datasets.meta_dataset import TRAINING, read_together

    if space.name not in TRAINING:
        return []
    data, sources = read_together(TRAINING[space.name]), []
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
"""Labels of Tiny-ImageNet below this number are animals; labels are in the order of their WordNet ids."""


def _shares_images(spec: TaskSpec, target: str) -> bool:
    if target == "ImageNet16-120":
        return spec.source.startswith("tiny_imagenet") and min(spec.classes) < TINY_IMAGENET_ANIMALS
    return target in (spec.source, spec.source.partition("_")[0])


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / (values.std() + 1e-9)


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Normal scores `(m,)`: quantiles of the standard normal distribution at the ranks of `values`; equal values have equal scores."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return ndtri((rankdata(values) - 0.5) / len(values))
