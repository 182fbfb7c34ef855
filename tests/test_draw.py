"""Pictures of architectures: content, layout, files, bad input."""

from __future__ import annotations

import itertools
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from diffnag import draw
from diffnag.command.running import run_command
from diffnag.drawing import picture as drawing
from diffnag.drawing.arrangement import Arrangement
from diffnag.drawing.layered import Point
from diffnag.plugins import names
from diffnag.protocols import SearchSpace
from diffnag.search_spaces.darts.space import DARTS
from diffnag.search_spaces.mobilenetv3.space import MobileNetV3
from diffnag.search_spaces.nasbench101.space import NASBench101
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.loading import load_space

CELL = "conv3x3@0/maxpool3x3@0,1/output@1,2"
WORDS = ("input", "output")
CELL_OF_SKIPS = str([("skip_connect", 0), ("skip_connect", 1)] * 4)
GENOTYPE = f"Genotype(normal={CELL_OF_SKIPS}, normal_concat=[2, 3, 4, 5], reduce={CELL_OF_SKIPS}, reduce_concat=[2, 3, 4, 5])"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["draw", *arguments])
    run_command(draw.main)


def curve(way: tuple[Point, ...]) -> np.ndarray:
    """Points along an edge as it is drawn: level at each point that it passes."""
    t = np.linspace(0, 1, 40)[:, None]
    parts = []
    for start, end in itertools.pairwise(np.array(way)):
        middle = (start[0] + end[0]) / 2
        one, other = np.array([middle, start[1]]), np.array([middle, end[1]])
        parts.append((1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * one + 3 * (1 - t) * t**2 * other + t**3 * end)
    return np.concatenate(parts)


def crossings(found: Arrangement) -> int:
    """Number of crossings between edges that neither leave the same box nor arrive at the same box."""
    count = 0
    for (one, way), (other, its) in itertools.combinations(found.ways.items(), 2):
        if one[0] != other[0] and one[1] != other[1]:
            a, b = curve(way), curve(its)
            x = np.linspace(max(a[0, 0], b[0, 0]), min(a[-1, 0], b[-1, 0]), 200)
            above = np.interp(x, *a.T) > np.interp(x, *b.T)
            count += int((above[1:] != above[:-1]).sum()) if x[-1] > x[0] else 0
    return count


@pytest.mark.parametrize("name", names("space"))
def test_no_box_lies_on_another_and_no_edge_runs_through_one(name: str) -> None:
    space, rng = load_space(name), np.random.default_rng(0)
    for _ in range(10):
        found = drawing.arrangement_of(space.random(rng), space)
        left, bottom, right, top = found.bounds
        for box, other in itertools.combinations(found.boxes, 2):
            apart = np.abs(np.subtract(box.centre, other.centre)) - np.add(box.size, other.size) / 2
            assert apart.max() > 0.1
        for (i, j), way in found.ways.items():
            points = curve(way)
            assert (points > (left, bottom)).all() and (points < (right, top)).all()
            for k, box in enumerate(found.boxes):
                if k not in (i, j):
                    assert (np.abs(points - box.centre) - np.array(box.size) / 2).max(1).min() > 0


@pytest.mark.parametrize("name", names("space"))
def test_all_operators_that_are_there_are_drawn(name: str) -> None:
    space, rng = load_space(name), np.random.default_rng(1)
    for _ in range(5):
        arch = space.random(rng)
        picture = drawing.picture_of(arch, space)
        there = Counter(space.operators[op] for op in arch.ops if space.operators[op] not in ("absent", *WORDS))
        assert there == Counter(text for text in picture.texts if text in space.operators and text not in WORDS)


def test_without_a_word_of_the_space_nodes_and_edges_are_drawn(space: NASBench201) -> None:
    arch = space.of_operations((3, 0, 1, 2, 4, 3))
    picture = drawing.picture_of(arch, space)
    assert picture.edges == arch.edges and picture.texts == tuple(space.operators[op] for op in arch.ops) and not picture.panels
    found = drawing.arrangement_of(arch, space)
    assert [box.text for box in found.boxes] == list(picture.texts) and set(found.ways) == set(arch.edges)
    columns = sorted({box.centre[0] for box in found.boxes})
    assert [columns.index(box.centre[0]) for box in found.boxes] == [0, 1, 1, 2, 1, 2, 3, 4]  # the longest way from the input


def test_edges_that_need_not_cross_do_not() -> None:
    space = NASBench101()
    arch = space.from_str("conv3x3@0/conv3x3@1/maxpool3x3@0,2/maxpool3x3@1,3/maxpool3x3@4/output@5")
    assert crossings(drawing.arrangement_of(arch, space)) == 0
    crossed = drawing.arrangement_of(space.from_str("conv1x1@0/conv3x3@0/maxpool3x3@1,2/conv1x1@1,2/output@3,4"), space)
    assert crossings(crossed) == 1  # two vertices that both read the same two


def test_darts_is_two_cells_between_states() -> None:
    space = DARTS()
    arch = space.random(np.random.default_rng(0))
    picture = space.picture(arch)
    assert Counter(picture.panels) == {"normal cell": 15, "reduction cell": 15}
    for cell, first in zip(space.cells(arch), (0, 15), strict=True):
        for place, (op, state) in enumerate(cell):
            node = first + 7 + place
            assert picture.texts[node] == space.operators[op + 2]
            assert {(first + state, node), (node, first + 2 + place // 2)} <= set(picture.edges)
    assert len(picture.edges) == 2 * (16 + 4) and not any(i < 15 <= j for i, j in picture.edges)
    frames = drawing.arrangement_of(arch, space).frames
    assert frames["normal cell"][2] < frames["reduction cell"][0]  # side by side


def test_mobilenetv3_stages_are_columns() -> None:
    space = MobileNetV3()
    arch = space.of_stages([[0, 1], [2, 3, 4], [5, 6, 7, 8], [0, 0], [1, 1, 1]])
    found = drawing.arrangement_of(arch, space)
    assert len(found.boxes) == 14 and len(found.ways) == 13 and list(found.frames) == [f"stage {k}" for k in range(1, 6)]
    columns = Counter(round(box.centre[0], 6) for box in found.boxes)
    assert [columns[x] for x in sorted(columns)] == [2, 3, 4, 2, 3]


@pytest.mark.parametrize("name", names("space"))
def test_operators_have_colours_of_their_own(name: str) -> None:
    colours = drawing.colours_of(load_space(name).operators)
    assert len(set(colours.values())) == len(colours) > 1
    assert not {"none", "input", "output", "absent"} & set(colours) and drawing.GREY not in map(to_hex, colours.values())


def test_small_pictures_have_a_legend() -> None:
    space = MobileNetV3()
    arch = space.of_stages([[0, 1]] * 5)
    for side, expected in ((2.0, ["mbconv3_3x3", "mbconv4_3x3"]), (20.0, None)):
        axes = Figure(figsize=(side, side)).add_axes((0, 0, 1, 1))
        drawing.draw(arch, space, axes)
        legend = axes.get_legend()
        assert (legend and [text.get_text() for text in legend.get_texts()]) == expected


@pytest.mark.parametrize("suffix", drawing.SUFFIXES)
def test_the_command_writes_a_picture(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / f"new/{name}{suffix}" for name in "ab"]
    for path in paths:
        run(monkeypatch, CELL, "--space", "nasbench101", "--out", str(path))
        assert capsys.readouterr().out == f"wrote {path}\n"
    content = paths[0].read_bytes()
    assert content == paths[1].read_bytes()
    if suffix == ".svg":
        shapes = ElementTree.fromstring(content).iter("{http://www.w3.org/2000/svg}path")
        assert len(list(shapes)) > 4 + 4 + 5  # boxes, their texts, arrows
    elif suffix == ".png":
        with Image.open(paths[0]) as image:
            seen = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
        found = drawing.colours_of(NASBench101.operators)
        drawn = {tuple(round(255 * part) for part in found[operator]) for operator in ("conv3x3-bn-relu", "maxpool3x3")}
        assert drawn <= seen and tuple(round(255 * part) for part in found["conv1x1-bn-relu"]) not in seen
    else:
        assert content.startswith(b"%PDF")


def cases() -> list[tuple[str, str, str]]:
    return [
        ("nasbench201", CELL, "is no NAS-Bench-201 string"),
        ("nasbench101", NASBench201.resnet_like, "is no NAS-Bench-101 string"),
        ("nasbench101", "conv9x9@0/output@1", "there is no operation 'conv9x9'"),
        ("nasbench101", "conv3x3@2/conv3x3@1/output@2", "its graph has a cycle"),
        ("nasbench101", "conv3x3@1/output@1", "its graph has a cycle"),
        ("nasbench101", "conv3x3@0/conv3x3@2/output@2", "its graph has a cycle"),
        ("nasbench101", "/".join(f"conv3x3@{k}" for k in range(7)) + "/output@7", "it has 9 vertices, at most 7 are allowed"),
        ("nasbench101", "conv3x3@0/conv3x3@0,1/conv3x3@0,1,2/conv3x3@0,1,2,3/output@4", "it has 11 edges, at most 9 are allowed"),
        ("nasbench101", "conv3x3@0/output@2", "vertex 2 is read, but only vertices 0 to 1 can be read"),
        ("nasbench101", "conv3x3@0/conv3x3@0", "exactly its last vertex must be output"),
        ("nasbench201", NASBench201.resnet_like.replace("none~1", "conv9x9~1"), "there is no operation 'conv9x9'"),
        ("mobilenetv3", CELL, "is no mobilenetv3 string"),
        ("mobilenetv3", "3-6:" + ":".join(["3-6_3-6"] * 4), "stage 1 has 1 layers, not 2 to 4"),
        ("mobilenetv3", ":".join(["3-6_9-6"] * 5), "stage 1 has a layer '9-6'"),
        ("darts", CELL, "is no darts string"),
        ("darts", GENOTYPE.replace("('skip_connect', 1)", "('conv_9x9', 1)", 1), "the normal cell has the operation 'conv_9x9'; there are: "),
        ("darts", GENOTYPE.replace("1)", "2)", 1), "state 2 of the normal cell reads state 2, which is not an earlier one"),
        ("darts", GENOTYPE.replace("1)", "0)", 1), "state 2 of the normal cell reads state 0 twice"),
        ("transnasbench101-micro", "64-1444-basic", "is no transnasbench101-micro string"),
        ("transnasbench101-macro", "64-41414-3_03_101", "is no transnasbench101-macro string"),
        ("transnasbench101-macro", "64-1111-basic", "0 of its modules double the channels, not 1 to 3"),
        ("elsewhere", CELL, "unknown space 'elsewhere'; there are: "),
    ]


@pytest.mark.parametrize(("space", "arch", "sentence"), cases())
def test_bad_architectures(space: str, arch: str, sentence: str, tmp_path: Path, monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, arch, "--space", space, "--out", str(tmp_path / "a.png"))
    printed = capsys.readouterr().err
    assert stop.value.code == 2 and sentence in printed and printed.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("space", "other"), [*itertools.permutations(names("space"), 2)])
def test_a_string_of_another_space(space: str, other: str, tmp_path: Path, monkeypatch, capsys) -> None:
    elsewhere = load_space(other)
    arch = elsewhere.to_str(elsewhere.random(np.random.default_rng(0)))
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, arch, "--space", space, "--out", str(tmp_path / "new" / "a.png"))
    printed = capsys.readouterr().err
    assert stop.value.code == 2 and " is no " in printed and " string" in printed and printed.count("\n") == 1 and not list(tmp_path.iterdir())


def test_what_is_drawn_otherwise_than_given_is_said(tmp_path: Path, monkeypatch, capsys) -> None:
    """A vertex without a way to the output is pruned, as in the benchmark."""
    run(monkeypatch, "conv3x3@0/conv1x1@0/output@2", "--space", "nasbench101", "--out", str(tmp_path / "a.svg"))
    assert capsys.readouterr().out.endswith("a.svg (the architecture was read as conv1x1@0/output@1)\n")


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("cell.gif", "cell.gif is not the name of a picture; it has to end in .svg, .png, .pdf"),
        ("cell", "cell is not the name of a picture"),
        ("/proc/nowhere/cell.png", "cannot write /proc/nowhere/cell.png"),
        ("file/cell.png", "cannot write file/cell.png: Not a directory"),
        ("folder.png", "cannot write folder.png: Is a directory"),
        ("c" * 300 + ".png", "c.png: File name too long"),
    ],
)
def test_bad_files(out: str, sentence: str, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, CELL, "--space", "nasbench101", "--out", out)
    assert stop.value.code == 2 and sentence in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_a_space_of_ones_own_is_drawn(monkeypatch, tmp_path: Path) -> None:
    """Also with nodes without an edge, many layers and long names."""
    from diffnag.arch import Arch

    class Long(NASBench201):
        operators = ("input", "output", "a_very_long_operator_name-indeed", *NASBench201.operators[3:])

    space: SearchSpace = Long()
    drawing.save(tmp_path / "a.svg", Arch((0, *[2] * 21), tuple((k, k + 1) for k in range(20))), space)
    drawing.save(tmp_path / "b.svg", Arch((2,), ()), space)
    assert min((tmp_path / name).stat().st_size for name in ("a.svg", "b.svg")) > 1000
