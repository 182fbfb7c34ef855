"""The spaces `transnasbench101-micro` and `-macro`: strings, canonical form, networks, and the benchmark's table."""

from __future__ import annotations

import csv
import gzip
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from diffnag import search
from diffnag.arch import ArchBatch
from diffnag.errors import UserError
from diffnag.guidance.checked import load_predictor
from diffnag.oracles.table import TableOracle
from diffnag.protocols import Oracle, SearchSpace
from diffnag.search_loop.show.measure import Measure
from diffnag.search_spaces.shared.connection_cells import CONNECTIONS
from diffnag.search_spaces.transnasbench101.space import ABSENT, OPERATIONS, TransNASBench101Macro, TransNASBench101Micro
from diffnag.search_spaces.transnasbench101.table import COLUMNS, read
from diffnag.spaces.counting import measured_size
from diffnag.testing import OracleContract, SearchSpaceContract, draws
from tests.edited import Change, edited
from tests.exporting import onnx_difference

MICRO, MACRO = TransNASBench101Micro(), TransNASBench101Macro()
SPACES = pytest.mark.parametrize("space", [MICRO, MACRO], ids=["micro", "macro"])


@pytest.fixture(scope="module")
def rows(data_folder: Path) -> list[dict[str, str]]:
    """The benchmark's table, one dict for each architecture."""
    with gzip.open(data_folder / "trans_nas_bench_101.csv.gz", "rt") as file:
        return list(csv.DictReader(file))


class TestMicro(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return TransNASBench101Micro()


class TestMacro(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return TransNASBench101Macro()


@SPACES
def test_the_space_is_that_of_the_table(space: SearchSpace, rows: list[dict[str, str]]) -> None:
    texts = [space.to_str(arch) for arch in space.enumerate() or ()]
    assert len(set(texts)) == len(texts)
    assert set(texts) == {row["arch"] for row in rows if space.name.endswith(row["space"])}


class TestStrings:
    def test_order_of_the_operations(self) -> None:
        assert MICRO.to_parameters(MICRO.from_str("64-41414-1_02_333")) == {
            "0->1": "skip_connect", "0->2": "none", "1->2": "nor_conv_1x1",
            "0->3": "nor_conv_3x3", "1->3": "nor_conv_3x3", "2->3": "nor_conv_3x3",
        }  # fmt: skip

    def test_order_of_the_modules(self) -> None:
        arch = MACRO.from_str("64-12341-basic")
        assert [MACRO.operators[op] for op in arch.ops] == [
            "normal", "double_channels", "halve_resolution", "double_and_halve", "normal", "absent"
        ]  # fmt: skip
        assert arch.edges == ((0, 1), (1, 2), (2, 3), (3, 4))

    @pytest.mark.parametrize("text", ["", "64-41414-4_00_000", "64-41414-0_0_0000", "64-1444-basic", "32-41414-0_00_000"])
    def test_other_text_is_no_cell(self, text: str) -> None:
        with pytest.raises(UserError, match="no transnasbench101-micro string; expected 64-41414-a_bc_def"):
            MICRO.from_str(text)

    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("", "does not have this form"),
            ("64-1454-basic", "does not have this form"),
            ("64-41414-3_03_101", "does not have this form"),
            ("64-144-basic", "3 modules, not 4 to 6"),
            ("64-1444111-basic", "7 modules, not 4 to 6"),
            ("64-1133-basic", "0 of its modules double the channels, not 1 to 3"),
            ("64-4444-basic", "4 of its modules double the channels"),
            ("64-1222-basic", "0 of its modules halve the resolution, not 1 to 4"),
            ("64-433331-basic", "5 of its modules halve the resolution"),
        ],
    )
    def test_other_text_is_refused_with_the_broken_rule(self, text: str, rule: str) -> None:
        with pytest.raises(UserError, match=f"no transnasbench101-macro string: .*{rule}"):
            MACRO.from_str(text)

    def test_choices_that_break_a_rule(self) -> None:
        choices = MACRO.to_parameters(MACRO.from_str("64-1444-basic"))
        with pytest.raises(UserError, match="a module follows an absent one"):
            MACRO.from_parameters({**choices, "module 6": "normal"})
        with pytest.raises(UserError, match="4 of its modules double the channels"):
            MACRO.from_parameters({**choices, "module 5": "double_channels"})


