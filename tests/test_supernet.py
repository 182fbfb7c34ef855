"""The shipped weights from which networks on small images start: the supernet, how it is trained, and where its weights are used."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from diffnag import train_supernet
from diffnag.command.running import run_command
from diffnag.datasets.images import Images
from diffnag.errors import UserError
from diffnag.io.checkpoint import load_checkpoint, save_checkpoint
from diffnag.networks import training
from diffnag.networks.build import seeded_build
from diffnag.networks.plan import STARTED_EPOCHS, Skeleton, plan_final
from diffnag.networks.training import accuracy, as_input
from diffnag.search_loop.assembly import assemble
from diffnag.search_loop.head_start import HeadStart, head_start
from diffnag.search_loop.options import SearchOptions
from diffnag.search_spaces.nasbench201.network import Network
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.search_spaces.nasbench201.supernet import PATH, RESIDUAL, Supernet, load_supernet, shipped
from diffnag.spaces.supernets import KIND, stored
from tests.image_sources import coloured_classes
from tests.stripes import DATA, write_stripes

SPACE = NASBench201()
FILES = {"tiny_imagenet16.npz": (16, 6), "cifar100_16.npz": (16, 4), "tiny_imagenet32.npz": (32, 6)}
"""File -> side of its images, and classes."""


@pytest.fixture
def supernet() -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Supernet(3)


def test_a_network_that_is_started_computes_what_its_part_of_the_supernet_does(supernet: Supernet) -> None:
    rng, images = np.random.default_rng(0), torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for arch in (SPACE.from_str(SPACE.resnet_like), *(SPACE.random(rng) for _ in range(5))):
        operations = SPACE.operations(arch)
        network = Network(operations, channels=16, cells=1, num_classes=3)
        assert not torch.equal(network(images), supernet.network(operations)(images))
        supernet.start(network)
        network.classifier.load_state_dict(supernet.classifier.state_dict())
        assert torch.equal(network(images), supernet.network(operations)(images))
    assert SPACE.operations(SPACE.from_str(SPACE.resnet_like)) == RESIDUAL


def test_a_step_trains_the_layers_of_one_cell(supernet: Supernet) -> None:
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    trained: list[frozenset[str]] = []
    for _ in range(400):
        operations = supernet._drawn()
        trained.append(frozenset(f"{i}-{op}" for i, op in enumerate(operations)))
    shares = {one: sum(one in cell for cell in trained) / len(trained) for one in ("0-3", "1-0", "1-3")}
    assert shares == pytest.approx({"0-3": 0.92, "1-0": 0.92, "1-3": 0.02}, abs=0.06) and shares["1-3"] > 0
    supernet.train()(images).sum().backward()
    used = {name for name, parameter in supernet.named_parameters() if parameter.grad is not None}
    assert {name for name in used if not name.startswith("convs.")} and len(used) < len(list(supernet.parameters()))
    assert torch.equal(supernet.eval()(images), supernet.network(RESIDUAL)(images))


def write_sources(folder: Path, files: dict[str, tuple[int, int]] = FILES) -> Path:
    folder.mkdir(exist_ok=True)
    for name, (side, classes) in files.items():
        coloured_classes(folder / name, classes=classes, n=12, side=side)
    return folder


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["train_supernet", *map(str, arguments)])
    run_command(train_supernet.main)


def test_training_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    state, folder = torch.get_rng_state(), write_sources(tmp_path / "images")
    outs = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for out in outs:
        run_main(monkeypatch, "--images", folder, "--out", out, "--epochs", 1, "--epochs-large", 1)
    said = capsys.readouterr()
    assert "epoch 1/2  16 pixels, test" in said.err and "epoch 2/2  32 pixels, test" in said.err and f"wrote {outs[0]}" in said.out
    assert torch.equal(torch.get_rng_state(), state)
    (a, meta), (b, _) = (load_checkpoint(out, kind=KIND) for out in outs)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert meta["classes"] == 5 + 4 and meta["test_classes"] == 5 and meta["training_images"] == [108, 60]  # label 4 of six is held out
    assert str(tmp_path) not in meta["command"] and not any(name.startswith("classifier") for name in a)
    assert load_supernet(outs[0]).stem[0].weight.shape == (16, 3, 3, 3)


def test_interrupted_and_resumed_equals_unbroken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder, unbroken, broken = write_sources(tmp_path / "images"), tmp_path / "unbroken.safetensors", tmp_path / "broken.safetensors"
    arguments = ("--images", folder, "--epochs", 2, "--epochs-large", 2, "--out")

    def ends(code: int, *more: str, judged: float = math.inf) -> str:
        """Run until so many epochs are judged; what is said."""
        left = iter(count(1))

        def judge(*given: Any) -> float:
            if next(left) > judged:
                raise KeyboardInterrupt
            return accuracy(*given)

        monkeypatch.setattr(training, "accuracy", judge)
        with pytest.raises(SystemExit) as exit_:
            run_main(monkeypatch, *arguments, broken, *more)
        assert exit_.value.code == code
        return capsys.readouterr().err

    run_main(monkeypatch, *arguments, unbroken)
    assert "stopped after epoch 2 of 4; the same command with --resume goes on" in ends(130, judged=1)
    assert "holds an interrupted training: pass --resume to go on with it, or delete it" in ends(2)
    assert "was begun with other options: command" in ends(2, "--resume", "--seed", "1")
    assert "stopped after epoch 4 of 4" in ends(130, "--resume", judged=2)
    monkeypatch.setattr(training, "accuracy", accuracy)
    run_main(monkeypatch, *arguments, broken, "--resume")
    one, other = (load_checkpoint(path, kind=KIND)[0] for path in (unbroken, broken))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert not broken.with_name(broken.name + ".state").exists()
    assert "there is no interrupted training" in ends(2, "--resume")


def test_mistakes_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def said(folder: Path) -> str:
        with pytest.raises(SystemExit) as exit_:
            run_main(monkeypatch, "--images", folder, "--out", tmp_path / "out.safetensors", "--epochs", 1)
        assert exit_.value.code == 2
        return capsys.readouterr().err

    assert f"there is no file {tmp_path / 'tiny_imagenet16.npz'}; --images names a folder" in said(tmp_path)
    assert "images of 20 x 20 pixels; accepted is 32 x 32" in said(write_sources(tmp_path / "a", {**FILES, "tiny_imagenet32.npz": (20, 6)}))
    assert "has 1 classes outside label % 5 == 4" in said(write_sources(tmp_path / "b", {**FILES, "cifar100_16.npz": (16, 1)}))


def test_files_of_other_tensors_are_refused(tmp_path: Path, supernet: Supernet) -> None:
    path = tmp_path / "other.safetensors"
    save_checkpoint(path, {"stem.0.weight": torch.zeros(16, 3, 3, 3)}, {"kind": KIND})
    with pytest.raises(UserError, match="other tensors than those of a supernet"):
        load_supernet(path)
    save_checkpoint(path, {**stored(supernet), "stem.0.weight": torch.zeros(4, 3, 3, 3)}, {"kind": KIND})
    with pytest.raises(UserError, match=str(path)):
        load_supernet(path)


def test_what_is_shipped(data_folder: Path) -> None:
    """The features of new classes, at 32 pixels, are told apart better than those of random weights."""
    _, meta = load_checkpoint(PATH, kind=KIND)
    assert meta["command"].startswith("python -m diffnag.train_supernet --images FOLDER") and PATH.stat().st_size < 2e6
    with np.load(data_folder / "images" / "cifar10.npz") as arrays:
        chosen = np.flatnonzero(np.isin(arrays["y_test"], (0, 1, 2, 3, 7)))[::2]
        x, y = arrays["x_test"][chosen], torch.from_numpy(arrays["y_test"][chosen])
    images, arch = as_input(x), SPACE.from_str(SPACE.resnet_like)
    right = []
    for started in (True, False):
        network: Any = seeded_build(Skeleton(16, 1), arch, SPACE, num_classes=2, image_size=32, seed=0, device="cpu", started=started).eval()
        network.classifier = torch.nn.Identity()
        with torch.no_grad():
            features = network(images)
        features = (features - features.mean(0)) / features.std(0).clamp_min(1e-6)
        centres = {int(label): features[::2][y[::2] == label].mean(0) for label in y.unique()}
        nearest = torch.tensor([*centres])[torch.cdist(features[1::2], torch.stack([*centres.values()])).argmin(1)]
        right.append((nearest == y[1::2]).float().mean().item())
    assert right[0] > right[1] + 0.15


def pictures(count: int, side: int = 32, inputs: tuple[int, int, int] | None = None) -> Any:
    part = SimpleNamespace(x=np.zeros((count, side, side, 3), np.uint8), y=np.zeros(count, int))
    return SimpleNamespace(
        train=part, val=part, classes=("a", "b"), inputs=inputs, size=side, shift=1, flips=True, task="classification"
    )


def test_weights_are_worth_more_than_width() -> None:
    plans = {seconds: plan_final(pictures(1_000), SPACE, seconds=seconds) for seconds in (5.0, 60.0, 600.0, 20_000.0)}
    started = {seconds: plan.started for seconds, plan in plans.items()}
    assert started == {5.0: False, 60.0: True, 600.0: True, 20_000.0: True}
    assert plans[60.0].skeleton == plans[20_000.0].skeleton == Skeleton(16, 1) and plans[60.0].recipe.epochs >= STARTED_EPOCHS
    many = [plan_final(pictures(20_000), SPACE, seconds=seconds) for seconds in (900.0, 200_000.0)]
    assert [plan.started for plan in many] == [True, False] and many[1].skeleton.channels > 16
    assert "started" not in plans[5.0].to_json()
    assert plans[60.0].to_json()["started"] is True and str(plans[60.0]).endswith("epochs from weights of small photos")
    assert plan_final(pictures(1_000, 64), SPACE, seconds=60.0).skeleton == Skeleton(16, 1, 2)
    assert plan_final(pictures(1_000), SPACE, seconds=1.0, epochs=2).started


def test_arrays_and_who_asks_for_it_start_from_random_weights() -> None:
    assert not plan_final(pictures(1_000, inputs=(3, 32, 32)), SPACE, seconds=60.0).started
    space = NASBench201()
    space.shipped = None
    assert not plan_final(pictures(1_000), space, seconds=60.0).started and NASBench201().shipped


def test_from_scratch_is_an_option_of_the_search(tmp_path: Path) -> None:
    options = SearchOptions(dataset=str(write_stripes(tmp_path)), space="nasbench201", method="random", budget=1, epochs=1)
    for from_scratch in (False, True):
        parts = assemble(replace(options, from_scratch=from_scratch))
        assert parts.final_plan is not None and parts.final_plan.started != from_scratch
    for space, why in (("nasbench101", "ships no weights to start from"), ("efficientnet-lite", "is made of a pretrained network")):
        with pytest.raises(UserError, match=f"--from-scratch is for a space whose networks start from shipped weights, .*{space}.* {why}"):
            assemble(replace(options, space=space, from_scratch=True))
    with pytest.raises(UserError, match="--from-scratch is for your own images, and 'cifar10' is none"):
        assemble(SearchOptions(dataset="cifar10", method="random", from_scratch=True))


def test_the_shipped_weights_are_read_once() -> None:
    assert shipped() is shipped() and not shipped().training


def test_weights_that_do_not_know_the_images_are_no_head_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = SearchOptions(dataset=str(write_stripes(tmp_path)), space="nasbench201", method="random", budget=1, time_limit=3600.0)
    asked: list[float] = []
    answers = iter([HeadStart(60.0, 59.9), HeadStart(50.0, 75.5)])

    def compared(images: Any, space: Any, shipped: Skeleton, *, seconds: float, seed: int) -> HeadStart:
        asked.append(seconds)
        assert shipped == Skeleton(16, 1) and seed == 0
        return next(answers)

    monkeypatch.setattr("diffnag.search_loop.head_start.head_start", compared)
    for started in (True, False):
        parts = assemble(options)
        assert parts.final_plan is not None and parts.images is not None and parts.final_plan.started == started
        assert (parts.final_plan.skeleton == Skeleton(16, 1)) == started
        notes = [note for note in parts.images.notes if note.startswith("The final training starts from random weights")]
        assert len(notes) == (not started) and all("75.5 %" in note and "50 %" in note for note in notes)
    assert asked == [36.0, 36.0]
    for other in ({"time_limit": None}, {"time_limit": 2.0}, {"from_scratch": True}):
        assemble(replace(options, **other))  # type: ignore[arg-type]
    assert len(asked) == 2, "it is compared where there is time for a larger network, and weights"


def test_a_head_start_is_what_a_linear_classifier_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes of one colour each are seen in any features; a class that is drawn at random is not."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr("diffnag.oracles.training.TrainingOracle.query", lambda self, arch, *, dataset, split: 61.25)

    def known(by_colour: bool) -> HeadStart:
        parts = []
        for n in (60, 40):
            y = np.arange(n) % 2
            x = rng.integers(0, 60, (n, 16, 16, 3), dtype=np.uint8)
            x[np.arange(n), :, :, y if by_colour else 0] += 120
            parts.append(Images(x, y))
        images = replace(DATA, train=parts[0], val=parts[1], test=parts[1], classes=("a", "b"), size=16)
        return head_start(images, SPACE, Skeleton(16, 1), seconds=1.0, seed=0)

    assert known(True) == HeadStart(100.0, 61.25) and known(True).pays
    assert known(False).known < 75
