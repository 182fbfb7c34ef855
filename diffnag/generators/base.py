"""What all generator families share: how a draw is steered, what a draw returns, and guidance by particles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from diffnag.errors import UserError
from diffnag.guidance.particles import particles
from diffnag.guidance.pool import pool
from diffnag.guidance.tilt import Tilt
from diffnag.protocols import Decoded

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.generators.diffusion.trace import Trace
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.protocols import Generator, SearchSpace

DEFAULT_SCALE = 3.0
"""S of the target law where none is given."""
MOST = 10_000_000
"""Samples of one draw: more would not fit into memory."""


def anything(arch: Arch) -> bool:
    """No limit: every architecture is wanted."""
    del arch
    return True


Condition = Mapping[str, float | str | tuple[float, ...]]
"""Property -> its value, in the units of the generator; a tuple gives samples its values in turn."""


@dataclass(frozen=True)
class Steer:
    """Everything that a draw may prefer.

    Attributes:
        tilt: A predictor at a scale; the target law is `p(A) exp(S z(A))`.
        condition: Values of properties, for conditional families; a property that is absent is left open.
        weight: Weight of classifier-free guidance, for conditional families.
        wanted: Limits: whether an architecture is accepted. Particles and pools keep to it; other kinds of guidance cannot.
    """

    tilt: Tilt | None = None
    condition: Condition = field(default_factory=dict)
    weight: float = 1.0
    wanted: Callable[[Arch], bool] = anything

    @classmethod
    def by(
        cls, predictor: CheckedPredictor, space: SearchSpace, scale: float = DEFAULT_SCALE, *, wanted: Callable[[Arch], bool] = anything
    ) -> Self:
        """Steer by a predictor: towards the law `p(A) exp(scale z(A))`, among the architectures that are `wanted`."""
        return cls(tilt=Tilt(predictor, space, scale), wanted=wanted)


@dataclass(frozen=True)
class Generation:
    """Decoded samples in order, and what they cost."""

    decoded: tuple[Decoded, ...]
    """The samples, quantised by the rule that was asked for."""
    by_threshold: tuple[Decoded, ...]
    """The samples, quantised by the paper's rule: metrics are computed on these."""
    guidance: str
    """The kind of guidance that was used, `none` without any."""
    nfe: int
    """Evaluations of the generator's network per sample, counted."""
    predictor_nfe: int
    """Evaluations of the predictor per sample, counted, and one for the draws that standardise it."""
    wall_s: float
    """Seconds from the first noise to the decoded samples."""
    trace: Trace | None = None
    """The way of one sample, where it was asked for."""
    unpruned: Callable[[], int | None] = field(default=lambda: None, compare=False)
    """Counts the raw samples that are valid without pruning; None where the space prunes nothing."""

    @property
    def archs(self) -> list[Arch]:
        """The valid samples, in order, duplicates kept."""
        return [item.arch for item in self.decoded if item.arch is not None]


def by_particles(
    decoded: Sequence[Decoded], steer: Steer, move: Callable[[Sequence[Arch]], Sequence[Arch | None]], *, seed: int
) -> list[Decoded]:
    """Replace the valid samples by particles of the tilted law; the invalid ones stay as they are.

    `move` leaves the generator's law in place and returns None for an invalid result. Any family with `sample` and `vary` can
    be steered in this way.
    """
    archs = [item.arch for item in decoded if item.arch is not None]
    if steer.tilt is None or not archs:
        return list(decoded)
    moved = iter(particles(archs, steer.tilt, move, rng=np.random.default_rng(seed), wanted=steer.wanted))
    return [item if item.arch is None else Decoded(next(moved), None) for item in decoded]


def by_pool(decoded: Sequence[Decoded], steer: Steer, draw: Callable[[], Sequence[Arch]], *, seed: int) -> list[Decoded]:
    """Replace the valid samples by others of a pool that follow the tilted law; the invalid ones stay as they are.

    `draw` gives more samples of the generator's law. Any family can be steered in this way; it suits those that draw fast.
    """
    archs = [item.arch for item in decoded if item.arch is not None]
    if steer.tilt is None or not archs:
        return list(decoded)
    found = iter(pool(archs, steer.tilt, len(archs), draw, rng=np.random.default_rng(seed), wanted=steer.wanted))
    return [item if item.arch is None else Decoded(next(found, item.arch), None) for item in decoded]


def refuse_count(n: int) -> None:
    """Raise `UserError` for a number of samples that no generator draws."""
    if not isinstance(n, int | np.integer) or not 1 <= n <= MOST:
        raise UserError(f"{n} samples were asked for; 1 to {MOST:,} are accepted")


def refuse_no_start(archs: Sequence[Arch]) -> None:
    """Raise `UserError` if there is no architecture to vary."""
    if not archs:
        raise UserError("vary needs at least one architecture to start from")


def refuse_strangers(archs: Sequence[Arch], space: SearchSpace) -> None:
    """Raise `UserError` for an architecture that is none of `space`."""
    for arch in archs:
        fits = 0 < len(arch.ops) <= space.nodes and all(0 <= op < len(space.operators) for op in arch.ops)
        if not fits or space.decode(*space.encode(arch)).arch != arch:
            raise UserError(f"{arch!s:.200} is no architecture of space {space.name!r}")


def refuse_conditions(generator: Generator, steer: Steer) -> None:
    """Raise `UserError` for a condition that the generator does not have."""
    if unknown := [name for name in steer.condition if name not in generator.conditions]:
        has = ", ".join(generator.conditions) or "none"
        raise UserError(f"the generator has no condition {unknown[0]!r}; its conditions are: {has}")
