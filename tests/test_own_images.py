"""A search on one's own images, from the command line to the files it leaves; on stripes that train in a moment."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from diffnag.command import arguments
from diffnag.command.running import run_command
from diffnag.datasets.images import ImageDataset
from diffnag.errors import UserError
from diffnag.networks.classifier_file import read_model
from diffnag.networks.plan import epochs_within
from diffnag.networks.training import Diverged
from diffnag.oracles.training import TrainingOracle, _share
from diffnag.search import main
from diffnag.search_loop.finish.finished import Finish, Share
from diffnag.search_loop.finish.finishing import finish
from diffnag.search_loop.finish.training import confusion, train_fully
from diffnag.search_loop.loop import Search
from diffnag.search_loop.options import SearchOptions
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.test_model_file import classifier
from tests.test_training import images

RESNET = NASBench201.resnet_like
DATA = images()

pytestmark = pytest.mark.timeout(120)  # several tests share a whole run, and the first of them pays for it


@pytest.fixture(autouse=True, scope="module")
def _narrow() -> Iterator[None]:
    """The narrowest networks, so that tests are quick."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("diffnag.search_spaces.nasbench201.space.NASBench201.skeletons", ((8, 1),))
        yield


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images as a user's file."""
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    arrays = {f"{letter}_{name}": getattr(part, letter) for name in ("train", "val", "test") for letter in "xy"
              for part in [getattr(DATA, name)]}  # fmt: skip
    np.savez(path, **arrays)
    return path


