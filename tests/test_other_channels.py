"""Arrays of other channels than three in the space of a pretrained network: its stem, sizes, files, and a search."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffnag import load_model
from diffnag.datasets.images import CLASSIFICATION, ImageDataset, Images, load_images
from diffnag.errors import UserError
from diffnag.networks.classifier_file import Classifier, Description, export_onnx, save_model
from diffnag.networks.elastic import Resized, resized
from diffnag.networks.plan import Skeleton, plan_fine_tuning
from diffnag.networks.training import accuracy
from diffnag.objectives.structure import network_bytes
from diffnag.oracles.inherit import InheritOracle, refuse_unfit
from diffnag.protocols import TakesChannels
from diffnag.search_loop.options import SearchOptions
from diffnag.search_loop.oracle import own_images
from diffnag.search_spaces.efficientnet_lite import space as module
from diffnag.search_spaces.efficientnet_lite.network import Network, for_channels, full, take_channels
from diffnag.search_spaces.efficientnet_lite.published import published_file
from diffnag.search_spaces.efficientnet_lite.space import EfficientNetLite
from diffnag.spaces.counting import measured_size
from tests.stripes import call
from tests.trained_norms import network_of

MIXED = "128:3-4_x:5-6_3-3:3-2_x_3-6:5-2_x_x:3-6_5-4_x_5-3:3-3"


@pytest.fixture(name="weights")
def _weights(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Random weights in place of the published ones, and small resolutions."""
    monkeypatch.setattr(module, "load_network", lambda path: network_of(full(), num_classes=1000))
    monkeypatch.setattr(module, "RESOLUTIONS", (16, 16, 24, 32, 32))
    monkeypatch.setattr(EfficientNetLite, "side", 24)
    yield


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def bright(path: Path, *shape: int, count: int = 48, **more: np.ndarray) -> Path:
    """Arrays `(n, h, w, c)` of three classes that differ in brightness, in ranges that are no bytes."""
    y, rng = np.arange(count) % 3, np.random.default_rng(0)
    x = rng.normal(y[:, None, None, None], 0.3, size=(count, *shape)) * np.logspace(0, 3, shape[-1]) - 7
    np.savez(path, x_train=x.astype(np.float32), y_train=y, **more)
    return path