class TestMacroMatrices:
    def test_constant_entries(self) -> None:
        batch = ArchBatch.of(list(MACRO.enumerate()), MACRO)
        for part, constant in zip((batch.V, batch.E), MACRO.constant, strict=True):
            assert ((part.amin(0) == part.amax(0)).numpy() == constant).all()

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ([("V", 3, 0, 1)], "node 3 has 2 operators"),
            ([("V", 2, 3, 0), ("V", 2, ABSENT, 1)], "node 3 is a module, but node 2 before it is absent"),
            ([("V", 3, 3, 0), ("V", 3, ABSENT, 1)], "it has 3 modules, not 4 to 6"),
            ([("V", 0, 0, 0), ("V", 0, 1, 1)], "4 of its modules double the channels, not 1 to 3"),
            ([("E", 2, 3, 0)], "edge 2->3 is missing with these modules"),
            ([("E", 3, 4, 1)], "edge 3->4 is not in the space with these modules"),
        ],
    )
    def test_reasons(self, changes: list[Change], reason: str) -> None:
        assert MACRO.decode(*edited(MACRO, "64-1444-basic", changes)) == (None, reason)

    def test_random_is_uniform(self) -> None:
        lengths = Counter(len(MACRO.modules(arch)) for arch in draws(MACRO, 3_256))
        there = Counter(len(MACRO.modules(arch)) for arch in MACRO.enumerate())
        assert all(abs(lengths[count] - there[count]) < 150 for count in there)


def test_cells_of_one_class_compute_the_same() -> None:
    """Every cell is applied to a random vector; each operation is a fixed non-linear function, in a cell that halves its map."""
    rng = np.random.default_rng(0)
    archs = list(MICRO.enumerate())
    chosen = np.array([MICRO.operations(arch) for arch in archs])
    matrices = rng.normal(size=(4, 8, 8))
    maps = np.zeros((4, len(archs), 8))
    maps[0] = rng.normal(size=8)
    for connection, (source, target) in enumerate(CONNECTIONS):
        for index, name in enumerate(OPERATIONS):
            of_it, x = chosen[:, connection] == index, maps[source]
            skipped = name == "skip_connect" and source > 0
            if name != "none":
                maps[target, of_it] += x[of_it] if skipped else np.sin(x[of_it] @ matrices[index])  # sin(0) = 0, so a dead map stays 0
    values = [row.tobytes() for row in np.round(maps[3], 8) + 0.0]
    pairs = set(zip(map(MICRO.canonical, archs), values, strict=True))
    assert len(pairs) == len(set(values)) == len(set(map(MICRO.canonical, archs))) == 1_229


