"""Options of the family `discrete`. No torch here: commands read these for `--help`."""

from __future__ import annotations

from dataclasses import dataclass

from diffnag.command.options import option
from diffnag.generators.options import DEEPEST, WIDEST


@dataclass(frozen=True)
class Config:
    """Everything, beside the space, that decides the network and its loss."""

    noise: str = option("absorbing", help="what noise makes of an entry: absorbing (it is hidden), marginal (it is drawn anew, by its law in "
                        "the space) or graph (by a law that depends on the operators and edges around it)")  # fmt: skip
    width: int = option(64, most=WIDEST, help="size of a token")
    layers: int = option(3, most=DEEPEST, help="transformer blocks")
    heads: int = option(4, most=DEEPEST, help="attention heads")
    joint: int = option(0, most=WIDEST, least=0, help="hidden units of a head that sees all entries at once, beside the transformer; 0: none")
    edge_groups: bool = option(False, help="make edges that require or exclude each other one entry: suits a space with few patterns of edges")
    structure: bool = option(False, help="show the network depths, paths, degrees and reachability of the noisy graph: suits a space whose wiring "
                             "varies")  # fmt: skip


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn."""

    steps: int = option(20, most=10_000, help="steps from noise to an architecture; with absorbing noise at most one for each entry")
    guidance: str = option("auto", help="auto (the strongest that the predictor allows), denoised, entries or particles")
