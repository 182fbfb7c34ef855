"""A user's own images from any source: digits, the split, duplicates, the size, and names of sources."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffnag.datasets.images import is_image_source, load_images, squares
from tests.image_sources import folder, noted, pixels, refused, sizes, splits


def test_digits_are_read_whole_scaled_and_split_within_each_class() -> None:
    from sklearn.datasets import load_digits

    data, source = load_images("digits"), load_digits()
    assert (data.name, data.channels, data.size, data.given_test) == ("digits", 1, 8, False)
    assert data.classes == tuple("0123456789") and data.original_labels == tuple(range(10))
    counts = np.bincount(source.target)
    for part in splits(data).values():
        assert part.x.dtype == np.uint8 and part.x.shape[1:] == (8, 8, 3) and part.y.dtype == np.int64
    for part in (data.val, data.test):
        assert np.bincount(part.y).tolist() == [round(0.2 * count) for count in counts]
    got = sorted((int(y), x[..., 0].tobytes()) for part in splits(data).values() for x, y in zip(part.x, part.y, strict=True))
    want = np.rint(source.images / 16 * 255).astype(np.uint8)
    assert got == sorted((int(y), x.tobytes()) for x, y in zip(want, source.target, strict=True))
    assert load_images("digits", size=16).train.x.shape[1:] == (16, 16, 3)


def test_the_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    root = folder(tmp_path / "one", cat=20, dog=11)
    data, again, other = load_images(root), load_images(str(root)), load_images(root, seed=1)
    assert data.sha256 == again.sha256 != other.sha256
    assert sizes(data) == sizes(other) == [12 + 7, 4 + 2, 4 + 2]
    renamed = root.rename(tmp_path / "two")
    for path in renamed.rglob("*.png"):
        path.touch()
    assert load_images(renamed).sha256 == data.sha256 and load_images(renamed).name == "two"
    Image.fromarray(pixels(12, 12, 3, seed=77)).save(renamed / "cat" / "000.png")
    assert load_images(renamed).sha256 != data.sha256


def test_five_images_give_one_to_each_held_out_split(tmp_path: Path) -> None:
    data = load_images(folder(tmp_path, a=5, b=37))
    assert [np.bincount(part.y).tolist() for part in splits(data).values()] == [[3, 23], [1, 7], [1, 7]]


def test_equal_images_are_kept_once_and_the_test_split_keeps_its_own(tmp_path: Path) -> None:
    root = folder(tmp_path, train=0, test=0)
    folder(root / "train", cat=12, dog=10), folder(root / "test", cat=3)
    (root / "test" / "dog").mkdir()
    Image.fromarray(pixels(12, 12, 3, seed=50)).save(root / "test" / "dog" / "a.png")
    Image.fromarray(pixels(12, 12, 3, seed=50)).save(root / "train" / "cat" / "wrong.bmp")
    data = load_images(root)
    assert len(data.test.x) == 4 and sizes(data)[:2] == [7 + 8, 2 + 2]
    noted(data, "3 of 27 images equalled another pixel by pixel", "train/cat/000.png = test/cat/000.png")
    noted(data, "1 of 27 images equalled one of another class", "train/cat/wrong.bmp = test/dog/a.png")
    seen = [x.tobytes() for part in splits(data).values() for x in part.x]
    assert len({*seen}) == len(seen)


def test_what_counts_as_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets").mkdir()
    for text in ("digits", "pets", str(tmp_path), "absent.npz", "./absent", "some/typo", "~/x", "."):
        assert is_image_source(text), text
    for text in ("cifar10", "ImageNet16-120", "typo", ""):
        assert not is_image_source(text), text
    refused("some/typo", "some/typo does not exist", "accepted are digits, a folder", ".npz")
    refused("absent.npz", "does not exist")
    (tmp_path / "table.txt").write_text("x")
    refused("table.txt", "another kind of file", "accepted")


@pytest.mark.parametrize("size", [7, 513, 0])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    refused("digits", f"{size} pixels", "8 to 512", size=size)


def test_reading_takes_no_more_threads_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    original = squares.ThreadPoolExecutor

    def counted(threads: int) -> object:
        asked.append(threads)
        return original(threads)

    monkeypatch.setattr(squares, "ThreadPoolExecutor", counted)
    monkeypatch.setattr(squares.os, "cpu_count", lambda: 2)
    load_images("digits")
    assert asked == [2]


def test_the_command_line_pays_for_no_heavy_module() -> None:
    code = "import sys, diffnag.datasets.images; print([name for name in ('PIL', 'sklearn', 'torch') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
