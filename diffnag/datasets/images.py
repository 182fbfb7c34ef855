"""A user's own images, from a folder, an `.npz` file or scikit-learn's digits: uint8 arrays of one size in a fixed split."""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from diffnag.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

DIGITS = "digits"
FEWEST = 5
"""Images that each class needs: one for validation, one for the test, the rest for training."""
HELD_OUT = 0.2
"""Share of each class that a validation or a test split takes."""
SIDES = (8, 64)
"""Where the size is chosen from the data it stays within these sides, so that training on a CPU stays feasible."""
LARGEST = 512
EXTENSIONS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_ACCEPTED_FILES = "PNG, JPEG, BMP, GIF, WebP and TIFF"
_ACCEPTED = "digits, a folder with one sub-folder of images a class, or an .npz file with x_train and y_train"
_SPLIT_FOLDERS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"
}  # fmt: skip
_CHUNK = 256

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Images:
    """One split: `x` uint8 `(n, size, size, 3)`, grey images with equal channels, and `y` int64 `(n,)` in 0 .. classes - 1."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images in three splits.

    `classes` are names in the order of the labels, `original_labels` what the source called them; `channels` is 1 where every
    image is grey, else 3; `size` the side in pixels. `given_test` says that the test split came with the data. `notes` are
    sentences on what was converted, resized or skipped; `sha256` is of the arrays and the split, and of nothing else.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    val: Images
    test: Images
    channels: int
    size: int
    original_labels: tuple[int | str, ...]
    given_test: bool
    notes: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, eq=False)
class _Pool:
    """Images `(n, size, size, 3)` as read, with class numbers `y (n,)`.

    `split (n,)` is test or val where the image came in such a part of the data, `given` names those parts, and all else is
    train. `lost` counts the unreadable images of each class for training.
    """

    x: np.ndarray
    y: np.ndarray
    split: np.ndarray
    given: tuple[str, ...]
    names: Sequence[str]
    labels: tuple[int | str, ...]
    lost: Counter[int]
    notes: list[str]


def is_image_source(text: str) -> bool:
    """Whether `text` can only mean a user's own images: `digits`, an existing folder, or what is written like a path or `.npz`.

    A path that does not exist counts too, so that `load_images` can say so; a bare word that names no folder does not. A
    caller that knows datasets by name asks for those first, as a folder may be called the same.
    """
    written_as_path = text.lower().endswith(".npz") or "/" in text or os.sep in text or text.startswith(("~", "."))
    return text == DIGITS or written_as_path or os.path.isdir(text)


def load_images(source: str | Path, *, seed: int = 0, size: int | None = None) -> ImageDataset:
    """Read `source`: "digits", a folder with one sub-folder a class, or an `.npz` file with x_train and y_train.

    Images are resized and centre-cropped to squares of `size` pixels; without it, the median shorter side, within `SIDES`
    and rounded down to a multiple of 4. `seed` alone draws the split: 60/20/20 % of each class for training, validation
    and test, or what is left of that beside the splits that came with the data (folders or arrays named train, val, test).
    Of images that are equal pixel by pixel one is kept. Raises `UserError` for what cannot be used.
    """
    if size is not None and not SIDES[0] <= size <= LARGEST:
        raise UserError(f"an image size of {size} pixels was asked for; accepted are {SIDES[0]} to {LARGEST}")
    if source == DIGITS:
        return _finish(DIGITS, _read_digits(size), seed=seed)
    path = Path(os.path.expanduser(source))
    try:
        if path.is_dir():
            return _finish(path.resolve().name, _read_folder(path, size), seed=seed)
        if path.suffix.lower() == ".npz" and path.is_file():
            return _finish(path.stem, _read_npz(path, size), seed=seed)
        there = path.exists()
    except PermissionError as error:
        raise UserError(f"cannot read {error.filename or path}: permission denied") from error
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    raise UserError(f"{path} {'is another kind of file' if there else 'does not exist'}; accepted are {_ACCEPTED}")


def fit_images(images: np.ndarray | Sequence[str | Path], *, size: int) -> np.ndarray:
    """Images to classify, brought to `size` as those of `load_images` are: uint8 `(n, size, size, 3)`.

    Files, or an array `(n, h, w)`, `(n, h, w, 1)` or `(n, h, w, 3)` of uint8 or of floats in [0, 1]. Raises `UserError`
    for what cannot be used.
    """
    if isinstance(images, np.ndarray):
        x = _as_channels_last("the array of images", images)
        if x.dtype != np.uint8 and (x.dtype.kind != "f" or x.min() < 0 or x.max() > 1):
            raise UserError(f"the images are {x.dtype} from {x.min():g} to {x.max():g}; accepted are uint8, or floats in [0, 1]")
        return _fit_part(x, slice(None), size=size, scale=1.0 if x.dtype == np.uint8 else 255.0).copy()  # a view cannot be written
    fitted = np.empty((len(images), size, size, 3), np.uint8)
    for k, path in enumerate(map(Path, images)):
        decoded = _decode(path, size)
        if isinstance(decoded, str):
            raise UserError(f"cannot read {path}: {decoded}")
        fitted[k] = decoded[0]
    return fitted


# --- what all sources share: duplicates, classes, the split -----------------------------------------------------------------


def _finish(source: str, pool: _Pool, *, seed: int) -> ImageDataset:
    keep, notes = _without_duplicates(pool)
    notes = pool.notes + notes
    _check_classes(source, pool, keep)
    chosen = {split: keep[pool.split[keep] == split] for split in pool.given}
    wanted = [split for split in ("test", "val") if split not in chosen]
    chosen |= _split(keep[pool.split[keep] == "train"], pool.y, wanted, seed=seed)
    for split in pool.given:
        absent = [name for k, name in enumerate(map(str, pool.labels)) if k not in pool.y[chosen[split]]]
        if len(absent) == len(pool.labels):
            raise UserError(f"the {split} split of {source} has no usable image: each is unreadable, or a duplicate")
        if absent:
            notes.append(f"The {split} split that came with the data has no images of these classes: {_some(absent)}.")
    images = {split: Images(pool.x[chosen[split]], pool.y[chosen[split]]) for split in ("train", "val", "test")}
    grey = sum(bool((image == image[..., :1]).all()) for part in images.values() for image in part.x)
    if 0 < grey < len(keep):
        notes.append(f"{grey} of {len(keep)} images had no colour, given three equal channels.")
    return ImageDataset(
        name=source,
        classes=tuple(str(label) for label in pool.labels),
        **images,
        channels=1 if grey == len(keep) else 3,
        size=pool.x.shape[1],
        original_labels=pool.labels,
        given_test="test" in pool.given,
        notes=tuple(notes),
        sha256=_digest(images),
    )


def _without_duplicates(pool: _Pool) -> tuple[np.ndarray, list[str]]:
    """The images to keep, in their order, and notes on those that equal another one.

    Those of a test split that came with the data are kept first, so that it loses none to the others.
    """
    first: dict[bytes, int] = {}
    equal: dict[bool, list[str]] = {True: [], False: []}
    for i in chain.from_iterable(np.flatnonzero(pool.split == split).tolist() for split in ("test", "val", "train")):
        k = first.setdefault(hashlib.sha256(pool.x[i].tobytes()).digest(), i)
        if k != i:
            equal[bool(pool.y[i] == pool.y[k])].append(f"{pool.names[i]} = {pool.names[k]}")
    notes = _note("equalled another pixel by pixel, left out", equal[True], len(pool.x))
    notes += _note("equalled one of another class pixel by pixel, left out", equal[False], len(pool.x))
    return np.array(sorted(first.values()), int), notes


def _check_classes(source: str, pool: _Pool, keep: np.ndarray) -> None:
    if len(pool.labels) < 2:
        raise UserError(f"{source} has only one class, {str(pool.labels[0])!r}; at least two are needed")
    for k, label in enumerate(pool.labels):
        mine = (pool.y == k) & (pool.split == "train")
        have = int(mine[keep].sum())
        if have < FEWEST:
            lost = {"unreadable": pool.lost[k], "duplicate": int(mine.sum()) - have}
            why = "".join(f", {n} {word}" for word, n in lost.items() if n)
            raise UserError(f"class {str(label)!r} of {source} has {have} usable training images{why}; at least {FEWEST} are needed")


def _split(members: np.ndarray, y: np.ndarray, wanted: Sequence[str], *, seed: int) -> dict[str, np.ndarray]:
    """Draw `HELD_OUT` of each class into each `wanted` split; the rest trains. `FEWEST` images give at least one to each."""
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
        digest.update(part.y.astype("<i8").data)
    return digest.hexdigest()


def _some(names: Sequence[str], shown: int = 3) -> str:
    """`a, b, c and 4 more`."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _note(what: str, names: Sequence[str], total: int) -> list[str]:
    """The sentence `2 of 60 images were skipped: a, b.`, or none where there are no names."""
    return [f"{len(names)} of {total} images {what}: {_some(names)}."] if names else []


