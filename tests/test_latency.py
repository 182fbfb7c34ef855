"""Latency as an objective: by table, by the shipped weights, by a device file, on this machine; and accuracies under attack."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from diffnag import data
from diffnag.arch import Arch
from diffnag.command.running import run_command
from diffnag.datasets.tasks import Task
from diffnag.devices.export import Export
from diffnag.devices.file import DeviceFile
from diffnag.devices.timing import host_fingerprint
from diffnag.errors import DataNotFound, UserError
from diffnag.io.property_tables import PropertyTable, kept_file, load_properties, read_properties
from diffnag.networks.plan import Skeleton
from diffnag.objectives import latency
from diffnag.objectives.latency import Latency
from diffnag.objectives.robustness import LEVELS, Robustness
from diffnag.plugins import load_class
from diffnag.protocols import NeedsNetwork, Predicts, Sourced
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.draws import random_archs
from diffnag.spaces.loading import load_space
from tests.objectives_of_cells import SPACE, TASK, CellObjectiveContract

ARCHS = list(dict.fromkeys(random_archs(SPACE, 40, seed=3)))
STRINGS = [SPACE.to_str(arch) for arch in ARCHS]


def made(argument: str, task: Task = TASK, skeleton: Skeleton | None = None) -> Latency:
    objective = Latency.of(argument)
    objective.setup(space=SPACE, task=task, skeleton=skeleton)
    return objective


def keep_table(kind: str, archs: list[str], **columns: np.ndarray) -> None:
    PropertyTable(SPACE.name, kind, tuple(archs), columns, "").save(kept_file(SPACE.name, kind))


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFNAG_CACHE", str(tmp_path / "cache"))


def device_file(path: Path, *, host: str = "", measured: int = 12, space: str = "nasbench201", **other: int) -> Path:
    export = Export(**{"num_classes": 10, "image_size": 32, "channels": 16, "cells": 5, **other})
    ms = {text: 5.0 + arch.ops.count(5) for text, arch in zip(STRINGS[:measured], ARCHS, strict=False)}
    DeviceFile.new(load_space(space), ms, name="mine", spec=space, export=export, runtime="unknown", host=host).save(path)
    return path


# -- devices of the benchmark


def test_a_table_is_exact_and_free() -> None:
    keep_table("latency", STRINGS[:3], pixel3_ms=np.array([3.0, 5.0, 4.0]), other_1_ms=np.array([1.0, 2.0, 3.0]))
    objective = made("pixel3")
    assert (objective.name, objective.unit, objective.maximise, objective.paid, objective.measurable) == ("latency:pixel3", "ms", False, False, True)
    assert isinstance(objective, Predicts) and isinstance(objective, NeedsNetwork) and objective.note is None
    assert [objective.measure(arch, task=TASK) for arch in ARCHS[:3]] == [3, 5, 4]
    assert math.isnan(objective.measure(ARCHS[3], task=TASK))
    mean, std = objective.predict(ARCHS[:2])
    assert mean.tolist() == [3, 5] and std.tolist() == [0, 0]
    objective.learn(ARCHS[:1], [9.0])
    assert objective.predict(ARCHS[:1])[0] == 3
    assert made("other").measure(ARCHS[0], task=TASK) == 1 and made("pixel3_1").measure(ARCHS[0], task=TASK) == 3


def test_without_the_table_the_shipped_weights_predict(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = made("pixel3")
    assert objective.paid and not objective.measurable and "the table of latencies is not here" in str(objective.note)
    mean, std = objective.predict(ARCHS)
    with pytest.raises(UserError, match="cannot be measured here"):
        objective.measure(ARCHS[0], task=TASK)
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    table = made("pixel3")
    exact = np.array([table.measure(arch, task=TASK) for arch in ARCHS])
    assert np.median(np.abs(mean / exact - 1)) < 0.1
    assert (np.abs(mean - exact) < 2 * std).mean() > 0.8


@pytest.mark.parametrize(
    ("argument", "says"),
    [("nothing", "unknown device 'nothing': accepted are .*; devices of nasbench201 are 1080ti_1, .*pixel3"), ("pixel3_32", "unknown device")],
)
def test_unknown_devices(argument: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        made(argument)
    with pytest.raises(UserError, match="no device of darts is known"):
        Latency.of(argument).setup(space=load_space("darts"), task=TASK, skeleton=None)


@pytest.mark.parametrize("argument", ["", "a<=b", "two words"])
def test_names_that_are_refused(argument: str) -> None:
    with pytest.raises(UserError, match="names no device; accepted are"):
        Latency.of(argument)


def test_devices_of_the_benchmark_know_its_own_network_alone() -> None:
    with pytest.raises(UserError, match="for your own images measure a device"):
        made("pixel3", skeleton=Skeleton(8, 1))


# -- device files


def test_a_file_of_another_device_predicts_and_cannot_be_measured(tmp_path: Path) -> None:
    objective = made(str(device_file(tmp_path / "mine.device.json")))
    assert objective.paid and not objective.measurable and objective.name.endswith("mine.device.json")
    mean, std = objective.predict(ARCHS)
    true = np.array([5.0 + arch.ops.count(5) for arch in ARCHS])
    assert np.median(np.abs(mean / true - 1)) < 0.05
    known = np.isin([SPACE.to_str(arch) for arch in ARCHS], list(DeviceFile.load(tmp_path / "mine.device.json").measurements))
    assert known.any() and not std[known].any() and (mean[known] == true[known]).all() and (std[~known] > 0).all()
    assert objective.measure(ARCHS[0], task=TASK) == true[0]  # which was measured
    with pytest.raises(UserError, match="the device is not this machine"):
        objective.measure(ARCHS[20], task=TASK)


def test_what_a_search_measures_replaces_what_it_said_before(tmp_path: Path) -> None:
    path = str(device_file(tmp_path / "mine.device.json"))
    objective, other = made(path), made(path)
    before = objective.predict(ARCHS)[0]
    objective.learn(ARCHS[20:30], [50.0] * 10)
    assert not np.allclose(objective.predict(ARCHS)[0], before)
    objective.learn(ARCHS[20:22], [8.0, math.nan])
    other.learn(ARCHS[20:21], np.array([8.0]))
    np.testing.assert_array_equal(objective.predict(ARCHS), other.predict(ARCHS))
    objective.learn([], [])
    np.testing.assert_array_equal(objective.predict(ARCHS)[0], before)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Arch, Export]]:
    asked: list[tuple[Arch, Export]] = []

    def time_arch(arch: Arch, space: NASBench201, export: Export) -> float:
        asked.append((arch, export))
        return 7.5

    monkeypatch.setattr(latency, "time_arch", time_arch)
    return asked


def test_a_file_of_this_machine_is_measured_as_the_file_was(tmp_path: Path, timed: list[tuple[Arch, Export]]) -> None:
    objective = made(str(device_file(tmp_path / "mine.device.json", host=host_fingerprint(), batch=8, threads=2)))
    assert objective.measurable
    assert objective.measure(ARCHS[20], task=TASK) == 7.5
    assert timed == [(ARCHS[20], Export(10, 32, 16, 5, batch=8, threads=2))]


def test_files_of_other_networks_and_spaces(tmp_path: Path) -> None:
    path = str(device_file(tmp_path / "mine.device.json"))
    with pytest.raises(UserError, match="was measured with num classes 10, not 100"):
        made(path, Task("cifar100"))
    with pytest.raises(UserError, match="was measured with channels 16, not 8"):
        made(path, skeleton=Skeleton(8, 5))
    with pytest.raises(UserError, match="in space 'nasbench201', not in 'darts'"):
        Latency.of(path).setup(space=load_space("darts"), task=TASK, skeleton=Skeleton(16, 5))
    with pytest.raises(UserError, match="there is no device file"):
        made(str(tmp_path / "none.device.json"))


# -- this machine


def test_here(timed: list[tuple[Arch, Export]]) -> None:
    objective = made("here")
    assert objective.paid and objective.measurable and objective.name == "latency:here"
    mean, std = objective.predict(ARCHS)
    assert (mean > 0).all() and (std > mean).all()
    objective.learn(ARCHS[:10], [10.0 + arch.ops.count(5) for arch in ARCHS[:10]])
    mean, std = objective.predict(ARCHS)
    assert np.median(np.abs(mean / [10.0 + arch.ops.count(5) for arch in ARCHS] - 1)) < 0.05 and (std < mean / 4).all()
    assert objective.measure(ARCHS[0], task=TASK) == 7.5 and timed[0][1] == Export(10, 32, 16, 5)


def test_language_models_are_refused() -> None:
    with pytest.raises(UserError, match="the latency of a network is for networks that take images, and those of space 'gpt-s' take tokens"):
        Latency.of("here").setup(space=load_space("gpt-s"), task=Task("openwebtext"), skeleton=None)


def test_times_of_another_processor_are_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origins = []
    for model in ("Cortex-A72", "Cortex-A76"):
        (file := tmp_path / model).write_text(f"processor\t: 0\nmodel name\t: {model}\n")
        monkeypatch.setattr("diffnag.devices.timing.CPU_FILE", file)
        objective = made("here")
        assert isinstance(objective, Sourced) and objective.provenance() == {"processor": objective.origin}
        origins.append(objective.origin)
        assert f" {model}, " in str(objective.origin)
    assert origins[0] != origins[1]


@pytest.mark.timeout(60)
def test_a_real_timing() -> None:
    assert 0 < made("here", skeleton=Skeleton(2, 1)).measure(ARCHS[0], task=TASK) < 1000


# -- robustness


def robustness(values: np.ndarray, argument: str = "pgd@Linf/1", task: Task = TASK) -> Robustness:
    keep_table("robustness", STRINGS[: len(values)], **{"cifar10/pgd@Linf": values})
    objective = Robustness.of(argument)
    objective.setup(space=SPACE, task=task, skeleton=None)
    return objective


def test_the_column_of_a_level() -> None:
    values = np.arange(21.0).reshape(3, 7)
    objective = robustness(values, "pgd@Linf/0.5")
    assert (objective.name, objective.unit, objective.maximise, objective.paid) == ("robustness:pgd@Linf/0.5", "%", True, True)
    assert [objective.measure(arch, task=TASK) for arch in ARCHS[:3]] == [1, 8, 15]
    assert math.isnan(objective.measure(ARCHS[3], task=TASK))


def test_the_reference_table(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    table = load_properties(SPACE, "robustness")
    for kind, levels in LEVELS.items():
        assert table.columns[f"cifar100/{kind}"].shape == (15_625, len(levels))
    found = {}
    for argument in ("pgd@Linf/0.1", "pgd@Linf/1", "aa_apgd-ce@Linf/0.5", "gaussian_noise/3"):
        objective = Robustness.of(argument)
        objective.setup(space=SPACE, task=Task("cifar100"), skeleton=None)
        found[argument] = np.array([objective.measure(arch, task=TASK) for arch in ARCHS])
    assert (found["pgd@Linf/1"] < found["pgd@Linf/0.1"]).mean() > 0.9


@pytest.mark.parametrize("argument", ["nothing/1", "pgd@Linf/7", "pgd@Linf", "gaussian_noise/6", "", "/"])
def test_unknown_kinds_and_levels(argument: str) -> None:
    with pytest.raises(UserError, match=r"^unknown (kind|level) .*; accepted are .*pgd@Linf/0.1\|0.5\|1.*snow/1\|2\|3\|4\|5"):
        Robustness.of(argument)


def test_robustness_that_is_not_known() -> None:
    with pytest.raises(DataNotFound, match="data import nasbench201 --robustness FILE"):
        Robustness.of("fog/1").setup(space=SPACE, task=TASK, skeleton=None)
    with pytest.raises(DataNotFound, match="space 'darts' has no table of robustness"):
        Robustness.of("fog/1").setup(space=load_space("darts"), task=TASK, skeleton=None)
    with pytest.raises(UserError, match="is known for cifar10, not for 'cifar100'"):
        robustness(np.zeros((3, 7)), task=Task("cifar100"))
    with pytest.raises(UserError, match="not within 0 and 100"):
        robustness(np.full((3, 7), 101.0))
    with pytest.raises(UserError, match="expected are all its levels"):
        robustness(np.zeros((3, 6)))


# -- tables


def test_imports(data_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """By name of the architecture without any other table; by its place only where the order of the benchmark is known."""
    (tmp_path / "mine.csv").write_text("arch,phone_ms\n" + "".join(f"{text},{ms}\n" for ms, text in enumerate(STRINGS, start=1)))
    (tmp_path / "places.csv").write_text("index,phone_ms\n0,3\n1,4\n")

    def run(*args: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["diffnag.data", *map(str, args)])
        try:
            run_command(data.main)
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    assert run("import", "nasbench201", "--latency", tmp_path / "mine.csv") == 0
    assert made("phone").measure(ARCHS[4], task=TASK) == 5
    assert run("list") == 0 and "nasbench201, latency: " in capsys.readouterr().out
    assert run("import", "nasbench201", "--latency", tmp_path / "places.csv") == 2
    assert "which its table of accuracies knows" in capsys.readouterr().err
    assert run("import", "darts", "--latency", tmp_path / "mine.csv") == 2
    assert run("import", "nasbench201", "--latency", tmp_path / "none.csv") == 2
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    table = read_properties(SPACE, "latency", tmp_path / "places.csv")
    first = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    assert table.archs[0] == first and table.columns["phone_ms"].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,ms\na,1", "neither a column arch nor a column index"),
        ("arch,a_ms\nnothing,1", "is no NAS-Bench-201 string"),
        (f"arch,a_ms\n{STRINGS[0]},1\n{STRINGS[0]},2", "an architecture twice"),
        (f"arch,a_ms\n{STRINGS[0]},fast", "is no readable table of latency"),
        ("arch,a_ms\n", "has no architecture"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        read_properties(SPACE, "latency", path)


def test_a_damaged_table(tmp_path: Path) -> None:
    keep_table("latency", STRINGS, a_ms=np.ones(len(STRINGS)))
    path = kept_file(SPACE.name, "latency")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="is no readable table file"):
        made("a")


def test_entry_points() -> None:
    assert load_class("objective", "latency") is Latency and load_class("objective", "robustness") is Robustness


class TestFreeLatency(CellObjectiveContract):
    @pytest.fixture
    def objective(self) -> Latency:
        archs = list(SPACE.enumerate())
        keep_table("latency", [SPACE.to_str(arch) for arch in archs], a_ms=np.arange(1.0, 15_626.0))
        return made("a")
