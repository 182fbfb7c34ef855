"""Text, colours, search.png and confusion.png: what they show, and that no name and no failure costs a result."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.collections import PathCollection
from matplotlib.colors import rgb_to_hsv
from matplotlib.figure import Figure
from matplotlib.image import imread

from diffnag import SearchOptions, run_search
from diffnag.drawing import lettering as lettering_module
from diffnag.drawing import picture as drawing
from diffnag.drawing.attempt import try_to_draw
from diffnag.drawing.colours import Colour, colours_of, letters_on
from diffnag.drawing.lettering import SANS, lettering
from diffnag.errors import UserError
from diffnag.io.tables import BenchmarkTable
from diffnag.plugins import names
from diffnag.protocols import Picture
from diffnag.search_loop.result import SearchResult
from diffnag.search_loop.show import curve, files
from diffnag.search_loop.show.confusion import confusion_picture, frequent_errors
from diffnag.search_loop.show.curve import label_ticks, search_picture, wrapped
from diffnag.search_loop.show.reference import Reference, reference_of
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.loading import load_space

CAT = "\u732b"
"""A letter that matplotlib's own fonts lack."""
ODD = (r"$\frac{1}$", "$x_$", "caf\udce9", CAT, f"{CAT} cat", "line\nbreak", "\x1b[0m", "a" * 60, "_under_", "50 % & #", "\\", "$", "")
"""Names that users give, or that files bring."""


@pytest.fixture
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with matplotlib's own fonts alone."""
    monkeypatch.setattr(lettering_module, "_others", lambda: ["STIXGeneral"])


# -- text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("conv 3x3", "conv 3x3"),
        (r"$\frac{1}$", r"\$\frac{1}\$"),
        ("caf\udce9", r"caf\xe9"),
        (f"a{CAT}{CAT}b", "aU+732B U+732Bb"),
        ("two\nlines\tand", "two lines and"),
        ("\x1b", "U+001B"),
        ("\ud800", "U+D800"),
    ],
)
def test_text_for_pictures(text: str, written: str, _bare: None) -> None:
    with lettering([text]) as letters:
        assert letters.plain(text) == written


def test_a_font_that_has_the_letters_is_used() -> None:
    """One of those that come with matplotlib, in place of one of the system's."""
    with lettering(["a"]) as letters:
        assert letters.families == (SANS,)
    letter = "\u2abd"  # of mathematics, in STIXGeneral and not in DejaVu Sans
    assert not letters.shows(letter)
    with lettering([letter]) as letters:
        assert letters.families[0] == SANS and letters.shows(letter) and letters.plain(letter) == letter
        figure = Figure()
        figure.text(0, 0, letter)
        figure.text(0, 0, letter, family=letters.monospace)
        figure.draw_without_rendering()  # a letter that no font has would warn, and a warning fails here


def test_a_users_settings_of_matplotlib_break_no_picture(tmp_path: Path, space: NASBench201) -> None:
    arch = space.random(np.random.default_rng(0))
    drawing.save(tmp_path / "a.png", arch, space)
    with rc_context({"text.usetex": True, "font.family": "no such font", "figure.dpi": 7, "axes.facecolor": "red"}):
        drawing.save(tmp_path / "b.png", arch, space)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("suffix", drawing.SUFFIXES)
def test_operators_and_words_of_any_name_are_drawn(suffix: str, tmp_path: Path, _bare: None) -> None:
    class Odd(NASBench201):
        operators = ("input", "output", *ODD[:5])

        def picture(self, arch: Any) -> Picture:
            """Words beside operators: a formula, a broken one, and names."""
            texts = (*self.operators, "$c_k$", r"$\frac{1}$", "price in $", *ODD)
            return Picture(texts, tuple(itertools.pairwise(range(len(texts)))), tuple(ODD[k % 3] for k in range(len(texts))))

    space = Odd()
    drawing.save(tmp_path / f"a{suffix}", space.random(np.random.default_rng(0)), space)
    assert (tmp_path / f"a{suffix}").stat().st_size > 5000


# -- colours

DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
"""How colour-blind readers see (Machado et al., 2009)."""


