"""The generator of the family `sde`: noise in, architectures out. It joins network, sampler and guidance."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diffnag.arch import ArchBatch
from diffnag.command.options import check_numbers
from diffnag.errors import UserError, unknown
from diffnag.generators.base import DEFAULT_SCALE, Generation, Steer, by_particles, refuse_conditions, refuse_count, refuse_no_start, refuse_strangers
from diffnag.generators.diffusion.denoiser import Denoiser
from diffnag.generators.diffusion.guided import denoised_guided, gradient_guided, in_data_scale, within_cube
from diffnag.generators.diffusion.options import Sampling
from diffnag.generators.diffusion.samplers import DETERMINISTIC, SAMPLERS, CountCalls, RecordCalls, Score, euler_maruyama, time_at, time_grid
from diffnag.generators.diffusion.trace import Trace
from diffnag.generators.pieces import Pieces
from diffnag.generators.trained import CHUNK, OwnNoise, chunks
from diffnag.guidance.choice import choose
from diffnag.guidance.tilt import Tilt
from diffnag.protocols import Decoded, LogProb, Prunes
from diffnag.spaces.decoding import decode_all

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.protocols import SearchSpace

QUANTISATIONS = ("threshold", "argmax")
MOVE_NOISE, MOVE_STEPS = (0.6, 1.6), 6
"""A move noises an architecture to a random sigma / alpha in this range, which loses one to a few operators (entries are -1 and 1),
and takes so many steps back."""


class Generator:
    """Draws architectures of a space from its score network.

    Args:
        space: The search space.
        denoiser: Its score network; raises `UserError` for the network of another space.
        sampling: Default options of a draw.
    """

    steers: frozenset[str] = frozenset({"gradient", "denoised", "particles"})
    conditions: tuple[str, ...] = ()

    def __init__(self, space: SearchSpace, denoiser: Denoiser, sampling: Sampling | None = None) -> None:
        if denoiser.space_name != space.name:
            raise UserError(f"the score network is of space {denoiser.space_name!r}, not of {space.name!r}")
        self.space, self.denoiser, self.sampling = space, denoiser, _checked(sampling or Sampling())
        self._pieces = Pieces()
        V, E = (torch.from_numpy(~part).float() for part in space.constant)
        self._free = denoiser.packing.pack(V[None], E[None])[0].clamp_min(0)  # 1 where architectures differ

    @property
    def split(self) -> str:
        """Name of the split that the network was trained on; empty where it is not known."""
        return self.denoiser.split

    def provenance(self) -> Mapping[str, str]:
        """Family, split, checksum of the file and the command that made it; empty texts where they are not known."""
        return {"generator": "sde", "split": self.split, **self.denoiser.origin}

    @torch.no_grad()
    def log_prob(self, archs: Sequence[Arch], *, seed: int) -> LogProb:
        """A lower bound on the log probability of each (V, E), in nats; see `log_bound`."""
        from diffnag.generators.diffusion.likelihood import Prior, log_bound

        refuse_strangers(archs, self.space)
        prior = Prior.of(self.denoiser, self.space)
        found = [np.zeros(0, dtype=np.float32)]
        for first in range(0, len(archs), CHUNK):
            batch = ArchBatch.of(archs[first : first + CHUNK], self.space, device=self._device)
            x0 = self.denoiser.packing.pack(batch.V, batch.E)
            found.append(log_bound(self.denoiser, x0, prior, noise=OwnNoise(seed, batch)).cpu().numpy())
        return LogProb(np.concatenate(found), "bound")

    def generate(
        self, n: int, *, seed: int, predictor: CheckedPredictor | None = None, scale: float = DEFAULT_SCALE, sampling: Sampling | None = None
    ) -> Generation:
        """Draw `n` architectures, steered by a predictor if there is one: `sample` in short."""
        steer = Steer() if predictor is None else Steer.by(predictor, self.space, scale)
        return self.sample(n, seed=seed, steer=steer, sampling=sampling)

    def sample(self, n: int, *, seed: int, steer: Steer = Steer(), sampling: Sampling | None = None) -> Generation:  # noqa: B008 - frozen
        """Draw `n` architectures, with a tilt from the law `p(A) exp(S z(A))`; see `diffnag.guidance`.

        Particles draw from this law among the architectures that are `wanted`; the other kinds of guidance cannot keep to them.

        With a trace in `sampling` the first valid sample of the first chunk (the first of all if none is valid) comes with its
        way from noise; `UserError` together with particles, which replace samples after they are drawn.
        """
        sampling = self.sampling if sampling is None else _checked(sampling)
        refuse_conditions(self, steer)
        refuse_count(n)
        tilt, before = steer.tilt, 0 if steer.tilt is None else steer.tilt.items
        kind = "none" if tilt is None else choose(tilt.predictor, sampling.guidance, self.steers)
        if sampling.trace is not None and kind == "particles":
            raise UserError("a trace shows how one sample forms, and guidance by particles replaces samples afterwards; leave out one of them")
        if tilt is not None:
            tilt.predictor.check_for(self.space)
        begin = time.perf_counter()
        noise = torch.Generator().manual_seed(seed)
        counted = CountCalls(self._score)
        score = self._guided(counted, kind, tilt)
        recorded = RecordCalls(score)
        with self._pieces.cores(n, kind):
            drawn = [self._draw(recorded if sampling.trace and k == 0 else score, b, sampling, noise) for k, b in enumerate(chunks(n))]
        by_threshold = [item for x in drawn for item in self._decode(x, "threshold")]
        asked = sampling.quantise
        decoded = by_threshold if asked == "threshold" else [item for x in drawn for item in self._decode(x, asked)]
        trace = None
        if sampling.trace is not None:
            sample = next((k for k, item in enumerate(decoded[: len(drawn[0])]) if item.arch is not None), 0)
            trace = Trace.of(sample, recorded, drawn[0], sde=self.denoiser.sde, packing=self.denoiser.packing, rule=asked)
        if kind == "particles":
            decoded = by_particles(decoded, steer, lambda now: [item.arch for item in self._renoise(counted, now, noise)], seed=seed)
            by_threshold = [old if old.arch is None else new for old, new in zip(by_threshold, decoded, strict=True)]
        return Generation(
            decoded=tuple(decoded), by_threshold=tuple(by_threshold), guidance=kind, nfe=math.ceil(counted.items / n),
            predictor_nfe=0 if tilt is None else 1 + math.ceil((tilt.items - before) / n), wall_s=time.perf_counter() - begin,
            trace=trace, unpruned=partial(self._unpruned, drawn),
        )  # fmt: skip

    def vary(self, archs: Sequence[Arch], n: int, *, seed: int) -> Generation:
        """Draw `n` architectures near those of `archs`, which are taken in turn: noised part of the way and denoised, unguided."""
        refuse_count(n)
        refuse_no_start(archs)
        begin = time.perf_counter()
        counted, noise = CountCalls(self._score), torch.Generator().manual_seed(seed)
        with self._pieces.cores(n, "none"):
            near = tuple(self._renoise(counted, [archs[k % len(archs)] for k in range(n)], noise))
        return Generation(near, near, "none", math.ceil(counted.items / n), 0, time.perf_counter() - begin)

    @property
    def _device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def _score(self, x: Tensor, t: Tensor) -> Tensor:
        """The score at `x (b, d)`, all rows at one time `t (1,)`."""
        return self._pieces(lambda rows: self.denoiser.score(rows, t), x)

    def _guided(self, score: Score, kind: str, tilt: Tilt | None) -> Score:
        """The score of the tilted law, for the kinds of guidance that have one."""
        sde, free = self.denoiser.sde, self._free.to(self._device)
        if tilt is not None and kind == "gradient":
            return within_cube(gradient_guided(score, in_data_scale(sde, tilt.noisy), free), sde)
        if tilt is not None and kind == "denoised":
            return within_cube(denoised_guided(score, sde, tilt.relaxed, free), sde)
        return score

    @torch.no_grad()
    def _draw(self, score: Score, b: int, sampling: Sampling, noise: torch.Generator) -> Tensor:
        """`b` samples `x_0 (b, d)` from pure noise."""
        sde = self.denoiser.sde
        x = sde.prior((b, self.denoiser.packing.size), generator=noise, device=self._device)
        ts = time_grid(sde, sampling.steps, device=self._device)

        def sampled(rows: Tensor) -> Tensor:
            return SAMPLERS[sampling.sampler](score, sde, rows, ts, generator=noise)

        alone = sampling.sampler in DETERMINISTIC and not isinstance(score, RecordCalls)
        return self._pieces(sampled, x) if alone else sampled(x)

    @torch.no_grad()
    def _renoise(self, score: Score, archs: Sequence[Arch], noise: torch.Generator) -> list[Decoded]:
        """Noise architectures part of the way and denoise them by the reverse SDE: a move that leaves the generator's law in place."""
        sde, packing = self.denoiser.sde, self.denoiser.packing
        low, high = np.log(MOVE_NOISE)
        level = float(np.exp(low + (high - low) * torch.rand((), generator=noise).item()))
        ts = time_grid(sde, MOVE_STEPS, start=time_at(sde, level).item(), device=self._device)
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
        return decode_all(self.space, *self.denoiser.packing.quantise(x, rule))


def _checked(sampling: Sampling) -> Sampling:
    """The options, if they are accepted; `UserError` names the first that is not."""
    if not isinstance(sampling, Sampling):
        raise UserError(f"the family 'sde' takes its own Sampling options, not a {type(sampling).__name__}")
    if sampling.sampler not in SAMPLERS:
        raise unknown("sampler", sampling.sampler, SAMPLERS)
    if sampling.quantise not in QUANTISATIONS:
        raise unknown("quantisation", sampling.quantise, QUANTISATIONS)
    check_numbers(sampling)
    if sampling.trace is not None and sampling.trace > sampling.steps + 1:
        raise UserError(f"trace {sampling.trace} is not between 2 and {sampling.steps + 1}, the number of states that {sampling.steps} steps pass")
    return sampling
