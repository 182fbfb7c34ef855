"""The generator of the family `sde`: noise in, architectures out. It joins network, sampler and guidance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from diffnag.errors import UserError, unknown
from diffnag.generators.base import DEFAULT_SCALE, Generation, Steer, refuse_strangers
from diffnag.generators.diffusion import options
from diffnag.generators.diffusion.denoiser import Denoiser
from diffnag.generators.diffusion.guided import denoised_guided, gradient_guided, in_data_scale, within_cube
from diffnag.generators.diffusion.samplers import DETERMINISTIC, SAMPLERS, RecordCalls, Score, euler_maruyama, time_at, time_grid
from diffnag.generators.diffusion.trace import Trace
from diffnag.generators.trained import THRESHOLD, Matrices, NetworkGenerator, OwnNoise
from diffnag.guidance.tilt import Tilt
from diffnag.protocols import Decoded, LogProb

if TYPE_CHECKING:
    from diffnag.arch import Arch, ArchBatch
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.protocols import SearchSpace

QUANTISATIONS = (THRESHOLD, "argmax")
MOVE_NOISE, MOVE_STEPS = (0.6, 1.6), 6
"""A move noises an architecture to a random sigma / alpha in this range, which loses one to a few operators (entries are -1 and 1),
and takes so many steps back."""


class Course:
    """Random numbers of a draw, and what its samples pass."""

    level: float
    """Noise, sigma / alpha, up to which a move goes."""
    recorded: RecordCalls | None = None
    """The way of the first batch, where a trace is asked for."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)


