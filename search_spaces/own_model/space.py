"""Parts of a user's own convolutional network, which inherit its weights.

An architecture has an input resolution of its own. Node 0 of the graph is the resolution, and each node behind it stands for one unit of
the network: a share of the channels of some groups, or that residual blocks are left out (`diffnag.search_spaces.own_model.units`). Edges
link consecutive nodes that are present.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Set
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import nn

from diffnag.arch import Arch
from diffnag.errors import UserError, type_and_line
from diffnag.protocols import Attention, Picture, Role, Size
from diffnag.search_spaces.own_model.groups import with_what_can_go
from diffnag.search_spaces.own_model.model import CONFIGURATION, SIDE, OwnModel
from diffnag.search_spaces.own_model.network import Elastic, Part, extract
from diffnag.search_spaces.own_model.size import Sizes, outputs
from diffnag.search_spaces.own_model.units import TRUNK, Unit, units_of
from diffnag.search_spaces.shared.choices import Chain

if TYPE_CHECKING:
    from torch import Tensor

SHARES, WHOLE = (1, 2, 3, 4), 4
"""Quarters of the channels that are kept; of the trunk, at least the second."""
RESOLUTIONS, STEPS = (4, 5, 6, 7, 8), (32, 8, 1)
"""Eighths of the model's own pixels a side, rounded to multiples of the first step that is at most a quarter of them."""
LARGE = 128
"""Pixels a side that count as large."""
LEFT_OUT = "x"
"""A unit that is left out, in strings."""
RESIZED: Set[Role] = {"layer"}
LAYER: Set[Role] = {"layer", "spatial"}
ABSENT: Set[Role] = {"absent"}
"""Roles of a resolution, of a unit that is present, and of one that is left out."""


