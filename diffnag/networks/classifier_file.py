"""A classifier as files: `model.pt` (weights and plain data, which `load_model` reads) and `model.onnx`."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffnag.errors import UserError
from diffnag.io.files import written_whole
from diffnag.networks.build import seeded
from diffnag.networks.onnx_file import write_onnx
from diffnag.networks.plan import LARGEST_IMAGE, Skeleton
from diffnag.networks.training import all_finite
from diffnag.spaces.loading import load_space

FORMAT = 1
KIND = "diffnag image classifier"


@dataclass(frozen=True)
class Description:
    """A classifier without its weights, as plain data. `mean` and `std` are those of each channel, for pixels in [0, 1]."""

    space: str
    arch: str
    skeleton: Skeleton
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def preprocessing(self) -> dict[str, Any]:
        """The steps from an image to the logits, for the user of the ONNX file."""
        return {
            "input": f"float32 (batch, 3, {self.image_size}, {self.image_size}), RGB, pixels in [0, 1]; grey images with three equal channels",
            "before": f"shorter side resized to {self.image_size} (bilinear, antialiased), centre cropped: Classifier.preprocess",
            "inside": "standardised by mean and std",
            "mean": list(self.mean),
            "std": list(self.std),
        }


class Classifier(nn.Module):
    """A network with its preprocessing and class names: `model(model.preprocess(images))` returns logits.

    `classes` are the class names in the order of the logits; `description` says how the network is built.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, description: Description) -> None:
        super().__init__()
        self.network, self.description, self.classes = network, description, description.classes
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(description, name)).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(b, 3, size, size)` with pixels in [0, 1] -> logits `(b, classes)`."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits

    def preprocess(self, images: Any) -> Tensor:
        """Raw images of any size -> `(b, 3, size, size)` with pixels in [0, 1], as for training.

        `images` is one image or a sequence of images: files, Pillow images, arrays or tensors `(h, w)` or `(h, w, 3)`, uint8 or floats in
        [0, 1]. Several of one size may be one array `(b, h, w)` or `(b, h, w, 3)`. Raises `UserError` for anything else.
        """
        from diffnag.datasets.images import fit_images

        given = [_as_array(image) for image in images] if isinstance(images, list | tuple) else _as_array(images)
        fitted = torch.from_numpy(fit_images(given, size=self.description.image_size))
        return fitted.to(self.mean.device).permute(0, 3, 1, 2).float() / 255

    @torch.no_grad()
    def predict(self, images: Any) -> list[str]:
        """The class of each image, a list also for a single one; `preprocess` says what is accepted."""
        fitted = self.preprocess(images)
        return [self.classes[k] for k in self(fitted).argmax(1).tolist()] if len(fitted) else []


def _as_array(image: Any) -> Any:
    """A tensor as an array; anything else as it is."""
    if not isinstance(image, Tensor):
        return image
    return (image.float() if image.is_floating_point() else image).detach().cpu().numpy()


def save_model(path: str | Path, model: Classifier, *, about: Mapping[str, Any]) -> None:
    """Write `model` and plain data `about` it. Raises `UserError` if weights are not finite or the file cannot be written."""
    if not all_finite(model.network):
        raise UserError(f"{path} is not written: the network has NaN or infinite weights")
    described = asdict(model.description)
    state = model.network.state_dict()
    if odd := [name for name, tensor in state.items() if not isinstance(tensor, Tensor)]:
        raise UserError(f"{path} is not written: {odd[0]} in the network's state is no tensor")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    content = {"format": FORMAT, "kind": KIND, **described, "about": dict(about), "weights": weights}
    with written_whole(path) as temporary:
        torch.save(content, temporary)


def load_model(path: str | Path, *, space: str | None = None) -> Classifier:
    """Rebuild the classifier of a `model.pt`, in evaluation mode, on the CPU.

        model = diffnag.load_model("runs/.../model.pt")
        model.predict(["one.png", "another.jpg"])

    Loading runs neither code in the file nor code that the file names: if the model's space is a dotted path `package.module:Class`,
    the same path must be given as `space`. Raises `UserError` if it is not, and if the file is damaged or of another kind.
    """
    return read_model(path, space=space)[0]


def read_model(path: str | Path, *, space: str | None = None) -> tuple[Classifier, dict[str, Any]]:
    """The classifier of `load_model`, and the data about it that were saved with it."""
    path = Path(path)
    content = _content(path)
    try:
        description = _description(content)
        about = _checked(content, "about", lambda value: isinstance(value, dict), "a dictionary")
        weights = _checked(content, "weights", _are_weights, "a dictionary of tensors")
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if ":" in description.space and description.space != space:
        raise UserError(f"{path} is of a space that is not installed; if you trust its code, load it with space={description.space!r}")
    if space not in (None, description.space):
        raise UserError(f"{path} is a model of space {description.space!r}, not of {space!r}")
    try:
        network = _network(description, weights)
    except UserError as error:
        raise UserError(f"{path} does not fit the network it describes: {error}") from error
    except Exception as error:  # a user's space may fail in any way
        raise UserError(f"{path} does not fit the network it describes: {_short(error)}") from error
    if not all_finite(network):
        raise UserError(f"{path} has NaN or infinite weights")
    return Classifier(network, description).eval(), about


def _content(path: Path) -> dict[str, Any]:
    """The plain data in the file; `UserError` if it is not a whole one of ours."""
    if not path.is_file():
        raise UserError(f"there is no model {path}")
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not compare checksums
            broken = archive.testzip()
        content = None if broken else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in any way
        raise UserError(f"{path} is no readable model.pt of diffnag: {_short(error)}") from error
    if broken:
        raise UserError(f"{path} is no readable model.pt of diffnag: its part {broken} is damaged")
    if not isinstance(content, dict) or (content.get("kind"), content.get("format")) != (KIND, FORMAT):
        raise UserError(f"{path} is not a {KIND} of format {FORMAT}")
    return content


def _description(content: Mapping[str, Any]) -> Description:
    """The description in a file; ValueError says which part of it is odd."""
    parts = _checked(content, "skeleton", lambda value: isinstance(value, dict), "a dictionary")
    try:
        skeleton = Skeleton(**parts)
    except TypeError as error:
        raise ValueError(f"skeleton has {', '.join(map(str, parts)) or 'nothing'}; accepted are channels, cells, stem_stride, small") from error
    except UserError as error:
        raise ValueError(str(error)) from error
    return Description(
        space=_checked(content, "space", _is_text, "a name"),
        arch=_checked(content, "arch", _is_text, "a string"),
        skeleton=skeleton,
        classes=tuple(_checked(content, "classes", _are_names, "a list of names")),
        image_size=_checked(content, "image_size", lambda value: type(value) is int and 1 <= value <= LARGEST_IMAGE, f"1 to {LARGEST_IMAGE}"),
        mean=tuple(_checked(content, "mean", _are_three_numbers, "three finite numbers")),
        std=tuple(_checked(content, "std", lambda value: _are_three_numbers(value) and min(value) > 0, "three numbers above 0")),
    )


def _checked(content: Mapping[str, Any], key: str, accepts: Callable[[Any], bool], accepted: str) -> Any:
    if key not in content:
        raise ValueError(f"it has no {key}")
    if not accepts(content[key]):
        text = " ".join(repr(content[key]).split())
        raise ValueError(f"{key} is {text if len(text) <= 60 else text[:59] + '…'}; accepted is {accepted}")
    return content[key]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _are_names(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) > 0 and all(isinstance(name, str) for name in value)


def _are_three_numbers(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 3 and all(type(x) in (int, float) and math.isfinite(x) for x in value)


def _are_weights(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())


def _network(description: Description, weights: Mapping[str, Tensor]) -> nn.Module:
    """The described network with these weights; RuntimeError if they do not fit."""
    space = load_space(description.space)
    arch = space.from_str(description.arch)
    with seeded(0):  # the weights drawn here are replaced
        network = description.skeleton.build(arch, space, num_classes=len(description.classes), image_size=description.image_size)
    for name, tensor in network.state_dict().items():
        if name in weights and weights[name].dtype != tensor.dtype:
            raise RuntimeError(f"its {name} has type {weights[name].dtype}, the network's has {tensor.dtype}")
    network.load_state_dict(dict(weights))
    return network


def _short(error: Exception) -> str:
    """The error in one line of moderate length: torch lists all tensors that do not fit."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"


def export_onnx(path: str | Path, model: Classifier) -> float:
    """Write `model` as ONNX, for any batch size: input `images` as in `Classifier.forward`, output `logits`.

    The file's metadata hold class names and preprocessing. See `write_onnx` for the figure that is returned, here of random images, and
    the error.
    """
    model = model.cpu().eval()
    size = model.description.image_size
    images = torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(0))
    facts = {"classes": json.dumps(model.classes), "preprocessing": json.dumps(model.description.preprocessing())}
    return write_onnx(path, model, [images, images[:1], images[:5]], name="images", axes={0: "batch"}, facts=facts)
