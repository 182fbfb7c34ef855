"""Searches for parts of a user's own model: its weights, the command, the files, and what the command refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from diffnag import search
from diffnag.command.running import run_command
from diffnag.datasets.images import load_images
from diffnag.errors import UserError
from diffnag.networks.classifier_file import load_model
from diffnag.oracles.inherit import InheritOracle
from diffnag.search_loop.options import SearchOptions
from tests import own_models
from tests.image_sources import bright_classes
from tests.own_models import space_of

TINY = "tests.own_models:tiny"


# -- weights


@pytest.fixture(name="weights")
def _weights(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    torch.save(own_models.tiny().state_dict(), tmp_path / "w.pt")
    return tmp_path / "w.pt"


class TestWeights:
    @pytest.mark.parametrize("form", ["plain", "wrapped", "parallel", "safetensors", "no counts", "classes"])
    def test_are_read_in_many_forms(self, form: str, weights: Path, tmp_path: Path) -> None:
        expected = torch.load(weights, weights_only=True)
        given, file = dict(expected), tmp_path / "other.pt"
        if form == "no counts":
            given = {name: tensor for name, tensor in given.items() if not name.endswith("num_batches_tracked")}
        if form == "classes":
            given |= {"fc.weight": torch.zeros(1000, 16), "fc.bias": torch.zeros(1000)}
        if form == "parallel":
            given = {f"module.{name}": tensor for name, tensor in given.items()}
        if form == "safetensors":
            save_file(given, file := tmp_path / "other.safetensors")
        else:
            torch.save({"epoch": 3, "state_dict": given} if form in ("wrapped", "parallel") else given, file)
        space = space_of("tiny")
        space.weights = file
        network = space.pretrained(num_classes=4)
        assert network.classifier.weight.shape == (4, 16) and not network.classifier.weight.any()
        assert all(tensor.equal(expected[name]) for name, tensor in network.body.state_dict().items())

    def test_of_the_function_itself(self) -> None:
        network = space_of("trained_tiny").pretrained(num_classes=2)
        assert network.body.conv1.weight.equal(own_models.trained_tiny().conv1.weight)

    def test_of_another_model_are_refused(self, weights: Path, tmp_path: Path) -> None:
        space = space_of("tiny")
        tensors = torch.load(weights, weights_only=True)
        for changed, fault in (
            ({**tensors, "conv1.weight": torch.zeros(8, 3, 7, 7)}, r"1 tensors \(conv1.weight\) have another shape"),
            ({**tensors, "stem.weight": torch.zeros(1)}, r"1 tensors \(stem.weight\) are not in the model"),
            ({"fc.weight": torch.zeros(2, 16)}, r"\d+ tensors \(conv1.weight, bn1.weight, bn1.bias, ...\) are missing"),
        ):
            torch.save(changed, tmp_path / "other.pt")
            space.weights = tmp_path / "other.pt"
            with pytest.raises(UserError, match=f"other.pt holds weights of another model than '{TINY}': {fault}"):
                space.pretrained(num_classes=2)
        tensors["conv1.weight"][0] = torch.nan
        torch.save(tensors, tmp_path / "other.pt")
        with pytest.raises(UserError, match="NaN or infinite weights in conv1.weight"):
            space.pretrained(num_classes=2)


# -- searches


@pytest.fixture(name="photos")
def _photos(tmp_path: Path) -> Path:
    return bright_classes(tmp_path / "photos.npz", count=60, side=16)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["diffnag.search", *arguments])
    search.main()


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["diffnag.search", *arguments])
    with pytest.raises(SystemExit) as left:
        run_command(search.main)
    assert left.value.code == 2
    return capsys.readouterr().err


def test_a_search_of_parts(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ("--dataset", str(photos), "--model", TINY, "--weights", str(weights), "--epochs", "1", "--out", str(out))
    run(monkeypatch, *command, "--budget", "7", "--limit", "params<=3000")
    said = " ".join(capsys.readouterr().out.split())
    assert "its last layer fc of 7 classes is replaced by one for your classes" in said and "generator mutation" in said
    options = json.loads((out / "options.json").read_text())
    space_name = f"own-model:{TINY}"
    assert (options["space"], options["predictor"], options["weights"]) == (space_name, "flops", str(weights))
    result, space = json.loads((out / "result.json").read_text()), space_of("tiny")
    assert space.size(space.from_str(result["best"]["arch"]), num_classes=3).params <= 3000
    model = load_model(out / "model.pt", space=space_name)
    images = np.load(photos)["x_train"]
    logits = model(model.preprocess(images)).detach().numpy()
    found = onnxruntime.InferenceSession(out / "model.onnx").run(None, {"images": model.preprocess(images).numpy()})[0]
    assert np.allclose(found, logits, atol=1e-4) and np.isfinite(logits).all()
    with pytest.raises(UserError, match=f"if you trust its code, load it with space='{space_name}'"):
        load_model(out / "model.pt")
    # the same search goes on, and is refused with other weights
    run(monkeypatch, *command, "--budget", "8", "--limit", "params<=3000")
    assert json.loads((out / "result.json").read_text())["labels_target"] == 8
    torch.manual_seed(6)
    torch.save(own_models.tiny().state_dict(), weights)
    assert "oracle weights" in refused(monkeypatch, capsys, *command, "--budget", "9", "--limit", "params<=3000")


def test_other_weights_are_adapted_anew(photos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for seed in (5, 6, 5):
        torch.manual_seed(seed)
        torch.save(own_models.tiny().state_dict(), weights)
        oracle, space = InheritOracle(), space_of("tiny")
        space.weights = weights
        oracle.setup(space=space)
        oracle.set_images(load_images(photos), dataset="mine", seconds=None, epochs=1, seed=0, device="cpu")
        keys.append(oracle._key())
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--model", TINY], "has other weights each time that it is made, so they are not trained; name a file --weights"),
        (["--model", "tests.own_models"], "model 'tests.own_models' is no dotted path; accepted is package.module:function"),
        (["--model", "tests.no_models:tiny"], "importing 'tests.no_models' failed: ModuleNotFoundError"),
        (["--model", TINY, "--weights", "absent.pt"], "there is no file absent.pt"),
        (["--model", TINY, "--space", "darts"], "--model and --space darts exclude each other"),
        (["--space", "nasbench201", "--weights", "w.pt", "--predictor", "meta"], "--weights is for a pretrained network"),
        (["--space", "own-model", "--predictor", "flops"], "needs an argument, as own-model:ARGUMENT"),
    ],
)
def test_refused_in_one_sentence(
    arguments: list[str], fault: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(monkeypatch, capsys, "--dataset", str(photos), "--out", str(tmp_path / "run"), *arguments)
    assert fault in said and said.count("\n") == 1


def test_a_method_without_predictor_gets_none() -> None:
    options = SearchOptions(dataset="mine", model=TINY, method="random").resolved()
    assert options.space == f"own-model:{TINY}" and options.predictor is None and options.resolved() == options
    assert SearchOptions(dataset="mine", model=TINY, predictor="gp").resolved().predictor == "gp"
