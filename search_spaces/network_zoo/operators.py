"""The operators of `network-zoo`: what a node of a traced network computes, its normalisation and activation folded in.

Widths lie on a grid of half octaves, 1, 1.5, 2, 3, 4, 6, ... times a unit. A convolution moves its input by a number of steps on this grid:
2 steps double the width, 3 steps multiply it by about 3, -5 steps divide it by about 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "input", "output", "absent", "conv", "depthwise", "grouped", "maxpool", "avgpool", "first", "second", "gate", "attention", "window",
    "add", "multiply", "concat",
]  # fmt: skip
MOST_INPUTS = 8
"""Maps that a sum, product or concatenation may take."""
FACTORS: Mapping[int, str] = {-5: "-d6", -4: "-d4", -3: "-d3", -2: "-d2", 0: "", 1: "-x1.5", 2: "-x2", 3: "-x3", 4: "-x4", 5: "-x6"}
"""Steps on the grid of widths -> the part of a name: `d4` divides by 4, `x4` multiplies by 4."""


@dataclass(frozen=True)
class Operator:
    """What a node does. `stride` divides the sides of the map, `step` moves its width on the grid, `active` has a ReLU behind it."""

    kind: Kind
    kernel: int = 1
    stride: int = 1
    step: int = 0
    active: bool = False

    @property
    def inputs(self) -> tuple[int, int]:
        """Fewest and most inputs."""
        if self.kind in ("input", "absent"):
            return (0, 0)
        return (2, MOST_INPUTS) if self.kind in ("add", "multiply", "concat") else (1, 1)

    @property
    def keeps_shape(self) -> bool:
        """Whether it takes one map and gives one of the same shape."""
        return self.inputs == (1, 1) and self.stride == 1 and self.step == 0 and self.kind not in ("first", "second", "output")


def _conv(kernel: int, stride: int, step: int, *, active: bool) -> tuple[str, Operator]:
    """A convolution with its name, such as `conv3-s2-x2-act`."""
    name = f"patch{kernel}" if kernel == stride > 1 else f"conv{kernel}" + (f"-s{stride}" if stride > 1 else "")
    return name + FACTORS[step] + ("-act" if active else ""), Operator("conv", kernel, stride, step, active)


OPERATORS: Mapping[str, Operator] = {
    "input": Operator("input"),
    "output": Operator("output"),
    "absent": Operator("absent"),
    "add": Operator("add"),
    "add-act": Operator("add", active=True),
    "multiply": Operator("multiply"),
    "concat": Operator("concat"),
    "gate": Operator("gate"),
    "attention": Operator("attention"),
    "window-attention": Operator("window", kernel=7),
    "maxpool-s2": Operator("maxpool", 3, 2),
    "avgpool-s2": Operator("avgpool", 2, 2),
    "avgpool": Operator("avgpool", 3),
    "first-half": Operator("first"),
    "second-half": Operator("second"),
    "depthwise3": Operator("depthwise", 3),
    "depthwise3-s2": Operator("depthwise", 3, 2),
    "depthwise5": Operator("depthwise", 5),
    "depthwise5-s2": Operator("depthwise", 5, 2),
    "depthwise7": Operator("depthwise", 7),
    "grouped3": Operator("grouped", 3, active=True),
    "grouped3-s2": Operator("grouped", 3, 2, active=True),
    **dict(_conv(1, 1, step, active=True) for step in (-4, -2, 0, 2, 3, 4, 5)),
    **dict(_conv(1, 1, step, active=False) for step in (-5, -4, -3, -2, 0, 1, 2, 4)),
    **dict([_conv(1, 2, 2, active=False), _conv(3, 1, 0, active=False)]),
    **dict(_conv(3, 1, step, active=True) for step in (-2, 0, 2, 4)),
    **dict(_conv(3, 2, step, active=True) for step in (0, 2, 4)),
    **dict([_conv(7, 2, 0, active=True), _conv(2, 2, 2, active=False), _conv(4, 4, 0, active=False), _conv(16, 16, 0, active=False)]),
}
"""Name -> operator, in the order of the columns of V."""
NAMES: tuple[str, ...] = tuple(OPERATORS)
TABLE: tuple[Operator, ...] = tuple(OPERATORS.values())
INPUT, OUTPUT, ABSENT = map(NAMES.index, ("input", "output", "absent"))