def call(*arguments: str | Path) -> int:
    """Run the command line in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["search", *map(str, arguments)])
        try:
            run_command(main)
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def few(stripes: Path, **changes: Any) -> SearchOptions:
    asked = {"dataset": str(stripes), "method": "random", "budget": 3, "epochs": 2, "device": "cpu"}
    return SearchOptions(**{**asked, **changes})


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
    assert [*rows] == ["evolution", "random", "ResNet-like"]
    assert [row["labels"] for row in rows.values()] == [8, 8, 1]
    assert rows["ResNet-like"]["arch"] == RESNET and (out / "compare" / "ResNet-like.pt").is_file()
    for row in rows.values():
        assert row["epochs"] == 12 and row["params"] > 0 and row["flops"] > 0
        low, high = row["test_interval"]
        assert low <= row["test_accuracy"] <= high and row["validation_interval"][0] <= row["validation_accuracy"]


def test_the_same_command_trains_nothing_again(run: tuple[Path, Any], capsys: pytest.CaptureFixture[str]) -> None:
    out, command = run
    before = json.loads((out / "result.json").read_text())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("diffnag.search_loop.finish.training.train", None)
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


# -- the final training


def test_the_time_limit_shortens_the_final_training(stripes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    with Search(few(stripes, epochs=50, time_limit=11.0)) as search:
        monkeypatch.setattr(type(search.study), "spent", type("Spent", (), {"wall_s": 10.9})())
        _, about = train_fully(RESNET, search, on_progress=lambda done, of: None, on_note=notes.append)
    assert about.epochs == 1 and notes == ["1 of 150 epochs of the final training fit into the time that is left"]


def test_epochs_that_were_asked_for_are_within_the_time_limit(stripes: Path, space: NASBench201) -> None:
    planned = {}
    for limit in (5.0, 50.0):
        with Search(few(stripes, epochs=10**9, time_limit=limit)) as search:
            planned[limit] = search.oracle.epochs  # type: ignore[attr-defined]
    assert 100 < planned[5.0] < 1_000 and planned[50.0] == pytest.approx(10 * planned[5.0], rel=0.01)
    for limit in (None, 5.0):  # where they fit they are as they were asked for, though 30 such evaluations would take longer
        with Search(few(stripes, epochs=100, time_limit=limit, budget=30)) as search:
            assert search.oracle.epochs == 100  # type: ignore[attr-defined]
    assert epochs_within(DATA, space, epochs=7, each=1e-9, total=1e-9) == 1


def test_a_final_training_that_cannot_be_written_keeps_the_searchs_result(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, model: object, *, about: object) -> None:
        raise UserError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr("diffnag.search_loop.finish.training.save_model", full)
    assert call("--dataset", stripes, "--method", "random", "--budget", "2", "--epochs", "1", "--device", "cpu", "--out", tmp_path) == 2
    assert capsys.readouterr().err == f"error: cannot write {tmp_path}/model.pt: No space left on device\n"
    assert json.loads((tmp_path / "result.json").read_text())["labels_target"] == 2


def test_a_network_that_fails_in_its_final_training_is_told_in_a_sentence(stripes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise IndexError("too few channels\nand a long story")

    monkeypatch.setattr("diffnag.search_loop.finish.training.train", breaks)
    with Search(few(stripes)) as search, pytest.raises(UserError, match="^the final training of .* failed: IndexError: too few channels$"):
        train_fully(RESNET, search, on_progress=lambda done, of: None, on_note=lambda _: None)


def test_loading_is_within_the_time_limit_but_one_evaluation_is_always_made(stripes: Path) -> None:
    with Search(few(stripes)) as search:
        assert search.seconds_left == math.inf
    with Search(few(stripes, time_limit=100.0)) as search:
        assert 50 < search.seconds_left < 100
        search._loading_s = 99.0
        assert search.run().labels_target == 1


def test_images_are_read_once_also_where_a_predictor_looks_at_them(stripes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffnag.datasets import images as module
    from diffnag.datasets.tasks import load_task

    with Search(few(stripes, image_size=12)):
        monkeypatch.setattr(module, "load_images", None)
        assert float(load_task(str(stripes)).descriptors[2]) == pytest.approx(math.log2(12 / 16))


def test_a_final_training_that_diverges_is_repeated_gently(stripes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffnag.search_loop.finish import training as final_training

    real, notes = final_training.train, []

    def fragile(model: Any, x: Any, y: Any, recipe: Any, **rest: Any) -> Any:
        if recipe.learning_rate > 0.02:
            raise Diverged("the loss is nan after epoch 1")
        return real(model, x, y, recipe, **rest)

    monkeypatch.setattr(final_training, "train", fragile)
    with Search(few(stripes)) as search:
        _, about = train_fully(RESNET, search, on_progress=lambda done, of: None, on_note=notes.append)
    assert about.learning_rate == pytest.approx(0.01) and len(notes) == 2
    monkeypatch.setattr(final_training, "GENTLER", (1.0,))
    with Search(few(stripes)) as search, pytest.raises(UserError, match="diverged with every learning rate down to 0.1"):
        train_fully(RESNET, search, on_progress=lambda done, of: None, on_note=notes.append)


def test_a_network_that_onnx_cannot_tell_costs_the_file_alone(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(path: Path, model: object) -> float:
        raise RuntimeError("no such operator\nand a long story")

    notes: list[str] = []
    monkeypatch.setattr("diffnag.search_loop.finish.finishing.export_onnx", refuses)
    with Search(few(stripes)) as search:
        found = finish(search, search.run(), folder=tmp_path, storage="", compare=False, on_progress=lambda *_: None, on_note=notes.append)
    assert found and found.to_json()["onnx_max_abs_difference"] is None and found.to_json()["compare"] is None
    assert notes == ["model.onnx could not be made: no such operator"]
    assert (tmp_path / "model.pt").is_file() and (tmp_path / "confusion.png").is_file()


def test_a_picture_that_fails_costs_the_picture_alone(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path, *_: object, **__: object) -> None:
        raise ZeroDivisionError

    notes: list[str] = []
    monkeypatch.setattr("diffnag.search_loop.show.confusion.confusion_picture", fails)
    with Search(few(stripes)) as search:
        found = finish(search, search.run(), folder=tmp_path, storage="", compare=False, on_progress=lambda *_: None, on_note=notes.append)
    assert found and notes == ["confusion.png could not be drawn: ZeroDivisionError: "]
    assert (tmp_path / "model.pt").is_file() and (tmp_path / "model.onnx").is_file() and not (tmp_path / "confusion.png").exists()


def test_nothing_is_finished_where_every_evaluation_failed(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(self: TrainingOracle, arch: object, *, dataset: str, split: str) -> None:
        raise Diverged("the loss is nan after epoch 1")

    monkeypatch.setattr(TrainingOracle, "stages", breaks)
    assert call("--dataset", stripes, "--method", "random", "--budget", "2", "--device", "cpu", "--out", tmp_path) == 1
    assert json.loads((tmp_path / "result.json").read_text())["best"] is None and not (tmp_path / "model.pt").exists()


def compare(search: Search, folder: Path, *, left: list[float], monkeypatch: pytest.MonkeyPatch, notes: list[str]) -> Finish:
    """Search and finish; the time that is left is `left[0]`, and none as soon as the best architecture was trained for an epoch."""
    monkeypatch.setattr(Search, "seconds_left", property(lambda _: left[0]))

    def progress(what: str, done: int, of: int) -> None:
        left[0] = 0.0

    found = finish(
        search, search.run(), folder=folder, storage=f"sqlite:///{folder}/study.db", compare=True, on_progress=progress, on_note=notes.append
    )
    assert found
    return found


def test_rivals_get_the_winners_training_whatever_the_time_limit(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    options = few(stripes, method="evolution", budget=2, time_limit=1e6)
    for left, epochs in ((0.0, 1), (1e9, 6)):
        with Search(options) as search:
            (tmp_path / "model.pt").unlink(missing_ok=True)
            found = compare(search, tmp_path, left=[left], monkeypatch=monkeypatch, notes=notes)
        rows = found.to_json()["compare"]
        assert [row["name"] for row in rows] == ["evolution", "random", "ResNet-like"]
        assert [row["epochs"] for row in rows] == [epochs] * 3 and {row["learning_rate"] for row in rows} == {0.1}
        files = [path for path in (tmp_path / "model.pt", tmp_path / "compare" / "ResNet-like.pt") if path.is_file()]
        assert len(files) == 2 and [read_model(path)[1]["epochs"] for path in files] == [epochs] * 2
    assert notes[0] == "1 of 6 epochs of the final training fit into the time that is left"
    assert notes.count("random search made 1 of 2 evaluations in the same time") == 1  # the second run goes on with it


def test_a_rival_that_cannot_be_trained_so_is_left_out(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffnag.search_loop.finish import training as final_training

    real, notes, trained = final_training.train, [], []

    def only_the_first(*given: Any, **rest: Any) -> Any:
        trained.append(given)
        if len(trained) > 1:
            raise Diverged("the loss is nan after epoch 1")
        return real(*given, **rest)

    monkeypatch.setattr(final_training, "train", only_the_first)
    monkeypatch.setattr("diffnag.search_loop.finish.finishing.export_onnx", lambda path, model: 0.0)
    with Search(few(stripes, method="evolution", budget=2)) as search:
        found = compare(search, tmp_path, left=[0.0], monkeypatch=monkeypatch, notes=notes)
    assert found.best.epochs == 6 and {other.arch for other in found.others} <= {found.best.arch}
    assert notes[-1] == (
        f"ResNet-like is left out of the comparison: the final training of {RESNET} failed: it diverged with every learning rate down to 0.01"
    )
    with pytest.raises(ValueError, match="trained for another number of epochs than the best, so not comparable: random"):
        dataclasses.replace(found, others=(dataclasses.replace(found.best, name="random", epochs=1),))


def test_wilson_interval() -> None:
    share = Share(354, 359)
    n, z = 359, 1.959963984540054
    centre = (share.value + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share.value * (1 - share.value) / n + z**2 / (4 * n**2)) ** 0.5
    assert share.interval == pytest.approx((centre - half, centre + half))
    assert Share.of_percent(98.6072, 359) == share and Share.of_percent(None, 3) is Share.of_percent(150.0, 3) is None


def test_confusion_counts(space: NASBench201) -> None:
    model = classifier()
    counts = confusion(model, DATA.test)
    assert counts.sum(1).tolist() == np.bincount(DATA.test.y).tolist()
    chosen = model(model.preprocess(DATA.test.x)).argmax(1).numpy()
    assert counts.trace() == (chosen == DATA.test.y).sum()


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
