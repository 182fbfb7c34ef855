"""Noise in, architectures out: sampler, denoiser and (if asked) guidance put together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diffnag.arch import ArchBatch
from diffnag.errors import UserError, unknown
from diffnag.generators.diffusion.denoiser import Denoiser
from diffnag.generators.diffusion.guided import denoised_guided, gradient_guided, in_data_scale, within_cube
from diffnag.generators.diffusion.samplers import SAMPLERS, CountCalls, RecordCalls, Score, euler_maruyama, time_grid
from diffnag.generators.diffusion.trace import Trace
from diffnag.guidance.checked import CheckedPredictor
from diffnag.guidance.choice import choose
from diffnag.guidance.particles import particles
from diffnag.guidance.tilt import Tilt
from diffnag.protocols import Decoded, Prunes

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

QUANTISATIONS = ("threshold", "argmax")
DEFAULT_SCALE = 3.0
CHUNK = 512
"""Samples that are denoised at once: on two cores faster than 256 or 1,024."""
MOVE_NOISE, MOVE_STEPS = (0.6, 1.6), 6
"""A particle's move noises it to a random sigma / alpha in this range, where one to a few entries of a one-hot row's
operators are lost (entries are -1 and 1), and takes so many steps back."""


@dataclass(frozen=True)
class Generation:
    """Decoded samples in order, and what they cost."""

    decoded: tuple[Decoded, ...]
    """By the rule that was asked for."""
    by_threshold: tuple[Decoded, ...]
    """By the paper's rule, of which metrics are told; the same where that was asked for."""
    guidance: str
    nfe: int
    """Evaluations of the score network a sample, counted."""
    predictor_nfe: int
    """Evaluations of the predictor a sample, counted, and one for the draws that standardise it."""
    wall_s: float
    trace: Trace | None = None
    """Of one sample, where it was asked for."""
    unpruned: int | None = None
    """Of the samples as drawn, by the paper's rule, how many are valid with nothing pruned; None where the space prunes nothing."""

    @property
    def archs(self) -> list[Arch]:
        """The valid ones, in order, duplicates kept."""
        return [item.arch for item in self.decoded if item.arch is not None]


