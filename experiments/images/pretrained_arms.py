"""What a user makes of a pretrained network without a search: a linear probe, and plain fine-tuning. Each takes any set that `--dataset` takes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffnag.networks.adapted import pretrained, statistics_of
from diffnag.networks.elastic import features, fit_probe, logistic
from diffnag.networks.training import as_input
from diffnag.protocols import Inherits
from diffnag.search_loop.finish.plain import TRIED, PlainTraining
from diffnag.search_loop.loop import Search
from diffnag.search_loop.options import SearchOptions
from diffnag.spaces.inputs import whole_networks

SPACE = "efficientnet-lite"


def _search(images: Path, seed: int) -> Search:
    """A search that is not run: it reads and splits the images as every search does."""
    torch.set_num_threads(1)
    return Search(SearchOptions(dataset=str(images), space=SPACE, method="random", seed=seed))


def fine_tuned(images: Path, seed: int, seconds: float) -> dict[str, Any]:
    """Fine-tune the whole network for so many seconds in all, on one core; accuracies are fractions."""
    with _search(images, seed) as search:
        found = PlainTraining(search, images.parent, seconds, lambda what, done, of: None).fine_tuned()
    assert found and found.validation
    return {
        "validation_accuracy": found.validation.value, "side": found.model.description.image_size, "epochs": found.epochs, "labels": 0,
        "seconds": round(found.seconds, 1), "test_accuracy": found.test.value, "test_images": found.test.images,
    }  # fmt: skip


def probed(images: Path, seed: int, seconds: float) -> dict[str, Any]:
    """Fit a logistic regression to the features of the frozen network, at the resolution that is best on the validation images.

    The penalty is chosen there as well, and the regression is then fitted to both. It takes as long as it takes, which is less than
    `seconds` unless these are few. Accuracies are fractions.
    """
    del seconds
    begin = time.perf_counter()
    with _search(images, seed) as search:
        own, space = search.images, search.space
        assert own and isinstance(space, Inherits)
    network, statistics = pretrained(space, classes=len(own.classes), device="cpu"), statistics_of(own, space)
    parts = [(as_input(part.x, statistics=statistics), part.y) for part in (own.train, own.val)]
    tried = []
    for side in [side for arch in whole_networks(space) if (side := space.resolution(arch)) <= space.side][:TRIED]:
        seen = [(features(network, images, side=side), labels) for images, labels in parts]
        tried.append((fit_probe(*seen[0], *seen[1]), side, seen))
    probe, side, seen = max(tried, key=lambda one: one[0].accuracy)
    x, y = (np.concatenate(both) for both in zip(*seen, strict=True))
    weight, bias = logistic(x, y, probe.strength)
    took = time.perf_counter() - begin
    answers = (features(network, as_input(own.test.x, statistics=statistics), side=side) @ weight.T + bias).argmax(1)
    return {
        "validation_accuracy": probe.accuracy / 100, "side": side, "epochs": 0, "labels": 0, "seconds": round(took, 1),
        "test_accuracy": float((answers == own.test.y).mean()), "test_images": len(own.test.y),
    }  # fmt: skip
