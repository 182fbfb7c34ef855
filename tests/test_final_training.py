"""The final training on a user's own images: time limits, failures, and the comparison with rivals."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from diffnag.datasets.images import ImageDataset
from diffnag.datasets.tasks import Task
from diffnag.errors import UserError
from diffnag.networks.classifier_file import read_model
from diffnag.networks.plan import epochs_within
from diffnag.networks.training import Diverged
from diffnag.oracles.training import TrainingOracle
from diffnag.protocols import SearchSpace
from diffnag.search_loop.finish.finished import Finish, Share
from diffnag.search_loop.finish.finishing import finish
from diffnag.search_loop.finish.training import MOST_EPOCHS, confusion, train_fully
from diffnag.search_loop.loop import Search
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.search_fakes import Nearest
from tests.stripes import DATA, RESNET, call, few, narrow_networks, write_stripes
from tests.test_model_file import classifier

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True, scope="module")
def _narrow() -> Iterator[None]:
    with narrow_networks():
        yield


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stripes(tmp_path_factory.mktemp("data"))


def test_the_time_limit_shortens_the_final_training(stripes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    with Search(few(stripes, epochs=50, time_limit=11.0)) as search:
        monkeypatch.setattr(type(search.study), "wall_s", 10.9)
        _, about = train_fully(RESNET, search, on_progress=lambda done, of: None, on_note=notes.append)
    assert about.epochs == 1 and notes == ["about 1 of 150 epochs of the final training fit into the time that is left"]


def test_epochs_that_were_asked_for_are_within_the_time_limit(stripes: Path, space: NASBench201) -> None:
    planned = {}
    for limit in (5.0, 50.0):
        with Search(few(stripes, epochs=10_000, time_limit=limit)) as search:
            planned[limit] = search.oracle.epochs  # type: ignore[attr-defined]
    assert 30 < planned[5.0] < 300 and planned[50.0] == pytest.approx(10 * planned[5.0], rel=0.01)
    for limit in (None, 5.0):  # where they fit they are as they were asked for, though 30 such evaluations would take longer
        with Search(few(stripes, epochs=50, time_limit=limit, budget=30)) as search:
            assert search.oracle.epochs == 50  # type: ignore[attr-defined]
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


def test_a_network_that_fails_in_its_final_training_is_named_in_a_sentence(stripes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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

    read, sizes = module.load_images, []

    def counted(source: str, *, size: int | None = None, **others: Any) -> ImageDataset:
        sizes.append(size)
        return read(source, size=size, **others)

    monkeypatch.setattr(module, "load_images", counted)
    options = few(stripes, image_size=12, method="diffnag", predictor="tests.test_final_training:Looks")
    with Search(options) as search:
        assert Looks.seen and Looks.seen[-1] is search.images and sizes == [12]


class Looks(Nearest):
    """A predictor that looks at the images of its task."""

    seen: ClassVar[list[ImageDataset | None]] = []

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        self.seen.append(task.images)


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
    assert found and notes == ["confusion.png could not be made: ZeroDivisionError: "]
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
        assert [row["name"] for row in rows] == ["evolution", "random", "ResNet-like", "plain ResNet"]
        assert [row["epochs"] for row in rows[:3]] == [epochs] * 3 and {row["learning_rate"] for row in rows} == {0.1}
        assert [row["labels"] for row in rows[2:]] == [1, 0] and 1 <= rows[3]["epochs"] <= MOST_EPOCHS
        files = [path for path in (tmp_path / "model.pt", tmp_path / "compare" / "ResNet-like.pt") if path.is_file()]
        assert len(files) == 2 and [read_model(path)[1]["epochs"] for path in files] == [epochs] * 2
    assert notes[0] == "about 1 of 6 epochs of the final training fit into the time that is left"
    assert notes.count("random search made 1 of 2 evaluations in the same time") == 1  # the second run goes on with it


def test_a_rival_that_cannot_be_trained_so_is_left_out(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffnag.search_loop.finish import plain
    from diffnag.search_loop.finish import training as final_training

    real, notes, trained = final_training.train, [], []

    def only_the_first(*given: Any, **rest: Any) -> Any:
        trained.append(given)
        if len(trained) > 1:
            raise Diverged("the loss is nan after epoch 1")
        return real(*given, **rest)

    def diverges(*given: Any, **rest: Any) -> Any:
        raise Diverged("the loss is inf after epoch 2")

    monkeypatch.setattr(final_training, "train", only_the_first)
    monkeypatch.setattr(plain, "train", diverges)
    monkeypatch.setattr("diffnag.search_loop.finish.finishing.export_onnx", lambda path, model: 0.0)
    with Search(few(stripes, method="evolution", budget=2)) as search:
        found = compare(search, tmp_path, left=[0.0], monkeypatch=monkeypatch, notes=notes)
    assert found.best.epochs == 6 and {other.arch for other in found.others} <= {found.best.arch}
    assert notes[-2:] == [
        f"ResNet-like is left out of the comparison: the final training of {RESNET} failed: it diverged with every learning rate down to 0.01",
        "plain ResNet is left out of the comparison: its training diverged: the loss is inf after epoch 2",
    ]
    with pytest.raises(ValueError, match="trained for another number of epochs than evolution, so not comparable: random"):
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
