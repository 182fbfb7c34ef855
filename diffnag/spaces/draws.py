"""Random architectures of a space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diffnag.spaces.inputs import whole_networks

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace


def random_archs(space: SearchSpace, count: int, *, seed: int) -> list[Arch]:
    """`count` architectures by `space.random`, duplicates kept; the same `seed` gives the same list."""
    rng = np.random.default_rng(seed)
    return [space.random(rng) for _ in range(count)]


def random_part(space: SearchSpace, rng: np.random.Generator) -> Arch:
    """A part of a pretrained network at a random resolution: a random share of its choices is random, the others are those of the whole.

    Uniform draws, of which most leave a block out, would say little about parts that are nearly as good as the whole.
    """
    wholes = whole_networks(space)
    whole = space.to_parameters(wholes[int(rng.integers(len(wholes)))])
    share, drawn = rng.random(), space.to_parameters(space.random(rng))
    return space.from_parameters({name: drawn[name] if rng.random() < share else value for name, value in whole.items()})
