"""How a model that does not classify does on test images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from diffnag.networks.answers import answers
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