class TestNetworks:
    def test_parameters_by_hand(self) -> None:
        """The modules of ResNet-18: stem, blocks of 64 to 512 channels with three projections, head."""
        stem = 9 * 3 * 32 + 64 + 9 * 32 * 64 + 128
        first = 4 * (9 * 64**2 + 128)
        others = sum(9 * c * 2 * c + 3 * 9 * (2 * c) ** 2 + 2 * c**2 + 5 * 4 * c for c in (64, 128, 256))
        assert MACRO.size(MACRO.from_str("64-1444-basic"), num_classes=75).params == stem + first + others + 513 * 75

    @SPACES
    @pytest.mark.parametrize(("channels", "cells", "image_size", "stem_stride"), [(8, 2, 64, 4), (6, 1, 33, 1), (12, 3, 47, 3), (4, 1, 9, 8)])
    def test_size_equals_the_built_network(self, space: Any, channels: int, cells: int, image_size: int, stem_stride: int) -> None:
        options = {"channels": channels, "cells": cells, "num_classes": 7, "stem_stride": stem_stride}
        full = "64-41414-3_13_231" if space is MICRO else "64-432134-basic"
        for arch in map(space.from_str, (full, space.resnet_like)):
            network = space.build(arch, **options)
            assert space.size(arch, image_size=image_size, **options) == measured_size(network, image_size=image_size)
            logits = network(torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0)))
            assert logits.shape == (2, 7) and logits.isfinite().all()

    def test_channels_and_sides(self) -> None:
        """Modules 4, 3, 2, 1, 3, 4 with two blocks each, for images of 64 pixels a side."""
        x, seen = torch.zeros(1, 3, 64, 64), []
        network = MACRO.build(MACRO.from_str("64-432134-basic"), channels=4, num_classes=2).eval()
        x = network.stem(x)
        for block in network.body:
            x = block(x)
            seen.append(tuple(x.shape[1:3]))
        assert seen[::2] == seen[1::2] == [(8, 8), (8, 4), (16, 4), (16, 4), (16, 2), (32, 1)]

    def test_a_skip_is_the_identity_unless_the_map_is_halved(self) -> None:
        network = MICRO.build(MICRO.from_str("64-41414-0_00_100"), channels=4, num_classes=2).eval()
        x = torch.randn(2, 8, 8, 8)
        assert torch.equal(network.body[1](x), x)
        assert len(network.body[0].convs) == 1 and network.body[0](x[:, :4]).shape == (2, 8, 4, 4)

    def test_a_cell_that_computes_nothing_still_gives_logits(self) -> None:
        network = MICRO.build(MICRO.from_str("64-41414-0_00_000"), channels=4, num_classes=2)
        assert torch.equal(network(torch.randn(2, 3, 33, 33)), network.classifier.bias.expand(2, 2))

    def test_every_weight_is_used(self) -> None:
        torch.manual_seed(0)
        for space, text in ((MICRO, "64-41414-1_23_132"), (MACRO, "64-432134-basic")):
            network: nn.Module = space.build(space.from_str(text), channels=8, cells=1, num_classes=5, stem_stride=1)
            network(torch.randn(8, 3, 16, 16)).square().sum().backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())

    @SPACES
    def test_options_that_make_no_network(self, space: Any) -> None:
        arch = space.from_str(space.resnet_like)
        for wrong in ({"channels": 1}, {"cells": 0}, {"stem_stride": 0}):
            with pytest.raises(UserError, match="at least 2 channels"):
                space.build(arch, num_classes=2, **wrong)

    @pytest.mark.slow
    @pytest.mark.timeout(300)
    @SPACES
    def test_onnx(self, space: SearchSpace, tmp_path: Path) -> None:
        (arch,) = draws(space, 1)
        assert onnx_difference(arch, space, channels=8, image_size=32, path=tmp_path / "a.onnx") <= 1e-4


