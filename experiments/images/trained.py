"""One network, trained for so many seconds by our trainer on a set as `--dataset` takes it, and judged on the test images."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from diffnag.datasets.images import ImageDataset
from diffnag.networks.plan import plan_final
from diffnag.networks.targets import target_of
from diffnag.networks.training import Recipe, accuracy, as_input, channel_statistics, train
from diffnag.search_loop.finish.training import MOST_EPOCHS, TIMED_STEPS, final_images, seconds_an_image, until_the_clock
from diffnag.search_loop.loop import Search
from diffnag.search_loop.options import SearchOptions


def train_for(
    images: Path, seed: int, seconds: float, network: Callable[[ImageDataset], nn.Module], *,
    recipe_of: Callable[[Recipe], Recipe] = lambda recipe: recipe, timed_steps: int = TIMED_STEPS,
) -> dict[str, Any]:  # fmt: skip
    """Train a `network` on the images of training and validation for so many `seconds` of wall time, on one core; accuracies are fractions.

    The recipe is that of a final training of such a length from scratch, changed by `recipe_of`. The time of an epoch is estimated from
    `timed_steps`; slow networks need fewer.
    """
    begin = time.perf_counter()
    torch.set_num_threads(1)
    options = SearchOptions(dataset=str(images), space="nasbench201", method="random", seed=seed, time_limit=seconds, from_scratch=True)
    with Search(options) as search:
        own = search.images
        assert own
        recipe = recipe_of(plan_final(own, search.space, seconds=seconds).recipe)
    x, y, _ = final_images(own, None, device=torch.device("cpu"))
    test = as_input(own.test.x, statistics=channel_statistics(np.concatenate([own.train.x, own.val.x])))

    def made() -> nn.Module:
        torch.manual_seed(seed)
        return network(own).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    some = timed_steps * recipe.batch_size
    an_image, done = seconds_an_image(made(), x[:some], y[:some], recipe, target=target_of(own)), 0

    def on_epoch(epoch: int, _: nn.Module) -> None:
        nonlocal done
        done = epoch

    left = seconds - (time.perf_counter() - begin)
    assert an_image
    recipe = until_the_clock(recipe, left / (an_image * len(x)), most=MOST_EPOCHS)
    net = train(made(), x, y, recipe, generator=torch.Generator().manual_seed(seed), seconds=left, on_epoch=on_epoch)
    return {
        "test_accuracy": accuracy(net, test, torch.from_numpy(own.test.y)) / 100, "test_images": len(own.test.y), "labels": 0,
        "training_accuracy": accuracy(net, x, y) / 100, "params": sum(weights.numel() for weights in net.parameters()), "epochs": done,
        "seconds": round(time.perf_counter() - begin, 1),
    }  # fmt: skip