class OwnModelSpace(Chain):
    """The parts of the network that `package.module:function` makes; made by `of`."""

    attention: Attention = "full"
    datasets: Mapping[str, tuple[int, int]] = {}
    skeletons = ((1, 1),)
    generator = "mutation"
    """There is no score network for a model that nobody has seen before."""
    weights: Path | None = None

    def __init__(self, model: OwnModel) -> None:
        """Take the model apart; raises `UserError` if nothing of it can be removed, or if it does not take images."""
        self._model = model
        self.name = "own-model-" + re.sub(r"[^\w.-]", ".", model.path)
        made = model.preprocessing
        self.mean, self.std = made.mean, made.std
        maps = _maps(model)
        self._sides = tuple(maps)
        images = torch.randn(2, 3, self._sides[0], self._sides[0], generator=torch.Generator().manual_seed(0))
        self._network = with_what_can_go(model.body, model.classifier, images)
        self._sizes = Sizes(self._network, {side: pixels for side, (_, pixels) in maps.items()})
        self._units = units_of(self._network, maps[made.side][0])
        if not self._units:
            raise UserError(f"model {model.path!r} has no group of channels and no residual block that can be removed")
        self._first = len(self._sides)
        self.operators = (*(f"{side}px" for side in self._sides), *(f"{share}/{WHOLE}" for share in SHARES), "absent")
        kinds = (RESIZED,) * self._first + (LAYER,) * len(SHARES) + (ABSENT,)
        self.roles: Mapping[str, Set[Role]] = dict(zip(self.operators, kinds, strict=True))
        self.choices = (tuple(range(self._first)), *map(self._operators_of, self._units))
        self.parts = (0, *(1 + unit.stage for unit in self._units))
        self.names = ("resolution", *(unit.name for unit in self._units))
        self._lost, self._absent = self._effects()

    @classmethod
    def of(cls, argument: str) -> Self:
        """The space of the model that the function `package.module:function` makes; raises `UserError` if it cannot be taken."""
        return cls(OwnModel(argument))

    def _operators_of(self, unit: Unit) -> tuple[int, ...]:
        """The operators that a unit may have."""
        shares = (SHARES[1:] if unit.name == TRUNK else SHARES) if unit.groups else SHARES[-1:]
        return (*(self._first + SHARES.index(share) for share in shares), *([self.absent] if unit.blocks else []))

    def _effects(self) -> tuple[np.ndarray, np.ndarray]:
        """What each operator of each unit takes away: channels `(units, operators, groups)` and blocks `(units, operators, blocks)`."""
        network, shape = self._network, (len(self._units), len(self.operators))
        lost, absent = np.zeros((*shape, len(network.groups)), np.int64), np.zeros((*shape, len(network.blocks)), bool)
        for number, unit in enumerate(self._units):
            absent[number, self.absent, list(unit.blocks)] = True
            for group in unit.groups:
                channels = network.groups[group].channels
                lost[number, self._first : self.absent, group] = [channels - _kept(channels, share) for share in SHARES]
        return lost, absent

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the model."""
        groups, blocks = len(self._network.groups), len(self._network.blocks)
        last, classes = self._model.last, self._model.classifier.out_features
        return (
            f"{self._model.path}: {groups} groups of channels and {blocks} residual blocks can be removed, in {self.nodes - 1} choices; its "
            f"last layer {last} of {classes} classes is replaced by one for your classes",
        )

    # -- strings

    def written(self, op: int) -> str:
        """An operator as strings and parameters write it."""
        if op < self._first:
            return str(self._sides[op])
        return LEFT_OUT if op == self.absent else str(SHARES[op - self._first])

    def to_str(self, arch: Arch) -> str:
        """Resolution, then the quarters of the channels of each unit, `x` for one that is left out: `160:4_2_x_3`."""
        resolution, *units = map(self.written, arch.ops)
        return f"{resolution}:{'_'.join(units)}"

    def from_str(self, text: str) -> Arch:
        """Parse such a string; `UserError` names the rule that it breaks."""
        resolution, _, units = text.partition(":")
        written = [resolution, *units.split("_")]
        if len(written) != self.nodes:
            raise self._refused(text, f"it has {len(written) - 1} of {self.nodes - 1} units")
        ops = []
        for name, allowed, one in zip(self.names, self.choices, written, strict=True):
            known = {self.written(op): op for op in allowed}
            if one not in known:
                raise self._refused(text, f"{name} is {one!r}, not one of {', '.join(known)}")
            ops.append(known[one])
        return self.of_operators(ops)

    def _refused(self, text: str, why: str) -> UserError:
        """The error for a text that is no part."""
        return UserError(
            f"{text!r} is no {self.name} string: {why}; expected a resolution, a colon, and {self.nodes - 1} units separated by '_', "
            f"written as the quarters of their channels, or {LEFT_OUT} for one left out"
        )

    def picture(self, arch: Arch) -> Picture:
        """The resolution and the units that are present, with the sizes of maps as panels."""
        present = [node for node, op in enumerate(arch.ops) if op != self.absent]
        texts = tuple(self.operators[arch.ops[node]] for node in present)
        panels = tuple(f"stage {self.parts[node]}" if node else "input" for node in present)
        return Picture(texts, tuple(pairwise(range(len(texts)))), panels)

    def canonical(self, arch: Arch) -> str:
        """The string itself: two parts with different weights are not equal."""
        return self.to_str(arch)

    def enumerate(self) -> None:
        """None: there are too many parts."""

    # -- networks

    @cached_property
    def largest(self) -> Arch:
        """The whole model at its own resolution."""
        return self.of_operators([max(op for op in allowed if op != self.absent) for allowed in self.choices])

    @cached_property
    def smallest(self) -> Arch:
        """The part with the fewest parameters and multiply-adds."""
        return self.of_operators([self.absent if self.absent in allowed else allowed[0] for allowed in self.choices])

    @cached_property
    def side(self) -> int:
        """See `diffnag.protocols.Inherits`: the model's own resolution, or, to save time, the one closest to three quarters of a large one."""
        share = 0.75 if self._sides[-1] >= LARGE else 1.0
        return min(self._sides, key=lambda side: abs(side - share * self._sides[-1]))

    def resolution(self, arch: Arch) -> int:
        """Pixels a side of the images that the network takes."""
        return self._sides[arch.ops[0]]

    def member(self, arch: Arch) -> Part:
        """The channels that are kept of each group, and the blocks that are left out."""
        lost, absent = self._removed(arch)
        kept = (group.channels - count for group, count in zip(self._network.groups, lost.tolist(), strict=True))
        return Part(tuple(kept), frozenset(np.flatnonzero(absent).tolist()))

    def _removed(self, arch: Arch) -> tuple[np.ndarray, np.ndarray]:
        """The channels `(groups,)` and blocks `(blocks,)` that an architecture lacks."""
        units, ops = np.arange(len(self._units)), np.array(arch.ops[1:])
        return self._lost[units, ops].sum(0), self._absent[units, ops].any(0)

    def size(self, arch: Arch, *, channels: int = 1, cells: int = 1, num_classes: int, image_size: int = SIDE, stem_stride: int = 1) -> Size:
        """Parameters of `build`, and multiply-adds for one image of the architecture's own resolution, which `image_size` does not change."""
        self._check_width(channels, cells, stem_stride)
        return self._sizes.of(*self._removed(arch), side=self.resolution(arch), num_classes=num_classes)

    def build(self, arch: Arch, *, channels: int = 1, cells: int = 1, num_classes: int, stem_stride: int = 1) -> nn.Module:
        """The part as a network of its own: images `(b, 3, h, w)` -> logits `(b, num_classes)`, with the weights of a model made anew.

        There is one width only: `UserError` for other `channels`, `cells` or `stem_stride` than the defaults.
        """
        self._check_width(channels, cells, stem_stride)
        return extract(self._with(self._model.fresh(), nn.Linear(self._model.classifier.in_features, num_classes)), self.member(arch))

    def pretrained(self, *, num_classes: int) -> Elastic:
        """The model with its weights and a classifier of zeros; raises `UserError` for weights of another model, and if there are none."""
        classifier = nn.Linear(self._model.classifier.in_features, num_classes)
        for parameter in classifier.parameters():
            nn.init.zeros_(parameter)
        return self._with(self._model.weights(self.weights), classifier)

    def sort_channels(self, network: nn.Module, images: Tensor) -> None:
        """Put the most important channels of each group first."""
        assert isinstance(network, Elastic)
        network.sort_channels(images)

    def inherit(self, network: nn.Module, arch: Arch) -> nn.Module:
        """The network that `build` gives, with copies of the weights that the architecture uses."""
        assert isinstance(network, Elastic)
        return extract(network, self.member(arch))

    def _with(self, weights: Mapping[str, Tensor], classifier: nn.Linear) -> Elastic:
        """The network with these weights, by the model's own names, in evaluation mode."""
        body = copy.deepcopy(self._network.body)
        body.load_state_dict({name: weights.get(name, tensor) for name, tensor in body.state_dict().items()})
        return Elastic(body, classifier, self._network.groups, self._network.blocks).eval()

    def _check_width(self, channels: int, cells: int, stem_stride: int) -> None:
        """Raise `UserError` for networks that are not as wide and deep as the model."""
        for name, value in (("channels", channels), ("cells", cells), ("stem_stride", stem_stride)):
            if value != 1:
                raise UserError(f"architectures of {self.name} are parts of one network: {name} must be 1, not {value}")


def _kept(channels: int, share: int) -> int:
    """How many of so many channels a share of quarters is: a multiple of 8, where there are enough."""
    step = 8 if channels >= 32 else 1
    return min(channels, max(step, round(channels * share / WHOLE / step) * step))


def _maps(model: OwnModel) -> dict[int, tuple[dict[str, int], dict[str, int]]]:
    """The `outputs` of the model's layers at each resolution that it takes; raises `UserError` if it does not take its own."""
    own = model.preprocessing.side
    step = next(step for step in STEPS if own >= 4 * step)
    found = {}
    for side in sorted({*(max(step, round(own * share / RESOLUTIONS[-1] / step) * step) for share in RESOLUTIONS[:-1]), own}):
        try:
            found[side] = outputs(Elastic(model.body, model.classifier), side)
        except Exception as error:  # of a linear layer behind maps of another size, and the like
            if side == own:
                raise UserError(
                    f"model {model.path!r} does not take images (b, 3, {own}, {own}): {type_and_line(error)}; if its images have another size, "
                    f"set its attribute {CONFIGURATION} = {{'input_size': (3, side, side)}}"
                ) from error
    return {side: maps for side, maps in found.items() if side <= own}
