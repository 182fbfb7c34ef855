"""Options of the family `pointers`. No torch here: commands read these for `--help`."""

from __future__ import annotations

from dataclasses import dataclass

from diffnag.command.options import option
from diffnag.guidance.choice import KINDS


@dataclass(frozen=True)
class Config:
    """Everything, beside the space, that decides the network and its loss."""

    width: int = option(96, most=4096, help="size of the vector of a node; a multiple of twice HEADS")
    layers: int = option(3, most=64, help="layers of causal attention")
    heads: int = option(4, most=64, help="heads of attention")
    dropout: float = option(0.1, least=0, most=0.9, help="share of the entries of the nodes that training leaves out at random")


@dataclass(frozen=True)
class Sampling:
    """Options of a draw."""

    guidance: str = option("auto", help=f"how a predictor steers: auto, or one of {', '.join(KINDS)}")
    least: float = option(0.0, least=0, most=1, help="draw no choice that is less likely than this share of the likeliest one")
    masks: bool = option(False, help="draw only what the rules of the space allow next, for spaces that say so")
