"""Read a user's folder with one sub-folder of images for each class, with or without train, val and test folders above them."""

from __future__ import annotations

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffnag.datasets.images.files import ACCEPTED, EXTENSIONS, decode, read_sides
from diffnag.datasets.images.notes import note, some
from diffnag.datasets.images.splits import Pool
from diffnag.datasets.images.squares import LEAST, choose_size, in_threads, size_note
from diffnag.errors import UserError

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"
}  # fmt: skip


@dataclass(frozen=True)
class File:
    """An image file, the number of its label, and its split."""

    path: Path
    name: str
    label: int
    split: str


def read_folder(root: Path, size: int | None, most: int) -> Pool:
    """Read the sizes from the headers first, then decode and shrink the images one by one, so that memory stays small."""
    splits, notes = _find_splits(root)
    found = {split: _find_classes(folder, root) for split, folder in splits.items()}
    labels = [*found["train"]]
    for split, classes in found.items():
        strangers = [name for name in classes if name not in labels]
        if strangers:
            raise UserError(f"{splits[split]} has classes that {splits['train']} does not have: {some(strangers)}")
    if len(labels) == 1 and (inner := _subfolders(splits["train"] / labels[0])):
        raise UserError(
            f"{splits['train']} has only one class, {labels[0]!r}; at least two are needed: should it be "
            f"{splits['train'] / labels[0]}, which holds the folders {some([folder.name for folder in inner])}?"
        )
    if all(name.isdecimal() for name in labels):
        labels.sort(key=int)  # 2 before 10
    others = [name for classes in found.values() for _, rest in classes.values() for name in rest]
    if others:
        notes.append(f"Files of other kinds were not read: {some(others)}.")
    files = [
        File(path, path.relative_to(root).as_posix(), labels.index(name), split)
        for split, classes in found.items()
        for name, (paths, _) in sorted(classes.items())
        for path in paths
    ]
    return decode_all(files, labels, size=size, most=most, notes=notes)


def decode_all(files: Sequence[File], labels: Sequence[int | str], *, size: int | None, most: int, notes: list[str]) -> Pool:
    """The pool of image files; those that cannot be read are left out, and a note says why."""
    with warnings.catch_warnings():  # around all threads: warning filters belong to the process
        from PIL import Image

        warnings.simplefilter("ignore")  # Pillow warns of metadata that do not matter here
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return _decode_all(files, labels, size=size, most=most, notes=notes)


def _decode_all(files: Sequence[File], labels: Sequence[int | str], *, size: int | None, most: int, notes: list[str]) -> Pool:
    unreadable: dict[int, str] = {}
    sides: dict[int, tuple[int, int]] = {}
    for i, header in enumerate(in_threads(lambda file: read_sides(file.path), files)):
        if isinstance(header, str):
            unreadable[i] = header
        else:
            sides[i] = header
    side = choose_size([min(pair) for pair in sides.values()] or [LEAST], size, most)
    x = np.zeros((len(files), side, side, 3), np.uint8)
    remarks: defaultdict[str, list[str]] = defaultdict(list)
    readable = sorted(sides)
    for i, decoded in zip(readable, in_threads(lambda i: decode(files[i].path, side), readable), strict=True):
        if isinstance(decoded, str):
            unreadable[i] = decoded
            del sides[i]
            continue
        x[i], found = decoded
        for remark in found:
            remarks[remark].append(files[i].name)
    reasons = [f"{files[i].name} ({unreadable[i]})" for i in sorted(unreadable)]
    notes += note("could not be read and were skipped", reasons, len(files))
    for remark, names in sorted(remarks.items()):
        notes += note(remark, names, len(files))
    keep = sorted(sides)
    return Pool(
        x[keep] if unreadable else x,
        np.array([files[i].label for i in keep], np.int64),
        np.array([files[i].split for i in keep], "<U5"),
        tuple(sorted({file.split for file in files} - {"train"})),
        [files[i].name for i in keep],
        tuple(labels),
        Counter(files[i].label for i in unreadable if files[i].split == "train"),
        notes + size_note([*sides.values()], side),
    )


def _find_splits(root: Path) -> tuple[dict[str, Path], list[str]]:
    """Split -> the folder with its class folders, {"train": root} if the data are not split, and notes."""
    folders = _subfolders(root)
    loose = sorted(entry.name for entry in root.iterdir() if entry.is_file() and not _hidden(entry.name))
    if not folders:
        held = f"it holds {some(loose)}" if loose else "it is empty"
        raise UserError(f"{root} has no sub-folders ({held}); accepted is one sub-folder of images a class")
    notes = [f"Files outside of the class folders were not read: {some(loose)}."] if loose else []
    named = [folder for folder in folders if folder.name.lower() in SPLITS]
    holding = [folder for folder in named if _subfolders(folder)]
    splits = {SPLITS[folder.name.lower()]: folder for folder in holding}
    if not splits or (len(named) < len(folders) and not {"train"} < {*splits}):
        return {"train": root}, notes  # `train` may be a class, beside `bus` and `car`
    if len(splits) < len(holding):
        raise UserError(f"{root} has two folders for one split among {some([folder.name for folder in holding])}")
    if "train" not in splits:
        raise UserError(f"{root} has {some([folder.name for folder in holding])} with class folders, but no train")
    unused = [folder.name for folder in folders if folder not in splits.values()]
    if unused:
        notes.append(f"Folders without a split or without class folders were not read: {some(unused)}.")
    return splits, notes


def _find_classes(folder: Path, root: Path) -> dict[str, tuple[list[Path], list[str]]]:
    """Class name -> its image files and the names of other files, those in nested folders included."""
    classes = {}
    for path in _subfolders(folder):
        files = sorted(walk(path), key=lambda file: file.as_posix())
        images = [file for file in files if file.suffix.lower() in EXTENSIONS]
        others = [file.relative_to(root).as_posix() for file in files if file.suffix.lower() not in EXTENSIONS]
        if not images:
            held = f"it holds {some(others)}" if others else "it is empty"
            raise UserError(f"class folder {path} has no images ({held}); accepted are {ACCEPTED}")
        classes[path.name] = (images, others)
    return classes


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _hidden(entry.name))


def walk(folder: Path) -> Iterator[Path]:
    """Files at any depth that are not hidden. Links are followed, but each folder is visited once."""
    seen = set()
    for here, below, files in os.walk(folder, followlinks=True, onerror=_raise):
        if os.path.realpath(here) in seen:
            below.clear()
            continue
        seen.add(os.path.realpath(here))
        below[:] = sorted(name for name in below if not _hidden(name))
        yield from (Path(here, name) for name in files if not _hidden(name))


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX")) or name.lower() in ("thumbs.db", "desktop.ini")


def _raise(error: OSError) -> None:
    raise error
