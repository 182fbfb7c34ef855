"""Options of the family `sde`: what decides a network, and how samples are drawn. No torch here: commands read these for `--help`."""

from __future__ import annotations

from dataclasses import dataclass

from diffnag.command.options import option
from diffnag.generators.options import DEEPEST, WIDEST


@dataclass(frozen=True)
class Config:
    """Everything, beside the space, that decides the network and its loss."""

    sde: str = option("ve", help="forward diffusion: ve, vp, sub-vp, or learned: levels at which the bound on the likelihood varies least")
    width: int = option(64, most=WIDEST, help="size of a token")
    layers: int = option(2, most=DEEPEST, help="transformer blocks")
    heads: int = option(2, most=DEEPEST, help="attention heads")
    joint: int = option(0, most=WIDEST, least=0, help="hidden units of a head that sees all nodes at once; 0: none, which suits a space whose "
                        "entries are independent of each other")  # fmt: skip
    rounds: int = option(4, most=DEEPEST, help="how often the joint head corrects its own estimate")
    log_odds: bool = option(False, help="give the joint head log odds in place of estimates: suits a space in which many entries say the same")
    edge_groups: bool = option(False, help="estimate edges together that require or exclude each other: suits a space with few patterns of edges")
    cross_entropy: bool = option(False, help="learn by cross-entropy in place of squared errors: suits a space in which one wrong entry makes an "
                                 "architecture invalid")  # fmt: skip
    focus: float = option(0.0, least=0.0, most=1.0, help="share of the training noise around 0.8, where most entries are decided; the rest is spread "
                          "as sampling visits it")  # fmt: skip
    positional: bool = True
    """Whether a token knows the place of its node in the order; no argument, for ablations."""


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn."""

    steps: int = option(20, most=10_000, help="steps of the sampler")
    sampler: str = option("dpmpp", help="dpmpp, heun, euler-maruyama, pc, ancestral or annealed-langevin")
    quantise: str = option("threshold", help="threshold (the paper's rule, > 1/2) or argmax")
    guidance: str = option("auto", help="auto (the strongest that the predictor allows), gradient, denoised or particles")
    trace: int | None = option(None, metavar="N", least=2, help="also draw N states of one sample as it forms from noise, into .trace.png")
