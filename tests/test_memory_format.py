"""Networks keep the memory format of the images: a convolution whose input is in another one takes up to twice as long."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffnag.networks.training import augment, exchanged
from diffnag.spaces.loading import load_space

SPACES = ("nasbench201", "transnasbench101-micro", "darts", "mobilenetv3")


@pytest.mark.parametrize("name", SPACES)
def test_no_layer_is_given_another_memory_format(name: str) -> None:
    space, rng = load_space(name), np.random.default_rng(0)
    images = torch.zeros(2, 3, 32, 32).to(memory_format=torch.channels_last)
    found: list[tuple[str, bool]] = []

    def note(layer: str, x: Tensor) -> None:
        if x.shape[1] > 1 and x.shape[2] > 1:  # else both formats are the same
            found.append((layer, x.is_contiguous(memory_format=torch.channels_last)))

    for _ in range(4):
        network = space.build(space.random(rng), num_classes=10).to(memory_format=torch.channels_last).eval()
        for layer, module in network.named_modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.register_forward_pre_hook(lambda _, inputs, layer=layer: note(layer, inputs[0]))
        with torch.no_grad():
            network(images)
    assert len(found) > 50
    assert [layer for layer, is_kept in found if not is_kept] == []


@pytest.mark.parametrize(("shift", "flip", "crop"), [(2, True, 1.0), (0, False, 0.5), (1, False, 0.5)])
def test_augmented_images_keep_it(shift: int, flip: bool, crop: float) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, 16, 16, generator=generator).to(memory_format=torch.channels_last)
    for found in (augment(images, shift=shift, flip=flip, crop=crop, generator=generator), exchanged(images, generator=generator)[0]):
        assert found.is_contiguous(memory_format=torch.channels_last) and not torch.equal(found, images)
