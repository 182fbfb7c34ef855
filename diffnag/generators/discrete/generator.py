"""The generator of the family `discrete`: draws, guided draws, moves and the variational bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from diffnag.generators.base import Steer, refuse_strangers
from diffnag.generators.discrete import options
from diffnag.generators.discrete.guided import EntrySweeps, changes_alone, denoised_guided
from diffnag.generators.discrete.noising import Predict
from diffnag.generators.trained import CHUNK, Matrices, NetworkGenerator, Noise, OwnNoise
from diffnag.protocols import LogProb

if TYPE_CHECKING:
    from diffnag.arch import Arch, ArchBatch
    from diffnag.generators.discrete.network import DiscreteNetwork
    from diffnag.protocols import SearchSpace

MOVE = (0.2, 0.6)
"""Range of the time up to which a move noises."""
MOVE_STEPS = 12
BOUND_STEPS, BOUND_REPEATS = 64, 8
"""Steps of the variational bound, and how often each is drawn."""


class DiscreteGenerator(NetworkGenerator):
    """Draws architectures by reversing the noise, category by category."""

    Sampling: ClassVar[type] = options.Sampling
    steers: frozenset[str] = frozenset({"denoised", "particles"})
    network: DiscreteNetwork

    def __init__(self, space: SearchSpace, network: DiscreteNetwork, sampling: options.Sampling | None = None) -> None:
        super().__init__(space, network, sampling)
        if network.config.noise == "absorbing" and changes_alone(network, space):  # the network knows the law of an entry given all others
            self.steers = self.steers | {"entries"}

    def _draw(self, b: int, sampling: options.Sampling, steer: Steer, kind: str, noise: Noise) -> Matrices:
        predict = self._unguided(steer, sampling)
        if kind == "denoised" and steer.tilt is not None:
            predict = denoised_guided(predict, self.network, steer.tilt)
        x = self.network.noising.draw(predict, b, sampling.steps, noise)
        if kind == "entries" and steer.tilt is not None:
            x = EntrySweeps(predict, self.network, self.space, steer.tilt, steer.wanted)(x, noise)
        return Matrices.of(*self.network.matrices_of(x))

    def _near(self, batch: ArchBatch, noise: Noise) -> Matrices:
        low, high = MOVE
        level = low + (high - low) * noise.uniform(1).item()
        x = self.network.noising.move(self._law, self.network.numbers(batch), MOVE_STEPS, noise, level)
        return Matrices.of(*self.network.matrices_of(x))

    def log_prob(self, archs: Sequence[Arch], *, seed: int, steps: int = BOUND_STEPS, repeats: int = BOUND_REPEATS) -> LogProb:
        """Variational bound of the log probability of each (V, E) when drawn in so many steps; more `repeats` make it less random."""
        refuse_strangers(archs, self.space)
        found = []
        with torch.no_grad():
            for batch in self._batches(archs, max(1, CHUNK // repeats)):  # all repeats are evaluated at once
                x, noise = self.network.numbers(batch), OwnNoise(seed, batch)
                found.append(self.network.noising.bound(self._law, x, steps, repeats, noise).cpu().numpy())
        return LogProb(np.concatenate(found) if found else np.empty(0), "bound")

    def _unguided(self, steer: Steer, sampling: Any) -> Predict:
        """The law of the clean entries that `steer` asks for, without its tilt."""
        del steer, sampling
        return self._law

    def _law(self, z: Tensor, abar: Tensor) -> Tensor:
        return self._pieces(lambda rows: self.network(rows, abar), z)
