"""Options of the families `conditional` and `conditional-sde`. No torch here: commands read these for `--help`."""

from __future__ import annotations

from dataclasses import dataclass

from diffnag.command.options import option
from diffnag.generators.diffusion import options as diffusion
from diffnag.generators.discrete import options as discrete


@dataclass(frozen=True)
class Learned:
    """What is learned of conditions, and how."""

    conditions: str = option("params,flops", help="objectives that cost nothing, separated by commas: those are what a draw can be conditioned on")
    encoder: str = option("clusters", help="how a number is shown to the network: clusters (soft ones), intervals or plain")
    bins: int = option(64, most=10**6, least=2, help="clusters or intervals of a number")
    dropped: float = option(0.3, least=0.0, most=1.0, help="share of the training in which a condition is left open, each on its own")
    named: float = option(0.1, least=0.0, most=1.0, help="share of the training in which a condition is a word, low, medium or high, and no number")


@dataclass(frozen=True)
class Asked:
    """How samples come nearer to what is asked."""

    nearest: int = option(1, most=1000, least=1, help="where something is asked for, draws for each sample, of which the nearest is kept; more than "
                          "one needs what the condition is measured with, such as a table of latencies")  # fmt: skip


@dataclass(frozen=True)
class Config(Learned, discrete.Config):
    """Everything, beside the space, that decides a network of `conditional` and its loss."""


@dataclass(frozen=True)
class ScoreConfig(Learned, diffusion.Config):
    """Everything, beside the space, that decides a network of `conditional-sde` and its loss."""


@dataclass(frozen=True)
class Sampling(Asked, discrete.Sampling):
    """How samples of `conditional` are drawn."""

    steps: int = option(64, most=10_000, help="steps from noise to an architecture; with absorbing noise at most one for each entry")
    plausible: float = option(0.3, least=0.0, most=1.0, help="where something is asked for, categories of an entry that are less probable than this "
                              "share of the likeliest are not drawn; 0: all are")  # fmt: skip


@dataclass(frozen=True)
class ScoreSampling(Asked, diffusion.Sampling):
    """How samples of `conditional-sde` are drawn."""
