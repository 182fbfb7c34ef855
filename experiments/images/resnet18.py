"""ResNet-18 for small images, trained for all the time that a search has."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.networks.plan import plan_final
from diffnag.networks.targets import target_of
from diffnag.networks.training import accuracy, as_input, channel_statistics, train
from diffnag.search_loop.finish.training import MOST_EPOCHS, final_images, seconds_an_image, until_the_clock

STAGES = (64, 128, 256, 512)


class Block(nn.Module):
    """A basic residual block (He et al., CVPR 2016): two 3x3 convolutions, and a 1x1 convolution beside them where the shape changes."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(channels, out, 3, stride), _convolution(out, out, 3, 1)
        self.beside = nn.Identity() if (channels, stride) == (out, 1) else _convolution(channels, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, channels, h, w)` -> `(b, out, h / stride, w / stride)`."""
        return functional.relu(self.second(functional.relu(self.first(x))) + self.beside(x))


def resnet18(classes: int) -> nn.Module:
    """Four stages of two blocks behind one 3x3 convolution, as is usual for images of 32 pixels; 11.2 million parameters."""
    layers: list[nn.Module] = [_convolution(3, STAGES[0], 3, 1), nn.ReLU()]
    channels = STAGES[0]
    for stage, out in enumerate(STAGES):
        layers += [Block(channels, out, 1 if stage == 0 else 2), Block(out, out, 1)]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def train_resnet18(images: Path, seed: int, seconds: float) -> dict[str, Any]:
    """Train it by our trainer for so many seconds of wall time on the images of training and validation; accuracies are fractions."""
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.options import SearchOptions

    begin = time.perf_counter()
    torch.set_num_threads(1)
    options = SearchOptions(dataset=str(images), space="nasbench201", method="random", seed=seed, time_limit=seconds)
    with Search(options) as search:
        own = search.images
        assert own
        recipe = plan_final(own, search.space, seconds=seconds).recipe
    x, y, _ = final_images(own, None, device=torch.device("cpu"))
    test = as_input(own.test.x, statistics=channel_statistics(np.concatenate([own.train.x, own.val.x])))

    def network() -> nn.Module:
        torch.manual_seed(seed)
        return resnet18(len(own.classes)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    some = recipe.batch_size  # a step takes seconds
    an_image, done = seconds_an_image(network(), x[:some], y[:some], recipe, target=target_of(own)), 0

    def on_epoch(epoch: int, _: nn.Module) -> None:
        nonlocal done
        done = epoch

    left = seconds - (time.perf_counter() - begin)
    assert an_image
    recipe = until_the_clock(recipe, left / (an_image * len(x)), most=MOST_EPOCHS)
    net = train(network(), x, y, recipe, generator=torch.Generator().manual_seed(seed), seconds=left, on_epoch=on_epoch)
    params = sum(weights.numel() for weights in net.parameters())
    return {
        "test_accuracy": accuracy(net, test, torch.from_numpy(own.test.y)) / 100, "test_images": len(own.test.y), "labels": 0, "arch": "ResNet-18",
        "params": params, "epochs": done, "seconds": round(time.perf_counter() - begin, 1),
    }  # fmt: skip


def _convolution(channels: int, out: int, kernel: int, stride: int) -> nn.Module:
    """A convolution without bias, and batch normalisation."""
    return nn.Sequential(nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out))
