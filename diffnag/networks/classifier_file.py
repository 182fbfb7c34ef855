"""A classifier as files: `model.pt` (weights and plain data, which `load_model` reads) and `model.onnx`."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffnag.errors import UserError
from diffnag.io.files import written_whole
from diffnag.networks.build import seeded
from diffnag.networks.elastic import Resized
from diffnag.networks.onnx_file import write_onnx
from diffnag.networks.plan import LARGEST_IMAGE, LONGEST, Skeleton
from diffnag.networks.targets import TARGETS, Target
from diffnag.networks.training import CLASSIFICATION, all_finite
from diffnag.spaces.loading import load_space

FORMAT = 1
KIND = "diffnag image classifier"


@dataclass(frozen=True)
class Description:
    """A classifier without its weights, as plain data.

    `mean` and `std` are those of each channel: for photos of pixels in [0, 1], and for arrays, the skeleton's `inputs`, of their own values.
    `classes` are the names of the outputs, and `target` says what these mean.
    """

    space: str
    arch: str
    skeleton: Skeleton
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    target: Target = CLASSIFICATION

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        return self.skeleton.inputs or (3, self.image_size, self.image_size)

    @property
    def outputs(self) -> str:
        """What the model returns, for the user of the ONNX file."""
        return {"classification": "logits of the classes", "multi-label": "logits; their sigmoids are probabilities"}.get(
            self.target.task, "numbers in the units of the labels"
        )

    def preprocessing(self) -> dict[str, Any]:
        """The steps from an image to the logits, for the user of the ONNX file."""
        if self.skeleton.inputs:
            shape = ", ".join(map(str, self.shape))
            return {
                "input": f"float32 (batch, {shape}): channels, height, width; values as in the training data", "before": "nothing",
                "inside": "standardised by mean and std", "mean": list(self.mean), "std": list(self.std),
            }  # fmt: skip
        return {
            "input": f"float32 (batch, 3, {self.image_size}, {self.image_size}), RGB, pixels in [0, 1]; grey images with three equal channels",
            "before": f"shorter side resized to {self.image_size} (bilinear, antialiased), centre cropped: Classifier.preprocess",
            "inside": "standardised by mean and std",
            "mean": list(self.mean),
            "std": list(self.std),
        }


class Classifier(nn.Module):
    """A network with its preprocessing and class names: `model(model.preprocess(images))` returns logits, or the numbers of a regression.

    `classes` are the names of the outputs in their order; `description` says how the network is built.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, description: Description) -> None:
        super().__init__()
        self.network, self.description, self.classes = network, description, description.classes
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(description, name)).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(b, 3, size, size)` with pixels in [0, 1], or arrays `(b, channels, h, w)`, -> logits or numbers `(b, outputs)`."""
        return self.description.target.answer(self.network((images - self.mean) / self.std))

    def preprocess(self, images: Any) -> Tensor:
        """Raw images of any size -> `(b, 3, size, size)` with pixels in [0, 1], as for training.

        `images` is one image or a sequence of images: files, Pillow images, arrays or tensors `(h, w)` or `(h, w, 3)`, uint8 or floats in
        [0, 1]. Several of one size may be one array `(b, h, w)` or `(b, h, w, 3)`. A model of other arrays or signals takes these,
        `(channels, h, w)`, `(h, w, channels)` or `(channels, length)`, as they are. Raises `UserError` for anything else.
        """
        from diffnag.datasets.images import fit_arrays, fit_images

        given = [_as_array(image) for image in images] if isinstance(images, list | tuple) else _as_array(images)
        if inputs := self.description.skeleton.inputs:
            return torch.from_numpy(fit_arrays(given, inputs=inputs)).to(self.mean.device).permute(0, 3, 1, 2).contiguous()
        fitted = torch.from_numpy(fit_images(given, size=self.description.image_size))
        return fitted.to(self.mean.device).permute(0, 3, 1, 2).float() / 255

    def preprocessing(self) -> dict[str, Any]:
        """See `Description.preprocessing`; a network that resizes arrays itself says so."""
        steps = self.description.preprocessing()
        if isinstance(self.network, Resized):
            steps["inside"] += f", resized to {self.network.side} x {self.network.side} (bilinear, antialiased)"
        return steps

    @property
    def pixels(self) -> int:
        """Pixels of an image in the network, height times width."""
        _, height, width = self.description.shape
        return self.network.side**2 if isinstance(self.network, Resized) else height * width

    @torch.no_grad()
    def predict(self, images: Any) -> list[Any]:
        """The class of each image, or its labels or numbers, a list also for a single image; `preprocess` says what is accepted."""
        fitted = self.preprocess(images)
        return self.description.target.decode(self(fitted), self.classes) if len(fitted) else []


def _as_array(image: Any) -> Any:
    """A tensor as an array; anything else as it is."""
    if not isinstance(image, Tensor):
        return image
    return (image.float() if image.is_floating_point() else image).detach().cpu().numpy()


def save_model(path: str | Path, model: Classifier, *, about: Mapping[str, Any]) -> None:
    """Write `model` and plain data `about` it. Raises `UserError` if weights are not finite or the file cannot be written."""
    if not all_finite(model.network):
        raise UserError(f"{path} is not written: the network has NaN or infinite weights")
    described = {**asdict(model.description), "skeleton": model.description.skeleton.to_json(), "task": model.description.target.task}
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
    task = _checked({"task": CLASSIFICATION.task, **content}, "task", lambda value: value in TARGETS, f"one of {', '.join(TARGETS)}")
    classes = tuple(_checked(content, "classes", _are_names, "a list of names"))
    channels = skeleton.inputs[0] if skeleton.inputs else 3
    numbers, longest = {3: "three"}.get(channels, str(channels)), LONGEST if skeleton.inputs else LARGEST_IMAGE
    return Description(
        space=_checked(content, "space", _is_text, "a name"),
        arch=_checked(content, "arch", _is_text, "a string"),
        skeleton=skeleton,
        classes=classes,
        image_size=_checked(content, "image_size", lambda value: type(value) is int and 1 <= value <= longest, f"1 to {longest}"),
        mean=tuple(_checked(content, "mean", lambda value: _are_numbers(value, channels), f"{numbers} finite numbers")),
        std=tuple(_checked(content, "std", lambda value: _are_numbers(value, channels) and min(value) > 0, f"{numbers} numbers above 0")),
        target=_target(task, content, outputs=len(classes)),
    )


def _target(task: str, content: Mapping[str, Any], *, outputs: int) -> Target:
    """The target of a file, whose data are numbers for each output."""
    given = _checked({"target": {}, **content}, "target", lambda value: isinstance(value, dict), "a dictionary")
    kind = TARGETS[task]
    names = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    if sorted(given) != sorted(names) or not all(_are_numbers(value, outputs) for value in given.values()):
        accepted = f"{' and '.join(names)}, each of {outputs} numbers" if names else "no entries"
        raise ValueError(f"target has {', '.join(map(str, given)) or 'nothing'}; accepted are {accepted}")
    return kind(**{name: tuple(value) for name, value in given.items()})


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


def _are_numbers(value: object, count: int) -> bool:
    return isinstance(value, tuple | list) and len(value) == count and all(type(x) in (int, float) and math.isfinite(x) for x in value)


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
    described = model.description
    images = torch.rand(8, *described.shape, generator=torch.Generator().manual_seed(0))
    if described.skeleton.inputs:
        images = images * model.std + model.mean  # values as the data have them
    facts = {"classes": json.dumps(model.classes), "preprocessing": json.dumps(model.preprocessing())}
    facts |= {"task": described.target.task, "outputs": described.outputs}
    return write_onnx(path, model, [images, images[:1], images[:5]], name="images", axes={0: "batch"}, facts=facts, unit=described.target.unit)
