"""What a model answers for a user's images of any size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from diffnag.networks.elastic import resized
from diffnag.networks.training import evaluation_batch, logits

if TYPE_CHECKING:
    from diffnag.datasets.images import Images
    from diffnag.networks.classifier_file import Classifier


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
