"""Two families without a network, to compare others with: uniform draws, and uniform draws that move by mutation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from diffnag.errors import UserError
from diffnag.generators.base import Generation, Steer, by_particles, refuse_conditions, refuse_count, refuse_no_start, refuse_strangers
from diffnag.guidance.choice import choose
from diffnag.protocols import Decoded, LogProb, SearchSpace

if TYPE_CHECKING:
    import torch

    from diffnag.arch import Arch


@dataclass(frozen=True)
class NoOptions:
    """There is nothing to choose."""


class UniformGenerator:
    """Draws of `space.random`; a move draws anew."""

    name = "uniform"
    steers: frozenset[str] = frozenset({"particles"})
    conditions: tuple[str, ...] = ()

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def sample(self, n: int, *, seed: int, steer: Steer = Steer(), sampling: NoOptions | None = None) -> Generation:  # noqa: B008 - frozen
        """Draw `n` architectures; with a tilt they are carried over to the tilted law by particles."""
        refuse_count(n)
        if sampling is not None and not isinstance(sampling, NoOptions):
            raise UserError(f"generator {self.name!r} has no options, and a {type(sampling).__name__} was given")
        refuse_conditions(self, steer)
        begin, rng = time.perf_counter(), np.random.default_rng(seed)
        decoded = [Decoded(self.space.random(rng), None) for _ in range(n)]
        kind, asked = "none", 0
        if (tilt := steer.tilt) is not None:
            tilt.predictor.check_for(self.space)
            before = tilt.items
            kind = choose(tilt.predictor, "auto", self.steers)
            decoded = by_particles(decoded, steer, lambda now: [self._move(arch, rng) for arch in now], seed=seed)
            asked = 1 + -(-(tilt.items - before) // n)
        return _drawn(decoded, kind, begin, predictor_nfe=asked)

    def vary(self, archs: Sequence[Arch], n: int, *, seed: int) -> Generation:
        """Move the architectures, taken in turn."""
        refuse_count(n)
        refuse_no_start(archs)
        begin, rng = time.perf_counter(), np.random.default_rng(seed)
        return _drawn([Decoded(self._move(archs[k % len(archs)], rng), None) for k in range(n)], "none", begin)

    def log_prob(self, archs: Sequence[Arch], *, seed: int = 0) -> LogProb:
        """The same for all: -ln N; `UserError` in a space that is too large to count its N architectures."""
        del seed
        refuse_strangers(archs, self.space)
        if (every := self.space.enumerate()) is None:
            raise UserError(f"generator {self.name!r} knows probabilities only where architectures can be counted; {self.space.name} has too many")
        return LogProb(np.full(len(archs), -np.log(sum(1 for _ in every))), "exact")

    def provenance(self) -> Mapping[str, str]:
        """Its name: nothing was trained."""
        return {"generator": self.name}

    def _move(self, arch: Arch, rng: np.random.Generator) -> Arch:
        del arch
        return self.space.random(rng)


class MutationGenerator(UniformGenerator):
    """Uniform draws; a move goes to a random neighbour.

    A neighbour of more neighbours is accepted less often, by Metropolis' rule, which leaves the uniform law over the space in place.
    """

    name = "mutation"

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self._around: dict[Arch, list[Arch]] = {}

    def _move(self, arch: Arch, rng: np.random.Generator) -> Arch:
        around = self._neighbours(arch)
        if not around:
            return arch
        other = around[int(rng.integers(len(around)))]
        return other if rng.random() < len(around) / max(len(self._neighbours(other)), 1) else arch

    def _neighbours(self, arch: Arch) -> list[Arch]:
        if arch not in self._around:  # particles come back to the same architectures
            self._around[arch] = self.space.neighbours(arch)
        return self._around[arch]


class UniformFamily:
    """Makes `UniformGenerator`; there is nothing to train."""

    Sampling: ClassVar[type] = NoOptions
    made: type[UniformGenerator] = UniformGenerator

    def load(self, space: SearchSpace, path: Path | None = None, *, device: str | torch.device = "cpu") -> UniformGenerator:
        """The generator of `space`; raises `UserError` for a checkpoint, as there is none."""
        del device
        if path is not None:
            raise UserError(f"generator {self.made.name!r} is not trained and has no checkpoint; leave out {path}")
        return self.made(space)


class MutationFamily(UniformFamily):
    """Makes `MutationGenerator`; there is nothing to train."""

    made = MutationGenerator


def _drawn(decoded: Sequence[Decoded], kind: str, begin: float, *, predictor_nfe: int = 0) -> Generation:
    found = tuple(decoded)
    return Generation(found, found, kind, nfe=0, predictor_nfe=predictor_nfe, wall_s=time.perf_counter() - begin)
