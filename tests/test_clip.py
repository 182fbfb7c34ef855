"""The contrastive predictor: its loss in closed form, what it learns of a world that is known, its files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from diffnag.datasets.sources import OWN_IMAGES, Source
from diffnag.datasets.tasks import DESCRIPTORS, TaskFeatures
from diffnag.errors import UserError
from diffnag.guidance.checked import load_predictor
from diffnag.predictors.clip import ClipConfig, ClipPredictor, Towers
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.draws import random_archs
from diffnag.spaces.loading import load_space
from diffnag.testing import PredictorContract


class TestContract(PredictorContract):
    @pytest.fixture
    def predictor_class(self) -> type[ClipPredictor]:
        return ClipPredictor


def test_the_loss_of_towers_that_know_nothing_is_that_of_a_guess() -> None:
    """With equal cosines a good architecture is one of `r` among the pairs, and one of `m + 1` among those of its task."""
    towers = Towers(5, ClipConfig(knows="descriptors", pairs=0.25))
    for tower in (towers.of_task, towers.of_arch[-1]):
        torch.nn.init.zeros_(tower.weight)  # type: ignore[arg-type]
    r, m = 6, 3
    loss = towers.loss(torch.randn(r, len(DESCRIPTORS)), torch.randn(r, 5), torch.randn(r, m, 5))
    assert loss.item() == pytest.approx(0.25 * math.log(r) + 0.75 * math.log(m + 1), rel=1e-5)


def world(space: NASBench201, kind: int, number: int) -> Source:
    """A task of one of two kinds; on the first a certain operator is good, on the second it is bad."""
    archs = random_archs(space, 9, seed=number)
    counts = np.array([arch.ops.count(5) for arch in archs], dtype=float)
    values = counts if kind == 0 else -counts
    descriptors = torch.full((len(DESCRIPTORS),), float(kind))
    task = TaskFeatures(None, descriptors)
    return Source("made", task, "small", archs, (values - values.mean()) / (values.std() + 1e-9), len(archs))


def test_it_learns_which_architectures_suit_which_tasks(space: NASBench201) -> None:
    sources = [world(space, kind, 10 * k + kind) for k in range(40) for kind in (0, 1)]
    predictor = ClipPredictor(ClipConfig(knows="descriptors", steps=150, hidden=32, size=8))
    predictor.meta_fit(sources, space=space, target=OWN_IMAGES, seed=0, report=lambda *_: None)
    assert predictor.labels_source == {"made": 80 * 9}
    archs = random_archs(space, 200, seed=999)
    counts = [arch.ops.count(5) for arch in archs]
    for kind, sign in ((0, 1), (1, -1)):
        predictor.bind(sources[kind].task)
        assert sign * np.corrcoef(predictor.predict(archs)[0], counts)[0, 1] > 0.5


def test_a_saved_predictor_is_read_back(space: NASBench201, tmp_path: Path) -> None:
    sources = [world(space, kind, 10 * k + kind) for k in range(4) for kind in (0, 1)]
    predictor = ClipPredictor(ClipConfig(knows="descriptors", steps=5, hidden=8, size=4))
    predictor.meta_fit(sources, space=space, target=OWN_IMAGES, seed=0, report=lambda *_: None)
    path = tmp_path / "clip.safetensors"
    predictor.save(path, target=OWN_IMAGES, meta={})
    other = ClipPredictor()
    other.load(path, space=space, target=OWN_IMAGES, task=sources[0].task)
    archs = random_archs(space, 20, seed=5)
    predictor.bind(sources[0].task)
    assert np.array_equal(predictor.predict(archs)[0], other.predict(archs)[0])
    with pytest.raises(UserError, match="predicts own-images in nasbench201, not cifar10"):
        other.load(path, space=space, target="cifar10")


def test_it_is_refused_where_nothing_was_measured(space: NASBench201) -> None:
    with pytest.raises(UserError, match="learns from our own measurements"):
        ClipPredictor().meta_fit([], space=space, target=OWN_IMAGES, seed=0, report=lambda *_: None)
    with pytest.raises(UserError, match="no contrastive predictor for cifar10 is shipped for space 'nasbench101'"):
        load_predictor("clip", space=load_space("nasbench101"), dataset="cifar10", seed=0)


@pytest.mark.parametrize("target", ["cifar10", "cifar100", "ImageNet16-120"])
def test_shipped_predictors_rank_without_labels(space: NASBench201, target: str) -> None:
    predictor = load_predictor("clip", space=space, dataset=target, seed=0)
    archs = random_archs(space, 100, seed=0)
    mean, _ = predictor.predict(archs)
    convolutions = [sum(op in (4, 5) for op in arch.ops) for arch in archs]
    assert np.isfinite(mean).all() and np.corrcoef(mean, convolutions)[0, 1] > 0.2
