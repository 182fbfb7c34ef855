"""Adapt a pretrained network to one small task and judge architectures that inherit its weights: measurements of the meta-dataset."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import functional

from diffnag.datasets.meta_dataset import Effort, Measurement
from diffnag.networks.adapted import adapted, as_part, pixel_statistics
from diffnag.networks.elastic import Adaptation, Resized
from diffnag.networks.training import logits

if TYPE_CHECKING:
    from diffnag.datasets.drawn_tasks import TaskImages
    from diffnag.protocols import Inherits


@dataclass(frozen=True)
class AdaptationEffort(Effort):
    """Length of each adaptation, the images at most that accuracies are measured on, and those that statistics are computed from."""

    image_passes: int = 1_000
    batch_size: int = 32
    learning_rate: float = 3e-3
    judged: int = 256
    moments: int = 64


def measure_parts(
    archs: Sequence[str], images: TaskImages, space: Inherits, *, task: int, seed: int, effort: AdaptationEffort, device: str
) -> list[Measurement]:
    """Adapt the pretrained network to the training images of a task, and measure accuracies of architectures on other images.

    The seconds of an architecture have an equal share of those of the adaptation.
    """
    begin = time.perf_counter()
    statistics = pixel_statistics(space)
    train = as_part(images.x_train, images.y_train, statistics, seed=seed, device=device)
    x, y = judged = as_part(images.x_judged, images.y_judged, statistics, seed=seed, device=device, most=effort.judged)
    some = train[0][: effort.moments], train[1][: effort.moments]
    epochs = -(-effort.image_passes // max(len(train[0]), 1))
    how = Adaptation(
        epochs=epochs, batch_size=effort.batch_size, learning_rate=effort.learning_rate, shift=max(1, images.x_train.shape[1] // 8),
        flip=images.x_train.ndim == 4,
    )  # fmt: skip
    classes = int(images.y_judged.max()) + 1
    network = adapted(space, train, judged, how, classes=classes, seed=seed)
    shared, found = (time.perf_counter() - begin) / len(archs), []
    for text in archs:
        begin, arch = time.perf_counter(), space.from_str(text)  # type: ignore[attr-defined]
        side = space.resolution(arch)
        out = logits(Resized(network.inherited(arch, space, some), side), x, side=side)
        accuracy = round(100 * (out.argmax(1) == y).float().mean().item(), 3)
        loss = round(functional.cross_entropy(out, y).item(), 4)
        params = space.size(arch, num_classes=classes, image_size=side).params  # type: ignore[attr-defined]
        found.append(Measurement(task, text, seed, accuracy, loss, epochs, round(shared + time.perf_counter() - begin, 2), params))
    return found
