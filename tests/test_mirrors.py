"""Images with a direction are not mirrored in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffnag.datasets.images import load_images
from diffnag.datasets.mirrors import RECOGNISED, recognised_originals
from diffnag.search_loop.loop import Search
from diffnag.search_loop.options import SearchOptions

SIDE = 40


def written(path: Path, *, directed: bool, each: int = 60) -> str:
    """Two classes of noise with a colour, and with `directed` a bright bar somewhere in the left half."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], each)
    x = rng.integers(0, 160, (2 * each, SIDE, SIDE, 3), dtype=np.uint8)
    x[y == 1, ..., 0] += 60
    for k in range(len(x) if directed else 0):
        row, column = rng.integers(SIDE - 8), rng.integers(SIDE // 2 - 4)
        x[k, row : row + 8, column : column + 4] = 255
    order = rng.permutation(len(x))
    np.savez(path / "x.npz", x_train=x[order], y_train=y[order])
    return str(path / "x.npz")


@pytest.mark.parametrize("directed", [True, False])
def test_a_direction_is_recognised_and_noise_is_not(tmp_path: Path, directed: bool) -> None:
    images, before = load_images(written(tmp_path, directed=directed)), torch.random.get_rng_state()
    share = recognised_originals(images)
    assert share is not None and (share > 0.9 if directed else 0.2 < share < RECOGNISED)
    assert share == recognised_originals(images) and torch.equal(before, torch.random.get_rng_state())


def test_few_images_say_nothing(tmp_path: Path) -> None:
    assert recognised_originals(load_images(written(tmp_path, directed=True, each=20))) is None


@pytest.mark.parametrize("directed", [True, False])
def test_a_search_mirrors_what_has_no_direction_and_says_where_it_does_not(tmp_path: Path, directed: bool) -> None:
    options = SearchOptions(dataset=written(tmp_path, directed=directed), space="nasbench201", method="random", budget=1, epochs=1, device="cpu")
    with Search(options) as search:
        assert search.images and search.final_plan
        assert (search.images.directed, search.images.flips, search.final_plan.recipe.flip) == (directed, not directed, not directed)
        assert sum("not mirrored in training: beside its mirror image" in note for note in search.images.notes) == directed
