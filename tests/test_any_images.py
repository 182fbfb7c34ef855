"""Searches from the command line on arrays, signals, numbers and labels, and what they leave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffnag import load_model
from diffnag.errors import UserError
from diffnag.search_loop.loop import Search
from diffnag.search_loop.options import SearchOptions
from tests.stripes import call, narrow_networks

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True, scope="module")
def _narrow() -> Iterator[None]:
    with narrow_networks():
        yield


def run(folder: Path, source: str | Path, *more: str, task: str = "classification") -> dict[str, Any]:
    """A short search; returns its result."""
    common = ("--dataset", source, "--task", task, "--method", "random", "--budget", "2", "--epochs", "6", "--device", "cpu", "--out", folder / "run")
    assert call(*common, *more) == 0
    found: dict[str, Any] = json.loads((folder / "run" / "result.json").read_text())
    names = {path.name for path in (folder / "run").iterdir()}
    assert names >= {"model.pt", "model.onnx", "report.html", "search.png"} and ("confusion.png" in names) == (task == "classification")
    return found


def onnx(folder: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "run" / "model.onnx", providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {"images": x.astype(np.float32)})
    return np.asarray(answers)


def marked(y: np.ndarray, *shape: int, seed: int = 0) -> np.ndarray:
    """Standardised arrays `(n, c, h, w)` in which class k is larger in channel k."""
    x = np.random.default_rng(seed).normal(size=(len(y), *shape))
    x[np.arange(len(y)), y] += 1
    return x


def test_arrays_of_many_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    y = np.arange(160) % 4
    x = marked(y, 12, 10, 14) * 300 - 4000
    np.savez(tmp_path / "bands.npz", x_train=x, y_train=np.array(["corn", "rice", "soy", "oat"])[y])
    result = run(tmp_path, tmp_path / "bands.npz")
    assert result["images"]["inputs"] == [12, 10, 14] and result["final"]["plan"]["inputs"] == [12, 10, 14]
    assert result["test_accuracy"] > 0.8
    shown = capsys.readouterr().out
    assert "160 " not in shown and "arrays, 12 channels, 14 x 10" in shown and "kept as they are" in shown
    model = load_model(tmp_path / "run" / "model.pt")
    new = np.arange(40) % 4
    given = marked(new, 12, 10, 14, seed=1) * 300 - 4000
    answers = model.predict(given)
    assert np.mean(np.array(answers) == np.array(["corn", "rice", "soy", "oat"])[new]) > 0.8
    chosen = [model.classes[k] for k in onnx(tmp_path, given).argmax(1)]
    assert np.mean(np.array(chosen) == np.array(answers)) == 1
    page = (tmp_path / "run" / "report.html").read_text()
    assert "reshape(1, 12, 10, 14)" in page and "np.load(" in page and "diffnag.export" not in page
    with pytest.raises(UserError, match="12 channels"):
        model.predict(given[:, :5])


@pytest.mark.slow
def test_everything_on_arrays(tmp_path: Path) -> None:
    """Guided by a predictor of photos, within a limit, compared."""
    y = np.arange(160) % 4
    np.savez(tmp_path / "bands.npz", x_train=marked(y, 12, 10, 14), y_train=y)
    more = ("--method", "diffnag", "--predictor", "meta", "--limit", "params<=1M", "--compare")
    result = run(tmp_path, tmp_path / "bands.npz", *more)
    assert result["test_accuracy"] > 0.8 and "ResNet-like" in [row["name"] for row in result["compare"]]


def test_signals_are_learned(tmp_path: Path) -> None:
    """Three frequencies at random phases, in noise: no single value tells them apart."""
    rng, y = np.random.default_rng(0), np.arange(240) % 3
    phase = 2 * np.pi * (np.array([0.03, 0.05, 0.08])[y][:, None] * np.arange(160) + rng.uniform(size=(240, 1)))
    x = np.stack([np.sin(phase), np.cos(phase)], 1) + 0.7 * rng.normal(size=(240, 2, 160))
    np.savez(tmp_path / "waves.npz", x_train=x, y_train=y)
    result = run(tmp_path, tmp_path / "waves.npz", "--minimise", "memory")
    assert result["images"]["inputs"] == [2, 1, 160] and result["test_accuracy"] > 0.8
    model = load_model(tmp_path / "run" / "model.pt")
    assert np.mean(np.array(model.predict(x)) == y.astype(str)) > 0.8
    assert model.predict(x[0]) == model.predict(x)[:1]
    convolutions = [tensor.shape for tensor in model.network.state_dict().values() if tensor.ndim == 4]
    assert all(shape[2] == 1 for shape in convolutions)


def test_numbers_are_predicted_in_their_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    bright = rng.uniform(0, 150, 200)
    x = (rng.integers(0, 100, (200, 8, 8, 3)) + bright[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "lamps.npz", x_train=x, y_train=1000 + 2 * bright)
    result = run(tmp_path, tmp_path / "lamps.npz", task="regression")
    assert result["task"] == "regression" and result["test_measure"] == "R2" and result["test_score"] > 0.8 and "test_accuracy" not in result
    low, high = result["test_interval"]
    assert low <= result["test_score"] <= high
    assert set(result["test_figures"]) == {"RMSE", "MAE"} and result["test_figures"]["MAE"] < 60
    assert result["objectives"][0]["name"] == "R2" and result["best"]["value"] <= 100
    shown = capsys.readouterr().out
    assert "validation R2" in shown and "1 number;" in shown and "RMSE" in shown
    model = load_model(tmp_path / "run" / "model.pt")
    answers = np.array(model.predict(x[:50]))
    assert np.abs(answers - 1000 - 2 * bright[:50]).mean() < 60
    np.testing.assert_allclose(onnx(tmp_path, x[:50].transpose(0, 3, 1, 2) / 255)[:, 0], answers, rtol=1e-4)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "The final network reaches R2" in page and "dict(zip(classes" in page and "Confusion" not in page


def test_labels_of_a_csv(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    there = rng.integers(0, 2, (160, 3))
    lines = ["path,top,left,corner"]
    for k, (top, left, corner) in enumerate(there):
        image = rng.integers(0, 120, (12, 12, 3), dtype=np.uint8)
        image[1:3] += np.uint8(120 * top)
        image[:, 1:3] = np.maximum(image[:, 1:3], 240 * left)
        image[9:, 9:] = np.where(corner, 0, image[9:, 9:])
        Image.fromarray(image).save(tmp_path / f"{k}.png")
        lines.append(f"{k}.png,{top},{left},{corner}")
    (tmp_path / "signs.csv").write_text("\n".join(lines))
    result = run(tmp_path, tmp_path / "signs.csv", task="multi-label")
    assert result["test_measure"] == "mean average precision" and result["test_score"] > 0.7 and result["classes"] == ["top", "left", "corner"]
    model = load_model(tmp_path / "run" / "model.pt")
    answers = model.predict([tmp_path / f"{k}.png" for k in range(20)])
    assert all(isinstance(answer, tuple) and {*answer} <= {"top", "left", "corner"} for answer in answers)


@pytest.mark.parametrize("name", ["naswot", "zen", "synflow"])
def test_untrained_networks_are_scored_on_arrays(name: str) -> None:
    from diffnag.datasets.tasks import Task
    from diffnag.plugins import load_class
    from diffnag.spaces.loading import load_space
    from tests.test_shapes import arrays

    space = load_space("nasbench201")
    for shape in ((10, 14, 12), (1, 50, 3)):
        predictor: Any = load_class("predictor", name)()
        predictor.setup(space=space, task=Task("arrays", images=arrays(*shape)), seed=0)
        archs = [space.random(np.random.default_rng(k)) for k in range(2)]
        assert np.isfinite(predictor.scores(archs)).all()


def test_a_task_is_part_of_a_study(tmp_path: Path) -> None:
    """A finished search of one task is not gone on with by another, and one of classes is what it was before there were tasks."""
    from diffnag.search_loop.identity import identity

    np.savez(tmp_path / "x.npz", x_train=np.random.default_rng(0).integers(256, size=(60, 8, 8), dtype=np.uint8), y_train=np.arange(60) % 2)
    found = []
    for task in ("classification", "regression"):
        with Search(SearchOptions(str(tmp_path / "x.npz"), task=task, method="random", budget=1, epochs=1, device="cpu")) as search:
            found.append(identity(search.parts))
    assert "task" not in found[0] and found[1]["task"] == "regression"


def refused(*arguments: str | Path, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*arguments, "--method", "random", "--device", "cpu") == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert says in shown and "Traceback" not in shown, shown


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = np.random.default_rng(0).normal(size=(60, 5, 9, 11)), np.arange(60) % 2
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y)
    np.savez(tmp_path / "one.npz", x_train=x, y_train=np.arange(60))
    np.savez(tmp_path / "bytes.npz", x_train=np.random.default_rng(0).integers(256, size=(60, 8, 8, 3), dtype=np.uint8), y_train=y)
    out = ("--out", tmp_path / "run")
    refused("--dataset", tmp_path / "x.npz", "--task", "ranking", *out, says="unknown task 'ranking'", capsys=capsys)
    refused("--dataset", "cifar10", "--task", "regression", *out, says="--task is for your own images", capsys=capsys)
    refused("--dataset", tmp_path / "one.npz", *out, says="60 different values for 60 images", capsys=capsys)
    lite = ("--space", "efficientnet-lite")
    np.savez(tmp_path / "waves.npz", x_train=x[:, :, :1].reshape(60, 5, 11).repeat(4, axis=2), y_train=y)
    refused("--dataset", tmp_path / "waves.npz", *lite, *out, says="waves holds signals of 5 channels", capsys=capsys)
    refused("--dataset", tmp_path / "bytes.npz", "--task", "regression", *lite, *out, says="bytes holds images for a regression", capsys=capsys)
