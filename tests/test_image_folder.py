"""Folders of images: formats and kinds of pixels, sizes, damaged files, and arrangements of folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffnag.datasets.images import ImageDataset, fit_images, load_images
from diffnag.errors import UserError
from tests.image_sources import folder, noted, npz, pixels, refused, sizes, splits


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
    """A dataset with plain images and one that `save` writes; returns the images that are not plain as well."""
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

    data, (odd,) = one_odd_image(tmp_path / "dark", Image.fromarray(grey.astype(np.uint16) * 15).save)
    assert (odd == rgb.astype(int) * 15 // 256).all()
    noted(data, "1 of 11 images had 16 bits, all values below 4,096, and few levels were left in 8 bits: as arrays in an .npz file they")

    opaque = np.dstack([rgb, np.full((12, 12), 255, np.uint8)])
    data, (odd,) = one_odd_image(tmp_path / "opaque", Image.fromarray(opaque).save)
    assert (odd == rgb).all() and not any("transparent" in note for note in data.notes)

    alpha = np.where(np.arange(12) < 6, 255, 0).astype(np.uint8)
    rgba = np.dstack([rgb, np.broadcast_to(alpha, (12, 12))])
    data, (odd,) = one_odd_image(tmp_path / "rgba", Image.fromarray(rgba).save)
    assert (odd[:, :6] == rgb[:, :6]).all() and (odd[:, 6:] == 255).all()
    noted(data, "1 of 11 images had transparent parts, which were made white")

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
    noted(data, "1 of 11 images had the mode CMYK and were converted to RGB")

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
    original = os.scandir

    def locked(path: str) -> object:
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", locked)
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


def test_a_pipe_among_the_images_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "pets", cat=6, dog=6)
    os.mkfifo(root / "cat" / "pipe.png")
    opened = Image.open

    def refuse(path: Path, **options: object) -> Image.Image:
        assert Path(path).is_file(), "reading a pipe never ends"
        return opened(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image, "open", refuse)
    data = load_images(root)
    noted(data, "1 of 13 images could not be read and were skipped: cat/pipe.png (not a regular file)")
    with pytest.raises(UserError, match=r"cannot read .*pipe.png: not a regular file"):
        fit_images([root / "cat" / "pipe.png"], size=8)
