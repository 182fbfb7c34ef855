"""A search on a user's own images, from the command line to the files it leaves; the images are stripes, which train in a moment."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from diffnag.command import arguments
from diffnag.datasets.images import ImageDataset
from diffnag.errors import UserError
from diffnag.networks.classifier_file import load_model, read_model
from diffnag.networks.training import Diverged
from diffnag.oracles.training import TrainingOracle, _share
from diffnag.search_loop.loop import Search
from diffnag.search_loop.options import SearchOptions
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.stripes import DATA, RESNET, call, few, narrow_networks, write_stripes
from tests.test_training import images

pytestmark = pytest.mark.timeout(120)  # several tests share a whole run, and the first of them pays for it


@pytest.fixture(autouse=True, scope="module")
def _narrow() -> Iterator[None]:
    with narrow_networks():
        yield


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stripes(tmp_path_factory.mktemp("data"), wrong=1)


def oracle_on(data: ImageDataset, space: NASBench201, *, epochs: int | None = 2) -> TrainingOracle:
    oracle = TrainingOracle()
    oracle.setup(space=space)
    oracle.set_images(data, dataset="stripes", seconds=None, epochs=epochs, seed=0, device="cpu")
    return oracle


@pytest.fixture(scope="module")
def run(_narrow: None, stripes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Any, ...]]:
    """A whole run with everything, and its command."""
    del _narrow
    out = tmp_path_factory.mktemp("run")
    command = ("--dataset", stripes, "--method", "evolution", "--budget", "8", "--epochs", "4", "--compare", "--device", "cpu", "--out", out)
    assert call(*command) == 0
    return out, command


# -- the run


def test_what_a_run_leaves(run: tuple[Path, Any]) -> None:
    out, _ = run
    result = json.loads((out / "result.json").read_text())
    with (out / "trials.csv").open() as file:
        trials = list(csv.DictReader(file))
    assert result["labels_target"] == len(trials) == 8 and result["oracle"]["kind"] == "training"
    assert result["epochs_target"] == sum(int(trial["epochs"]) for trial in trials) and result["oracle"]["epochs"] == 4
    done = [float(trial["value"]) for trial in trials if trial["state"] == "done"]
    assert result["best"]["value"] == max(done) and result["best"]["test"] is None
    assert result["classes"] == ["0", "1", "2"] and result["test_images"] == 20
    low, high = result["test_interval"]
    assert 0 <= low < result["test_accuracy"] <= high + 1e-12 and result["test_accuracy"] > 0.8
    assert result["onnx_max_abs_difference"] < 1e-4
    assert result["final"]["plan"]["epochs"] == 12 and result["final"]["plan"]["train_images"] == 80
    assert (result["images"]["train"], result["images"]["size"], result["images"]["given_test"]) == (60, 8, True)
    assert len(result["per_class_accuracy"]) == 3
    assert imread(out / "confusion.png").ndim == 3


def test_the_comparison_is_of_equals(run: tuple[Path, Any]) -> None:
    out, _ = run
    rows = {row["name"]: row for row in json.loads((out / "result.json").read_text())["compare"]}
    assert [*rows] == ["evolution", "random", "ResNet-like", "plain ResNet"]
    assert [row["labels"] for row in rows.values()] == [8, 8, 1, 0]
    for name in ("ResNet-like", "plain ResNet"):
        assert rows[name]["arch"] == RESNET and load_model(out / "compare" / f"{name}.pt").description.arch == RESNET
    for row in rows.values():
        assert row["params"] > 0 and row["flops"] > 0
        low, high = row["test_interval"]
        assert low <= row["test_accuracy"] <= high
    plain = rows.pop("plain ResNet")
    assert plain["validation_accuracy"] is None and plain["params"] == rows["ResNet-like"]["params"] and plain["test_accuracy"] > 0.8
    for row in rows.values():
        assert row["epochs"] == 12 and row["validation_interval"][0] <= row["validation_accuracy"]


def test_the_same_command_trains_nothing_again(run: tuple[Path, Any], capsys: pytest.CaptureFixture[str]) -> None:
    out, command = run
    before = json.loads((out / "result.json").read_text())
    with pytest.MonkeyPatch.context() as patched:
        for module in ("training", "plain"):
            patched.setattr(f"diffnag.search_loop.finish.{module}.train", None)
        assert call(*command) == 0
    said = capsys.readouterr().out
    after = json.loads((out / "result.json").read_text())
    assert after == {**before, "wall_s": after["wall_s"]}
    assert "8 labels are there already" in said and "ResNet-like" in said and "test accuracy" in said
    assert "validation, in the search" in said and "model.onnx differs from torch by at most" in said


def test_a_run_elsewhere_comes_out_the_same(run: tuple[Path, Any], tmp_path: Path) -> None:
    out, command = run
    assert call(*[part for part in command if part not in ("--compare", out)], tmp_path) == 0
    first, second = (json.loads((folder / "result.json").read_text()) for folder in (out, tmp_path))
    for key in ("best", "incumbent_curve", "test_accuracy", "per_class_accuracy"):
        assert first[key] == second[key]
    (ours, _), (theirs, _) = (read_model(folder / "model.pt") for folder in (out, tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_interrupted_in_the_final_training_it_goes_on(stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("--dataset", stripes, "--method", "random", "--budget", "2", "--epochs", "1", "--device", "cpu", "--out", tmp_path)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("diffnag.search_loop.finish.training.train", interrupted)
        assert call(*command) == 130
    assert "2 of 2 labels are saved" in capsys.readouterr().err
    assert json.loads((tmp_path / "result.json").read_text())["labels_target"] == 2
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("diffnag.search_loop.finish.finishing.export_onnx", lambda path, model: 0.0)
        assert call(*command) == 0
    assert json.loads((tmp_path / "result.json").read_text())["test_accuracy"] >= 0


# -- the oracle


def test_the_oracle_knows_no_test_images(space: NASBench201) -> None:
    oracle = oracle_on(DATA, space)
    assert oracle.available == {"stripes": ("val",)}
    with pytest.raises(UserError, match="unknown split 'test'; there are: val"):
        oracle.query(space.from_str(RESNET), dataset="stripes", split="test")
    with pytest.raises(UserError, match="is not judged after 7 epochs; there are: 1, 2"):
        oracle.query(space.from_str(RESNET), dataset="stripes", split="val", epochs=7)


def test_an_evaluation_repeats_itself_and_learns(space: NASBench201) -> None:
    oracle, arch = oracle_on(DATA, space, epochs=9), space.from_str(RESNET)
    stages = list(oracle.stages(arch, dataset="stripes", split="val"))
    assert [epochs for epochs, _ in stages] == [3, 6, 9] and stages[-1][1] > 90
    assert list(oracle.stages(arch, dataset="stripes", split="val")) == stages
    assert oracle.query(arch, dataset="stripes", split="val") == stages[-1][1]
    assert oracle.query(arch, dataset="stripes", split="val", epochs=3) == stages[0][1]


def test_a_share_of_the_images_has_every_class() -> None:
    data = images(n=300, classes=5).train
    chosen = _share(data, 50)
    assert len(set(chosen.tolist())) == 50 and np.bincount(data.y[chosen]).tolist() == [10] * 5
    assert _share(data, 300).tolist() == list(range(300))


def test_a_diverged_training_and_a_full_memory_are_failed_trials(stripes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter([None, Diverged("the loss is nan after epoch 1"), torch.OutOfMemoryError("no memory left"), None])  # the first before the search

    def breaks(self: TrainingOracle, arch: object) -> torch.nn.Module:
        if failure := next(calls):
            raise failure
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))

    monkeypatch.setattr(TrainingOracle, "_network", breaks)
    with Search(few(stripes)) as search:
        result = search.run()
    assert [trial.state for trial in result.trials] == ["failed", "failed", "done"]
    assert [trial.error for trial in result.trials[:2]] == [
        "Diverged: the loss is nan after epoch 1", "OutOfMemoryError: no memory left"
    ]  # fmt: skip
    assert result.best is not None and result.epochs_target == 2


def test_limits_on_the_size_are_those_of_the_final_network(stripes: Path, space: NASBench201) -> None:
    with Search(few(stripes, max_params=90_000, budget=4)) as search:
        result = search.run()
        assert result.labels_target == 4
        for trial in result.trials:
            network = search.final_plan.skeleton.build(trial.arch, space, num_classes=3, image_size=8)  # type: ignore[union-attr]
            assert trial.values["params"] == sum(p.numel() for p in network.parameters()) <= 90_000
    with pytest.raises(UserError, match="no architecture of nasbench201 meets params<=10 \\(the least is [0-9,]+\\) on"):
        Search(few(stripes, max_params=10))


@pytest.mark.parametrize(
    ("values", "changes", "labels"),
    [
        ((80.0, 100.0, 70.0), {}, 2),
        ((80.0, 99.9, 70.0), {}, 3),
        ((80.0, 100.0, 70.0), {"minimise": ("params",)}, 3),
        ((80.0, 100.0, 70.0), {"max_params": 90_000}, 2),
    ],
)
def test_a_search_ends_where_nothing_can_be_better(
    values: tuple[float, ...], changes: dict[str, Any], labels: int, stripes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid = iter(values)
    monkeypatch.setattr(TrainingOracle, "stages", lambda self, arch, *, dataset, split: iter([(2, next(paid))]))
    asked = {"method": "diffnag", "predictor": "random-forest"} if "minimise" in changes else {}
    notes: list[str] = []
    with Search(few(stripes, **asked, **changes)) as search:
        assert not search.is_over
        result = search.run(on_note=notes.append)
        assert search.is_over
    assert result.labels_target == labels and result.best is not None and result.best.value == max(values)
    assert [note for note in notes if "validation images are right" in note] == [
        "all validation images are right after 2 of 3 labels: none can be better, so the search ends"
    ] * (labels == 2)


def test_other_images_or_another_plan_are_another_search(stripes: Path, tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/study.db"
    with Search(few(stripes), storage=place) as search:
        search.run()
    with pytest.raises(UserError, match="was made with oracle epochs 2, not 3"):
        Search(few(stripes, epochs=3), storage=place)
    moved = tmp_path / "stripes.npz"
    moved.write_bytes(stripes.read_bytes())
    with Search(few(moved), storage=place) as search:
        assert len(search.study.history) == 3  # wherever the file lies


# -- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset", "digits", "--oracle", "table"), "oracle 'table' cannot use your own images, such as digits; accepted is --oracle training"),
        (("--dataset", "digits", "--oracle", "surrogate"), "oracle 'surrogate' cannot use your own images"),
        (("--dataset", "digits", "--reward", "test"), "--reward test would choose by the images of the final test"),
        (("--dataset", "digits", "--image-size", "3"), "an image size of 3 pixels was asked for"),
        (("--dataset", "./no/such/folder"), "does not exist"),
        (("--dataset", "cifar10", "--oracle", "training"), "oracle 'training' trains on your own images, and 'cifar10' is none"),
        (("--dataset", "cifar10", "--oracle", "tests.search_fakes:ToyOracle", "--epochs", "3"), "--epochs is for your own images"),
        (("--dataset", "cifar10", "--oracle", "tests.search_fakes:ToyOracle", "--compare"), "--compare is for your own images"),
        (("--dataset", "digits", "--time-limit", "soon"), "'soon' is no time above 0"),
        (("--dataset", "digits", "--time-limit", "0m"), "'0m' is no time above 0"),
    ],
)
def test_bad_combinations(arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--method", "random", "--budget", "2", "--out", tmp_path / "run", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "trials.csv").exists()


def test_times_as_they_are_written() -> None:
    assert [arguments.duration(text) for text in ("90", "90s", "1.5m", "2h")] == [90, 90, 90, 7200]


def test_a_folder_is_named_after_the_images(stripes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("diffnag.search_loop.finish.finishing.export_onnx", lambda path, model: 0.0)
    assert call("--dataset", stripes, "--method", "random", "--budget", "1", "--epochs", "1", "--device", "cpu") == 0
    assert (tmp_path / "runs" / "nasbench201-stripes-random-0" / "model.pt").is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_digits_are_learned(tmp_path: Path) -> None:
    assert call("--dataset", "digits", "--predictor", "random-forest", "--budget", "6", "--device", "cpu", "--out", tmp_path) == 0
    assert json.loads((tmp_path / "result.json").read_text())["test_accuracy"] >= 0.97


def test_options_know_the_fields() -> None:
    assert {"image_size", "epochs", "time_limit"} <= {field.name for field in dataclasses.fields(SearchOptions)}
