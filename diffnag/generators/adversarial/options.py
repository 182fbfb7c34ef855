"""Options of the family `adversarial`. No torch here: commands read these for `--help`."""

from __future__ import annotations

from dataclasses import dataclass

from diffnag.command.options import option


@dataclass(frozen=True)
class Config:
    """Everything, beside the space, that decides the networks and their loss."""

    width: int = option(128, help="width of generator and critic")
    latents: int = option(32, help="normal numbers that a sample is made of")
    blocks: int = option(3, help="residual blocks of each network")
    penalty: float = option(10.0, most=1000.0, help="weight of the gradient penalty of the critic")


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn."""

    guidance: str = option("auto", help="auto (pool), pool or particles")
