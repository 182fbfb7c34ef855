"""How a model that does not classify does on test images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from diffnag.networks.elastic import resized
from diffnag.networks.training import evaluation_batch, logits
from diffnag.search_loop.finish.finished import Score

if TYPE_CHECKING:
    from diffnag.datasets.images import Images
    from diffnag.networks.classifier_file import Classifier

RESAMPLES = 400
"""Draws of as many test images, with repetition, from whose scores an interval is read off."""


def scored(model: Classifier, images: Images) -> Score | None:
    """The score of a regression or of labels on test images, with the 95 % interval of a bootstrap; None for a classification."""
    target = model.description.target
    if images.y.ndim == 1:
        return None
    found = answers(model, images)
    y = torch.from_numpy(images.y)
    rng = np.random.default_rng(0)
    drawn = (torch.from_numpy(rng.integers(len(y), size=len(y))) for _ in range(RESAMPLES))
    low, high = np.quantile([target.score(found[chosen], y[chosen]) for chosen in drawn], (0.025, 0.975)) / 100
    return Score(target.score(found, y) / 100, len(y), (float(low), float(high)), target.measure, target.figures(found, y, model.classes))


def answers(model: Classifier, images: Images) -> torch.Tensor:
    """What a model returns for images of any size, on the CPU: `(n, outputs)`."""
    described = model.description
    side = None if described.skeleton.inputs else described.image_size
    parts = parts_of(images, side=side, batch=evaluation_batch(model.pixels), device=model.mean.device)
    return torch.cat([logits(model, part) for part in parts]).cpu()


def parts_of(images: Images, *, side: int | None, batch: int, device: torch.device | str = "cpu") -> Iterator[torch.Tensor]:
    """Images `(b, c, h, w)` as a model takes them, `batch` at a time; with a `side`, resized to it."""
    for part in torch.from_numpy(images.x).permute(0, 3, 1, 2).split(batch):
        fitted = part.to(device).float() / images.unit
        yield fitted if side is None else resized(fitted, side)