class Generator:
    """Draws architectures of a space from its score network, guided by a predictor where one is given.

    Args:
        sampler: a name of `diffnag.generators.diffusion.samplers.SAMPLERS`.
        steps: steps of the sampler; the evaluations that takes are counted, see `Generation.nfe`.
        quantise: `threshold` (the paper's rule) or `argmax`.
    """

    def __init__(
        self, space: SearchSpace, denoiser: Denoiser, *, sampler: str = "dpmpp", steps: int = 20, quantise: str = "threshold"
    ) -> None:
        if sampler not in SAMPLERS:
            raise unknown("sampler", sampler, SAMPLERS)
        if quantise not in QUANTISATIONS:
            raise unknown("quantisation", quantise, QUANTISATIONS)
        if denoiser.space_name != space.name:
            raise UserError(f"the score network is of space {denoiser.space_name!r}, not of {space.name!r}")
        self.space, self.denoiser = space, denoiser
        self._sampler, self._steps, self._quantise = SAMPLERS[sampler], steps, quantise
        V, E = (torch.from_numpy(~part).float() for part in space.constant)
        self._free = denoiser.packing.pack(V[None], E[None])[0].clamp_min(0)  # 1 where architectures differ

    @property
    def _device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def generate(
        self,
        n: int,
        *,
        seed: int,
        predictor: CheckedPredictor | None = None,
        scale: float = DEFAULT_SCALE,
        guidance: str = "auto",
        wanted: Callable[[Arch], bool] = lambda _: True,
        trace: bool = False,
    ) -> Generation:
        """Draw `n` architectures; with a `predictor`, from the law `p(A) exp(scale z(A))`, see `diffnag.guidance.tilt`.

        Guided by particles, from what that law is among those which are `wanted`; the other kinds cannot keep to them.

        With `trace` the first valid sample of the first chunk (the first of all where none is valid) comes with the moments of its
        way; `UserError` where guidance is by particles, which replaces samples when they are drawn.
        """
        begin = time.perf_counter()
        noise = torch.Generator().manual_seed(seed)
        counted = CountCalls(self.denoiser.score)
        score: Score = counted
        kind, tilt = "none", None
        if predictor is not None:
            kind, tilt = choose(predictor, guidance), Tilt(predictor, self.space, scale)
            free = self._free.to(self._device)
            if kind == "gradient":
                score = within_cube(gradient_guided(counted, in_data_scale(self.denoiser.sde, tilt.noisy), free), self.denoiser.sde)
            elif kind == "denoised":
                score = within_cube(denoised_guided(counted, self.denoiser.sde, tilt.relaxed, free), self.denoiser.sde)
        if trace and kind == "particles":
            raise UserError("a trace shows how one sample forms, and guidance by particles replaces samples afterwards; leave out one of them")
        recorded = RecordCalls(score)
        drawn = [self._draw(recorded if trace and k == 0 else score, b, noise) for k, b in enumerate(_chunks(n))]
        by_threshold = [item for x in drawn for item in self._decode(x, "threshold")]
        decoded = by_threshold if self._quantise == "threshold" else [item for x in drawn for item in self._decode(x, self._quantise)]
        traced = None
        if trace:
            sample = next((k for k, item in enumerate(decoded[: len(drawn[0])]) if item.arch is not None), 0)
            traced = Trace.of(sample, recorded, drawn[0], sde=self.denoiser.sde, packing=self.denoiser.packing, rule=self._quantise)
        archs = [item.arch for item in decoded if item.arch is not None]
        if tilt is not None and kind == "particles" and archs:
            def move(now: Sequence[Arch]) -> list[Arch | None]:
                return [item.arch for item in self._renoise(counted, now, noise)]

            moved = iter(particles(archs, tilt, move, rng=np.random.default_rng(seed), wanted=wanted))
            decoded = [item if item.arch is None else Decoded(next(moved), None) for item in decoded]
            by_threshold = [old if old.arch is None else new for old, new in zip(by_threshold, decoded, strict=True)]
        return Generation(
            decoded=tuple(decoded), by_threshold=tuple(by_threshold), guidance=kind, nfe=math.ceil(counted.items / n),
            predictor_nfe=0 if tilt is None else 1 + math.ceil(tilt.items / n), wall_s=time.perf_counter() - begin,
            trace=traced, unpruned=self._unpruned(drawn),
        )  # fmt: skip

    def vary(self, archs: Sequence[Arch], n: int, *, seed: int) -> Generation:
        """`n` architectures near those of `archs`, which are taken in turn: noised part of the way and denoised, unguided."""
        begin = time.perf_counter()
        counted, noise = CountCalls(self.denoiser.score), torch.Generator().manual_seed(seed)
        near = tuple(self._renoise(counted, [archs[k % len(archs)] for k in range(n)], noise))
        return Generation(near, near, "none", math.ceil(counted.items / n), 0, time.perf_counter() - begin)

    @torch.no_grad()
    def _draw(self, score: Score, b: int, noise: torch.Generator) -> Tensor:
        """`b` samples `x_0 (b, d)` from pure noise."""
        sde = self.denoiser.sde
        x = sde.prior((b, self.denoiser.packing.size), generator=noise, device=self._device)
        return self._sampler(score, sde, x, time_grid(sde, self._steps, device=self._device), generator=noise)

    @torch.no_grad()
    def _renoise(self, score: Score, archs: Sequence[Arch], noise: torch.Generator) -> list[Decoded]:
        """Noise architectures part of the way and denoise them, by the reverse SDE: a move that leaves its law in place."""
        sde, packing = self.denoiser.sde, self.denoiser.packing
        low, high = np.log(MOVE_NOISE)
        level = float(np.exp(low + (high - low) * torch.rand((), generator=noise).item()))
        dense = torch.linspace(sde.t_min, 1, 1001)
        start = float(np.interp(level, sde.noise_to_signal(dense).numpy(), dense.numpy()))
        ts = time_grid(sde, MOVE_STEPS, start=start, device=self._device)
        moved: list[Decoded] = []
        for first in range(0, len(archs), CHUNK):
            batch = ArchBatch.of(archs[first : first + CHUNK], self.space, device=self._device)
            x0 = packing.pack(batch.V, batch.E)
            eps = torch.randn(x0.shape, generator=noise).to(x0.device)
            x = euler_maruyama(score, sde, sde.diffuse(x0, ts[:1], eps), ts, generator=noise)
            moved += self._decode(x, "threshold")
        return moved

    def _unpruned(self, drawn: Sequence[Tensor]) -> int | None:
        if not isinstance(space := self.space, Prunes):
            return None
        return sum(space.needs_no_pruning(v, e) for x in drawn for v, e in zip(*self.denoiser.packing.quantise(x), strict=True))

    def _decode(self, x: Tensor, rule: str) -> list[Decoded]:
        V, E = self.denoiser.packing.quantise(x, rule)
        return [self.space.decode(v, e) for v, e in zip(V, E, strict=True)]


def _chunks(n: int) -> list[int]:
    return [min(CHUNK, n - first) for first in range(0, n, CHUNK)]