def lab(colour: Colour, seen: Any) -> np.ndarray:
    """CIELAB of an sRGB colour as it is seen."""
    rgb = np.array(colour)
    linear = np.clip(np.array(seen) @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    white = np.array([0.9505, 1, 1.089])
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear / white
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_an_operator_has_the_same_colour_in_every_space() -> None:
    cells, micro, graphs, darts = (
        colours_of(load_space(name).operators) for name in ("nasbench201", "transnasbench101-micro", "nasbench101", "darts")
    )
    assert cells["nor_conv_3x3"] == micro["nor_conv_3x3"] == graphs["conv3x3-bn-relu"] != cells["nor_conv_1x1"]
    assert cells["nor_conv_1x1"] == micro["nor_conv_1x1"] == graphs["conv1x1-bn-relu"]
    assert cells["avg_pool_3x3"] == darts["avg_pool_3x3"] != darts["max_pool_3x3"] == graphs["maxpool3x3"]
    assert cells["skip_connect"] == micro["skip_connect"] == darts["skip_connect"]


def hue(colour: Colour) -> float:
    return float(rgb_to_hsv(colour)[0])


def test_larger_kernels_and_expansions_are_darker() -> None:
    for family in ("conv", "sep_conv", "dil_conv"):
        shades = [colours_of([f"{family}_{k}x{k}"])[f"{family}_{k}x{k}"] for k in (1, 3, 5, 7)]
        light = [lab(shade, np.eye(3))[0] for shade in shades]
        assert light == sorted(light, reverse=True) and np.ptp([hue(shade) for shade in shades]) < 0.02
    blocks = colours_of(load_space("mobilenetv3").operators)
    for kernel in (3, 5, 7):
        light = [lab(blocks[f"mbconv{expansion}_{kernel}x{kernel}"], np.eye(3))[0] for expansion in (3, 4, 6)]
        assert light == sorted(light, reverse=True) and np.ptp([hue(blocks[f"mbconv{e}_{kernel}x{kernel}"]) for e in (3, 4, 6)]) < 0.02


@pytest.mark.parametrize("name", [name for name in names("space") if len(load_space(name).operators) < 40])  # no eye tells more apart
@pytest.mark.parametrize("seen", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_colours_can_be_told_apart(name: str, seen: Any) -> None:
    colours = colours_of(load_space(name).operators)
    distances = [np.linalg.norm(lab(one, seen) - lab(other, seen)) for one, other in itertools.combinations(colours.values(), 2)]
    assert min(distances) > 9  # 2.3 can just be noticed


def test_operators_of_no_known_family_have_colours_of_their_own() -> None:
    many = [f"operator {letter}" for letter in "abcdefghijklmnopqrstuvwxyz"] + ["conv3x3", "conv3x3-gelu"]
    colours = colours_of(many)
    assert [*colours] == many and len(set(colours.values())) == len(many) and colours == colours_of(many)
    assert colours["operator a"] == colours_of(["operator a"])["operator a"] and colours["conv3x3"] == colours_of(["conv3x3"])["conv3x3"]
    assert not {"none", "absent", "input", "output"} & set(colours_of(("input", "none", "absent", "a", "output")))


def test_letters_can_be_read_on_their_box() -> None:
    assert letters_on((1.0, 1.0, 1.0)) == letters_on((0.8, 0.8, 0.2)) == "black" and letters_on((0.1, 0.1, 0.4)) == "white"


# -- failures


def test_a_picture_that_fails_is_a_note(tmp_path: Path) -> None:
    notes: list[str] = []
    path = tmp_path / "a.png"
    path.write_text("of an earlier run")
    for failure in (ValueError("no \udce9\nsecond line"), UserError("cannot write a.png: No space left on device"), MemoryError()):

        def draw(_: Path, failure: Exception = failure) -> None:
            raise failure

        assert not try_to_draw(path, draw, on_note=notes.append) and not path.exists()
    assert notes[0] == r"a.png could not be made: no \udce9" and "No space left" in notes[1] and "MemoryError" in notes[2]
    assert all("\n" not in note and note.encode() for note in notes)
    assert try_to_draw(path, Path.touch, on_note=notes.append) and path.exists() and len(notes) == 3


# -- search.png


@pytest.fixture(scope="module")
def result() -> SearchResult:
    """A search in which every third evaluation fails."""
    return run_search(SearchOptions(dataset="cifar10", oracle="tests.search_fakes:FlakyOracle", method="evolution", budget=40))


def words(figure: Figure) -> list[str]:
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    return [text.get_text() for place in (*figure.axes, *legends) for text in place.texts]


def test_the_curve_shows_its_reference_and_the_best_architecture(
    result: SearchResult, space: NASBench201, tmp_path: Path, figures: list[Figure]
) -> None:
    assert result.best
    reference = Reference(90.0, np.array([1, 20, 40]), np.array([30.0, 45.0, 50.0]))
    search_picture(tmp_path / "a.png", result, space, reference=reference, finally_tested=0.5)
    axes, cell, below = figures[0].axes
    said = words(figures[0])
    assert {"best of the table: 90.00 %", "random search, expected best", "best so far", "evaluated", "failed"} <= set(said)
    assert "".join(below.texts[0].get_text().split("\n")) == result.best.arch
    assert "test accuracy after the final training 50.00 %" in cell.get_title().replace("\n", " ")
    assert axes.get_ylim()[1] > 90 and axes.get_xticks()[0] == 1 and axes.get_xlabel() == "labels paid for (evaluations)"
    dashed = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert set(dashed.get_ydata()) == {90.0}
    search_picture(tmp_path / "b.png", result, space)
    assert not [text for text in words(figures[1]) if "table" in text or "random" in text]


def test_no_point_is_cut_at_the_axis(result: SearchResult, space: NASBench201, tmp_path: Path, figures: list[Figure]) -> None:
    for changed in (result, replace(result, trials=result.trials[:3], labels_target=3, incumbent_curve=result.incumbent_curve[:3])):
        search_picture(tmp_path / "a.png", changed, space)
        axes = figures[-1].axes[0]
        room = axes.bbox
        count = 0
        for points in axes.collections:
            assert isinstance(points, PathCollection)
            radius = np.sqrt(points.get_sizes().max()) / 2 * figures[-1].dpi / 72
            for x, y in points.get_offset_transform().transform(points.get_offsets()):
                count += 1
                assert room.x0 + radius <= x <= room.x1 - radius and room.y0 + radius <= y <= room.y1 - radius
        assert count == changed.labels_target  # each label is a point, a cross, or a mark of a value below the range


def test_a_search_without_a_best_architecture_is_drawn(result: SearchResult, space: NASBench201, tmp_path: Path) -> None:
    failed = [replace(trial, value=None, error="broken") for trial in result.trials]
    nothing = replace(result, best=None, trials=tuple(failed), incumbent_curve=(None,) * len(failed))
    search_picture(tmp_path / "a.png", nothing, space)
    search_picture(tmp_path / "b.png", replace(nothing, trials=(), incumbent_curve=(), labels_target=0), space)
    assert imread(tmp_path / "a.png").shape[0] > 300


def test_names_of_any_kind_end_in_a_picture(result: SearchResult, space: NASBench201, tmp_path: Path, _bare: None) -> None:
    for name in (r"$\frac{1}$", "".join(ODD)):
        search_picture(tmp_path / "a.png", replace(result, dataset=f"/tmp/{name}", predictor=name, space=name), space)
        (tmp_path / "a.png").unlink()


def test_the_files_of_a_search_do_not_depend_on_its_picture(
    result: SearchResult, space: NASBench201, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path, *_: Any, **__: Any) -> None:
        raise ValueError("a formula\nthat no one can read")

    notes: list[str] = []
    odd = replace(result, trials=(replace(result.trials[0], error=f"in \udce9 {CAT}"), *result.trials[1:]))
    monkeypatch.setattr(files, "search_picture", fails)
    files.write_result(tmp_path, odd, space, more={"classes": [*ODD]}, on_note=notes.append)
    assert notes == ["search.png could not be made: a formula"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.json", "trials.csv"]
    assert json.loads((tmp_path / "result.json").read_text())["classes"] == [*ODD]
    assert rf"in \udce9 {CAT}" in (tmp_path / "trials.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(("count", "ticks"), [(1, [1]), (4, [1, 2, 3, 4]), (30, [1, 5, 10, 15, 20, 25, 30]), (200, [1, *range(50, 201, 50)])])
def test_labels_are_counted_from_one(count: int, ticks: list[int]) -> None:
    found = label_ticks(count)
    assert found[0] == 1 and found[-1] <= count and len(found) <= 10 and set(ticks) <= set(found) and 0 not in found


def test_long_strings_are_wrapped() -> None:
    text = "|".join(f"operator_{k}" for k in range(30))
    lines = wrapped(text, 50)
    assert "".join(lines) == text and max(map(len, lines)) <= 50 and all(line.endswith(("|", "_29")) for line in lines)
    cut = wrapped("x" * 5000, 50)
    assert len(cut) == curve.STRING_LINES and cut[-1].endswith("…") and max(map(len, cut)) == 50


# -- the reference


def test_expected_best_of_random_search() -> None:
    values = np.array([3.0, np.nan, 1.0, 7.0, 7.0, 2.0, 5.5])
    found = Reference.of_values(values, budget=10)
    there = values[~np.isnan(values)]
    assert found and found.optimum == 7.0 and found.labels.tolist() == [1, 2, 3, 4, 5, 6]
    for n, mean in zip(found.labels, found.mean, strict=True):
        assert mean == pytest.approx(np.mean([max(drawn) for drawn in itertools.combinations(there, n)]))
    assert Reference.of_values(np.array([np.nan]), budget=3) is None
    large = Reference.of_values(np.linspace(0, 1, 50_000), budget=2000)
    assert large and len(large.mean) == 200 and large.labels[[0, -1]].tolist() == [1, 2000] and large.mean[0] == pytest.approx(0.5)
    assert large.mean[-1] == pytest.approx(2000 / 2001, abs=1e-4) and (np.diff(large.mean) > 0).all()


def test_only_a_table_without_limits_is_a_reference() -> None:
    columns = {"cifar10/val/12": np.array([1.0, 2.0]), "cifar10/val/200": np.array([3.0, 9.12346])}
    table = BenchmarkTable("s", ("a", "b"), columns, {}, "1", "0")
    options = SimpleNamespace(dataset="cifar10", reward="val", budget=2)

    def reference(oracle: object, *limits: str) -> Reference | None:
        parts = SimpleNamespace(goal=SimpleNamespace(limits=limits, has_front=False, label_sign=1.0))
        return reference_of(SimpleNamespace(oracle=oracle, options=options, parts=parts))  # type: ignore[arg-type]

    found = reference(SimpleNamespace(table=table))
    assert found and found.optimum == 9.1235 and found.labels.tolist() == [1, 2]
    assert reference(SimpleNamespace(table=table), "params<=10") is None and reference(SimpleNamespace()) is None


# -- confusion.png


def counts_of(classes: int) -> np.ndarray:
    """20 images a class: one error in class 1, two in class 2, and so on up to 9."""
    counts = np.diag(np.full(classes, 20))
    for k in range(classes):
        counts[k, k] -= min(k, 9)
        counts[k, (k + 1) % classes] += min(k, 9)
    return counts


@pytest.mark.parametrize("classes", [1, 10, 30, 100])
def test_a_matrix_names_its_classes(classes: int, tmp_path: Path, figures: list[Figure]) -> None:
    labels = [f"class number {k}" for k in range(classes)]
    confusion_picture(tmp_path / "c.png", counts_of(classes), labels, title="some images")
    axes = figures[0].axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [text.get_text() for text in axes.get_xticklabels()] == labels
    assert len(axes.texts) == (np.count_nonzero(counts_of(classes)) if classes <= 40 else 0)
    assert figures[0].get_suptitle().startswith("some images\n") and "blue: right, red: wrong" in figures[0].get_supxlabel()
    height, width = imread(tmp_path / "c.png").shape[:2]
    assert 300 < height < 3000 and 300 < width < 3000


@pytest.mark.parametrize("classes", [121, 1000])
def test_many_classes_are_summed_up(classes: int, tmp_path: Path, figures: list[Figure]) -> None:
    counts = counts_of(classes)
    counts[77, 77], counts[77, 5] = 2, 18
    counts[99] = 0  # a class without a test image
    confusion_picture(tmp_path / "c.png", counts, [f"class number {k}" for k in range(classes)], title="many")
    every, errors, worst = figures[0].axes
    assert worst.get_yticklabels()[0].get_text().startswith("class number 77: 2 of 2")
    assert errors.get_yticklabels()[0].get_text().startswith("class number 77 → class number 5: 18 of 2")
    assert every.get_xlabel() == f"{classes - 1:,} classes, from worst to best"
    height, width = imread(tmp_path / "c.png").shape[:2]
    assert 300 < height < 3000 and 300 < width < 3000
    colours = imread(tmp_path / "c.png")[..., :3]
    assert (np.ptp(colours, axis=2) > 0.2).mean() > 0.05  # not grey


def test_errors_are_listed_by_their_frequency() -> None:
    counts = np.array([[5, 0, 7], [2, 9, 0], [0, 1, 0]])
    assert frequent_errors(counts) == [(0, 2), (1, 0), (2, 1)]
    assert frequent_errors(np.diag([3, 4])) == []


@pytest.mark.parametrize("classes", [len(ODD), 200])
def test_classes_of_any_name_end_in_a_picture(classes: int, tmp_path: Path, figures: list[Figure], _bare: None) -> None:
    labels = [ODD[k] if k < len(ODD) else f"{k}" for k in range(classes)]
    confusion_picture(tmp_path / "c.png", np.eye(classes, dtype=int), labels, title="".join(ODD) * 3)
    said = [text.get_text() for axes in figures[0].axes for text in axes.get_yticklabels()]
    shown = [text.removesuffix(": 1 of 1") for text in said]
    assert {r"\$\frac{1}\$", r"caf\xe9", "#3", "#4", "line break"} <= set(shown)
    assert "#k: the name of class k" in figures[0].get_supxlabel().replace("\n", " ")


def test_no_image_at_all_is_drawn(tmp_path: Path) -> None:
    confusion_picture(tmp_path / "c.png", np.zeros((3, 3), int), ["a", "b", "c"], title="none")
    confusion_picture(tmp_path / "d.png", np.diag(np.full(200, 1)), [str(k) for k in range(200)], title="no error")
    assert (tmp_path / "c.png").is_file() and (tmp_path / "d.png").is_file()
