"""Options of the family `flow-map`. No torch here: commands read these for `--help`."""

from __future__ import annotations

from dataclasses import dataclass

from diffnag.command.options import option
from diffnag.generators.options import DEEPEST


@dataclass(frozen=True)
class Config:
    """Everything, beside the space, that decides the network and the pairs that it learns from."""

    teacher: str = option("", help="checkpoint of the score network (family sde) to learn from; empty: the one shipped for the space")
    paths: int = option(100_000, most=10**7, help="paths of the teacher's ODE, made before the first step: 20 evaluations each")
    pure: float = option(0.7, most=1.0, help="share of the pairs that start at pure noise; the others are spread over the levels of a path")
    rounds: int = option(8, most=DEEPEST, help="how often the joint head corrects its own estimate, where the teacher has one")
    exclusions: bool = option(False, help="operators and patterns of edges that never occur together are not decided together")


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn."""

    evaluations: int = option(2, most=100, help="evaluations of the network: one maps noise to architectures, each further one maps once more")
    level: float = option(1.6, least=0.6, most=3.2, help="noise sigma / alpha that a further evaluation starts from")
    guidance: str = option("auto", help="auto (pool), pool or particles")
