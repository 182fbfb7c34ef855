"""Image features without training: convolutions with fixed random weights, then statistics over the image."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from diffnag.errors import UserError

FEATURES = 64
SIDE = 16
"""Larger images are first averaged down to this side, so that the features of a picture depend little on its size."""
_WIDTHS = (3, 32, 64, FEATURES // 2)
_CHUNK = 1024


def random_conv_features(images: np.ndarray, *, seed: int = 0) -> Tensor:
    """Features `(b, 64)` float32 of uint8 images `(b, h, w)` or `(b, h, w, 3)` with sides of at least 8 pixels.

    Three random convolutions (Saxe et al., 2011) with ReLU and pooling, then mean and standard deviation of each channel over the
    image; both groups are normalised to mean 0 and variance 1. Grey images count as RGB with equal channels.
    The features of an image depend on the image and `seed` alone. Raises `UserError` for other arrays.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)):
        raise UserError(f"images are {images.dtype} {images.shape}; accepted is uint8 of shape (b, h, w) or (b, h, w, 3)")
    if min(images.shape[1:3]) < 8:
        raise UserError(f"images are {images.shape[1]} x {images.shape[2]} pixels; accepted are sides of at least 8")
    generator = torch.Generator().manual_seed(seed)
    layers = [
        torch.randn(outputs, inputs, 3, 3, generator=generator) * (2 / (9 * inputs)) ** 0.5
        for inputs, outputs in pairwise(_WIDTHS)
    ]
    chunks = [_embed(images[k : k + _CHUNK], layers) for k in range(0, len(images), _CHUNK)]
    return torch.cat([torch.empty(0, FEATURES), *chunks])


def _embed(images: np.ndarray, layers: list[Tensor]) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(images)).float()
    x = x[:, None].expand(-1, 3, -1, -1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
    x = x / 127.5 - 1
    if max(x.shape[2:]) > SIDE:
        x = functional.adaptive_avg_pool2d(x, (min(x.shape[2], SIDE), min(x.shape[3], SIDE)))
    for k, weight in enumerate(layers):
        x = functional.conv2d(functional.avg_pool2d(x, 2) if k else x, weight, padding=1).relu()
    groups = (x.mean((2, 3)), x.std((2, 3)))
    return torch.cat([functional.layer_norm(group, group.shape[1:]) for group in groups], dim=1)
