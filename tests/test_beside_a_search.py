"""What stands beside a search on a user's own images: a network from scratch beside a pretrained one, and how much time each gets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from diffnag.datasets.images import load_images
from diffnag.errors import UserError
from diffnag.networks.classifier_file import export_onnx, load_model
from diffnag.networks.elastic import resized
from diffnag.networks.plan import affordable_side, plain_skeleton
from diffnag.networks.training import Recipe
from diffnag.oracles.training import TrainingOracle
from diffnag.search_loop.assembly import assemble
from diffnag.search_loop.finish import finishing
from diffnag.search_loop.finish.finished import BY_TRAINING, Share
from diffnag.search_loop.finish.plain import PlainTraining, at_most
from diffnag.search_loop.finish.training import most_epochs, until_the_clock
from diffnag.search_loop.loop import Search
from diffnag.search_loop.options import SearchOptions
from diffnag.search_loop.report.mistakes import mistakes_of
from diffnag.search_loop.result import Best
from diffnag.search_spaces.efficientnet_lite.space import EfficientNetLite
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.stripes import RESNET, narrow_networks, write_stripes


class Plain:
    """Stands for `PlainTraining`: notes what it is asked for, and finds `accuracy` of 100 validation images."""

    asked: ClassVar[list[tuple[str, float]]] = []
    accuracy = 0

    def __init__(self, search: Any, folder: Path, seconds: float, on_progress: Any) -> None:
        self.seconds = seconds

    def resnet(self, name: str, *, planned: bool, apart: bool = False, start: Any = None) -> Any:
        if self.accuracy < 0:
            raise UserError("its training diverged: the loss is nan after epoch 1")
        assert planned and apart == (start is None)
        self.asked.append((name, self.seconds))
        return SimpleNamespace(name=name, validation=Share(self.accuracy, 100))


SHORT, LONG = "short ResNet from scratch", "ResNet from scratch"


@pytest.mark.parametrize(
    ("limit", "accuracy", "asked"),
    [
        (200.0, 79, [(SHORT, 30.0)]),
        (900.0, 80, [(SHORT, 60.0)]),
        (200.0, 81, [(SHORT, 30.0), (LONG, 90.0)]),  # of 150 seconds that are left, 20 are for the files and 30 for the other networks
        (None, 81, [(SHORT, 60.0), (LONG, 60.0)]),
    ],
)
def test_a_network_from_scratch_gets_the_time_where_it_is_better(
    limit: float | None, accuracy: int, asked: list[tuple[str, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing, "PlainTraining", Plain)
    monkeypatch.setattr(Plain, "asked", [])
    monkeypatch.setattr(Plain, "accuracy", accuracy)
    part = {name: SimpleNamespace(y=np.zeros(count)) for name, count in (("test", 300), ("val", 100))}
    study = SimpleNamespace(history=[SimpleNamespace(cost_s=seconds) for seconds in (1.0, 5.0, 9.0)])
    search: Any = SimpleNamespace(options=SimpleNamespace(time_limit=limit), seconds_left=150.0, images=SimpleNamespace(**part), study=study)
    best = Best(arch="", predicted=None, value=80.0, test=None)
    found = finishing._from_scratch(search, best, tmp_path, on_progress=print, on_note=print)
    assert found is not None and found.name == asked[-1][0] and Plain.asked == asked


def test_one_that_cannot_be_trained_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finishing, "PlainTraining", Plain)
    monkeypatch.setattr(Plain, "accuracy", -1)
    notes: list[str] = []
    search: Any = SimpleNamespace(options=SimpleNamespace(time_limit=200.0), seconds_left=100.0)
    best = Best(arch="", predicted=None, value=80.0, test=None)
    assert finishing._from_scratch(search, best, tmp_path, on_progress=print, on_note=notes.append) is None
    assert notes == ["ResNet from scratch is left out: its training diverged: the loss is nan after epoch 1"]


@pytest.mark.parametrize(
    ("images", "searched", "probe", "scratch", "beyond", "kept"),
    [
        (20, 15, 17, 7, True, "searched"),  # two standard errors are 16 points
        (20, 15, 17, 7, False, "probe"),
        (20, 10, 17, 7, True, "probe"),
        (1000, 850, 860, 0, True, "searched"),
        (1000, 850, 875, 0, True, "probe"),  # 2.1 points
        (1000, 850, 875, 876, True, "scratch"),
        (1000, 850, 860, 855, True, "scratch"),
    ],
)
def test_a_probe_is_kept_where_the_validation_images_can_tell(
    images: int, searched: int, probe: int, scratch: int, beyond: bool, kept: str
) -> None:
    hits = {"searched": searched, "probe": probe, "scratch": scratch}
    one: Any = {name: SimpleNamespace(name=name, validation=Share(count, images), judged=BY_TRAINING) for name, count in hits.items()}
    notes: list[str] = []
    assert finishing._kept(one["searched"], one["probe"], one["scratch"], beyond_probe=beyond, on_note=notes.append).name == kept
    assert any("validation images cannot tell" in note for note in notes) == (kept != "probe" and probe < 875)
    assert any(f"the {kept} is better on validation" in note for note in notes) == (kept != "searched")


def pictures(count: int, side: int = 32) -> Any:
    part = SimpleNamespace(x=np.zeros((count, side, side, 3), np.uint8), y=np.zeros(count, int))
    return SimpleNamespace(train=part, val=part, classes=("a", "b"), inputs=None)


def test_a_short_time_is_for_fewer_pixels() -> None:
    space = EfficientNetLite()
    sizes = {side: space.size(space.from_str(f"{side}{space.to_str(space.largest)[3:]}"), num_classes=2).flops for side in (96, 128, 160)}
    for side, flops in sizes.items():
        enough = 6 * 2_000 * flops / 7e9
        assert affordable_side(space, pictures(1_000), seconds=enough + 1) == side
    assert affordable_side(space, pictures(1_000), seconds=1.0) == 96
    assert affordable_side(space, pictures(1_000), seconds=1e9) == space.side == 160


def test_the_plain_network_sees_small_images_at_full_resolution() -> None:
    assert [plain_skeleton(pictures(2, side)).stem_stride for side in (8, 28, 32, 64, 128)] == [1, 1, 1, 2, 4]
    assert (plain_skeleton(pictures(2)).channels, plain_skeleton(pictures(2)).cells) == (16, 1)


def test_the_residual_network_is_tried_first_on_own_images_within_a_limit_and_nowhere_else(tmp_path: Path) -> None:
    options = SearchOptions(dataset=str(write_stripes(tmp_path)), method="random", budget=2, epochs=1)
    parts = assemble(dataclasses.replace(options, time_limit=60.0))
    assert [parts.space.to_str(arch) for arch in parts.domain.first] == [RESNET]
    assert assemble(options).domain.first == ()
    assert assemble(SearchOptions(dataset="cifar10", method="random", oracle="surrogate")).domain.first == ()


def test_within_a_time_limit_evaluations_take_equal_time(tmp_path: Path) -> None:
    """A cell of five convolutions costs twice what the residual one does, one without convolutions a third; epochs are the inverse."""
    space, images = NASBench201(), load_images(write_stripes(tmp_path))
    costly, cheap = (
        space.from_str(f"|{op}~0|+|{op}~0|{op}~1|+|skip_connect~0|{op}~1|{op}~2|") for op in ("nor_conv_3x3", "avg_pool_3x3")
    )  # fmt: skip
    with narrow_networks():
        for seconds, epochs in ((None, {RESNET: 12, costly: 12, cheap: 12}), (4.0, {RESNET: 12, costly: 6, cheap: 24})):
            oracle = TrainingOracle()
            oracle.setup(space=space)
            oracle.set_images(images, dataset="stripes", seconds=seconds, epochs=12, seed=0, device="cpu")
            found = {arch: oracle.epochs_of(space.from_str(arch) if isinstance(arch, str) else arch) for arch in epochs}
            assert found == epochs and oracle.epochs == 12
            assert [done for done, _ in oracle.stages(costly, dataset="stripes", split="val")] == [4, 8, 12]


def test_a_training_that_the_clock_ends_plans_more_epochs_than_it_expects() -> None:
    recipe = Recipe(epochs=80, average=0.1)
    found = [until_the_clock(recipe, fitting, most=80) for fitting in (0.2, 8.0, 40.0, 400.0)]
    assert [one.epochs for one in found] == [1, 20, 80, 80]
    assert [one.average for one in found] == pytest.approx([0.1, 0.04, 0.05, 0.1])
    inherited = dataclasses.replace(recipe, keep_statistics=True)
    assert most_epochs(recipe, asked=None) == 200 and most_epochs(recipe, asked=80) == 80
    assert most_epochs(inherited, asked=None) == 80 and most_epochs(dataclasses.replace(recipe, epochs=300), asked=None) == 300


def test_a_network_from_scratch_keeps_its_validation_and_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = SearchOptions(dataset=str(write_stripes(tmp_path)), method="random", budget=1, epochs=1, device="cpu")
    with narrow_networks(), Search(options) as search:
        training = PlainTraining(search, tmp_path / "compare", 1.0, lambda what, done, of: None)
        short = training.resnet("short", planned=True, apart=True)
        long = training.resnet("long", planned=True, start=short)
        assert short.validation is not None and short.validation == long.validation and short.validation.images == len(search.images.val.y)
        assert (short.plan.images, long.plan.images) == (len(search.images.train.y), len(search.images.train.y) + len(search.images.val.y))
        before, after = (one.model.state_dict() for one in (short, long))
        assert before.keys() == after.keys() and not all(torch.equal(before[name], after[name]) for name in before)
        monkeypatch.setattr("diffnag.search_loop.finish.plain.train", None)
        again = training.resnet("long", planned=True, start=short)
        assert again.test == long.test and again.validation == long.validation and again.epochs == long.epochs
        assert training.fine_tuned() is None  # the space has no pretrained network


@pytest.mark.parametrize(("seconds", "side"), [(20.0, 64), (0.5, 32)])
def test_large_photos_are_made_smaller_for_a_network_from_scratch(
    seconds: float, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = rng.integers(0, 120, (60, 144, 144, 3), dtype=np.uint8)
    x[y == 1, ::2] += 120  # stripes of one pixel: a stem of stride 4 and kernel 3 would not see some rows
    np.savez(tmp_path / "large.npz", x_train=x, y_train=y)
    options = SearchOptions(dataset=str(tmp_path / "large.npz"), method="random", budget=1, epochs=1, image_size=144, device="cpu")
    with narrow_networks(), Search(options) as search:
        images = search.images
        assert images is not None and images.size == 144 and at_most(images, 144) is images
        small = at_most(images, 64)
        assert (small.size, small.train.x.shape[1:], small.val.x.dtype) == (64, (64, 64, 3), np.uint8) and small.sha256 == images.sha256
        with Image.fromarray(images.val.x[0]) as picture:
            fitted = np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR))
        assert np.abs(small.val.x[0].astype(int) - fitted).max() <= 1
        training = PlainTraining(search, tmp_path / "compare", seconds, lambda what, done, of: None)
        monkeypatch.setattr("diffnag.search_loop.finish.plain.MOST_EPOCHS", 1)
        found = training.resnet("short", planned=True, apart=True)
    described, model = found.model.description, load_model(tmp_path / "compare" / "short.pt")
    assert (described.image_size, described.skeleton.stem_stride) == (side, 2) and model.description == described
    narrow = described.skeleton.size(NASBench201().from_str(RESNET), NASBench201(), num_classes=2, image_size=side)
    assert (found.size.params, found.size.flops) == (narrow.params, narrow.flops)
    given = torch.from_numpy(images.test.x).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        sure, chosen = (part.numpy() for part in model(resized(given, side)).softmax(1).max(1))
    assert found.confusion is not None and found.confusion.trace() == (chosen == images.test.y).sum()
    assert model.predict(images.test.x) == [model.classes[k] for k in chosen]
    assert export_onnx(tmp_path / "model.onnx", model) < 1e-4
    wrong = dataclasses.replace(images.test, y=1 - chosen)  # each label is made wrong, whatever the model has learned
    worst = mistakes_of(model, wrong, found.confusion).worst
    assert [one.confidence for one in worst] == sorted((round(float(one), 4) for one in sure), reverse=True)[: len(worst)] and len(worst) == 10


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_network_from_scratch_that_is_kept_takes_smaller_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a network of random weights, which knows nothing of images."""
    import json

    from diffnag.search_spaces.efficientnet_lite import space as module
    from diffnag.search_spaces.efficientnet_lite.network import full
    from tests.stripes import call
    from tests.trained_norms import network_of

    monkeypatch.setattr(module, "load_network", lambda path: network_of(full(), num_classes=1000))
    monkeypatch.setattr(module, "RESOLUTIONS", (16, 16, 24, 32, 32))
    monkeypatch.setattr(EfficientNetLite, "side", 24)
    monkeypatch.setattr(finishing, "MOST_SCRATCH_SECONDS", 12.0)  # enough for 64 pixels
    rng, y = np.random.default_rng(0), np.arange(120) % 2
    noise = rng.integers(0, 128, (120, 72, 72), dtype=np.uint8)
    noise[:, ::4] += 64
    noise[y == 1] = noise[y == 1].swapaxes(1, 2)  # bright rows, or columns
    np.savez(tmp_path / "large.npz", x_train=noise[..., None].repeat(3, axis=3), y_train=y)
    out = tmp_path / "run"
    asked = ("--space", "efficientnet-lite", "--method", "random", "--budget", "1", "--epochs", "1", "--image-size", "72", "--device", "cpu")
    with narrow_networks():
        assert call("--dataset", tmp_path / "large.npz", *asked, "--out", out) == 0
        model = load_model(out / "model.pt")
    result = json.loads((out / "result.json").read_text())
    assert result["final"]["name"] == LONG and result["final"]["image_size"] == model.description.image_size == 64
    assert result["images"]["size"] == 72 and result["preprocessing"]["input"].startswith("float32 (batch, 3, 64, 64)")
    narrow = model.description.skeleton.size(NASBench201().from_str(RESNET), NASBench201(), num_classes=2, image_size=64)
    assert (result["final"]["params"], result["final"]["flops"]) == (narrow.params, narrow.flops)
    assert 'convert("RGB"), (64, 64), Image.Resampling' in (out / "report.html").read_text().replace("&quot;", '"').replace("&#34;", '"')
    assert result["test_accuracy"] >= 0.9 and result["eight_bits"]["test_accuracy"] >= 0.8


def test_arrays_are_not_made_smaller() -> None:
    from tests.test_shapes import arrays

    images = arrays(100, 100, 4)
    assert at_most(images, 64) is images
