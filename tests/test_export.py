"""The network of one architecture as a file: what is rebuilt, what ONNX says, bad input."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import diffnag
from diffnag import export
from diffnag.command.running import run_command
from diffnag.networks.classifier_file import read_model
from diffnag.networks.plan import Skeleton, skeleton_of
from diffnag.networks.untrained import untrained
from diffnag.plugins import names
from diffnag.protocols import HasResolution, TakesTokens, WithoutNetworks
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.loading import load_space

CELL = "conv3x3@0/maxpool3x3@0,1/output@1,2"
SMALL = ("--num-classes", "5", "--input-size", "16", "--channels", "4", "--cells", "1")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["export", *arguments])
    run_command(export.main)


def test_model_pt_is_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "model.pt"
    run(monkeypatch, CELL, "--space", "nasbench101", *SMALL, "--out", str(path), "--seed", "3")
    model, about = read_model(path)
    space = load_space("nasbench101")
    size = space.size(space.from_str(CELL), channels=4, cells=1, num_classes=5, image_size=16)
    printed = capsys.readouterr().out
    assert f"4 channels, 1 cells a stage, {size.params:,} parameters" in printed and "diffnag.load_model rebuilds it" in printed
    assert sum(parameter.numel() for parameter in model.parameters()) == size.params
    assert about == {"trained": False, "seed": 3} and model.classes == tuple("01234") and model.description.arch == CELL
    x = torch.rand(3, 3, 16, 16)
    same = untrained("nasbench101", CELL, num_classes=5, image_size=16, channels=4, cells=1, seed=3)
    other = untrained("nasbench101", CELL, num_classes=5, image_size=16, channels=4, cells=1, seed=4)
    assert torch.equal(model(x), same(x)) and not torch.equal(model(x), other(x))
    torch.testing.assert_close(model(x), model.network(x))  # no standardisation that nobody asked for


def test_onnx_says_the_same_for_any_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    for name in ("model.pt", "model.onnx"):
        run(monkeypatch, NASBench201.resnet_like, *SMALL, "--format", name.split(".")[1], "--out", str(tmp_path / name))
    assert "its logits differ from torch's by at most" in capsys.readouterr().out
    model = diffnag.load_model(tmp_path / "model.pt")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for b in (1, 6):
        x = torch.rand(b, 3, 16, 16)
        (theirs,) = session.run(["logits"], {"images": x.numpy()})
        ours = model(x).detach().numpy()
        np.testing.assert_allclose(theirs, ours, atol=1e-4)
        assert ours.std() > 0.01  # of ordinary size, not all the same


@pytest.mark.parametrize("name", [name for name in names("space") if not isinstance(load_space(name), WithoutNetworks)])
def test_networks_of_every_space_are_the_benchmarks_own(name: str) -> None:
    space = load_space(name)
    arch = space.random(np.random.default_rng(0))
    skeleton, (classes, side) = skeleton_of(space), next(iter(space.datasets.values()))
    built = space.size(arch, num_classes=classes, image_size=side)
    assert skeleton.size(arch, space, num_classes=classes, image_size=side) == built
    assert skeleton_of(space, channels=8).channels == 8


def test_the_callers_random_numbers_are_left_alone() -> None:
    before = torch.random.get_rng_state()
    model = untrained("nasbench201", NASBench201.resnet_like, num_classes=2, image_size=8, channels=4, cells=1)
    assert torch.equal(torch.random.get_rng_state(), before) and model.description.skeleton == Skeleton(4, 1) and not model.training
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert not any(norm._forward_pre_hooks for norm in norms) and all((norm.running_var != 1).all() for norm in norms)


def test_signals_neither_vanish_nor_grow_and_rounding_stays_small() -> None:
    cell = "conv3x3@0/conv1x1@1/conv3x3@0,2/maxpool3x3@0,3/maxpool3x3@3,4/output@5"  # nine of them; with centred statistics logits reach 70
    model = untrained("nasbench101", cell, num_classes=10, image_size=16, channels=32)
    images = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, exact = model(images), model.double()(images.double())
    assert 0.3 < logits.abs().max() < 15 and logits.std(0).mean() > 0.05
    assert (logits - exact).abs().max() < 1e-4


PLUGIN = """
import torch
from diffnag.search_spaces.nasbench201.space import NASBench201

class Unfolds(NASBench201):
    def build(self, arch, *, channels=16, cells=5, num_classes, stem_stride=1):
        return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 9), torch.nn.Flatten(), torch.nn.LazyLinear(num_classes))

class TooMany(NASBench201):
    def build(self, arch, *, channels=16, cells=5, num_classes, stem_stride=1):
        return super().build(arch, channels=4, cells=1, num_classes=num_classes + 1)

class NoDefaults(NASBench201):
    def build(self, arch, *, channels, cells, num_classes, stem_stride=1):
        return super().build(arch, channels=4, cells=1, num_classes=num_classes)

class Nothing(NASBench201):
    def build(self, arch, *, channels=16, cells=5, num_classes, stem_stride=1):
        return None

class Fails(NASBench201):
    def build(self, arch, *, channels=16, cells=5, num_classes, stem_stride=1):
        raise KeyError("stem")

class Leaves(NASBench201):
    def build(self, arch, *, channels=16, cells=5, num_classes, stem_stride=1):
        raise SystemExit(0)

