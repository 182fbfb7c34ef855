"""EfficientNet-Lite0 (Tan & Le, ICML 2019) made elastic, as Once-for-All does it (Cai et al., ICLR 2020).

An architecture is a part of the published network. It has an input resolution of its own, uses a share of the middle channels of each
block and the inner part of a kernel, and leaves blocks out. There are about 1e13 architectures. Node 0 of the graph is the resolution;
nodes 1 to 15 are the blocks behind the first one, which has no expansion and is whole in every architecture. A block whose input is
added to its output may be `absent`, wherever in its stage it is. Edges link consecutive nodes that are present, so the wiring follows
from the operators; both are generated.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Set
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Self

from torch import nn

from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.protocols import Attention, Picture, Role, Size
from diffnag.search_spaces.efficientnet_lite.network import (
    COLOURS,
    HEAD,
    STAGES,
    Block,
    Member,
    Network,
    extract,
    full,
    narrowed,
    size,
    sort_channels,
    take_channels,
)  # fmt: skip
from diffnag.search_spaces.efficientnet_lite.published import MEAN, STD, load_network
from diffnag.search_spaces.shared.choices import Chain

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

RESOLUTIONS = (96, 128, 160, 192, 224)
"""Pixels a side of the input. All are multiples of 32, so that no stride rounds."""
EXPANSIONS = (2, 3, 4, 6)
"""Expansions of a block. The published one is 6, and a smaller one uses the first channels."""
LAYERS = tuple(itertools.product((3, 5), EXPANSIONS))
"""Kernel and expansion of the operators behind the resolutions, in their order."""
FIRST = len(RESOLUTIONS)
"""Index of the first operator that is a layer."""
ABSENT = FIRST + len(LAYERS)
"""Index of the operator `absent`."""
RESIZED: Set[Role] = {"layer"}
"""Roles of a resolution. It stands for the first convolution and block at its size; as an `input` it would not show in path features."""
LAYER: Set[Role] = {"layer", "spatial"}
"""Roles of a block."""
LEFT_OUT = "x"
"""A block that is left out, in strings."""
WIDTH = 24
"""Channels of the first stage whose blocks are chosen. It names the width of the published network, the only one there is."""
BLOCKS = full()[1:]
"""The published blocks of nodes 1 to 15."""


def _operators_of(node: int) -> tuple[int, ...]:
    """The operators that a node may have."""
    if node == 0:
        return tuple(range(FIRST))
    block = BLOCKS[node - 1]
    layers = [FIRST + k for k, (kernel, _) in enumerate(LAYERS) if kernel <= block.kernel]
    return (*layers, ABSENT) if block.shortcut else tuple(layers)


class EfficientNetLite(Chain):
    """The search space `efficientnet-lite`: 16 nodes, 14 operators, and a chain through the blocks that are present."""

    name = "efficientnet-lite"
    operators: tuple[str, ...] = (
        *(f"{side}px" for side in RESOLUTIONS), *(f"mbconv{expansion}_{kernel}x{kernel}" for kernel, expansion in LAYERS), "absent"
    )  # fmt: skip
    parts = (0, *(stage for stage, (repeats, *_) in enumerate(STAGES[1:], start=1) for _ in range(repeats)))
    roles: Mapping[str, Set[Role]] = {
        **dict.fromkeys(operators[:FIRST], RESIZED), **dict.fromkeys(operators[FIRST:ABSENT], LAYER), "absent": {"absent"}
    }  # fmt: skip
    attention: Attention = "full"
    datasets: Mapping[str, tuple[int, int]] = {"imagenet": (1000, 224)}
    skeletons = ((WIDTH, 1),)
    mean, std = MEAN, STD
    side = 160
    choices = tuple(map(_operators_of, range(1 + len(BLOCKS))))
    names = (
        "resolution", *(f"stage {stage} block {place}" for stage, (repeats, *_) in enumerate(STAGES[1:], start=2) for place in range(1, repeats + 1))
    )  # fmt: skip
    weights: Path | None = None
    colours = COLOURS
    """Channels of the images; see `with_channels`."""

    # -- strings

    def written(self, op: int) -> str:
        """An operator as strings and parameters write it."""
        if op < FIRST:
            return str(RESOLUTIONS[op])
        return LEFT_OUT if op == ABSENT else "{}-{}".format(*LAYERS[op - FIRST])

    def to_str(self, arch: Arch) -> str:
        """Resolution, then kernel and expansion of each block, `x` for one that is left out: `160:3-6_x:5-6_3-4:...`.

        There are colons between the stages 2 to 7.
        """
        written = [self.written(op) for op in arch.ops]
        stages = itertools.groupby(range(self.nodes), key=self.parts.__getitem__)
        return ":".join("_".join(written[node] for node in nodes) for _, nodes in stages)

    def from_str(self, text: str) -> Arch:
        """Parse such a string; `UserError` names the rule that it breaks."""
        resolution, *stages = text.split(":")
        if len(stages) != len(STAGES) - 1:
            raise self._refused(text, f"it has {len(stages)} of {len(STAGES) - 1} stages behind the resolution")
        if resolution not in map(str, RESOLUTIONS):
            raise self._refused(text, f"it has the resolution {resolution!r}")
        ops = [RESOLUTIONS.index(int(resolution))]
        for stage, (written, (repeats, *_)) in enumerate(zip(stages, STAGES[1:], strict=True), start=2):
            if len(names := written.split("_")) != repeats:
                raise self._refused(text, f"stage {stage} has {len(names)} blocks, not {repeats}")
            for place, name in enumerate(names, start=1):
                known = {self.written(op): op for op in self.choices[len(ops)]}
                if name not in known:
                    raise self._refused(text, f"block {place} of stage {stage} is {name!r}, not one of {', '.join(known)}")
                ops.append(known[name])
        return self.of_operators(ops)

    def _refused(self, text: str, why: str) -> UserError:
        """The error for a text that is no network."""
        return UserError(
            f"{text!r} is no {self.name} string: {why}; expected a resolution ({', '.join(map(str, RESOLUTIONS))}) and the stages 2 to "
            f"{len(STAGES)}, separated by ':', each of blocks separated by '_', written as kernel-expansion, or {LEFT_OUT} for one left out"
        )

    def picture(self, arch: Arch) -> Picture:
        """The resolution and the chosen blocks that are present, with the stages as panels."""
        present = [node for node, op in enumerate(arch.ops) if op != ABSENT]
        texts = tuple(self.operators[arch.ops[node]] for node in present)
        panels = tuple(f"stage {1 + self.parts[node]}" if node else "input" for node in present)
        return Picture(texts, tuple(pairwise(range(len(texts)))), panels)

    # -- identity

    def canonical(self, arch: Arch) -> str:
        """The string itself.

        Two architectures that leave out different blocks of a stage can be equal as networks of their own. With the shared weights they
        are not, as the blocks that remain have other weights.
        """
        return self.to_str(arch)

    def enumerate(self) -> None:
        """None: there are about 1.1e13 architectures."""

    # -- networks

    @cached_property
    def largest(self) -> Arch:
        """The published network at 224 pixels a side."""
        return self.of_operators([max(op for op in allowed if op != ABSENT) for allowed in self.choices])

    @cached_property
    def smallest(self) -> Arch:
        """The architecture with the fewest parameters and multiply-adds."""
        return self.of_operators([ABSENT if ABSENT in allowed else allowed[0] for allowed in self.choices])

    def resolution(self, arch: Arch) -> int:
        """Pixels a side of the images that the network takes."""
        return RESOLUTIONS[arch.ops[0]]

    def member(self, arch: Arch) -> Member:
        """The part of each of the 16 blocks that an architecture uses, None where it leaves the block out."""
        return (full()[0], *(_part(block, op) for block, op in zip(BLOCKS, arch.ops[1:], strict=True)))

    def size(
        self, arch: Arch, *, channels: int = WIDTH, cells: int = 1, num_classes: int, image_size: int = 224, stem_stride: int = 2
    ) -> Size:
        """Parameters of `build`, and multiply-adds for one image of the architecture's own resolution.

        `image_size` has no effect: images of any size are resized to the resolution, which is part of the architecture.
        """
        _check_width(channels, cells, stem_stride)
        return size(list(self._blocks(arch)), num_classes=num_classes, image_size=self.resolution(arch), channels=self.colours)

    def build(self, arch: Arch, *, channels: int = WIDTH, cells: int = 1, num_classes: int, stem_stride: int = 2) -> nn.Module:
        """The part of EfficientNet-Lite0 as a network of its own: images `(b, colours, h, w)` -> logits `(b, num_classes)`.

        Images should have `resolution(arch)` pixels a side, and others are accepted. The width is that of the published network:
        `UserError` for other `channels`, `cells` or `stem_stride` than the defaults.
        """
        _check_width(channels, cells, stem_stride)
        return Network(list(self._blocks(arch)), num_classes=num_classes, channels=self.colours)

    def with_channels(self, channels: int) -> Self:
        """See `diffnag.protocols.TakesChannels`; the weights are those of `take_channels`."""
        found = copy.copy(self)
        found.colours = channels
        return found

    def pretrained(self, *, num_classes: int) -> nn.Module:
        """The published network with a classifier of zeros; raises `UserError` if the package of the weights is not installed."""
        network = load_network(self.weights)
        if self.colours != COLOURS:
            take_channels(network, self.colours)
        network.classifier = classifier = nn.Linear(HEAD, num_classes)
        for parameter in classifier.parameters():
            nn.init.zeros_(parameter)
        return network

    def sort_channels(self, network: nn.Module, images: Tensor) -> None:
        """Put the most important middle channels of each block first, so that narrower blocks use them."""
        assert isinstance(network, Network)
        sort_channels(network, images)

    def inherit(self, network: nn.Module, arch: Arch) -> nn.Module:
        """The network that `build` gives, with copies of the weights that the architecture uses."""
        assert isinstance(network, Network)
        return extract(network, self.member(arch))

    def _blocks(self, arch: Arch) -> Iterator[Block]:
        """The parts of the blocks that are present."""
        return (block for block in self.member(arch) if block is not None)


def _part(block: Block, op: int) -> Block | None:
    """The part of a published block that an operator uses."""
    if op == ABSENT:
        return None
    kernel, expansion = LAYERS[op - FIRST]
    return narrowed(block, share=expansion / EXPANSIONS[-1], kernel=kernel)


def _check_width(channels: int, cells: int, stem_stride: int) -> None:
    """Raise `UserError` for networks that are not as wide and deep as the published one."""
    for name, value, only in (("channels", channels, WIDTH), ("cells", cells, 1), ("stem_stride", stem_stride, 2)):
        if value != only:
            raise UserError(f"architectures of efficientnet-lite are parts of the published network: {name} must be {only}, not {value}")