class Generator(NetworkGenerator):
    """Draws architectures of a space from its score network, `denoiser`.

    Particles draw from the tilted law among the architectures that are `wanted`; the other kinds of guidance cannot keep to them.

    With a trace in its options the first valid sample of the first batch (the first of all if none is valid) comes with its way from
    noise; `UserError` together with particles, which replace samples after they are drawn.
    """

    Sampling: ClassVar[type] = options.Sampling
    steers: frozenset[str] = frozenset({"gradient", "denoised", "particles"})
    network: Denoiser

    def __init__(self, space: SearchSpace, denoiser: Denoiser, sampling: options.Sampling | None = None) -> None:
        super().__init__(space, denoiser, sampling)
        V, E = (torch.from_numpy(~part).float() for part in space.constant)
        self._free = denoiser.packing.pack(V[None], E[None])[0].clamp_min(0)  # 1 where architectures differ

    @property
    def denoiser(self) -> Denoiser:
        """The score network."""
        return self.network

    @property
    def split(self) -> str:
        """Name of the split that the network was trained on; empty where it is not known."""
        return self.denoiser.split

    @torch.no_grad()
    def log_prob(self, archs: Sequence[Arch], *, seed: int) -> LogProb:
        """A lower bound on the log probability of each (V, E), in nats; see `log_bound`."""
        from diffnag.generators.diffusion.likelihood import Prior, log_bound

        refuse_strangers(archs, self.space)
        prior = Prior.of(self.denoiser, self.space)
        found = [np.zeros(0, dtype=np.float32)]
        for batch in self._batches(archs):
            x0 = self.denoiser.packing.pack(batch.V, batch.E)
            found.append(log_bound(self.denoiser, x0, prior, noise=OwnNoise(seed, batch)).cpu().numpy())
        return LogProb(np.concatenate(found), "bound")

    def generate(
        self, n: int, *, seed: int, predictor: CheckedPredictor | None = None, scale: float = DEFAULT_SCALE, sampling: options.Sampling | None = None
    ) -> Generation:
        """Draw `n` architectures, steered by a predictor if there is one: `sample` in short."""
        steer = Steer() if predictor is None else Steer.by(predictor, self.space, scale)
        return self.sample(n, seed=seed, steer=steer, sampling=sampling)

    def _score(self, x: Tensor, t: Tensor) -> Tensor:
        """The score at `x (b, d)`, all rows at one time `t (1,)`."""
        return self._pieces(lambda rows: self.denoiser.score(rows, t), x)

    def _unguided(self, steer: Steer) -> Score:
        """The score of the law that `steer` asks for, without its tilt."""
        del steer
        return self._score

    def _guided(self, score: Score, kind: str, tilt: Tilt | None) -> Score:
        """The score of the tilted law, for the kinds of guidance that have one."""
        sde, free = self.denoiser.sde, self._free.to(self.network.device)
        if tilt is not None and kind == "gradient":
            return within_cube(gradient_guided(score, in_data_scale(sde, tilt.noisy), free), sde)
        if tilt is not None and kind == "denoised":
            return within_cube(denoised_guided(score, sde, tilt.relaxed, free), sde)
        return score

    def _random(self, seed: int) -> Course:
        return Course(seed)

    def _draw(self, b: int, sampling: options.Sampling, steer: Steer, kind: str, noise: Course) -> Tensor:
        """`b` samples `x_0 (b, d)` from pure noise."""
        if sampling.trace is not None and kind == "particles":
            raise UserError("a trace shows how one sample forms, and guidance by particles replaces samples afterwards; leave out one of them")
        score, sde = self._guided(self._unguided(steer), kind, steer.tilt), self.denoiser.sde
        if sampling.trace is not None and noise.recorded is None:
            score = noise.recorded = RecordCalls(score)
        x = sde.prior((b, self.denoiser.packing.size), generator=noise.generator, device=self.network.device)
        ts = time_grid(sde, sampling.steps, device=self.network.device)

        def sampled(rows: Tensor) -> Tensor:
            return SAMPLERS[sampling.sampler](score, sde, rows, ts, generator=noise.generator)

        in_turn = any(isinstance(value, tuple) for value in steer.condition.values())  # then the place of a sample counts
        alone = sampling.sampler in DETERMINISTIC and score is not noise.recorded and not in_turn
        return self._pieces(sampled, x) if alone else sampled(x)

    def _moved(self, archs: Sequence[Arch], noise: Course) -> Iterator[Decoded]:
        low, high = np.log(MOVE_NOISE)
        noise.level = float(np.exp(low + (high - low) * torch.rand((), generator=noise.generator).item()))
        return super()._moved(archs, noise)

    def _near(self, batch: ArchBatch, noise: Course) -> Tensor:
        """Noise architectures part of the way and denoise them by the reverse SDE: a move that leaves the generator's law in place."""
        sde = self.denoiser.sde
        ts = time_grid(sde, MOVE_STEPS, start=time_at(sde, noise.level).item(), device=self.network.device)
        x0 = self.denoiser.packing.pack(batch.V, batch.E)
        eps = torch.randn(x0.shape, generator=noise.generator).to(x0.device)
        return euler_maruyama(self._score, sde, sde.diffuse(x0, ts[:1], eps), ts, generator=noise.generator)

    def _quantise(self, drawn: Tensor, rule: str = THRESHOLD) -> Matrices:
        return Matrices(*self.denoiser.packing.quantise(drawn, rule))

    def _trace(self, drawn: Sequence[Tensor], decoded: Sequence[Decoded], sampling: options.Sampling, noise: Course) -> Trace | None:
        if noise.recorded is None:
            return None
        sample = next((k for k, item in enumerate(decoded[: len(drawn[0])]) if item.arch is not None), 0)
        return Trace.of(sample, noise.recorded, drawn[0], sde=self.denoiser.sde, packing=self.denoiser.packing, rule=sampling.quantise)

    def _checked(self, sampling: options.Sampling) -> options.Sampling:
        checked: options.Sampling = super()._checked(sampling)
        if checked.sampler not in SAMPLERS:
            raise unknown("sampler", checked.sampler, SAMPLERS)
        if checked.quantise not in QUANTISATIONS:
            raise unknown("quantisation", checked.quantise, QUANTISATIONS)
        if checked.trace is not None and checked.trace > checked.steps + 1:
            raise UserError(f"trace {checked.trace} is not between 2 and {checked.steps + 1}, the number of states that {checked.steps} steps pass")
        return checked
