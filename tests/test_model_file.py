"""model.pt and model.onnx: what is saved comes back, takes raw images, and is refused where it is none."""

from __future__ import annotations

import dataclasses
import json
import math
import resource
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


def test_one_image_or_several_of_any_kind_are_taken(tmp_path: Path) -> None:
    from PIL import Image

    model, x = classifier(), images(colour=True).test.x
    plain, path = model.preprocess(x), tmp_path / "cat.png"
    Image.fromarray(x[0]).save(path)
    single = (str(path), path, Image.fromarray(x[0]), Image.open(path), x[0], torch.from_numpy(x[0]), x[0].astype(np.float16) / 255)
    for image in single:
        torch.testing.assert_close(model.preprocess(image), plain[:1], atol=1e-3, rtol=0)
        assert model.predict(image) == model.predict(x[:1])
    mixed = [path, Image.fromarray(x[1]), x[2], torch.from_numpy(x[3])]
    for several in (mixed, tuple(mixed), (image for image in mixed[:3]), list(x[:4]), x[:4], torch.from_numpy(x[:4])):
        found = model.preprocess(several)
        torch.testing.assert_close(found, plain[: len(found)])
        assert len(found) >= 3
    grey = [x[0, ..., 0], np.zeros((30, 50), np.uint8), np.zeros((5, 9, 1), np.uint8)]
    assert model.preprocess(grey).shape == (3, 3, 8, 8) and model.preprocess(grey[0]).shape == (1, 3, 8, 8)
    torch.testing.assert_close(model.preprocess(grey[0]), model.preprocess(x[:1, ..., 0]))
    palette = Image.fromarray(x[0]).convert("P")
    assert model.preprocess(palette).shape == (1, 3, 8, 8) and palette.mode == "P"
    assert model.predict([]) == [] and model.preprocess([]).shape == (0, 3, 8, 8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((2, 8, 8), np.int64), "the images are int64 from 0 to 0; accepted are uint8, or floats in"),
        (np.zeros((2, 8, 8), bool), "the images are bool from 0 to 0; accepted are uint8"),
        (np.zeros((8, 8)) + 2, "the images are float64 from 2 to 2; accepted"),
        (np.zeros(8, np.uint8), "has the shape"),
        (np.array(["a.png"]), "has the shape"),
        (["no.png"], "cannot read no.png: .*No such file"),
        ("no.png", "cannot read no.png: .*No such file"),
        (".", "cannot read .: .*(directory|regular file)"),
        (None, r"images of type NoneType were given; accepted are files, Pillow images, arrays \(h, w\[, 3\]\)"),
        (3, "images of type int were given"),
        ([3], "an image of type int was given"),
        ([["a.png"]], "an image of type list was given"),
        (b"a.png", "an image of type int was given"),
    ],
)
def test_what_is_no_image_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        classifier().predict(wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(120)
def test_the_onnx_file_says_the_same(tmp_path: Path) -> None:
    import onnxruntime

    model, path = classifier(), tmp_path / "model.onnx"
    assert export_onnx(path, model) < 1e-4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for b in (1, 3, 70):
        x = torch.rand(b, 3, 8, 8)
        (theirs,) = session.run(["logits"], {"images": x.numpy()})
        np.testing.assert_allclose(theirs, model(x).detach().numpy(), atol=1e-5)
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found["classes"]) == ["cat", "dog", "emu"] and json.loads(found["preprocessing"])["mean"][0] == 0.5
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
        ({"format": Path("a")}, "is no readable model.pt"),
        ({"weights": {}}, "does not fit the network it describes: .* Missing key"),
        ({"weights": None}, "is damaged: weights is None; accepted is a dictionary of tensors"),
        ({"weights": {1: torch.zeros(1)}}, "is damaged: weights is {1: "),
        ({"skeleton": {"depth": 3}}, "is damaged: skeleton has depth; accepted are channels, cells, stem_stride, small"),
        ({"skeleton": None}, "is damaged: skeleton is None; accepted is a dictionary"),
        ({"skeleton": {"channels": "8", "cells": 1}}, "is damaged: channels is '8'; 1 to 10,000 are accepted"),
        ({"skeleton": {"channels": 10**9, "cells": 1}}, "is damaged: channels is 1000000000"),
        ({"skeleton": {"channels": 4, "cells": -3}}, "is damaged: cells is -3"),
        ({"skeleton": {"channels": 4, "cells": 1, "stem_stride": 0}}, "is damaged: stem_stride is 0"),
        ({"skeleton": {"channels": 4, "cells": 1, "small": "yes"}}, "is damaged: small is 'yes'"),
        ({"skeleton": {"channels": 8, "cells": 1}}, "does not fit the network it describes: .* size mismatch"),
        ({"space": 3}, "is damaged: space is 3; accepted is a name"),
        ({"space": "no-such"}, "does not fit the network it describes: unknown space 'no-such'; there are: "),
        ({"space": "nasbench101"}, "does not fit the network it describes: .* is no NAS-Bench-101 string"),
        ({"arch": None}, "is damaged: arch is None; accepted is a string"),
        ({"arch": "x"}, "does not fit the network it describes: 'x' is no NAS-Bench-201 string"),
        ({"classes": [1, 2, 3]}, r"is damaged: classes is \[1, 2, 3\]; accepted is a list of names"),
        ({"classes": "cat"}, "is damaged: classes is 'cat'"),
        ({"classes": ("cat", "dog")}, "does not fit the network it describes: .* size mismatch"),
        ({"image_size": "8"}, "is damaged: image_size is '8'; accepted is 1 to 4096"),
        ({"image_size": 10**12}, "is damaged: image_size is 1000000000000"),
        ({"mean": None}, "is damaged: mean is None; accepted is three finite numbers"),
        ({"mean": ("a", "b", "c")}, "is damaged: mean is"),
        ({"mean": (math.nan, 0.5, 0.5)}, "is damaged: mean is"),
        ({"std": (0.0, 0.1, 0.1)}, "is damaged: std is .*; accepted is three numbers above 0"),
        ({"about": [1]}, r"is damaged: about is \[1\]; accepted is a dictionary"),
    ],
)
def test_files_that_are_no_model(content: bytes | dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_model(path, classifier(), about={})
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save({**torch.load(path, weights_only=True), **content}, path)
    with pytest.raises(UserError, match=message) as caught:
        diffnag.load_model(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["space", "arch", "skeleton", "classes", "image_size", "mean", "std", "about", "weights"])
def test_a_file_that_lacks_a_part(key: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_model(path, classifier(), about={})
    torch.save({name: value for name, value in torch.load(path, weights_only=True).items() if name != key}, path)
    with pytest.raises(UserError, match=f"is damaged: it has no {key}"):
        diffnag.load_model(path)
    with pytest.raises(UserError, match="there is no model"):
        diffnag.load_model(tmp_path / "none.pt")


def test_weights_of_another_type_or_that_are_not_finite_or_that_were_changed_are_refused(tmp_path: Path) -> None:
    model, path = classifier(), tmp_path / "model.pt"
    save_model(path, model, about={})
    whole, content = path.read_bytes(), torch.load(path, weights_only=True)
    weights = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in content["weights"].items()}
    torch.save({**content, "weights": weights}, path)
    with pytest.raises(UserError, match="does not fit .*: its stem.0.weight has type torch.float64, the network's has torch.float32"):
        diffnag.load_model(path)
    content["weights"]["stem.0.weight"][0, 0, 0, 0] = math.nan
    torch.save(content, path)
    with pytest.raises(UserError, match="has NaN or infinite weights"):
        diffnag.load_model(path)
    bits = model.network.state_dict()["stem.0.weight"].numpy().tobytes()
    path.write_bytes(whole.replace(bits, bytes([bits[0] ^ 1]) + bits[1:]))
    with pytest.raises(UserError, match="is no readable model.pt of diffnag: its part .* is damaged"):
        diffnag.load_model(path)
    path.write_bytes(whole)
    with pytest.raises(UserError, match="is a model of space 'nasbench201', not of 'nasbench101'"):
        diffnag.load_model(path, space="nasbench101")


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    model, path = classifier(), tmp_path / "model.pt"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))  # as on a full disk, a write fails in the midst of the file
    try:
        with pytest.raises(UserError) as caught:
            save_model(path, model, about={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value).startswith(f"cannot write {path}: ") and "\n" not in str(caught.value)
    with torch.no_grad():
        next(model.network.parameters()).fill_(math.inf)
    with pytest.raises(UserError, match="is not written: the network has NaN or infinite weights"):
        save_model(path, model, about={})
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
