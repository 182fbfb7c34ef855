"""What stands beside a search on a user's own images: a network from scratch beside a pretrained one, and how much time each gets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from diffnag.datasets.images import load_images
from diffnag.errors import UserError
from diffnag.networks.plan import affordable_side, plain_skeleton
from diffnag.networks.training import Recipe
from diffnag.oracles.training import TrainingOracle
from diffnag.search_loop.assembly import assemble
from diffnag.search_loop.finish import finishing
from diffnag.search_loop.finish.finished import Share
from diffnag.search_loop.finish.training import until_the_clock
from diffnag.search_loop.options import SearchOptions
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
        (200.0, 81, [(SHORT, 30.0), (LONG, 90.0)]),
        (None, 81, [(SHORT, 60.0), (LONG, 45.0)]),
    ],
)
def test_a_network_from_scratch_gets_the_time_where_it_is_better(
    limit: float | None, accuracy: int, asked: list[tuple[str, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing, "PlainTraining", Plain)
    monkeypatch.setattr(Plain, "asked", [])
    monkeypatch.setattr(Plain, "accuracy", accuracy)
    search: Any = SimpleNamespace(options=SimpleNamespace(time_limit=limit), seconds_left=100.0)
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
