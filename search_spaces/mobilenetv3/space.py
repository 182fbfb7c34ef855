"""The MobileNetV3 space of Once-for-All (Cai et al., ICLR 2020), as in DiffusionNAG (An et al., ICLR 2024, section 4.2).

A network has five stages of 2 to 4 inverted bottlenecks, each with a kernel of 3, 5 or 7 and an expansion of 3, 4 or 6; there are about
2e19 networks. The graph has 20 slots, and slot `s` belongs to stage `s // 4`. A stage with fewer than 4 layers leaves its last slots
`absent`. Edges link consecutive layers, so the wiring follows from the operators; both are generated.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence, Set
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.protocols import Attention, Decoded, Picture, Role, Size
from diffnag.search_spaces.shared.chains import Chains, edges_between, wirings
from diffnag.search_spaces.shared.matrices import operator_fault, wiring_fault

if TYPE_CHECKING:
    from torch import nn

STAGES, SLOTS, FEWEST = 5, 4, 2
"""Number of stages, slots in each stage, and smallest number of layers in a stage."""
LAYERS = tuple(itertools.product((3, 5, 7), (3, 4, 6)))
"""Kernel and expansion of the operators, in their order."""
ABSENT = len(LAYERS)
"""Index of the operator `absent`."""
NAMES = tuple(f"{kernel}-{expansion}" for kernel, expansion in LAYERS)
"""Layers as they are written in strings."""
LAYER: Set[Role] = {"layer", "spatial"}
"""Roles of every operator but `absent`."""
DEPTHS = tuple(range(FEWEST, SLOTS + 1))
WIDTH = 24
"""Channels of the first stage in OFA's network of width 1.0 (`ofa_mbv3_d234_e346_k357_w1.0`)."""


