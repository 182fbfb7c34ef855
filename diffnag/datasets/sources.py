"""What a meta-predictor may learn from: measured values on datasets other than the target, counted by origin."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import DataNotFound, UserError, unknown
from diffnag.files import data_folder
from diffnag.oracles.table import load_table

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

TRANSFERS = ("sister-tables", "meta-only")
TUPLES = "imagenet32_tasks.csv.gz"


@dataclass(frozen=True)
class Source:
    """Values `(m,)` of architectures on one dataset, comparable with each other (and with no other source's).

    `dataset` names the task of `diffnag.datasets.load_task`, None where its images are not to be had; `labels` counts the
    (arch, dataset, split, epochs) values behind `values`, of which one may be a mean of several.
    """

    origin: str
    dataset: str | None
    archs: Sequence[Arch]
    values: np.ndarray
    labels: int


def load_sources(transfer: str, space: SearchSpace, target: str) -> list[Source]:
    """The sources that a transfer protocol allows for `target`; raises `UserError`, or `DataNotFound` for a missing file."""
    if target not in space.datasets:
        raise unknown("dataset", target, space.datasets)
    if transfer == "sister-tables":
        return sister_tables(space, target)
    if transfer == "meta-only":
        return [*imagenet32_tuples(space)]
    raise unknown("transfer protocol", transfer, TRANSFERS)


def sister_tables(space: SearchSpace, target: str) -> list[Source]:
    """The benchmark tables of the space's other datasets: normal scores of validation and test, averaged."""
    table = load_table(space)
    archs = [space.from_str(text) for text in table.archs]
    sources = []
    for dataset in sorted({key.split("/")[0] for key in table.values} - {target}, key=str.lower):
        columns = [table.values[f"{dataset}/{split}/200"] for split in ("val", "test")]
        scores = np.mean([normal_scores(column) for column in columns], axis=0)
        sources.append(Source(f"{space.name}/{dataset}", dataset, archs, normal_scores(scores), sum(map(len, columns))))
    return sources


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
        scores = (values - values.mean()) / values.std()
        sources.append(Source(f"imagenet32/{regime}", None, [space.from_str(row["arch_str"]) for row in mine], scores, len(mine)))
    return sources


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Ranks `(m,)` as quantiles of the standard normal; equal values share a score."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return ndtri((rankdata(values) - 0.5) / len(values))
