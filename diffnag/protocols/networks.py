"""Protocols of the networks that a search space builds. See `diffnag.protocols.spaces` for the space itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diffnag.arch import Arch


@runtime_checkable
class TrainsSmall(Protocol):
    """A space with a reduced skeleton: asked for by `python -m diffnag.build_meta_dataset`."""

    def build_small(self, arch: Arch, *, num_classes: int, image_size: int) -> nn.Module:
        """A network that trains in seconds and in which the choice of the architecture still matters."""
        ...


@runtime_checkable
class ShipsWeights(Protocol):
    """A space with trained weights, from which its networks start where they are trained on images of a user's own.

    They are those of a supernet, which `python -m diffnag.train_supernet` trains as a classifier and writes to a file without its `classifier`.
    """

    shipped: tuple[int, int] | None
    """Channels and cells of the networks that the weights are for; None if training is to start from random weights."""

    def supernet(self, *, num_classes: int, seed: int) -> nn.Module:
        """The untrained supernet. In training its `forward` draws an architecture for each batch, in evaluation it is the residual one.

        What it draws with is part of its `state_dict` (torch's `get_extra_state`), so that an interrupted training goes on as an unbroken one.
        """
        ...

    def start(self, network: nn.Module) -> None:
        """Give a network of `build` with so many channels and cells the weights; its classifier stays. Raises `UserError` if they cannot be read."""
        ...


@runtime_checkable
class HasResNetLike(Protocol):
    """A space that names its architecture closest to a residual network, to be compared with."""

    resnet_like: str
    """As the space writes it."""


@runtime_checkable
class HasResolution(Protocol):
    """A space whose architectures have an input size of their own, to which images of any size are resized.

    The space's `size` counts at this resolution, and its `build` gives a network for images of this size.
    `diffnag.spaces.inputs.side_of` answers for all spaces how large the images of an architecture are.
    """

    def resolution(self, arch: Arch) -> int:
        """Pixels a side of the images that the network of `arch` takes."""
        ...


@runtime_checkable
class Inherits(HasResolution, Protocol):
    """A space whose architectures are parts of one pretrained network and inherit its weights; see `diffnag.networks.elastic`.

    The network maps images `(b, 3, h, w)` of any size to logits, and computes a part of itself by `network(images, part)`. It has
    `features(images)`, `(b, d)`, and behind them a linear layer `classifier`.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Statistics of each channel, for pixels in [0, 1], that images are standardised by."""
    largest: Arch
    smallest: Arch
    side: int
    """The resolution at which the whole network is adapted to images: one where a linear probe is nearly at its best; may be set."""
    weights: Path | None
    """A file of the pretrained weights, which may be set; None stands for those that the space finds by itself."""

    def pretrained(self, *, num_classes: int) -> nn.Module:
        """The network with its pretrained weights and a classifier of zeros; raises `UserError` if the weights are not there."""
        ...

    def sort_channels(self, network: nn.Module, images: Tensor) -> None:
        """Rearrange the weights so that parts keep what matters most for standardised `images`; the network computes what it did."""
        ...

    def member(self, arch: Arch) -> Any:
        """The part of the network that an architecture is."""
        ...

    def inherit(self, network: nn.Module, arch: Arch) -> nn.Module:
        """The network that `build` gives, with copies of the weights that the architecture uses."""
        ...


@runtime_checkable
class TakesChannels(Inherits, Protocol):
    """A space of parts whose pretrained network can be changed to take images of other channels than three."""

    def with_channels(self, channels: int) -> Self:
        """The same space for images `(b, channels, h, w)`: what its methods build, count and load takes these."""
        ...


@runtime_checkable
class TakesTokens(Protocol):
    """A space of language models: networks map token ids `(b, t)`, int64, to logits `(b, t, vocabulary)`, for any t.

    `num_classes` is the vocabulary and `image_size` the length of the context in tokens. What needs images refuses such a space.
    """

    takes_tokens: Literal[True]


@runtime_checkable
class WithoutNetworks(Protocol):
    """A space of graphs that are no networks: its `size` and `build` raise `UserError`, and what needs networks is not offered."""

    without_networks: Literal[True]
