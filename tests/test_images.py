"""A user's own images: folders, .npz files, digits; what is accepted, converted, skipped and refused."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffnag.datasets import images as module
from diffnag.datasets.images import ImageDataset, Images, is_image_source, load_images
from diffnag.errors import UserError


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def folder(root: Path, **counts: int) -> Path:
    """A class folder with so many different colour images of 12 x 12 for each name."""
    for k, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(pixels(12, 12, 3, seed=1000 * k + i)).save(root / name / f"{i:03}.png")
    return root


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def splits(data: ImageDataset) -> dict[str, Images]:
    return {"train": data.train, "val": data.val, "test": data.test}


def sizes(data: ImageDataset) -> list[int]:
    return [len(part.x) for part in splits(data).values()]


def refused(source: str | Path, *parts: str, size: int | None = None) -> None:
    """One sentence that holds each of `parts`."""
    with pytest.raises(UserError) as caught:
        load_images(source, size=size)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def noted(data: ImageDataset, *parts: str) -> None:
    assert any(all(part in note for part in parts) for note in data.notes), data.notes
    assert all(note.endswith(".") and "\n" not in note for note in data.notes)


# --- digits, and what all sources share -------------------------------------------------------------------------------------


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
    (tmp_path / "table.csv").write_text("x")
    refused("table.csv", "another kind of file", "accepted")


@pytest.mark.parametrize("size", [7, 513, 0])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    refused("digits", f"{size} pixels", "8 to 512", size=size)


# --- folders ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "gif", "webp", "tif", "jpg", "jpeg"])
def test_each_format_is_read(tmp_path: Path, suffix: str) -> None:
    smooth = np.add.outer(np.arange(16), np.arange(16))[..., None] * np.array([6, 3, 1]) + 20
    for k, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for i in range(5):
            image = Image.fromarray((smooth + 5 * i + 30 * k).astype(np.uint8))
            image.save(tmp_path / name / f"{i}.{suffix}", lossless=True)
    data = load_images(tmp_path)
    assert data.size == 16 and data.channels == 3 and not data.notes and sum(sizes(data)) == 10
    got = np.sort([x.mean() for part in splits(data).values() for x in part.x])
    want = np.sort([smooth.mean() + 5 * i + 30 * k for k in range(2) for i in range(5)])
    np.testing.assert_allclose(got, want, atol=2)


def one_odd_image(root: Path, save: Callable[[Path], object], name: str = "x.png") -> tuple[ImageDataset, list[np.ndarray]]:
    """A data set in which `save` wrote one image, and the images that are not of the plain rest."""
    plain = {Image.open(path).convert("RGB").tobytes() for path in folder(root, a=5, b=5).rglob("*.png")}
    save(root / "a" / name)
    data = load_images(root)
    return data, [x for part in splits(data).values() for x in part.x if x.tobytes() not in plain]


def test_pixel_kinds_are_converted_and_said(tmp_path: Path) -> None:
    grey = pixels(12, 12, seed=9)
    rgb = np.repeat(grey[..., None], 3, axis=2)

    data, (odd,) = one_odd_image(tmp_path / "grey", Image.fromarray(grey).save)
    assert (odd == rgb).all() and data.channels == 3
    noted(data, "1 of 11 images had no colour")

    data, (odd,) = one_odd_image(tmp_path / "sixteen", Image.fromarray(grey.astype(np.uint16) * 256 + 255).save)
    assert (odd == rgb).all()
    noted(data, "1 of 11 images had 16 bits", "a/x.png")
    data, (odd,) = one_odd_image(tmp_path / "tiff", Image.fromarray(grey.astype(np.uint16) * 256).save, "x.tif")
    assert (odd == rgb).all()

    alpha = np.where(np.arange(12) < 6, 255, 0).astype(np.uint8)
    rgba = np.dstack([rgb, np.broadcast_to(alpha, (12, 12))])
    data, (odd,) = one_odd_image(tmp_path / "rgba", Image.fromarray(rgba).save)
    assert (odd[:, :6] == rgb[:, :6]).all() and (odd[:, 6:] == 255).all()
    noted(data, "1 of 11 images had transparent parts, made white")

    data, (odd,) = one_odd_image(tmp_path / "bit", Image.fromarray(grey > 128).save)
    assert (odd == np.where(rgb > 128, 255, 0)).all()

    palette = Image.fromarray(rgb).quantize(8)
    data, (odd,) = one_odd_image(tmp_path / "palette", palette.save)
    assert (odd == np.asarray(palette.convert("RGB"))).all()
    clear = bytes([0] + [255] * 7)  # this makes Pillow warn where it is not converted with its transparency
    data, (odd,) = one_odd_image(tmp_path / "clear", lambda path: palette.save(path, transparency=clear))
    assert (odd[np.asarray(palette) == 0] == 255).all()

    cmyk = Image.fromarray(pixels(12, 12, 3, seed=9)).convert("CMYK")
    data, (odd,) = one_odd_image(tmp_path / "cmyk", lambda path: cmyk.save(path), "x.tif")
    assert (odd == np.asarray(cmyk.convert("RGB"))).all()
    noted(data, "1 of 11 images came in CMYK, converted to RGB")

    frames = [Image.fromarray(pixels(12, 12, seed=seed)) for seed in (9, 10)]
    data, (odd,) = one_odd_image(tmp_path / "gif", lambda path: frames[0].save(path, save_all=True, append_images=frames[1:]), "x.gif")
    assert (odd == rgb).all()
    noted(data, "1 of 11 images held several pictures")

    data, rest = one_odd_image(tmp_path / "float", Image.fromarray(grey.astype(np.float32)).save, "x.tif")
    assert not rest
    noted(data, "could not be read", "a/x.tif (pixels of 32 bits")


def test_exif_orientation_is_followed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    upright = pixels(12, 12, 3, seed=9)
    _, (odd,) = one_odd_image(tmp_path, lambda path: Image.fromarray(np.rot90(upright)).save(path, exif=exif))
    assert (odd == upright).all()


def test_broken_metadata_do_not_warn(tmp_path: Path) -> None:
    _, (odd,) = one_odd_image(tmp_path, lambda p: Image.fromarray(pixels(12, 12, 3, seed=9)).save(p, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09"))
    assert (odd == pixels(12, 12, 3, seed=9)).all()


def test_sizes_are_brought_to_the_median_shorter_side(tmp_path: Path) -> None:
    for k, (w, h) in enumerate([(40, 31), (31, 40), (200, 30), (5, 6), (31, 31)]):
        for name in ("a", "b"):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(pixels(h, w, 3, seed=10 * k + (name == "a"))).save(tmp_path / name / f"{k}.png")
    data = load_images(tmp_path)
    assert data.size == 28  # of 31, 31, 30, 5, 31
    noted(data, "10 of 10 images measured 5 x 6 to 200 x 30 pixels, resized and centre-cropped to 28 x 28 (2 of them enlarged)")
    assert load_images(tmp_path, size=10).train.x.shape == (6, 10, 10, 3)


@pytest.mark.parametrize(("side", "size"), [(4, 8), (8, 8), (11, 8), (12, 12), (63, 60), (64, 64), (300, 64)])
def test_the_size_is_a_multiple_of_four_within_8_and_64(tmp_path: Path, side: int, size: int) -> None:
    x = pixels(10, side, side, seed=1)
    data = load_images(npz(tmp_path / "x.npz", x_train=x, y_train=np.arange(10) % 2))
    assert data.size == size and bool(data.notes) == (side != size)


def test_the_centre_is_cropped(tmp_path: Path) -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    _, (odd,) = one_odd_image(tmp_path, lambda path: Image.fromarray(wide.repeat(3, 0).repeat(3, 1)).save(path))
    assert (odd[:, 1:-1] == 200).all()  # to the pixel where it blends with its neighbours


def test_a_large_jpeg_keeps_its_picture(tmp_path: Path) -> None:
    picture = np.zeros((800, 800, 3), np.uint8)
    picture[:400, 400:] = (200, 100, 0)
    _, (odd,) = one_odd_image(tmp_path, lambda path: Image.fromarray(picture).save(path, quality=95), "x.jpg")
    np.testing.assert_allclose(odd[:5, 7:].reshape(-1, 3).mean(0), (200, 100, 0), atol=4)
    assert odd[7:].max() <= 4 and odd[:, :5].max() <= 4


def test_unreadable_images_are_skipped_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "pets", cat=6, dog=9)
    (root / "cat" / "empty.png").touch()
    (root / "cat" / "text.jpg").write_text("no image")
    whole = (root / "dog" / "000.png").read_bytes()
    (root / "dog" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "dog" / "gone.png").symlink_to(root / "nowhere.png")
    data = load_images(root)
    assert sum(sizes(data)) == 15
    noted(data, "4 of 19 images could not be read", "cat/empty.png (empty)", "cat/text.jpg (not PNG", "dog/cut.png (", "and 1 more")

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # each of 144 is now suspicious to Pillow
    Image.fromarray(pixels(10, 10, 3)).save(root / "cat" / "small.png")
    refused(root, "class 'cat' of pets has 1 usable training images, 8 unreadable; at least 5 are needed")


def test_a_file_that_may_not_be_read_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path, cat=6, dog=6)
    original = Image.open

    def locked(path: Path, **options: object) -> Image.Image:
        if path.name == "005.png":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image, "open", locked)
    noted(load_images(root), "2 of 12 images", "cat/005.png (permission denied)")


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "pets", cat=6, dog=6)
    original = module.os.scandir

    def locked(path: str) -> object:
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(module.os, "scandir", locked)
    refused(root, f"cannot read {root / 'dog'}: permission denied")


def test_classes_that_are_too_small_are_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", cat=6, dog=4)
    refused(root, "class 'dog' of pets has 4 usable training images; at least 5 are needed")
    for name in ("x", "y"):
        (root / "dog" / f"{name}.png").write_bytes((root / "dog" / "000.png").read_bytes())
    (root / "dog" / "z.png").touch()
    refused(root, "class 'dog' of pets has 4 usable training images, 1 unreadable, 2 duplicate;")


def test_hidden_other_and_nested_files(tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", cat=6, dog=6)
    folder(root / "cat" / "deep", er=3)  # as the first three of cat
    Image.fromarray(pixels(12, 12, 3, seed=88)).save(root / "cat" / "deep" / "er" / "new.png")
    for name in (".hidden", "__MACOSX"):
        (root / name).mkdir()
    (root / "cat" / ".x.png").touch()
    (root / "cat" / "Thumbs.db").touch()
    (root / "cat" / "notes.txt").touch()
    (root / "readme.md").touch()
    (root / "dog" / "loop").symlink_to(root / "dog")
    data = load_images(root)
    assert data.classes == ("cat", "dog") == data.original_labels and sum(sizes(data)) == 13
    noted(data, "Files of other kinds were not read: cat/notes.txt.")
    noted(data, "Files outside of the class folders were not read: readme.md.")
    noted(data, "3 of 16 images equalled another")
    assert len(data.notes) == 3


def test_numbered_folders_are_sorted_as_numbers(tmp_path: Path) -> None:
    data = load_images(folder(tmp_path, **{"10": 5, "2": 5, "1": 6}))
    assert data.classes == ("1", "2", "10") and np.bincount(data.train.y).tolist() == [4, 3, 3]


def test_folders_that_hold_no_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty has no sub-folders (it is empty)", "accepted is one sub-folder")
    refused(folder(tmp_path / "flat", cat=2) / "cat", "has no sub-folders (it holds 000.png, 001.png)")
    refused(folder(tmp_path / "one", cat=9), "one has only one class, 'cat'; at least two")
    folder(tmp_path / "wrapped" / "pets", cat=5, dog=5)
    refused(tmp_path / "wrapped", "only one class, 'pets'", f"should it be {tmp_path / 'wrapped' / 'pets'}", "cat, dog")
    root = folder(tmp_path / "pets", cat=5, dog=5, none=0)
    refused(root, f"class folder {root / 'none'} has no images (it is empty)", "PNG")
    (root / "none" / "a.heic").touch()
    refused(root, "has no images (it holds none/a.heic)", "PNG")


def test_splits_that_came_as_folders_are_kept(tmp_path: Path) -> None:
    def part(path: Path, seed: int, **counts: int) -> Path:
        for name, count in counts.items():
            (path / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(pixels(8, 8, 3, seed=seed + i + 100 * len(name))).save(path / name / f"{i}.png")
        return path

    both = tmp_path / "both"
    part(both / "Train", 0, cat=10, rabbit=5), part(both / "testing", 20, cat=2, rabbit=3)
    data = load_images(both)
    assert data.given_test and sizes(data) == [8 + 4, 2 + 1, 5] and data.classes == ("cat", "rabbit")
    assert {x.tobytes() for x in data.test.x} == {Image.open(path).tobytes() for path in (both / "testing").rglob("*.png")}
    part(both / "val", 40, cat=1)
    data = load_images(both)
    assert data.given_test and sizes(data) == [15, 1, 5]
    noted(data, "The val split", "no images of these classes: rabbit")
    assert load_images(both).sha256 == load_images(both, seed=5).sha256  # nothing is left to draw

    no_test = tmp_path / "no_test"
    part(no_test / "train", 0, cat=10, rabbit=5), part(no_test / "validation", 40, cat=2, rabbit=2)
    (no_test / "test").mkdir()
    Image.fromarray(pixels(8, 8)).save(no_test / "test" / "unlabelled.png")
    data = load_images(no_test)
    assert not data.given_test and sizes(data) == [8 + 4, 4, 2 + 1]
    noted(data, "were not read: test.")
    part(no_test / "val", 60, cat=2)
    refused(no_test, "two folders for one split", "val, validation")

    part(tmp_path / "no_train" / "test", 0, cat=5, dog=5)
    refused(tmp_path / "no_train", "test with class folders, but no train")
    part(tmp_path / "stranger" / "train", 0, cat=5, rabbit=5), part(tmp_path / "stranger" / "test", 20, cat=5, bee=1)
    refused(tmp_path / "stranger", "classes that", "train does not have: bee")
    part(tmp_path / "copied" / "train", 0, cat=7, rabbit=7), part(tmp_path / "copied" / "test", 20, cat=2, rabbit=2)
    part(tmp_path / "copied" / "val", 20, cat=2, rabbit=2)
    refused(tmp_path / "copied", "the val split of copied has no usable image")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert load_images(folder(tmp_path, train=5, bus=5, car=5)).classes == ("bus", "car", "train")
    (tmp_path / "train" / "steam").mkdir()
    (tmp_path / "train" / "000.png").rename(tmp_path / "train" / "steam" / "0.png")
    assert load_images(tmp_path).classes == ("bus", "car", "train")


# --- .npz -------------------------------------------------------------------------------------------------------------------

Y = np.arange(40) % 4


@pytest.mark.parametrize("shape", [(40, 8, 8), (40, 8, 8, 1), (40, 8, 8, 3), (40, 3, 8, 8), (40, 1, 8, 8)])
def test_each_shape_of_an_npz_gives_the_same_layout(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = pixels(*shape)
    data = load_images(npz(tmp_path / "x.npz", x_train=x, y_train=Y))
    assert data.name == "x" and data.size == 8 and data.channels == (3 if 3 in shape else 1) and not data.notes
    last = x[..., None] if x.ndim == 3 else x if shape[3] in (1, 3) else x.transpose(0, 2, 3, 1)
    got = sorted((int(y), x.tobytes()) for part in splits(data).values() for x, y in zip(part.x, part.y, strict=True))
    assert got == sorted((int(y), np.broadcast_to(x, (8, 8, 3)).tobytes()) for x, y in zip(last, Y, strict=True))


def test_splits_of_an_npz_are_kept(tmp_path: Path) -> None:
    x = pixels(60, 9, 12, 3)
    parts = {"x_train": x[:40], "y_train": Y[:, None], "x_test": x[40:50], "y_test": Y[:10], "extra": x[:1]}
    data = load_images(npz(tmp_path / "x.npz", **parts))
    assert data.given_test and sizes(data) == [32, 8, 10] and data.size == 8
    assert data.test.y.tolist() == Y[:10].tolist()
    noted(data, "50 of 50 images measured 12 x 9 pixels, resized and centre-cropped to 8 x 8")
    noted(data, "Arrays of other names were not used: extra.")
    data = load_images(npz(tmp_path / "x.npz", **parts, x_val=x[50:], y_val=np.zeros(10, int)))
    assert sizes(data) == [40, 10, 10]
    noted(data, "val split", "1, 2, 3")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_pixels_of_both_ranges(tmp_path: Path, dtype: type) -> None:
    x = pixels(40, 8, 8)
    plain = load_images(npz(tmp_path / "x.npz", x_train=x, y_train=Y))
    unit = load_images(npz(tmp_path / "x.npz", x_train=(x / 255).astype(dtype), y_train=Y))
    full = load_images(npz(tmp_path / "x.npz", x_train=x.astype(dtype), y_train=Y))
    assert plain.sha256 == unit.sha256 == full.sha256
    noted(unit, "taken as 0..1")
    noted(full, "Pixels from 0 to 255 were taken as 0..255")


def test_whole_number_pixels_other_than_uint8(tmp_path: Path) -> None:
    x = pixels(40, 8, 8)
    plain = load_images(npz(tmp_path / "x.npz", x_train=x, y_train=Y))
    assert load_images(npz(tmp_path / "x.npz", x_train=x.astype(np.int64), y_train=Y)).sha256 == plain.sha256
    bits = load_images(npz(tmp_path / "x.npz", x_train=x > 127, y_train=Y))
    assert np.unique(bits.train.x).tolist() == [0, 255]
    noted(bits, "taken as 0..1")


@pytest.mark.parametrize(
    ("y", "original", "note"),
    [
        (Y * 10 - 5, (-5, 5, 15, 25), "Labels -5, 5, 15 and 1 more were numbered 0 .. 3"),
        (Y + 1.0, (1, 2, 3, 4), "Labels 1, 2, 3"),
        (np.array(["d", "b", "c", "é"])[Y], ("b", "c", "d", "é"), "strings were numbered in sorted order: b, c, d and 1 more"),
        (np.array(["d", "b", "c", "é"])[Y].astype("U1").view("U1"), ("b", "c", "d", "é"), "strings"),
        (np.array([b"d", b"b", b"c", b"a"])[Y], ("a", "b", "c", "d"), "strings"),
        (Y > 1, (0, 1), None),
    ],
)
def test_labels_are_numbered_from_zero(tmp_path: Path, y: np.ndarray, original: tuple[int | str, ...], note: str | None) -> None:
    data = load_images(npz(tmp_path / "x.npz", x_train=pixels(40, 8, 8), y_train=y))
    assert data.original_labels == original and data.classes == tuple(map(str, original))
    assert all(type(label) in (int, str) for label in data.original_labels)
    assert [np.unique(part.y).tolist() for part in splits(data).values()] == [list(range(len(original)))] * 3
    noted(data, note) if note else None


def bad(x: np.ndarray, *index: int, value: float) -> np.ndarray:
    x = x.astype(np.float32)
    x[index] = value
    return x


X = pixels(40, 8, 8)


@pytest.mark.parametrize(
    ("arrays", "parts"),
    [
        ({"x": X, "labels": Y}, ["lacks x_train, y_train; it holds x, labels"]),
        ({"x_train": X}, ["lacks y_train; it holds x_train"]),
        ({"x_train": X, "y_train": Y, "x_test": X}, ["lacks y_test"]),
        ({"x_train": X, "y_train": Y, "y_val": Y}, ["lacks x_val"]),
        ({"x_train": X, "y_train": Y[:-1]}, ["40 images in x_train and 39 labels in y_train"]),
        ({"x_train": X.reshape(40, 64), "y_train": Y}, ["x_train", "shape (40, 64)", "(n, h, w)"]),
        ({"x_train": pixels(40, 4, 8, 8), "y_train": Y}, ["shape (40, 4, 8, 8)", "(n, 3, h, w)"]),
        ({"x_train": X[:0], "y_train": Y[:0]}, ["shape (0, 8, 8)"]),
        ({"x_train": X, "y_train": Y, "x_test": X[:0], "y_test": Y[:0]}, ["x_test", "shape (0, 8, 8)"]),
        ({"x_train": X.astype(str), "y_train": Y}, ["x_train", "type <U3"]),
        ({"x_train": bad(X, 3, 1, 1, value=np.nan), "y_train": Y}, ["NaN or infinite pixels in 1 images: 3"]),
        ({"x_train": bad(bad(X, 3, 1, value=np.inf), 7, 0, value=np.nan), "y_train": Y}, ["in 2 images: 3, 7"]),
        ({"x_train": X / 127.5 - 1, "y_train": Y}, ["pixels from -1 to 1", "0..1 or 0..255"]),
        ({"x_train": X / 150, "y_train": Y}, ["pixels from 0 to 1.7", "0..1 or 0..255"]),
        ({"x_train": X.astype(np.uint16) * 257, "y_train": Y}, ["pixels from 0 to 65535"]),
        ({"x_train": X, "y_train": Y + 0.5}, ["y_train", "holds 0.5", "whole numbers or strings"]),
        ({"x_train": X, "y_train": np.where(Y > 2, np.nan, Y)}, ["y_train", "holds nan"]),
        ({"x_train": X, "y_train": np.eye(4)[Y]}, ["y_train", "shape (40, 4)", "one label an image"]),
        ({"x_train": X, "y_train": Y.astype(complex)}, ["type complex128"]),
        ({"x_train": X, "y_train": np.arange(40)}, ["40 different values for 40 images", "class labels"]),
        ({"x_train": X, "y_train": Y * 0}, ["only one class, '0'"]),
        ({"x_train": X, "y_train": np.where(np.arange(40) < 4, 1, 0)}, ["class '1' of x has 4 usable training images"]),
        ({"x_train": X * 0, "y_train": Y}, ["class '0' of x has 1 usable training images, 9 duplicate"]),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 2}, ["y_test", "does not have: 4, 5"]),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y.astype(str)}, ["y_test", "does not have: '0', '1'"]),
        ({"x_train": X, "y_train": Y.astype(object)}, ["y_train of", "pickled object", "plain arrays"]),
        ({}, ["lacks x_train, y_train; it holds nothing"]),
    ],
)
def test_an_npz_that_cannot_be_used_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], parts: list[str]) -> None:
    refused(npz(tmp_path / "x.npz", **arrays), *parts)


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x_train=X, y_train=Y)
    whole = path.read_bytes()
    for content in (b"", b"nothing of the kind", pickle.dumps([1]), whole[: len(whole) // 2]):
        path.write_bytes(content)
        refused(path, f"{path} is no .npz file, or not a whole one", "numpy.savez")
    with path.open("wb") as file:
        np.save(file, X)
    refused(path, "is no .npz file")
    path.write_bytes(whole[:200] + bytes(160) + whole[360:])
    refused(path, f"{path} is damaged: ")


def test_an_npz_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = npz(tmp_path / "x.npz", x_train=X, y_train=Y)

    def locked(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", locked)
    refused(path, f"cannot read {path}: permission denied")


def test_reading_takes_no_more_threads_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    original = module.ThreadPoolExecutor

    def counted(threads: int) -> object:
        asked.append(threads)
        return original(threads)

    monkeypatch.setattr(module, "ThreadPoolExecutor", counted)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)
    load_images("digits")
    assert asked == [2]


def test_the_command_line_pays_for_no_heavy_module() -> None:
    code = re.sub(r'""".*?"""', "", Path(module.__file__).read_text(), flags=re.DOTALL)
    top = [line for line in code.splitlines() if line.startswith(("import", "from"))]
    assert not any(name in line for line in top for name in ("PIL", "sklearn", "torch"))