class MobileNetV3:
    """The search space `mobilenetv3`: 20 nodes, 10 operators, wiring that follows the depths of the stages."""

    name = "mobilenetv3"
    nodes = STAGES * SLOTS
    operators: tuple[str, ...] = (*(f"mbconv{expansion}_{kernel}x{kernel}" for kernel, expansion in LAYERS), "absent")
    parts = tuple(slot // SLOTS for slot in range(STAGES * SLOTS))
    roles: Mapping[str, Set[Role]] = {**dict.fromkeys(operators[:ABSENT], LAYER), "absent": {"absent"}}
    attention: Attention = "full"
    datasets: Mapping[str, tuple[int, int]] = {"imagenet": (1000, 224)}
    skeletons = ((8, 1), (12, 1), (16, 1), (24, 1))

    def __init__(self) -> None:
        seldom = np.arange(self.nodes) % SLOTS >= FEWEST  # slots that may be absent
        never = np.zeros((self.nodes, len(self.operators)), dtype=bool)
        never[~seldom, ABSENT] = True
        # the edges of a stage depend on its own depth alone, so that stages of one depth show all edges that vary
        there = wirings(np.arange(self.nodes) % SLOTS < np.array(DEPTHS)[:, None])
        self.constant = (never, (there == there[0]).all(0))
        self._chains = Chains(possible=~never, behind=np.arange(self.nodes) % SLOTS > 0)

    # -- strings and matrices

    def of_stages(self, stages: Sequence[Sequence[int]]) -> Arch:
        """The architecture with these layers, indices into `LAYERS`, 2 to 4 in each stage."""
        ops = [op for stage in stages for op in (*stage, *[ABSENT] * (SLOTS - len(stage)))]
        return Arch(tuple(ops), _edges(ops))

    def stages(self, arch: Arch) -> list[list[int]]:
        """The layers of each stage: the inverse of `of_stages`."""
        return [[op for op in arch.ops[first : first + SLOTS] if op != ABSENT] for first in range(0, self.nodes, SLOTS)]

    def to_str(self, arch: Arch) -> str:
        """Kernel and expansion of each layer, with colons between stages: `3-6_5-3:7-4_3-3_3-3:...`."""
        return ":".join("_".join(NAMES[op] for op in stage) for stage in self.stages(arch))

    def from_str(self, text: str) -> Arch:
        """Parse such a string; `UserError` names the rule that it breaks."""
        stages = [stage.split("_") for stage in text.split(":")]
        if len(stages) != STAGES:
            raise self._refused(text, f"it has {len(stages)} of {STAGES} stages")
        for number, stage in enumerate(stages, start=1):
            if unknown := [name for name in stage if name not in NAMES]:
                raise self._refused(text, f"stage {number} has a layer {unknown[0]!r}")
            if len(stage) not in DEPTHS:
                raise self._refused(text, f"stage {number} has {len(stage)} layers, not {FEWEST} to {SLOTS}")
        return self.of_stages([[NAMES.index(name) for name in stage] for stage in stages])

    def _refused(self, text: str, why: str) -> UserError:
        """The error for a text that is no network."""
        return UserError(
            f"{text!r} is no mobilenetv3 string: {why}; expected {STAGES} stages separated by ':', each of {FEWEST} to {SLOTS} "
            f"layers separated by '_', written as kernel-expansion: {', '.join(NAMES)}"
        )

    def encode(self, arch: Arch) -> tuple[np.ndarray, np.ndarray]:
        """`V (20, 10)` and `E (20, 20)`, float32 in {0, 1}."""
        return arch.matrices(nodes=self.nodes, operators=len(self.operators))

    def decode(self, V: np.ndarray, E: np.ndarray) -> Decoded:
        """Read quantised `V (20, 10)`, `E (20, 20)`; for an invalid graph the reason is returned."""
        if fault := operator_fault(V):
            return Decoded(None, fault)
        ops = V.argmax(1).tolist()
        for slot in range(self.nodes):
            if ops[slot] == ABSENT and slot % SLOTS < FEWEST:
                return Decoded(None, f"node {slot} is absent, but a stage has at least {FEWEST} layers")
            if ops[slot] != ABSENT and slot % SLOTS and ops[slot - 1] == ABSENT:
                return Decoded(None, f"node {slot} is a layer, but node {slot - 1} before it in the stage is absent")
        arch = Arch(tuple(ops), _edges(ops))
        if fault := wiring_fault(E, self.encode(arch)[1]):
            return Decoded(None, f"{fault} with these layers")
        return Decoded(arch, None)

    def decode_batch(self, V: np.ndarray, E: np.ndarray) -> list[Decoded]:
        """Read quantised `V (b, 20, 10)`, `E (b, 20, 20)`."""
        return self._chains.decode(V, E, self.decode)

    def picture(self, arch: Arch) -> Picture:
        """The layers that exist, with the stages as panels."""
        stages = self.stages(arch)
        layers = [(self.operators[op], f"stage {number}") for number, stage in enumerate(stages, start=1) for op in stage]
        texts, panels = zip(*layers, strict=True)
        return Picture(texts, tuple(pairwise(range(len(texts)))), panels)

    # -- identity, draws, neighbours, parameters

    def canonical(self, arch: Arch) -> str:
        """The string itself: no two architectures compute the same class of functions."""
        return self.to_str(arch)

    def random(self, rng: np.random.Generator) -> Arch:
        """Draw as OFA does: the depth of each stage, then kernel and expansion of each layer, all uniformly."""
        return self.of_stages([rng.integers(len(LAYERS), size=rng.choice(DEPTHS)).tolist() for _ in range(STAGES)])

    def neighbours(self, arch: Arch) -> list[Arch]:
        """The networks that differ in one layer, and those in which a stage has one layer less or more at its end."""
        stages, found = self.stages(arch), []
        for k, stage in enumerate(stages):
            others = [[*stage[:i], op, *stage[i + 1 :]] for i in range(len(stage)) for op in range(len(LAYERS)) if op != stage[i]]
            if len(stage) > FEWEST:
                others.append(stage[:-1])
            if len(stage) < SLOTS:
                others += [[*stage, op] for op in range(len(LAYERS))]
            found += [self.of_stages([*stages[:k], other, *stages[k + 1 :]]) for other in others]
        return found

    def enumerate(self) -> None:
        """None: there are about 2.2e19 networks."""

    @property
    def parameters(self) -> Mapping[str, tuple[str, ...]]:
        """Depth and layers of each stage; choices for layers beyond the depth have no effect."""
        return {
            name: choices
            for stage in range(1, STAGES + 1)
            for name, choices in (
                (f"stage {stage} depth", tuple(map(str, DEPTHS))),
                *((f"stage {stage} layer {layer}", NAMES) for layer in range(1, SLOTS + 1)),
            )
        }

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        """The choices of an architecture; layers beyond the depth get the first choice."""
        values = [
            value
            for stage in self.stages(arch)
            for value in (str(len(stage)), *(NAMES[op] for op in stage), *[NAMES[0]] * (SLOTS - len(stage)))
        ]
        return dict(zip(self.parameters, values, strict=True))

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        """The architecture with these choices."""
        return self.of_stages([
            [NAMES.index(parameters[f"stage {stage} layer {layer}"]) for layer in range(1, int(parameters[f"stage {stage} depth"]) + 1)]
            for stage in range(1, STAGES + 1)
        ])

    # -- networks

    def layers(self, arch: Arch) -> list[list[tuple[int, int]]]:
        """Kernel and expansion of each layer of each stage."""
        return [[LAYERS[op] for op in stage] for stage in self.stages(arch)]

    def size(
        self, arch: Arch, *, channels: int = WIDTH, cells: int = 1, num_classes: int, image_size: int = 224, stem_stride: int = 2
    ) -> Size:
        """Parameters and multiply-adds of `build` on 3-channel images."""
        from diffnag.search_spaces.mobilenetv3.network import Shape, size

        return size(self.layers(arch), Shape.of_ofa(_width(channels, cells), stem_stride), num_classes=num_classes, image_size=image_size)

    def build(self, arch: Arch, *, channels: int = WIDTH, cells: int = 1, num_classes: int, stem_stride: int = 2) -> nn.Module:
        """OFA's network: images `(b, 3, h, w)` -> logits `(b, num_classes)`.

        `channels` is the width of the first stage, by default 24 as in OFA's width 1.0. All widths are in proportion, rounded to
        multiples of 8 as in OFA. `cells` must be 1, as an architecture is a whole network (else `UserError`). Images should have at least
        32 pixels a side; smaller ones are accepted, but their maps have a single pixel in the last stage.
        """
        from diffnag.search_spaces.mobilenetv3.network import Network, Shape

        return Network(self.layers(arch), Shape.of_ofa(_width(channels, cells), stem_stride), num_classes=num_classes)

    def build_small(self, arch: Arch, *, num_classes: int, image_size: int) -> nn.Module:
        """A network of a third of the width, on maps of about 8 x 8 pixels; only two stages halve them, so that kernels still matter."""
        from diffnag.search_spaces.mobilenetv3.network import Network, Shape

        return Network(self.layers(arch), Shape.small(WIDTH // 3, stem_stride=max(1, image_size // 8)), num_classes=num_classes)


def _edges(ops: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Edges between consecutive layers."""
    return edges_between(tuple(op != ABSENT for op in ops))


def _width(channels: int, cells: int) -> int:
    """`channels`; raises `UserError` if `cells` is not 1."""
    if cells != 1:
        raise UserError(f"an architecture of mobilenetv3 is a whole network: cells must be 1, not {cells}")
    return channels
