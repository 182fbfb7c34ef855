"""Where images and labels come from: `.npy` files, CSV files, labels of each task; and what is refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffnag.datasets.images import is_image_source, load_images
from diffnag.errors import UserError
from diffnag.io import archives
from tests.image_sources import noted, npz, pixels, refused, sizes, splits

X, Y = pixels(40, 8, 8, 3), np.arange(40) % 4
NUMBERS = np.random.default_rng(0).normal(size=(40, 2))
LABELS = np.random.default_rng(1).integers(0, 2, (40, 3))


def refused_for(task: str, source: str | Path, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        load_images(source, task=task)
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


# -- .npy


def test_npy_files_are_read_as_npz(tmp_path: Path) -> None:
    wanted = load_images(npz(tmp_path / "all.npz", x_train=X, y_train=Y)).sha256
    np.save(tmp_path / "images.npy", X)
    np.save(tmp_path / "labels.npy", Y)
    pair = load_images(f"{tmp_path}/images.npy,{tmp_path}/labels.npy")
    assert pair.sha256 == wanted and pair.name == "images"
    folder = tmp_path / "digits"
    folder.mkdir()
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    assert load_images(folder).sha256 == wanted and load_images(folder).name == "digits"
    for key, array in (("x_train", X[:20]), ("y_train", Y[:20]), ("x_test", X[20:]), ("y_test", Y[20:])):
        np.save(folder / f"{key}.npy", array)
    assert sizes(load_images(folder)) == [16, 4, 20]
    assert load_images(npz(tmp_path / "short.npz", x=X, y=Y)).sha256 == wanted


def test_npy_files_that_cannot_be_used(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    refused(str(tmp_path / "x.npy"), "one file", "images.npy,labels.npy")
    refused(f"{tmp_path}/x.npy,{tmp_path}/y.npy,z.npy", "3 files")
    refused(f"{tmp_path}/x.npy,{tmp_path}/y.npy", "there is no file", "y.npy")
    refused(tmp_path, "lacks y_train", "x.npy")
    np.save(tmp_path / "y.npy", Y[:-1])
    refused(tmp_path, "40 images in x_train and 39 labels in y_train")
    np.save(tmp_path / "y.npy", np.array([{"a": 1}] * 40, object))
    refused(tmp_path, "y.npy is a pickled object")
    np.save(tmp_path / "x.npy", np.array([pixels(3, 3), pixels(4, 4)], object))  # ragged
    refused(tmp_path, "x.npy is a pickled object")
    (tmp_path / "y.npy").write_bytes(b"nothing")
    np.save(tmp_path / "x.npy", X)
    refused(tmp_path, "y.npy")
    (tmp_path / "y.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:200])
    refused(tmp_path, "y.npy is damaged")


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """A file whose header promises ten gigabytes, without having them."""
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2_500, 1000, 1000)})
        file.truncate(10**10 + 128)  # a hole, which takes no room
    np.save(tmp_path / "y.npy", np.zeros(2_500, int))
    refused(tmp_path, "10.0 GB", "up to 4 GB")


def test_a_large_npz_is_refused_by_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = npz(tmp_path / "x.npz", x_train=X, y_train=Y, other=pixels(100, 100, 100))
    monkeypatch.setattr(archives, "MOST_BYTES", 10_000)
    assert len(load_images(path).train.x)  # `other` does not count
    monkeypatch.setattr(archives, "MOST_BYTES", 7_000)
    refused(path, "GB")


def test_a_pickle_in_a_zip_is_not_opened(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], object))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", buffer.getvalue())
        archive.writestr("y.npy", buffer.getvalue())
    refused(tmp_path / "x.npz", "pickled object")


# -- CSV


def sheet(folder: Path, header: str, rows: list[str]) -> Path:
    """A CSV file beside 40 images called 0.png, ..."""
    (folder / "pictures").mkdir(exist_ok=True)
    for k, image in enumerate(X):
        Image.fromarray(image).save(folder / "pictures" / f"{k}.png")
    path = folder / "table.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_csv_of_paths_and_labels(tmp_path: Path) -> None:
    names = np.array(["d", "b", "c", "a"])[Y]
    path = sheet(tmp_path, "label,path,author", [f"{names[k]},pictures/{k}.png,me" for k in range(40)])
    data = load_images(path)
    wanted = load_images(npz(tmp_path / "x.npz", x_train=X, y_train=names))
    assert data.sha256 == wanted.sha256 and data.classes == ("a", "b", "c", "d") and data.name == "table"
    noted(data, "Columns of other names were not used: author")
    path = sheet(tmp_path, "path,label", [f"{tmp_path}/pictures/{k}.png,{10 * Y[k]}" for k in range(40)])
    assert load_images(path).original_labels == (0, 10, 20, 30)
    path = sheet(tmp_path, "path,label", [f"pictures/{k}.png,{bool(Y[k] % 2)}" for k in range(40)])
    assert load_images(path).classes == ("False", "True")


def test_a_csv_with_splits(tmp_path: Path) -> None:
    part = ["test" if k < 8 else "VAL" if k < 16 else "train" for k in range(40)]
    data = load_images(sheet(tmp_path, "path,split,label", [f"pictures/{k}.png,{part[k]},{Y[k]}" for k in range(40)]))
    assert sizes(data) == [24, 8, 8] and data.given_test
    assert {image.tobytes() for image in data.test.x} == {image.tobytes() for image in X[:8]}
    assert [int(Y[next(i for i in range(40) if (X[i] == image).all())]) for image in data.test.x] == data.test.y.tolist()


def test_a_csv_of_numbers_and_of_labels(tmp_path: Path) -> None:
    path = sheet(tmp_path, "path,height,width", [f"pictures/{k}.png,{a:.6f},{b:.6f}" for k, (a, b) in enumerate(NUMBERS)])
    data = load_images(path, task="regression")
    assert data.classes == ("height", "width") and data.train.y.shape == (20, 2)
    found = {image.tobytes(): y for part in splits(data).values() for image, y in zip(part.x, part.y, strict=True)}
    for image, y in zip(X, NUMBERS, strict=True):
        np.testing.assert_allclose(found[image.tobytes()], y, atol=1e-5)
    path = sheet(tmp_path, "path,cat,dog,bus", [f"pictures/{k}.png,{a},{b},{c}" for k, (a, b, c) in enumerate(LABELS)])
    assert load_images(path, task="multi-label").classes == ("cat", "dog", "bus")
    refused_for("classification", path, "lacks the column label; it has path, cat, dog, bus")


@pytest.mark.parametrize(
    ("header", "row", "parts"),
    [
        ("file,label", "pictures/{k}.png,1", ["lacks the column path; it has file, label"]),
        ("path", "pictures/{k}.png", ["lacks the column label"]),
        ("path,label", "absent/{k}.png,{y}", ["40 of 40 files", "do not exist: absent/0.png"]),
        ("path,label", "pictures/{k}.png,0.5{k}", ["holds 0.5", "--task regression"]),
        ("path,label", "pictures/{k}.png,", ["40 empty cells"]),
        ("path,label,split", "pictures/{k}.png,1,mine", ["line 2", "'mine'", "train, val and test"]),
        ("path,label,split", "pictures/{k}.png,1,test", ["no image for training"]),
        ("path,label", "pictures/{k}.png,{k}", ["40 different values for 40 images"]),
    ],
)
def test_a_csv_that_cannot_be_used(tmp_path: Path, header: str, row: str, parts: list[str]) -> None:
    refused(sheet(tmp_path, header, [row.format(k=k, y=Y[k]) for k in range(40)]), *parts)


def test_other_csv_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"path,label\n\xff\xfe,1\n")
    refused(tmp_path / "a.csv", "no CSV file in UTF-8")
    (tmp_path / "a.csv").write_text("")
    refused(tmp_path / "a.csv", "it has none")
    (tmp_path / "a.csv").write_text("path,label\n")
    refused(tmp_path / "a.csv", "it has no rows")
    path = sheet(tmp_path, "path,height", [f"pictures/{k}.png,tall" for k in range(40)])
    refused_for("regression", path, "no number", "tall")
    refused(tmp_path / "b.csv", "does not exist")
    (tmp_path / "pictures" / "3.png").write_bytes(b"")
    path = sheet(tmp_path, "path,label", [f"pictures/{k}.png,{Y[k]}" for k in range(40)])
    (tmp_path / "pictures" / "3.png").write_bytes(b"")
    noted(load_images(path), "1 of 40 images could not be read and were skipped: pictures/3.png (empty)")


def test_such_files_are_sources() -> None:
    assert all(map(is_image_source, ("a.csv", "x.npy,y.npy", "b.npz")))


# -- labels of each task


def test_numbers(tmp_path: Path) -> None:
    data = load_images(npz(tmp_path / "x.npz", x_train=X, y_train=NUMBERS[:, 0]), task="regression")
    assert data.task == "regression" and data.classes == ("0",) and data.train.y.dtype == np.float32 and sizes(data) == [20, 10, 10]  # groups of 8
    assert not data.flips and data.shift == 0
    spread = [abs(float(part.y.mean()) - NUMBERS[:, 0].mean()) for part in splits(data).values()]
    assert max(spread) < 0.4  # small, middle and large numbers are in each split
    again, other = (load_images(npz(tmp_path / "x.npz", x_train=X, y_train=NUMBERS[:, 0] + add), task="regression") for add in (0, 1))
    assert again.sha256 == data.sha256 != other.sha256
    assert np.unique(data.looks.y).tolist() == [0, 1, 2, 3, 4]
    whole = load_images(npz(tmp_path / "x.npz", x_train=X, y_train=np.arange(40)), task="regression")
    assert whole.train.y.shape == (20, 1)
    assert load_images("digits", task="regression").train.y.shape[1] == 1


def test_labels(tmp_path: Path) -> None:
    for y in (LABELS, LABELS.astype(bool), LABELS.astype(np.float64)):
        data = load_images(npz(tmp_path / "x.npz", x_train=X, y_train=y), task="multi-label")
        assert data.classes == ("0", "1", "2") and data.train.y.shape[1] == 3 and set(np.unique(data.train.y)) == {0, 1}
        assert all(part.y.any(0).all() for part in splits(data).values())


@pytest.mark.parametrize(
    ("task", "y", "parts"),
    [
        ("classification", NUMBERS[:, 0], ["which is no class label", "--task regression"]),
        ("classification", LABELS, ["shape (40, 3)", "--task multi-label"]),
        ("regression", np.where(np.arange(40) == 7, np.nan, NUMBERS[:, 0]), ["NaN"]),
        ("regression", NUMBERS[:, 0] * 1e300, ["too large"]),
        ("regression", np.array(["a"] * 40), ["type <U1", "numbers"]),
        ("regression", NUMBERS[:, :, None], ["shape (40, 2, 1)"]),
        ("regression", np.ones(40), ["is 1 for each training image"]),
        ("multi-label", Y, ["shape (40,)", "(n, labels)"]),
        ("multi-label", np.stack([Y, Y], 1), ["holds 2", "0 and 1"]),
        ("multi-label", LABELS * 0, ["is 0 for each training image"]),
        ("multi-label", np.stack([LABELS[:, 0], np.arange(40) < 3], 1), ["'1' of x", "at least 5 are needed"]),
        ("ranking", Y, ["ranking", "classification, regression, multi-label"]),
    ],
)
def test_labels_that_do_not_fit_the_task(tmp_path: Path, task: str, y: np.ndarray, parts: list[str]) -> None:
    refused_for(task, npz(tmp_path / "x.npz", x_train=X, y_train=y), *parts)


def test_other_mistakes_of_numbers(tmp_path: Path) -> None:
    refused_for("regression", npz(tmp_path / "x.npz", x_train=X[:12], y_train=NUMBERS[:12]), "12 usable training images; at least 20")
    parts = {"x_train": X, "y_train": NUMBERS, "x_test": pixels(8, 8, 8, 3, seed=1), "y_test": NUMBERS[:8, :1]}
    refused_for("regression", npz(tmp_path / "x.npz", **parts), "different numbers of columns: 2 in y_train, 1 in y_test")
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    refused_for("regression", tmp_path / "photos", "sub-folders are classes", ".csv")