class TestTable:
    @pytest.fixture(params=[MICRO, MACRO], ids=["micro", "macro"])
    def space(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.fixture
    def oracle(self, space: SearchSpace, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Oracle:
        monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
        oracle = TableOracle()
        oracle.setup(space=space)
        return oracle

    def test_published_optima(self, oracle: Oracle, space: SearchSpace) -> None:
        """Best validation values in the paper's table of the optima, which gives the loss in hundredths."""
        optima = {"class_scene": 54.94, "class_object": 46.32, "jigsaw": 95.37, "room_layout": -0.5938}
        if space is MACRO:
            optima = {"class_scene": 57.48, "class_object": 47.96, "jigsaw": 97.02, "room_layout": -0.5628}
        archs = list(space.enumerate() or ())
        for task, best in optima.items():
            found = max(oracle.query(arch, dataset=task, split="val") for arch in archs)
            assert found == pytest.approx(best, abs=0.005 if best > 0 else 0.00005)

    def test_values_are_those_of_the_file(self, oracle: Oracle, space: SearchSpace, rows: list[dict[str, str]]) -> None:
        (row,) = (row for row in rows if row["arch"] == ("64-41414-3_33_112" if space is MICRO else "64-432134-basic"))
        for task, name in (("class_object", "test_top1"), ("jigsaw", "valid_top1"), ("room_layout", "valid_neg_loss")):
            split = "test" if name.startswith("test") else "val"
            value = oracle.query(space.from_str(row["arch"]), dataset=task, split=split)
            assert value == pytest.approx(float(row[f"{task}|{name}"]), abs=1e-4)
        assert oracle.available["room_layout"] == ("val", "test")


class TestMicroOracle(OracleContract):
    low = -2.0

    @pytest.fixture
    def space(self) -> SearchSpace:
        return TransNASBench101Micro()

    oracle = TestTable.oracle


class TestReading:
    def write(self, path: Path, *, name: str = "", arch: str = "64-1444-basic", value: str = "50", times: int = 1) -> Path:
        head = ["arch", "space", *("|".join(column) for column in COLUMNS.values())]
        row = [arch, "macro", *(value if column == name else "-0.5" if "neg_loss" in column else "40" for column in head[2:])]
        path.write_text("\n".join([",".join(head), *[",".join(row)] * times]) + "\n")
        return path

    def read(self, path: Path, *, trust_pickle: bool = False) -> Any:
        return read(path, MACRO, part="macro", trust_pickle=trust_pickle)

    def test_infinite_values_are_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        table = self.read(self.write(tmp_path / "a.csv", name="room_layout|valid_neg_loss", value="-inf"))
        assert np.isnan(table.values["room_layout/val/25"]).all() and table.values["room_layout/test/25"] == [-0.5]
        table.save(tmp_path / "transnasbench101-macro.npz")
        monkeypatch.setenv("DIFFNAG_DATA", str(tmp_path))
        oracle = TableOracle()
        oracle.setup(space=MACRO)
        with pytest.raises(UserError, match="has room_layout/val/25 for 0 of its 1 architectures"):
            oracle.query(MACRO.from_str("64-1444-basic"), dataset="room_layout", split="val")

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"times": 2}, "an architecture twice"),
            ({"times": 0}, "no architecture of space .transnasbench101-macro."),
            ({"arch": "64-4444-basic"}, "no transnasbench101-macro string"),
            ({"name": "jigsaw|test_top1", "value": "101"}, "not within 0 and 100"),
            ({"name": "jigsaw|test_top1", "value": "0.9"}, "at most 0.9 % in jigsaw/test/10, which look like fractions"),
            ({"name": "jigsaw|test_top1", "value": "x"}, "no readable TransNAS-Bench-101 table"),
        ],
    )
    def test_damaged_files(self, tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError, match=message):
            self.read(self.write(tmp_path / "a.csv", **wrong))

    def test_other_files(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("arch,space\n")
        for path, message in ((tmp_path / "none.csv", "there is no file"), (tmp_path / "a.csv", "lacks the column class_scene")):
            with pytest.raises(UserError, match=message):
                self.read(path)

    def test_the_official_file(self, tmp_path: Path) -> None:
        """A file in the layout that the benchmark's API reads; values are the best over the epochs."""
        path = tmp_path / "transnas-bench.pth"
        series = {"top1": [10.0, 30.0, 20.0], "neg_loss": [-0.9, -0.7, -0.8]}
        tasks: dict[str, Any] = {task: {"metrics": {}, "total_epochs": 3} for task, _ in COLUMNS.values()}
        for task, metric in COLUMNS.values():
            tasks[task]["metrics"][metric] = series[metric.split("_", 1)[1]]
        torch.save({"data": {"macro": {"64-1444-basic": tasks}, "micro": {}}}, path)
        with pytest.raises(UserError, match="--trust-pickle"):
            self.read(path)
        table = self.read(path, trust_pickle=True)
        assert table.archs == ("64-1444-basic",)
        assert table.values["jigsaw/test/10"] == [30] and table.values["room_layout/val/25"] == [np.float32(-0.7)]
        torch.save({"data": {}}, path)
        with pytest.raises(UserError, match="no readable TransNAS-Bench-101 file"):
            self.read(path, trust_pickle=True)


def test_a_loss_is_called_a_loss() -> None:
    loss = Measure.of(MICRO, dataset="room_layout", kind="table")
    assert (loss.name("val"), loss.unit, loss.figure(-0.59378)) == ("validation negative loss", "", "-0.5938")
    accuracy = Measure.of(MICRO, dataset="jigsaw", kind="surrogate")
    assert (accuracy.name("test"), accuracy.unit, accuracy.figure(46.317)) == ("surrogate test accuracy", "%", "46.32")


def test_a_search_reports_losses(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    given = ["--space", "transnasbench101-macro", "--dataset", "room_layout", "--predictor", "flops", "--candidates", "32", "--budget", "4"]
    monkeypatch.setattr(sys, "argv", ["search", *given, "--batch", "2", "--out", str(tmp_path / "run")])
    search.main()
    said = capsys.readouterr().out
    assert "test negative loss" in said and "  best -0." in said and "; predicted -0." in said  # in the unit of the labels
    assert "accuracy" not in said and "%" not in said


def test_there_is_no_meta_predictor() -> None:
    with pytest.raises(UserError, match="no sister-tables meta-predictor for room_layout is shipped for space 'transnasbench101-macro'"):
        load_predictor("meta", space=MACRO, dataset="room_layout", seed=0)