class Endless(NASBench201):
    def build(self, arch, *, channels=16, cells=5, num_classes, stem_stride=1):
        network = super().build(arch, channels=4, cells=1, num_classes=num_classes)
        torch.nn.init.constant_(network.classifier.bias, float("inf"))
        return network

class Halves(NASBench201):
    def encode(self, arch):
        V, E = super().encode(arch)
        return V / 2, E

class Odd(NASBench201):
    def build(self, arch, *, channels=16, cells=5, num_classes, stem_stride=1):
        class Sorts(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(3, num_classes)
            def forward(self, x):
                return self.layer(x.mean((2, 3))) * (2.0 if float(x.detach().mean()) > 0 else 1.0)
        return Sorts()
"""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--space", "nasbench101"], "is no NAS-Bench-101 string"),
        (["--space", "nowhere"], "unknown space 'nowhere'; there are: "),
        (["--out", "model.h5"], "--out is model.h5; the name must end in .pt or .onnx"),
        (["--format", "h5"], "unknown format 'h5'; there are: pt, onnx"),
        (["--format", "onnx"], "--out is model.pt; the name must end in .onnx"),
        (["--out", "/proc/nowhere/model.pt"], "cannot write /proc/nowhere/model.pt"),
        (["--num-classes", "0"], "'0' is not a whole number of at least 1"),
        (["--num-classes", "1e12"], "num_classes is 1000000000000; 1 to 1,000,000 are accepted"),
        (["--cells", "0"], "'0' is not a whole number of at least 1"),
        (["--cells", "1e6"], "cells is 1000000; 1 to 1,000 are accepted"),
        (["--channels", "0"], "'0' is not a whole number of at least 1"),
        (["--input-size", "0"], "'0' is not a whole number of at least 1"),
        (["--space", "plugin:Halves"], "space 'plugin:Halves' breaks a rule: the entries of V and E must be 0 or 1"),
        (["--input-size", "1e9"], "image_size is 1000000000; 1 to 4,096 are accepted"),
        (["--channels", "1e12"], "channels is 1000000000000; 1 to 10,000 are accepted"),
        (["--channels", "1e4", "--cells", "1"], "10000 channels, 1 cells a stage, has "),
        (["--channels", "1e4", "--cells", "1"], " parameters; up to 500,000,000 are accepted"),
        (["--input-size", "4096"], " multiply-adds an image; up to 100,000,000,000 are accepted"),
        (["--space", "plugin:Leaves"], "16 channels, 5 cells a stage, cannot be built: SystemExit: 0"),
        (["--space", "plugin:Endless"], "has NaN or infinite weights"),
        (["--space", "plugin:Unfolds", "--input-size", "8"], "cannot take images of 8 pixels a side: Calculated padded input size"),
        (["--space", "plugin:TooMany"], "space 'nasbench201' builds a network that returns (32, 6) for 32 images, not (32, 5)"),
        (["--space", "plugin:NoDefaults"], "build of space 'nasbench201' has no default for channels"),
        (["--space", "plugin:Nothing"], "build of space 'nasbench201' must return a torch.nn.Module, it returned a NoneType"),
        (["--space", "plugin:Fails"], "16 channels, 5 cells a stage, cannot be built: KeyError: 'stem'"),
        (["--space", "plugin:Odd", "--out", "model.onnx"], "model.onnx could not be made: "),
    ],
)
def test_bad_input(arguments: list[str], sentence: str, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "plugin", raising=False)
    given = ["--num-classes", "5", "--input-size", "16", "--out", "model.pt"]
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, NASBench201.resnet_like, *given, *arguments)
    assert stop.value.code == 2 and sentence in capsys.readouterr().err
    assert not list(tmp_path.glob("model*"))


@pytest.mark.parametrize("name", [name for name in names("space") if not isinstance(load_space(name), TakesTokens | HasResolution | WithoutNetworks)])
def test_networks_of_every_space_of_images_take_few_pixels(name: str) -> None:
    space = load_space(name)
    arch = space.to_str(space.random(np.random.default_rng(0)))
    for side in (1, 5):
        assert untrained(name, arch, num_classes=1, image_size=side, channels=8, cells=1)(torch.rand(2, 3, side, side)).shape == (2, 1)


def test_an_input_size_is_needed_where_architectures_have_none(tmp_path: Path, monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, NASBench201.resnet_like, "--num-classes", "5", "--out", str(tmp_path / "a.pt"))
    assert stop.value.code == 2 and "--input-size is missing" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "fewest"), [("nasbench101", 2), ("transnasbench101-micro", 2), ("transnasbench101-macro", 2)])
def test_too_few_channels(name: str, fewest: int, tmp_path: Path, monkeypatch, capsys) -> None:
    arch = {"nasbench101": "conv3x3@0/conv3x3@0/output@1,2", "transnasbench101-micro": "64-41414-3_22_110"}.get(name, "64-4321-basic")
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, arch, "--space", name, *SMALL[:4], "--channels", "1", "--cells", "1", "--out", str(tmp_path / "a.pt"))
    assert stop.value.code == 2 and f"at least {fewest} channels" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_mobilenetv3_has_no_cells(tmp_path: Path, monkeypatch, capsys) -> None:
    space = load_space("mobilenetv3")
    arch = space.to_str(space.random(np.random.default_rng(0)))
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, arch, "--space", "mobilenetv3", *SMALL[:4], "--cells", "2", "--out", str(tmp_path / "a.pt"))
    assert stop.value.code == 2 and "a whole network: cells must be 1, not 2" in capsys.readouterr().err
