"""Options of the family `coordinates`. No torch here: commands read these for `--help`."""

from __future__ import annotations

from dataclasses import dataclass

from diffnag.command.options import option
from diffnag.generators.options import DEEPEST, WIDEST


@dataclass(frozen=True)
class Config:
    """Everything, beside the space, that decides the network and its loss."""

    dimensions: int = option(3, most=64, help="dimensions of the points; the fewer, the more wirings look alike")
    width: int = option(64, most=WIDEST, help="size of a node's features")
    layers: int = option(3, most=DEEPEST, help="equivariant layers")
    joint: int = option(0, most=WIDEST, least=0, help="hidden units by which each layer sees all nodes at once; 0: none. "
                        "A space that counts edges needs them")  # fmt: skip


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn."""

    steps: int = option(40, most=10_000, help="steps of the sampler, each one evaluation; one more reads the edges")
