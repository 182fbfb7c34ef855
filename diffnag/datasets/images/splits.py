"""Make a dataset in three splits from the images that were read: remove duplicates, check the classes, draw the splits."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from diffnag.datasets.images.asked import CLASSIFICATION
from diffnag.datasets.images.dataset import ImageDataset, Images
from diffnag.datasets.images.groups import groups_of
from diffnag.datasets.images.notes import note, some
from diffnag.errors import UserError

FEWEST = 5
"""Smallest number of training images of a class: one goes to validation, one to the test."""
FEWEST_NUMBERS = 20
"""Smallest number of training images whose labels are no classes."""
HELD_OUT = 0.2
"""Share of each class in a validation or test split that is drawn."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Images `x` of a source with class numbers, numbers or labels of 0 and 1 `y`; see `Images` for the shapes.

    `split (n,)` is `test` or `val` for images in such a part of the source, else `train`; `given` names those parts. `names` of
    the images are for notes, `labels` are those of the source, or names of columns. `lost` counts the unreadable training images of each class.
    """

    x: np.ndarray
    y: np.ndarray
    split: np.ndarray
    given: tuple[str, ...]
    names: Sequence[str]
    labels: tuple[int | str, ...]
    lost: Counter[int]
    notes: list[str]


def into_splits(source: str, pool: Pool, *, seed: int, task: str = CLASSIFICATION) -> ImageDataset:
    """Make the dataset of `load_images` from the `pool` read from `source`; raises `UserError` if a class or a split is too small."""
    keep, notes = _without_duplicates(pool)
    notes = pool.notes + notes
    (_check_classes if task == CLASSIFICATION else _check_columns)(source, pool, keep)
    groups = groups_of(pool.y)
    chosen = {split: keep[pool.split[keep] == split] for split in pool.given}
    wanted = [split for split in ("test", "val") if split not in chosen]
    chosen |= _split(keep[pool.split[keep] == "train"], groups, wanted, seed=seed)
    for split in pool.given:
        if not len(chosen[split]):
            raise UserError(f"the {split} split of {source} has no usable image: each is unreadable, or a duplicate")
        if task != CLASSIFICATION:
            continue
        absent = [name for k, name in enumerate(map(str, pool.labels)) if k not in pool.y[chosen[split]]]
        if absent:
            notes.append(f"The {split} split that came with the data has no images of these classes: {some(absent)}.")
    images = {split: Images(pool.x[chosen[split]], pool.y[chosen[split]]) for split in ("train", "val", "test")}
    photos = pool.x.dtype == np.uint8
    grey = sum(bool((image == image[..., :1]).all()) for part in images.values() for image in part.x) if photos else 0
    if 0 < grey < len(keep):
        notes.append(f"{grey} of {len(keep)} images had no colour and were given three equal channels.")
    return ImageDataset(
        name=source,
        classes=tuple(str(label) for label in pool.labels),
        train=images["train"],
        val=images["val"],
        test=images["test"],
        channels=pool.x.shape[3] if not photos else 1 if grey == len(keep) else 3,
        size=max(pool.x.shape[1:3]),
        original_labels=pool.labels,
        given_test="test" in pool.given,
        notes=tuple(notes),
        sha256=_digest(images),
        task=task,
    )


def _without_duplicates(pool: Pool) -> tuple[np.ndarray, list[str]]:
    """Indices of the images to keep, in their order, and notes on images that equal another one.

    Among equal images one of the given test split is kept, then one of the given validation split: they lose no image to others.
    """
    first: dict[bytes, int] = {}
    equal: dict[bool, list[str]] = {True: [], False: []}
    for i in chain.from_iterable(np.flatnonzero(pool.split == split).tolist() for split in ("test", "val", "train")):
        k = first.setdefault(hashlib.sha256(pool.x[i].tobytes()).digest(), i)
        if k != i:
            equal[bool(np.all(pool.y[i] == pool.y[k]))].append(f"{pool.names[i]} = {pool.names[k]}")
    notes = note("equalled another pixel by pixel and were left out", equal[True], len(pool.x))
    notes += note("equalled one of another class pixel by pixel and were left out", equal[False], len(pool.x))
    return np.array(sorted(first.values()), int), notes


def _check_classes(source: str, pool: Pool, keep: np.ndarray) -> None:
    if len(pool.labels) < 2:
        raise UserError(f"{source} has only one class, {str(pool.labels[0])!r}; at least two are needed")
    for k, label in enumerate(pool.labels):
        mine = (pool.y == k) & (pool.split == "train")
        have = int(mine[keep].sum())
        if have < FEWEST:
            lost = {"unreadable": pool.lost[k], "duplicate": int(mine.sum()) - have}
            why = "".join(f", {n} {word}" for word, n in lost.items() if n)
            raise UserError(f"class {str(label)!r} of {source} has {have} usable training images{why}; at least {FEWEST} are needed")


def _check_columns(source: str, pool: Pool, keep: np.ndarray) -> None:
    """Raise `UserError` if there are too few images, or if a column of their targets says nothing."""
    y = pool.y[keep[pool.split[keep] == "train"]]
    if len(y) < FEWEST_NUMBERS:
        raise UserError(f"{source} has {len(y)} usable training images; at least {FEWEST_NUMBERS} are needed")
    binary = bool(np.isin(y, (0, 1)).all())
    for name, column in zip(pool.labels, y.T, strict=True):
        if (column == column[0]).all():
            raise UserError(f"{name!r} of {source} is {column[0]:g} for each training image; at least two different values are needed")
        if binary and y.shape[1] > 1 and (have := int(min(column.sum(), (1 - column).sum()))) < FEWEST:
            raise UserError(f"label {name!r} of {source} is {column.mean() < 0.5:d} for {have} usable training images; at least {FEWEST} are needed")


def _split(members: np.ndarray, y: np.ndarray, wanted: Sequence[str], *, seed: int) -> dict[str, np.ndarray]:
    """Draw a share `HELD_OUT` of each class for each `wanted` split; the rest is for training. `FEWEST` images give each split at least one."""
    rng = np.random.default_rng(seed)
    parts: defaultdict[str, list[np.ndarray]] = defaultdict(list)
    for label in np.unique(y[members]):
        mine = rng.permutation(members[y[members] == label])
        share = round(HELD_OUT * len(mine))
        for k, split in enumerate([*wanted, "train"]):
            parts[split].append(mine[k * share : (k + 1) * share if split in wanted else None])
    return {split: np.sort(np.concatenate(part)) for split, part in parts.items()}


def _digest(images: Mapping[str, Images]) -> str:
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        part = images[split]
        digest.update(f"{split} {part.x.shape}".encode())
        digest.update(np.ascontiguousarray(part.x).data)
        digest.update(np.ascontiguousarray(part.y.astype("<i8" if part.y.dtype.kind == "i" else "<f4")).data)
    return digest.hexdigest()
