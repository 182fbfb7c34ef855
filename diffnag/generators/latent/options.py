"""Options of the family `latent`. No torch here: commands read these for `--help`."""

from __future__ import annotations

from dataclasses import dataclass

from diffnag.command.options import option
from diffnag.generators.options import DEEPEST, WIDEST


@dataclass(frozen=True)
class Config:
    """Everything, beside the space, that decides the network and its loss."""

    width: int = option(112, most=WIDEST, help="size of the state that the decoder carries from level to level")
    levels: int = option(7, most=64, help="groups of latents, from coarse to fine; 1: a flat autoencoder")
    latents: int = option(4, most=WIDEST, help="latents of a level that belongs to the whole graph; the last of several levels has one for each node")
    blocks: int = option(2, most=DEEPEST, help="residual blocks of the encoder, and of the decoder after the last level")
    weight: float = option(0.8, most=10.0, help="final weight of the KL divergence; below 1 the latents say more than the bound asks for")
    warm_up: int = option(6000, most=10**9, help="steps over which the weight of the KL divergence rises from 0, against posterior collapse")


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn."""

    decoding: str = option("argmax", help="the last step: argmax (the likeliest entries given the latents), or sample, the law that "
                           "log_prob bounds")  # fmt: skip
    temperature: float = option(1.0, most=10.0, help="factor of the standard deviation of the latents")
    langevin: int = option(60, most=10_000, help="steps of the Langevin dynamics in the latent space, for guidance by a gradient")
    guidance: str = option("particles", help="particles, denoised (Langevin dynamics in the latent space, by gradients of the predictor) or auto; "
                          "particles come nearer to the tilted law at large scales")  # fmt: skip
