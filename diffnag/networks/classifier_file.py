"""The finished classifier as files: `model.pt` (weights and plain data, rebuilt by `load_model`) and `model.onnx`."""

from __future__ import annotations

import json
import logging
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffnag.errors import UserError, in_a_line
from diffnag.io.files import written_whole
from diffnag.networks.build import seeded
from diffnag.networks.plan import Skeleton
from diffnag.spaces.loading import load_space

FORMAT = 1
KIND = "diffnag image classifier"
ONNX_TOLERANCE = 1e-4
"""Largest difference between the logits of `model.onnx` and of torch that is accepted."""


@dataclass(frozen=True)
class Description:
    """All of a classifier but its weights, as plain data. `mean` and `std` `(3,)` are of pixels in [0, 1]."""

    space: str
    arch: str
    skeleton: Skeleton
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def preprocessing(self) -> dict[str, Any]:
        """What happens to an image, for the user of the ONNX file, and where."""
        return {
            "input": f"float32 (batch, 3, {self.image_size}, {self.image_size}), RGB, pixels in [0, 1]; grey images with three equal channels",
            "before": f"shorter side resized to {self.image_size} (bilinear, antialiased), centre cropped: Classifier.preprocess",
            "inside": "standardised by mean and std",
            "mean": list(self.mean),
            "std": list(self.std),
        }


class Classifier(nn.Module):
    """A network with what belongs to it: `model(model.preprocess(images))` are its logits.

    `classes` are the names in the order of the logits, `description` says how it was built.
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

    def preprocess(self, images: np.ndarray | Tensor | Sequence[str | Path]) -> Tensor:
        """Raw images of any side -> `(b, 3, size, size)` with pixels in [0, 1], as for training.

        Files, or an array `(b, h, w)`, `(b, h, w, 1)` or `(b, h, w, 3)`: uint8, or floats in [0, 1]. Raises `UserError`
        for others.
        """
        from diffnag.datasets.images import fit_images

        given = images.cpu().numpy() if isinstance(images, Tensor) else images
        fitted = torch.from_numpy(fit_images(given, size=self.description.image_size))
        return fitted.to(self.mean.device).permute(0, 3, 1, 2).float() / 255

    @torch.no_grad()
    def predict(self, images: np.ndarray | Tensor | Sequence[str | Path]) -> list[str]:
        """The class of each image; for what is accepted see `preprocess`."""
        chosen = self(self.preprocess(images)).argmax(1)
        return [self.classes[k] for k in chosen.tolist()]


def save_model(path: str | Path, model: Classifier, *, about: Mapping[str, Any]) -> None:
    """Write `model` and what is to be known `about` it, plain data."""
    described = asdict(model.description)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
    content = {"format": FORMAT, "kind": KIND, **described, "about": dict(about), "weights": weights}
    with written_whole(path) as temporary:
        torch.save(content, temporary)


def load_model(path: str | Path, *, space: str | None = None) -> Classifier:
    """Rebuild the classifier of a `model.pt`, in evaluation mode, on the CPU.

        model = diffnag.load_model("runs/.../model.pt")
        model.predict(["one.png", "another.jpg"])

    Loading runs no code of the file, nor any that it names: of a space by dotted path `package.module:Class` the same path has
    to be given as `space`. Raises `UserError` for that, and where the file is damaged or of another kind.
    """
    return read_model(path, space=space)[0]


def read_model(path: str | Path, *, space: str | None = None) -> tuple[Classifier, dict[str, Any]]:
    """`load_model`, and what the file says about the model."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no model {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{path} is no readable model.pt of diffnag: {in_a_line(error)}") from error
    if not isinstance(content, dict) or (content.get("kind"), content.get("format")) != (KIND, FORMAT):
        raise UserError(f"{path} is not a {KIND} of format {FORMAT}")
    try:
        skeleton = Skeleton(**content["skeleton"])
        described = {key: content[key] for key in ("space", "arch", "classes", "image_size", "mean", "std")}
        description = Description(**described, skeleton=skeleton)
        if ":" in description.space and description.space != space:
            raise UserError(f"{path} is of a space that is not installed; if you trust its code, load it with space={description.space!r}")
        network = _network(description)
        network.load_state_dict(content["weights"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{path} does not fit the network it describes: {in_a_line(error)}") from error
    return Classifier(network, description).eval(), content["about"]


def _network(description: Description) -> nn.Module:
    space = load_space(description.space)
    arch = space.from_str(description.arch)
    with seeded(0):  # the weights drawn here are replaced
        return description.skeleton.build(arch, space, num_classes=len(description.classes), image_size=description.image_size)


def export_onnx(path: str | Path, model: Classifier) -> float:
    """Write `model` as ONNX: input `images` as `Classifier.forward` takes them, output `logits`, any batch size.

    The file also holds class names and preprocessing, as its metadata. Returns the largest absolute difference from torch
    that onnxruntime shows on random images; raises `RuntimeError` where it is above `ONNX_TOLERANCE`.
    """
    model = model.cpu().eval()
    size = model.description.image_size
    images = torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(0))
    with _quiet():
        program = torch.onnx.export(
            model, (images,), dynamo=True, verbose=False, input_names=["images"], output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props["classes"] = json.dumps(model.classes)
    program.model.metadata_props["preprocessing"] = json.dumps(model.description.preprocessing())
    with written_whole(path) as temporary:
        program.save(temporary, external_data=False)
        difference = _difference(temporary, model, [images, images[:1], images[:5]])
        if not difference <= ONNX_TOLERANCE:
            raise RuntimeError(f"its logits differ from torch's by {difference:.2g}; accepted is {ONNX_TOLERANCE:g}")
    return difference


@torch.no_grad()
def _difference(path: Path, model: Classifier, batches: Sequence[Tensor]) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    answers = [(session.run(None, {"images": images.numpy()})[0], model(images).numpy()) for images in batches]
    return max(float(np.abs(theirs - ours).max()) for theirs, ours in answers)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of packages that are not there and of its own deprecated parts: none of it is the user's."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
