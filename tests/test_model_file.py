"""model.pt and model.onnx: what is saved comes back, takes raw images, and is refused where it is none."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffnag
from diffnag.errors import UserError
from diffnag.networks.classifier_file import Classifier, Description, export_onnx, read_model, save_model
from diffnag.networks.plan import Skeleton
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.test_training import images

RESNET = NASBench201.resnet_like


def classifier(*, seed: int = 0) -> Classifier:
    description = Description(
        "nasbench201", RESNET, Skeleton(4, 1), ("cat", "dog", "emu"), 8, (0.5, 0.25, 0.1), (0.2, 0.3, 1 / 3)
    )  # fmt: skip
    space = NASBench201()
    torch.manual_seed(seed)
    network = description.skeleton.build(space.from_str(RESNET), space, num_classes=3, image_size=8)
    network(torch.randn(32, 3, 8, 8))  # statistics that are not those of a fresh network
    return Classifier(network, description).eval()


def test_a_model_comes_back_bitwise(tmp_path: Path) -> None:
    model, path = classifier(), tmp_path / "model.pt"
    save_model(path, model, about={"made_with": {"seed": 3}, "epochs": 2})
    before = torch.random.get_rng_state()
    back = diffnag.load_model(path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert back.classes == ("cat", "dog", "emu") and back.description == model.description and not back.training
    x = torch.rand(5, 3, 8, 8)
    assert torch.equal(back(x), model(x)) and torch.equal(back.mean, model.mean)
    assert read_model(path)[1] == {"made_with": {"seed": 3}, "epochs": 2}


def test_raw_images_of_any_kind_are_taken(tmp_path: Path) -> None:
    from PIL import Image

    model, x = classifier(), images().test.x
    plain = model.preprocess(x)
    assert plain.shape == (20, 3, 8, 8) and float(plain.max()) == pytest.approx(250 / 255)
    torch.testing.assert_close(model.preprocess(x.astype(np.float32) / 255), plain)
    torch.testing.assert_close(model.preprocess(x[..., 0]), plain)  # grey
    torch.testing.assert_close(model.preprocess(torch.from_numpy(x)), plain)
    assert model.preprocess(np.zeros((2, 30, 50, 3), np.uint8)).shape == (2, 3, 8, 8)
    Image.fromarray(x[0]).save(tmp_path / "a.png")
    torch.testing.assert_close(model.preprocess([tmp_path / "a.png"]), plain[:1])
    assert model.predict(x) == [model.classes[k] for k in model(plain).argmax(1).tolist()]
    for wrong, message in ((x.astype(np.int64), "accepted are uint8, or floats in"), (x[0, 0], "has the shape"), (["no.png"], "cannot read")):
        with pytest.raises(UserError, match=message):
            model.preprocess(wrong)  # type: ignore[arg-type]


def test_the_onnx_file_says_the_same(tmp_path: Path) -> None:
    import onnxruntime

    model, path = classifier(), tmp_path / "model.onnx"
    assert export_onnx(path, model) < 1e-4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for b in (1, 3, 70):
        x = torch.rand(b, 3, 8, 8)
        (theirs,) = session.run(["logits"], {"images": x.numpy()})
        np.testing.assert_allclose(theirs, model(x).detach().numpy(), atol=1e-5)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == ["cat", "dog", "emu"] and json.loads(told["preprocessing"])["mean"][0] == 0.5
    assert not list(tmp_path.glob("*.data"))


def test_a_file_does_not_say_what_code_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, model = tmp_path / "model.pt", classifier()
    model.description = dataclasses.replace(model.description, space="my_space:MySpace")
    save_model(path, model, about={})
    code = "from diffnag.search_spaces.nasbench201.space import NASBench201\n\n\nclass MySpace(NASBench201):\n    pass\n"
    (tmp_path / "my_space.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    for space in (None, "other:Space"):
        with pytest.raises(UserError, match="if you trust its code, load it with space='my_space:MySpace'"):
            diffnag.load_model(path, space=space)
    assert "my_space" not in sys.modules
    assert diffnag.load_model(path, space="my_space:MySpace").classes == model.classes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no readable model.pt"),
        (b"words", "is no readable model.pt"),
        ({"kind": "something"}, "is not a diffnag image classifier of format 1"),
        ({"weights": {}}, "does not fit the network it describes"),
        ({"skeleton": {"depth": 3}}, "does not fit the network it describes"),
        ({"format": Path("a")}, "is no readable model.pt"),
    ],
)
def test_files_that_are_no_model(content: bytes | dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_model(path, classifier(), about={})
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save({**torch.load(path, weights_only=True), **content}, path)
    with pytest.raises(UserError, match=message):
        diffnag.load_model(path)
    with pytest.raises(UserError, match="there is no model"):
        diffnag.load_model(tmp_path / "none.pt")
