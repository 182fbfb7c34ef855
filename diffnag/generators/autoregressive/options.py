"""Options of the family `autoregressive`. No torch here: commands read these for `--help`."""

from __future__ import annotations

from dataclasses import dataclass

from diffnag.command.options import option


@dataclass(frozen=True)
class Config:
    """Everything, beside the space, that decides the network."""

    width: int = option(96, most=4096, help="size of the state that the symbols drawn so far add up to")
    layers: int = option(3, least=0, most=64, help="residual layers that read the state")
    together: int = option(6, most=10, help="edges into a node that are drawn at once, as one of 2 ** TOGETHER patterns")


@dataclass(frozen=True)
class Sampling:
    """There is nothing to choose: a draw takes one step a symbol."""
