"""What is learned of images that come as arrays: classes, numbers, or labels of 0 and 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from diffnag.datasets.images.asked import CLASSIFICATION, MULTI_LABEL
from diffnag.datasets.images.notes import some
from diffnag.datasets.images.splits import FEWEST
from diffnag.errors import UserError


def as_labels(what: str, y: np.ndarray) -> np.ndarray:
    """Labels `(n,)` as int64 or strings; raises `UserError` for others. `(n, 1)` is accepted."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        more = "; a matrix of 0 and 1 needs --task multi-label, and one of numbers --task regression" if y.ndim == 2 else ""
        raise UserError(f"{what} has the shape {y.shape}; accepted is one label an image, (n,){more}")
    if y.dtype.kind == "f":
        wrong = y[~(np.isfinite(y) & (y == np.rint(y)))]
        if len(wrong):
            raise UserError(
                f"{what} holds {wrong[0]:g}, which is no class label; accepted are whole numbers or strings, and other numbers with --task regression"
            )
    elif y.dtype.kind == "S":
        return np.char.decode(y, "utf-8", "replace")
    elif y.dtype.kind not in "biuU":
        raise UserError(f"{what} has the type {y.dtype}; accepted are whole numbers or strings")
    return y if y.dtype.kind == "U" else y.astype(np.int64)


def as_numbers(what: str, y: np.ndarray, *, task: str) -> np.ndarray:
    """Targets `(n,)` or `(n, k)` of regression, or labels of 0 and 1 `(n, k)`, as float32 `(n, k)`; raises `UserError` for others."""
    if y.ndim == 1 and task != MULTI_LABEL:
        y = y[:, None]
    if y.ndim != 2 or 0 in y.shape:
        accepted = "(n, labels)" if task == MULTI_LABEL else "(n,) or (n, numbers)"
        raise UserError(f"{what} has the shape {y.shape}; accepted with --task {task} is {accepted}")
    if y.dtype.kind not in "biuf":
        raise UserError(f"{what} has the type {y.dtype}; accepted with --task {task} are numbers")
    with np.errstate(over="ignore"):
        numbers = y.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise UserError(f"{what} has NaN, infinite or too large entries; accepted with --task {task} are finite numbers")
    if task == MULTI_LABEL and not np.isin(numbers, (0, 1)).all():
        strange = numbers[~np.isin(numbers, (0, 1))][0]
        raise UserError(f"{what} holds {strange:g}; accepted with --task {task} are 0 and 1")
    return numbers


def read_labels(what: str, y: np.ndarray, *, task: str) -> np.ndarray:
    """The labels of one split, checked for the task."""
    return as_labels(what, y) if task == CLASSIFICATION else as_numbers(what, y, task=task)


def numbered(y: Mapping[str, np.ndarray], *, where: str) -> tuple[np.ndarray, tuple[int | str, ...], list[str]]:
    """Class numbers of all images, the labels of the source in their order, and a note if they are others; those of "train" are the classes."""
    own = y["train"]
    labels = np.unique(own)
    if 2 * len(labels) > len(own) and len(own) > 2:
        raise UserError(
            f"y_train of {where} has {len(labels)} different values for {len(own)} images; accepted are class labels, "
            f"each with at least {FEWEST} images, and numbers with --task regression"
        )
    for split, part in y.items():
        strangers = sorted({*part.tolist()} - {*labels.tolist()}, key=str)
        if strangers:
            raise UserError(f"y_{split} of {where} has labels that y_train does not have: {some([*map(repr, strangers)])}")
    notes = []
    if own.dtype.kind == "U":
        notes = [f"Labels that are strings were numbered in sorted order: {some(labels.tolist())}."]
    elif labels.tolist() != list(range(len(labels))):
        notes = [f"Labels {some([str(k) for k in labels])} were numbered 0 .. {len(labels) - 1}."]
    return np.concatenate([np.searchsorted(labels, part) for part in y.values()]).astype(np.int64), tuple(labels.tolist()), notes


def columns(y: Mapping[str, np.ndarray], names: Sequence[str] | None, *, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The columns of all splits in one matrix `(n, k)`, and their names, by default 0, 1, ..."""
    widths = {split: part.shape[1] for split, part in y.items()}
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{width} in y_{split}" for split, width in widths.items())
        raise UserError(f"the splits of {where} have different numbers of columns: {found}")
    return np.concatenate([*y.values()]), tuple(names or map(str, range(widths["train"])))