def _choose_size(shorter: Sequence[int], asked: int | None) -> int:
    if asked is not None:
        return asked
    return int(np.clip(4 * (int(np.median(shorter)) // 4), *SIDES))


def _size_note(sides: Sequence[tuple[int, int]], size: int) -> list[str]:
    """One sentence on images of `sides` (width, height) that had to be brought to `size`, if any had."""
    other = sorted((side for side in sides if side != (size, size)), key=lambda side: (side[0] * side[1], side))
    if not other:
        return []
    span = " to ".join(dict.fromkeys(f"{w} x {h}" for w, h in (other[0], other[-1])))
    cropped = " and centre-cropped" if any(w != h for w, h in other) else ""
    enlarged = sum(min(side) < size for side in other)
    how = f" ({enlarged} of them enlarged)" if enlarged else ""
    return [f"{len(other)} of {len(sides)} images measured {span} pixels, resized{cropped} to {size} x {size}{how}."]


def _in_threads(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """`map` in threads: Pillow decodes outside of Python's lock. Few of them, as each may hold a large image."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(work, items)


# --- scikit-learn's digits and .npz files ----------------------------------------------------------------------------------


def _read_digits(size: int | None) -> _Pool:
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    names = [f"digit {i}" for i in range(len(x))]
    notes = [f"{len(x):,} digits of scikit-learn; their pixels of 0..16 were scaled to 0..255."]
    y = digits.target.astype(np.int64)
    return _from_arrays({"train": x[..., None]}, {"train": y}, names=names, size=size, scale=1, notes=notes)


def _read_npz(path: Path, size: int | None) -> _Pool:
    arrays, notes = _npz_arrays(path)
    x, y = {}, {}
    for split in ("train", "val", "test"):
        if f"x_{split}" in arrays:
            x[split] = _as_channels_last(f"x_{split} of {path}", arrays[f"x_{split}"])
            y[split] = _as_labels(f"y_{split} of {path}", arrays[f"y_{split}"])
            if len(x[split]) != len(y[split]):
                raise UserError(f"{path} has {len(x[split])} images in x_{split} and {len(y[split])} labels in y_{split}")
    scale, scaled = _pixel_scale(path, x)
    names = [f"x_{split}[{i}]" for split, part in x.items() for i in range(len(part))]
    return _from_arrays(x, y, names=names, size=size, scale=scale, notes=notes + scaled, path=path)


def _npz_arrays(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays x_train, y_train, ... of a file, each pair whole, and a note on others."""
    wanted = [f"{letter}_{split}" for split in ("train", "val", "test") for letter in "xy"]
    arrays = {}
    with path.open("rb") as opened:
        if not zipfile.is_zipfile(opened):
            raise UserError(f"{path} is no .npz file, or not a whole one; accepted is what numpy.savez writes")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            keys = list(file.files)
            for key in [key for key in wanted if key in keys]:
                arrays[key] = file[key]
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each fail in their own ways on a damaged file
        if "allow_pickle" in str(error):
            raise UserError(f"{key} of {path} is a pickled object; accepted are plain arrays of numbers or strings") from error
        raise UserError(f"{path} is damaged: {str(error) or type(error).__name__}") from error
    missing = [key for key in wanted[:2] if key not in arrays]
    missing += [f"{other}{key[1:]}" for key in arrays for other in "xy" if f"{other}{key[1:]}" not in {*arrays, *missing}]
    if missing:
        there = ", ".join(keys) or "nothing"
        raise UserError(f"{path} lacks {', '.join(missing)}; it holds {there}; accepted are x_ and y_ of train, val and test")
    others = [key for key in keys if key not in wanted]
    return arrays, [f"Arrays of other names were not used: {_some(others)}."] if others else []


def _as_channels_last(what: str, x: np.ndarray) -> np.ndarray:
    """A view `(n, h, w, 1)` or `(n, h, w, 3)`, checked to hold real finite numbers."""
    accepted = "(n, h, w), (n, h, w, 1), (n, h, w, 3), (n, 1, h, w) or (n, 3, h, w)"
    shape = x.shape
    if x.ndim == 3:
        x = x[..., None]
    elif x.ndim == 4 and x.shape[3] not in (1, 3):
        x = x.transpose(0, 2, 3, 1)
    if x.ndim != 4 or x.shape[3] not in (1, 3) or 0 in x.shape:
        raise UserError(f"{what} has the shape {shape}; accepted are {accepted}, with n, h and w of at least 1")
    if x.dtype.kind not in "buif":
        raise UserError(f"{what} has the type {x.dtype}; accepted are uint8, or numbers in 0..1 or 0..255")
    if x.dtype.kind == "f":
        (bad,) = np.nonzero([not np.isfinite(image).all() for image in x])
        if len(bad):
            raise UserError(f"{what} has NaN or infinite pixels in {len(bad)} images: {_some([str(i) for i in bad])}")
    return x


def _pixel_scale(path: Path, x: Mapping[str, np.ndarray]) -> tuple[float, list[str]]:
    """The factor that brings the pixels of all splits to 0..255, and a note where they are not plainly that already."""
    low, high = min(float(part.min()) for part in x.values()), max(float(part.max()) for part in x.values())
    floats = any(part.dtype.kind == "f" for part in x.values())
    slack = 1e-3 if floats else 0.0
    unit = high <= 1 + slack
    if low < -slack or high > 255 + slack or (floats and not unit and high < 2):  # up to 1.7 is neither of the two ranges
        raise UserError(f"{path} has pixels from {low:g} to {high:g}; accepted are 0..1 or 0..255")
    if unit:
        return 255.0, [f"Pixels from {low:g} to {high:g} were taken as 0..1 and scaled to 0..255."]
    if all(part.dtype == np.uint8 for part in x.values()):
        return 1.0, []
    return 1.0, [f"Pixels from {low:g} to {high:g} were taken as 0..255 and rounded."]


def _as_labels(what: str, y: np.ndarray) -> np.ndarray:
    """Labels `(n,)`, whole numbers or strings."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise UserError(f"{what} has the shape {y.shape}; accepted is one label an image, (n,)")
    if y.dtype.kind == "f":
        wrong = y[~(np.isfinite(y) & (y == np.rint(y)))]
        if len(wrong):
            raise UserError(f"{what} holds {wrong[0]:g}, which is no class label; accepted are whole numbers or strings")
    elif y.dtype.kind == "S":
        return np.char.decode(y, "utf-8", "replace")
    elif y.dtype.kind not in "biuU":
        raise UserError(f"{what} has the type {y.dtype}; accepted are whole numbers or strings")
    return y if y.dtype.kind == "U" else y.astype(np.int64)


def _from_arrays(
    x: Mapping[str, np.ndarray],
    y: Mapping[str, np.ndarray],
    *,
    names: Sequence[str],
    size: int | None,
    scale: float,
    notes: list[str],
    path: Path | None = None,
) -> _Pool:
    """Images `(n, h, w, 1 or 3)` and labels by the split they came with, those of "train" naming the classes."""
    own = y["train"]
    labels = np.unique(own)
    if 2 * len(labels) > len(own) and len(own) > 2:
        raise UserError(
            f"y_train of {path} has {len(labels)} different values for {len(own)} images; accepted are class labels, "
            f"each with at least {FEWEST} images"
        )
    for split, part in y.items():
        strangers = sorted({*part.tolist()} - {*labels.tolist()}, key=str)
        if strangers:
            raise UserError(f"y_{split} of {path} has labels that y_train does not have: {_some([*map(repr, strangers)])}")
    if own.dtype.kind == "U":
        notes = [*notes, f"Labels that are strings were numbered in sorted order: {_some(labels.tolist())}."]
    elif labels.tolist() != list(range(len(labels))):
        notes = [*notes, f"Labels {_some([str(k) for k in labels])} were numbered 0 .. {len(labels) - 1}."]
    sides = [(part.shape[2], part.shape[1]) for part in x.values() for _ in range(len(part))]
    side = _choose_size([min(pair) for pair in sides], size)
    fitted = np.empty((len(sides), side, side, 3), np.uint8)
    done = 0
    for part in x.values():
        chunks = [slice(k, min(k + _CHUNK, len(part))) for k in range(0, len(part), _CHUNK)]
        small = _in_threads(partial(_fit_part, part, size=side, scale=scale), chunks)
        for chunk, images in zip(chunks, small, strict=True):
            fitted[done + chunk.start : done + chunk.stop] = images
        done += len(part)
    return _Pool(
        fitted,
        np.concatenate([np.searchsorted(labels, part) for part in y.values()]).astype(np.int64),
        np.repeat([*x], [len(part) for part in x.values()]),
        tuple(split for split in x if split != "train"),
        names,
        tuple(labels.tolist()),
        Counter(),
        notes + _size_note(sides, side),
    )


def _fit_part(x: np.ndarray, part: slice, *, size: int, scale: float) -> np.ndarray:
    """Some of the images `(n, h, w, 1 or 3)` of any type -> uint8 `(len(part), size, size, 3)`."""
    from PIL import Image

    x = x[part]
    if x.dtype != np.uint8 or scale != 1:
        x = np.rint(np.clip(x.astype(np.float32) * np.float32(scale), 0, 255)).astype(np.uint8)
    x = np.broadcast_to(x, (*x.shape[:3], 3))
    if x.shape[1:3] == (size, size):
        return x
    return np.stack([_square(Image.fromarray(np.ascontiguousarray(image)), size) for image in x])


def _square(image: Image.Image, size: int) -> np.ndarray:
    """Resize the shorter side to `size` and crop the centre: an RGB image -> uint8 `(size, size, 3)`."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))


# --- folders ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _File:
    path: Path
    name: str
    label: int
    split: str


def _read_folder(root: Path, size: int | None) -> _Pool:
    """Two passes: sizes from the headers, then each image decoded and at once made small, so that memory stays bounded."""
    splits, notes = _find_splits(root)
    found = {split: _find_classes(folder, root) for split, folder in splits.items()}
    labels = [*found["train"]]
    for split, classes in found.items():
        strangers = [name for name in classes if name not in labels]
        if strangers:
            raise UserError(f"{splits[split]} has classes that {splits['train']} does not have: {_some(strangers)}")
    if len(labels) == 1 and (inner := _subfolders(splits["train"] / labels[0])):
        raise UserError(
            f"{splits['train']} has only one class, {labels[0]!r}; at least two are needed: should it be "
            f"{splits['train'] / labels[0]}, which holds the folders {_some([folder.name for folder in inner])}?"
        )
    if all(name.isdecimal() for name in labels):
        labels.sort(key=int)  # 2 before 10
    others = [name for classes in found.values() for _, rest in classes.values() for name in rest]
    if others:
        notes.append(f"Files of other kinds were not read: {_some(others)}.")
    files = [
        _File(path, path.relative_to(root).as_posix(), labels.index(name), split)  # the name is for notes
        for split, classes in found.items()
        for name, (paths, _) in sorted(classes.items())
        for path in paths
    ]
    with warnings.catch_warnings():  # around all threads, as the filters are the whole process's
        from PIL import Image

        warnings.simplefilter("ignore")  # Pillow's, of metadata that do not matter here
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return _decode_all(files, labels, size=size, notes=notes)


def _decode_all(files: list[_File], labels: list[str], *, size: int | None, notes: list[str]) -> _Pool:
    unreadable: dict[int, str] = {}
    sides: dict[int, tuple[int, int]] = {}
    for i, header in enumerate(_in_threads(_sides, files)):
        if isinstance(header, str):
            unreadable[i] = header
        else:
            sides[i] = header
    side = _choose_size([min(pair) for pair in sides.values()] or [SIDES[0]], size)
    x = np.zeros((len(files), side, side, 3), np.uint8)
    remarks: defaultdict[str, list[str]] = defaultdict(list)
    readable = sorted(sides)
    for i, decoded in zip(readable, _in_threads(lambda i: _decode(files[i].path, side), readable), strict=True):
        if isinstance(decoded, str):
            unreadable[i] = decoded
            del sides[i]
            continue
        x[i], said = decoded
        for remark in said:
            remarks[remark].append(files[i].name)
    reasons = [f"{files[i].name} ({unreadable[i]})" for i in sorted(unreadable)]
    notes += _note("could not be read, skipped", reasons, len(files))
    for remark, names in sorted(remarks.items()):
        notes += _note(remark, names, len(files))
    keep = sorted(sides)
    return _Pool(
        x[keep] if unreadable else x,
        np.array([files[i].label for i in keep], np.int64),
        np.array([files[i].split for i in keep], "<U5"),
        tuple(sorted({file.split for file in files} - {"train"})),
        [files[i].name for i in keep],
        tuple(labels),
        Counter(files[i].label for i in unreadable if files[i].split == "train"),
        notes + _size_note([*sides.values()], side),
    )


def _sides(file: _File) -> tuple[int, int] | str:
    """Width and height from the header, or why there are none."""
    from PIL import Image

    try:
        with Image.open(file.path, formats=_FORMATS) as image:
            return image.size
    except Exception as error:  # a decoder fails in any way on a damaged file
        return _reason(file.path, error)


def _decode(path: Path, size: int) -> tuple[np.ndarray, list[str]] | str:
    """Pixels `(size, size, 3)` and remarks on what was converted, or why the image cannot be read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=_FORMATS) as image:
            several = ["held several pictures, the first taken"] if getattr(image, "is_animated", False) else []
            image.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded at a fraction of its size
            ImageOps.exif_transpose(image, in_place=True)
            rgb, remarks = _as_rgb(image)
            return _square(rgb, size), remarks + several
    except Exception as error:  # a decoder fails in any way on a damaged file
        return _reason(path, error)


def _as_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB"), ["had 16 bits, cut to 8"]
    if image.mode in ("I", "F"):
        raise ValueError("pixels of 32 bits; accepted are 1, 8 and 16")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB"), ["had transparent parts, made white"]
    remarks = [] if image.mode in ("RGB", "L", "P", "1") else [f"came in {image.mode}, converted to RGB"]
    return image.convert("RGB"), remarks


def _reason(path: Path, error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, UnidentifiedImageError):
        return "empty" if path.stat().st_size == 0 else f"not {_ACCEPTED_FILES.replace('and', 'or')}"
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _find_splits(root: Path) -> tuple[dict[str, Path], list[str]]:
    """Where the class folders of each split lie, {"train": root} where the data are not split, and notes."""
    folders = _subfolders(root)
    loose = sorted(entry.name for entry in root.iterdir() if entry.is_file() and not _hidden(entry.name))
    if not folders:
        held = f"it holds {_some(loose)}" if loose else "it is empty"
        raise UserError(f"{root} has no sub-folders ({held}); accepted is one sub-folder of images a class")
    notes = [f"Files outside of the class folders were not read: {_some(loose)}."] if loose else []
    named = [folder for folder in folders if folder.name.lower() in _SPLIT_FOLDERS]
    holding = [folder for folder in named if _subfolders(folder)]
    splits = {_SPLIT_FOLDERS[folder.name.lower()]: folder for folder in holding}
    if not splits or (len(named) < len(folders) and not {"train"} < {*splits}):
        return {"train": root}, notes  # `train` may be a class, beside `bus` and `car`
    if len(splits) < len(holding):
        raise UserError(f"{root} has two folders for one split among {_some([folder.name for folder in holding])}")
    if "train" not in splits:
        raise UserError(f"{root} has {_some([folder.name for folder in holding])} with class folders, but no train")
    unused = [folder.name for folder in folders if folder not in splits.values()]
    if unused:
        notes.append(f"Folders without a split or without class folders were not read: {_some(unused)}.")
    return splits, notes


def _find_classes(folder: Path, root: Path) -> dict[str, tuple[list[Path], list[str]]]:
    """Class names to image files and the names of other files, nested folders included."""
    classes = {}
    for path in _subfolders(folder):
        files = sorted(_walk(path), key=lambda file: file.as_posix())
        images = [file for file in files if file.suffix.lower() in EXTENSIONS]
        others = [file.relative_to(root).as_posix() for file in files if file.suffix.lower() not in EXTENSIONS]
        if not images:
            held = f"it holds {_some(others)}" if others else "it is empty"
            raise UserError(f"class folder {path} has no images ({held}); accepted are {_ACCEPTED_FILES}")
        classes[path.name] = (images, others)
    return classes


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _hidden(entry.name))


def _walk(folder: Path) -> Iterator[Path]:
    """Files at any depth that are not hidden; links are followed, each folder once."""
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
