"""Image features: the outputs of a small convolutional network, and a few statistics that such a network may learn to ignore."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.datasets.labelled import check_images
from diffnag.errors import UserError, unknown
from diffnag.io.checkpoint import load_checkpoint, rebuilding
from diffnag.io.files import PRETRAINED

ENCODERS = ("diffnag", "torchvision:resnet18")
"""Names that `encode_images` accepts. Features of two encoders have only their number in common."""
PATH = PRETRAINED / "image_encoder.safetensors"
KIND = "image-encoder"
SIDE = 16
"""Side of the images that the network sees."""
STATISTICS = (
    "brightness", "contrast", "red-green", "yellow-blue", "log colourfulness",
    "log gradient energy", "log gradient energy at half the resolution", "log share of the highest frequencies",
)  # fmt: skip
FEATURES = 64
"""Number of features of an image: `LEARNED` of the network, then those of `image_statistics`."""
LEARNED = FEATURES - len(STATISTICS)
_WIDTHS = (32, 64, 128)
_CHUNK, _CHUNK_PIXELS = 1024, 2**22
_RESNET_SIDE = 64


class ImageEncoder(nn.Module):
    """Map pixels `(b, 3, SIDE, SIDE)` in [0, 1] to features `(b, FEATURES)` of mean 0 and variance 1 over the training images.

    `trunk` is the part that is trained, as the body of a classifier. It maps `(b, 3, SIDE, SIDE)` in [0, 1] to `(b, LEARNED)`, by
    residual convolutions at 8 x 8 and 4 x 4 pixels and a mean over the image. It has batch normalisation, so the features of
    an image depend on other images of the batch unless the network is in evaluation mode.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        a, b, c = _WIDTHS
        self.trunk = nn.Sequential(
            _Centred(), _convolution(3, a), _convolution(a, b, stride=2), _Residual(b), _convolution(b, c, stride=2), _Residual(c),
            nn.Conv2d(c, LEARNED, 1, bias=False), nn.BatchNorm2d(LEARNED), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("std", torch.ones(FEATURES))

    def raw(self, pixels: Tensor) -> Tensor:
        """The features before they are standardised."""
        return torch.cat([self.trunk(pixels), image_statistics(pixels)], dim=1)

    def forward(self, pixels: Tensor) -> Tensor:
        return (self.raw(pixels) - self.mean) / self.std

    @classmethod
    def load(cls, path: Path = PATH) -> ImageEncoder:
        """Load a file of `python -m diffnag.train_image_encoder`, in evaluation mode; raises `UserError` if it cannot be used."""
        tensors, _ = load_checkpoint(path, kind=KIND)
        encoder = cls()
        with rebuilding(path):
            encoder.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return encoder.eval()

    @torch.no_grad()
    def encode(self, images: np.ndarray) -> Tensor:
        """Features `(b, FEATURES)` of images that `encode_images` accepts."""
        check_images(images)
        return _in_chunks(self, images, side=SIDE)


def encode_images(images: np.ndarray, *, encoder: str = "diffnag") -> Tensor:
    """Features `(b, FEATURES)` float32 of uint8 images `(b, h, w)` or `(b, h, w, 3)` with sides of at least 4 pixels.

    Grey images count as RGB with equal channels. Images are resized to 16 x 16, whatever their proportions: longer sides by
    area averaging, shorter sides by linear interpolation. The features of an image do not depend on other images.

    `encoder="torchvision:resnet18"` needs torchvision and its weights. It resizes images to 64 x 64, projects the 512 pooled
    features to `FEATURES` by a fixed random matrix, and normalises those of each image to mean 0 and variance 1. It has seen
    all classes of ImageNet, so no dataset made of them is held out from it. A predictor that was trained on the features of
    one encoder works with that encoder only: store its name.

    Raises `UserError` for other arrays and names, and if the encoder is not installed.
    """
    if encoder not in ENCODERS:
        raise unknown("image encoder", encoder, ENCODERS)
    check_images(images)
    if encoder == "diffnag":
        return _shipped().encode(images)
    with torch.no_grad():
        return _in_chunks(_resnet18(), images, side=_RESNET_SIDE)


def to_pixels(images: np.ndarray, *, side: int = SIDE) -> Tensor:
    """Resize uint8 images, as `encode_images` accepts them, to float32 `(b, 3, side, side)` in [0, 1], channels last in memory."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float() / 255
    x = x[..., None].expand(-1, -1, -1, 3) if x.ndim == 3 else x
    if x.shape[1:3] != (side, side):
        rows, columns = (_resampling(n, side) for n in x.shape[1:3])
        x = torch.einsum("yh,bhwc->bywc", rows, x)
        x = torch.einsum("xw,bywc->byxc", columns, x)
    return x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def image_statistics(pixels: Tensor) -> Tensor:
    """Statistics that distinguish grey, blurred and noisy images: `(b, 3, h, w)` in [0, 1] -> `(b, len(STATISTICS))`.

    With l the mean of the channels, they are: mean and standard deviation of l; means of R - G and (R + G)/2 - B; the standard
    deviation over the channels, averaged over the image; the mean square of the gradient of l, at full and at half
    resolution (2 x 2 means); and what 2 x 2 means lose of l, as a share of its variance. The last four are logarithms, with one
    grey level (1/255) added to amplitudes and its square to powers. `h` and `w` are even.
    """
    level = 1 / 255
    l = pixels.mean(1, keepdim=True)  # noqa: E741 - l as in the docstring
    half = functional.avg_pool2d(l, 2)
    lost = l - half.repeat_interleave(2, 2).repeat_interleave(2, 3)
    red, green, blue = pixels.mean((2, 3)).unbind(1)
    variance = l.var((1, 2, 3), correction=0)
    return torch.stack(
        [
            l.mean((1, 2, 3)),
            variance.sqrt(),
            red - green,
            (red + green) / 2 - blue,
            (pixels.std(1, correction=0).mean((1, 2)) + level).log(),
            (_gradient_energy(l) + level**2).log(),
            (_gradient_energy(half) + level**2).log(),
            ((lost.square().mean((1, 2, 3)) + level**2) / (variance + level**2)).log(),
        ],
        dim=1,
    )


def _gradient_energy(l: Tensor) -> Tensor:  # noqa: E741
    return l.diff(dim=2).square().mean((1, 2, 3)) + l.diff(dim=3).square().mean((1, 2, 3))


def _resampling(length: int, side: int) -> Tensor:
    """Matrix `(side, length)` that resizes one axis: overlaps of pixels to make it shorter, hat functions to make it longer."""
    scale = length / side
    out, given = torch.arange(side)[:, None], torch.arange(length)[None]
    if length >= side:
        return (torch.minimum((out + 1) * scale, given + 1) - torch.maximum(out * scale, given)).clamp_min(0) / scale
    centres = ((out + 0.5) * scale - 0.5).clamp(0, length - 1)
    return (1 - (centres - given).abs()).clamp_min(0)


def _in_chunks(model: nn.Module, images: np.ndarray, *, side: int) -> Tensor:
    step = max(1, min(_CHUNK, _CHUNK_PIXELS // (images.shape[1] * images.shape[2])))
    chunks = [model(to_pixels(images[k : k + step], side=side)) for k in range(0, len(images), step)]
    return torch.cat([torch.empty(0, FEATURES), *chunks])


class _Centred(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - 0.5) / 0.25


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(_convolution(width, width), _convolution(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def _convolution(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


@lru_cache(maxsize=1)
def _shipped() -> ImageEncoder:
    return ImageEncoder.load()


@lru_cache(maxsize=1)
def _resnet18() -> nn.Module:
    """ResNet-18 (He et al., 2016) with the weights of torchvision, which must be on the disk: nothing is downloaded."""
    import importlib

    try:
        models: Any = importlib.import_module("torchvision.models")
        transforms: Any = importlib.import_module("torchvision.transforms")
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision was built for another torch
        message = f"image encoder 'torchvision:resnet18' needs a torchvision that fits the installed torch {torch.__version__}: {error}"
        raise UserError(message) from error
    weights = models.ResNet18_Weights.DEFAULT
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not path.is_file():
        raise UserError(f"image encoder 'torchvision:resnet18' needs its weights: download {weights.url} to {path}")
    network = models.resnet18()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    projection = torch.randn(FEATURES, network.fc.in_features, generator=torch.Generator().manual_seed(0))
    network.fc = nn.Linear(network.fc.in_features, FEATURES, bias=False)
    network.fc.weight = nn.Parameter(projection)
    usual = transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    return nn.Sequential(usual, network, nn.LayerNorm(FEATURES, elementwise_affine=False)).eval()
