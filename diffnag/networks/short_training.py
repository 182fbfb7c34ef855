"""Train one architecture for a short time on one small task: a measurement of the meta-dataset."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from diffnag.datasets.meta_dataset import Effort, Measurement
from diffnag.networks.build import seeded_build
from diffnag.networks.plan import Skeleton
from diffnag.networks.training import Diverged, Recipe, as_input, logits, train

if TYPE_CHECKING:
    from diffnag.datasets.drawn_tasks import TaskImages


def measure(arch: str, images: TaskImages, space: Any, *, task: int, seed: int, effort: Effort, device: str) -> Measurement:
    """Train the space's small network of `arch` on the training images of a task and measure its accuracy on all other images."""
    classes = int(images.y_judged.max()) + 1
    x, x_judged = as_input(images.x_train, device=device), as_input(images.x_judged, device=device)
    y, y_judged = (torch.from_numpy(labels).to(device) for labels in (images.y_train, images.y_judged))
    batch = min(effort.batch_size, len(x))
    epochs = -(-effort.image_passes // (len(x) // batch * batch))
    recipe = Recipe(epochs=epochs, batch_size=batch, learning_rate=effort.learning_rate, flip=False)
    clock = time.process_time if x.device.type == "cpu" else time.perf_counter
    begin = clock()
    small = Skeleton(0, 0, small=True)
    model = seeded_build(small, space.from_str(arch), space, num_classes=classes, image_size=x.shape[2], seed=seed, device=device)
    accuracy = loss = None
    try:
        out = logits(train(model, x, y, recipe, generator=torch.Generator().manual_seed(seed)), x_judged)
        accuracy = round(100 * (out.argmax(1) == y_judged).float().mean().item(), 3)
        loss = round(functional.cross_entropy(out, y_judged).item(), 4)
    except Diverged:
        pass
    seconds = round(clock() - begin, 2)
    params = sum(parameter.numel() for parameter in model.parameters())
    return Measurement(task, arch, seed, accuracy, loss, epochs, seconds, params)
