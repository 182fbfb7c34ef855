"""Noise in, architectures out: sampler, denoiser and (if asked) guidance put together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from diffnag.denoiser import Denoiser
from diffnag.errors import unknown
from diffnag.guidance import Guidance, guided_sample
from diffnag.protocols import Decoded, Predictor
from diffnag.sampling import SAMPLERS

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

QUANTISATIONS = ("threshold", "argmax")
DEFAULT_SCALE = 2.0


@dataclass(frozen=True)
class Generation:
    """`n` decoded samples in order, and what they cost."""

    decoded: tuple[Decoded, ...]
    guidance: str
    nfe: int
    predictor_nfe: int
    wall_s: float

    @property
    def archs(self) -> list[Arch]:
        """The valid ones, in order, duplicates kept."""
        return [item.arch for item in self.decoded if item.arch is not None]


class Generator:
    """Draws architectures of a space from its score network, guided by a predictor where one is given.

    Args:
        sampler: a name of `diffnag.sampling.SAMPLERS`.
        steps: steps of the sampler; the evaluations it takes are counted, see `Generation.nfe`.
        quantise: `threshold` (the paper's rule) or `argmax`.
    """

    def __init__(
        self, space: SearchSpace, denoiser: Denoiser, *, sampler: str = "dpmpp", steps: int = 20, quantise: str = "threshold"
    ) -> None:
        if sampler not in SAMPLERS:
            raise unknown("sampler", sampler, SAMPLERS)
        if quantise not in QUANTISATIONS:
            raise unknown("quantisation", quantise, QUANTISATIONS)
        self.space, self.denoiser = space, denoiser
        self.sampler, self.steps, self.quantise = SAMPLERS[sampler], steps, quantise

    def generate(
        self,
        n: int,
        *,
        seed: int,
        predictor: Predictor | None = None,
        scale: float = DEFAULT_SCALE,
        guidance: Guidance = "auto",
    ) -> Generation:
        """Draw `n` architectures; with a `predictor`, from the law `p(A) exp(scale z(A))`, see `diffnag.guidance`."""
        begin = time.perf_counter()
        generator = torch.Generator().manual_seed(seed)
        draw = guided_sample(
            self.denoiser, self.space, n, sampler=self.sampler, steps=self.steps, quantise=self.quantise,
            predictor=predictor, scale=scale, guidance=guidance, generator=generator,
        )  # fmt: skip
        return Generation(draw.decoded, draw.guidance, draw.nfe, draw.predictor_nfe, time.perf_counter() - begin)