def test_the_weights_of_a_stem_are_those_of_timm() -> None:
    weight = torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1)
    expected = {1: [7.0], 2: [1.5, 3.0], 3: [1.0, 2.0, 4.0], 4: [0.75, 1.5, 3.0, 0.75], 6: [0.5, 1.0, 2.0, 0.5, 1.0, 2.0]}
    assert {channels: for_channels(weight, channels).flatten().tolist() for channels in expected} == expected


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_repeated_channels_give_what_colours_give(channels: int) -> None:
    """Grey as red, green and blue, or two equal colour images: the same features and logits."""
    network, other = (network_of(full(), num_classes=4) for _ in range(2))
    take_channels(other, channels)
    images = noise(2, 1 if channels == 1 else 3, 64, 48)
    colours, given = (images.repeat(1, n // images.shape[1], 1, 1) for n in (3, channels))
    with torch.no_grad():
        torch.testing.assert_close(other(given), network(colours), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(other.features(given), network.features(colours), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_parts_inherit_the_stem(weights: None, channels: int) -> None:
    space, arch = EfficientNetLite(), EfficientNetLite().random(np.random.default_rng(0))
    other = space.with_channels(channels)
    mine, theirs = (one.inherit(one.pretrained(num_classes=5), arch) for one in (space, other))
    assert theirs.stem.conv.weight.shape == (32, channels, 3, 3) and not theirs.training
    images = noise(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(theirs.features(images.expand(-1, channels, -1, -1)), mine.features(images.expand(-1, 3, -1, -1)))
    assert space.colours == 3 and other.colours == channels and other.with_channels(3).size(arch, num_classes=5) == space.size(arch, num_classes=5)


@pytest.mark.skipif(published_file() is None, reason="the published weights are not installed (extra `pretrained`)")
def test_the_published_network_sees_grey_as_three_equal_channels() -> None:
    space, images = EfficientNetLite(), noise(1, 1, 96, 96)
    grey, colour = space.with_channels(1).pretrained(num_classes=2), space.pretrained(num_classes=2)
    assert isinstance(grey, Network) and isinstance(colour, Network)
    with torch.no_grad():
        features = colour.features(images.expand(-1, 3, -1, -1))
        torch.testing.assert_close(grey.features(images), features, rtol=1e-4, atol=1e-4)
    assert features.std() > 0.1


@pytest.mark.parametrize("channels", [1, 2, 4, 12])
def test_sizes_are_exact(channels: int) -> None:
    space: Any = EfficientNetLite()
    assert isinstance(space, TakesChannels)
    arch = space.from_str(MIXED)
    before, size = space.size(arch, num_classes=7), space.with_channels(channels).size(arch, num_classes=7)
    weights = 9 * 32 * (channels - 3)
    assert (size.params - before.params, size.flops - before.flops) == (weights, weights * 64 * 64)
    inputs = (channels, 20, 30)
    skeleton = Skeleton(24, 1, 2, inputs=inputs)
    network = skeleton.build(arch, space, num_classes=7, image_size=128)
    assert isinstance(network, Resized) and network.side == 128
    assert skeleton.size(arch, space, num_classes=7, image_size=30) == size == measured_size(network, image_size=30, inputs=inputs)
    assert network_bytes(network, inputs=inputs) > 4 * size.params


@pytest.mark.timeout(120)
def test_a_model_of_arrays_resizes_them_itself(tmp_path: Path) -> None:
    import onnxruntime

    space, inputs = EfficientNetLite(), (4, 40, 31)
    torch.manual_seed(0)
    network = Skeleton(24, 1, 2, inputs=inputs).build(space.smallest, space, num_classes=3, image_size=96).eval()
    mean, std = (1.0, 2.0, 3.0, -4000.0), (1.0, 2.0, 3.0, 400.0)
    about = Description("efficientnet-lite", space.to_str(space.smallest), Skeleton(24, 1, 2, inputs=inputs), ("a", "b", "c"), 96, mean, std)
    model = Classifier(network, about).eval()
    save_model(tmp_path / "model.pt", model, about={})
    again = load_model(tmp_path / "model.pt")
    x = noise(5, *inputs) * model.std + model.mean
    with torch.no_grad():
        plain = network.network(resized((x - model.mean) / model.std, 96))
        torch.testing.assert_close(again(x), plain)
    assert again.predict(x.numpy()) == [again.classes[k] for k in plain.argmax(1)]
    assert export_onnx(tmp_path / "model.onnx", again) < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": x.numpy()})
    np.testing.assert_allclose(logits, plain, atol=1e-4)
    steps = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
    assert steps["input"].startswith("float32 (batch, 4, 40, 31)") and steps["before"] == "nothing"
    assert steps["inside"] == "standardised by mean and std, resized to 96 x 96 (bilinear, antialiased)" and steps["mean"] == list(mean)


def test_the_oracle_standardises_arrays_by_their_own_statistics(weights: None, tmp_path: Path) -> None:
    path = bright(tmp_path / "bands.npz", 12, 10, 5)
    images = load_images(path, square=True)
    space, oracle = EfficientNetLite(), InheritOracle()
    oracle.setup(space=space)
    oracle.set_images(images, dataset="mine", seconds=None, epochs=1, seed=0, device="cpu")
    arch = space.random(np.random.default_rng(0))
    value, network = oracle.query(arch, dataset="mine", split="val"), oracle.network(arch)
    mean, std = images.train.x.mean((0, 1, 2)), images.train.x.std((0, 1, 2))
    x = torch.from_numpy((images.val.x - mean) / std).permute(0, 3, 1, 2).float()
    assert value == round(accuracy(network, resized(x, space.resolution(arch)), torch.from_numpy(images.val.y)), 4)
    assert network.stem.conv.in_channels == oracle.probe()[1].stem.conv.in_channels == 5 and space.colours == 3
    plan = plan_fine_tuning(images, space)
    counted = plan.skeleton.size(arch, space, num_classes=3, image_size=12)
    assert plan.skeleton.inputs == (5, 12, 10) and counted.params == sum(p.numel() for p in network.parameters())


def test_it_is_said(tmp_path: Path) -> None:
    def note(*shape: int, space: str = "efficientnet-lite") -> str:
        from diffnag.spaces.loading import load_space

        options = SearchOptions(str(bright(tmp_path / "x.npz", *shape)), space=space)
        return own_images(options, load_space(space)).notes[-1]

    assert note(9, 9, 1) == "The first convolution of the pretrained network was adapted from 3 channels to 1: its weights summed over the colours."
    assert note(9, 9, 4).endswith("from 3 channels to 4: the weights of red, green and blue in turn, times 3/4.")
    assert "adapted" not in note(9, 9, 3) + note(9, 9, 4, space="nasbench201")


def test_what_it_cannot_take_is_refused_in_a_sentence() -> None:
    def images(*shape: int, task: str = CLASSIFICATION) -> ImageDataset:
        part = Images(np.zeros((6, *shape), np.float32), np.arange(6) % 2)
        return ImageDataset("mine", ("a", "b"), part, part, part, shape[-1], max(shape[:2]), (0, 1), False, (), "", task)

    space, photos_only = EfficientNetLite(), SimpleNamespace()
    refuse_unfit(images(8, 8, 4), space, "lite")
    for given, one, sentence in (
        (images(1, 80, 2), space, "classify images, and mine holds signals of 2 channels; use --space nasbench201"),
        (images(8, 8, 4, task="regression"), space, "mine holds images for a regression task"),
        (images(8, 9, 4), photos_only, "photos of 1 or 3 channels, and mine holds arrays of 4 channels, 9 x 8 pixels, .*--space efficientnet-lite"),
    ):
        with pytest.raises(UserError, match=sentence):
            refuse_unfit(given, one, "lite")


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("channels", [1, 4])
def test_a_search_leaves_a_model_of_arrays(weights: None, tmp_path: Path, channels: int, capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    path, folder = bright(tmp_path / "bands.npz", 12, 10, channels, count=90), tmp_path / "run"
    asked = ("--space", "efficientnet-lite", "--method", "random", "--budget", "2", "--epochs", "1", "--device", "cpu", "--limit", "params<=9M")
    assert call("--dataset", path, *asked, "--compare", "--out", folder) == 0
    result, model = json.loads((folder / "result.json").read_text()), load_model(folder / "model.pt")
    assert f"was adapted from 3 channels to {channels}" in " ".join(capsys.readouterr().out.split())
    assert result["final"]["plan"]["inputs"] == [channels, 12, 10] == result["images"]["inputs"]
    assert result["final"]["params"] == sum(p.numel() for p in model.network.parameters()) == result["best"]["values"]["params"]
    assert {row["name"] for row in result["compare"]} == {"random", "linear probe", "fine-tuning", "plain ResNet"}
    with np.load(path) as arrays:
        x = arrays["x_train"]
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": x.transpose(0, 3, 1, 2)})
    assert [model.classes[k] for k in logits.argmax(1)] == model.predict(x)
    assert load_model(folder / "compare" / "fine-tuning.pt").predict(x[:2])
    page = (folder / "report.html").read_text()
    assert f"reshape(1, {channels}, 12, 10)" in page and "np.load(" in page
    assert result["eight_bits"]["test_accuracy"] >= result["test_accuracy"] - 0.2 and model.description.mean[0] == pytest.approx(-6, abs=0.2)
