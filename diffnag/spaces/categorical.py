"""Base class for search spaces in which every architecture is a tuple of choices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.protocols import Attention, Decoded, Size

if TYPE_CHECKING:
    from torch import nn

ENUMERATED = 200_000
"""A space with more architectures than this is not enumerated."""
DRAWS = 5_000
"""Random architectures from which the constant entries of such a space are found."""


class CategoricalSpace:
    """A `diffnag.protocols.SearchSpace` whose author gives only what this class cannot know.

    A subclass gives `name`, `nodes`, `operators`, `parameters`, `from_parameters`, `to_parameters` and `build`. It overrides other members
    where it knows better, for example `canonical` if different choices compute the same function. It declares `roles` (see
    `diffnag.protocols.HasRoles`) if the names of its operators do not show what they do.

    Different choices must give different architectures. The string of an architecture lists its choices, separated by commas.
    """

    name: str
    nodes: int
    operators: tuple[str, ...]
    parameters: Mapping[str, tuple[str, ...]]
    """Name -> choices; the first parameter varies slowest when the space is enumerated."""
    attention: Attention = "causal"
    datasets: Mapping[str, tuple[int, int]] = {}
    skeletons: tuple[tuple[int, int], ...] = ((8, 1), (16, 1), (32, 1))

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        """The architecture with these choices, one for each of `parameters`."""
        raise NotImplementedError(f"{type(self).__name__} must define from_parameters, which returns the architecture with given choices")

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        """The choices of an architecture: the inverse of `from_parameters`.

        May raise KeyError, IndexError or ValueError for a graph that is not in the space.
        """
        raise NotImplementedError(f"{type(self).__name__} must define to_parameters, which returns the choices of an architecture")

    def build(self, arch: Arch, *, channels: int = 16, cells: int = 1, num_classes: int, stem_stride: int = 1) -> nn.Module:
        """An untrained network of the architecture; see `SearchSpace.build`."""
        raise NotImplementedError(f"{type(self).__name__} must define build, which returns the network of an architecture")

    def size(
        self, arch: Arch, *, channels: int = 16, cells: int = 1, num_classes: int, image_size: int, stem_stride: int = 1
    ) -> Size:
        """Trainable parameters and multiply-adds, counted on the built network."""
        import torch

        from diffnag.spaces.counting import measured_size

        with torch.random.fork_rng(devices=[]):
            network = self.build(arch, channels=channels, cells=cells, num_classes=num_classes, stem_stride=stem_stride)
        return measured_size(network, image_size=image_size)

    # -- strings, identity, moves

    def to_str(self, arch: Arch) -> str:
        """The choices, separated by commas."""
        return ",".join(self.to_parameters(arch).values())

    def from_str(self, text: str) -> Arch:
        """Parse such a string; `UserError` names the first wrong choice."""
        chosen = text.split(",")
        if len(chosen) != len(self.parameters):
            raise UserError(f"{text!r} has {len(chosen)} choices; expected are {len(self.parameters)}: {', '.join(self.parameters)}")
        for (name, choices), choice in zip(self.parameters.items(), chosen, strict=True):
            if choice not in choices:
                raise UserError(f"{text!r}: {name} is {choice!r}; accepted are {', '.join(choices)}")
        return self.from_parameters(dict(zip(self.parameters, chosen, strict=True)))

    def canonical(self, arch: Arch) -> str:
        """The string itself: different choices count as different functions."""
        return self.to_str(arch)

    def random(self, rng: np.random.Generator) -> Arch:
        """Draw every choice uniformly."""
        return self.from_parameters({name: choices[int(rng.integers(len(choices)))] for name, choices in self.parameters.items()})

    def neighbours(self, arch: Arch) -> list[Arch]:
        """The architectures that differ in one choice."""
        here = self.to_parameters(arch)
        return [
            self.from_parameters(here | {name: choice})
            for name, choices in self.parameters.items() for choice in choices if choice != here[name]
        ]  # fmt: skip

    def enumerate(self) -> Iterator[Arch] | None:
        """Every architecture once; None if there are more than `ENUMERATED`."""
        if math.prod(map(len, self.parameters.values())) > ENUMERATED:
            return None
        tuples = itertools.product(*self.parameters.values())
        return (self.from_parameters(dict(zip(self.parameters, chosen, strict=True))) for chosen in tuples)

    # -- matrices

    def encode(self, arch: Arch) -> tuple[np.ndarray, np.ndarray]:
        """`V (n, f)` and `E (n, n)`, float32 in {0, 1}."""
        return arch.matrices(nodes=self.nodes, operators=len(self.operators))

    def decode(self, V: np.ndarray, E: np.ndarray) -> Decoded:
        """Read quantised `V (n, f)` and `E (n, n)`; valid are exactly the encodings of architectures that `from_parameters` gives."""
        counts = V.sum(1)
        if counts.max() > 1 or (counts[1:] > counts[:-1]).any() or not counts[0]:  # np.diff wraps around in unsigned sums
            return Decoded(None, "a node has more than one operator, or a node without an operator comes before one with an operator")
        edges = [(int(i), int(j)) for i, j in np.argwhere(E)]
        present = int(counts.sum())
        if any(not i < j < present for i, j in edges):
            return Decoded(None, "an edge begins or ends at a node without an operator, or does not lead to a later node")
        arch = Arch(tuple(V.argmax(1)[:present]), tuple(edges))
        try:
            parameters = self.to_parameters(arch)
            belongs = all(parameters[name] in choices for name, choices in self.parameters.items())
            belongs = belongs and self.from_parameters(parameters) == arch
        except (KeyError, IndexError, ValueError):
            belongs = False
        return Decoded(arch, None) if belongs else Decoded(None, f"no choices of {self.name} give these operators and edges")

    @cached_property
    def constant(self) -> tuple[np.ndarray, np.ndarray]:
        """Entries of V and E that are the same in all architectures, or in `DRAWS` random ones if the space is not enumerated."""
        rng = np.random.default_rng(0)
        archs = self.enumerate() or (self.random(rng) for _ in range(DRAWS))
        first_V, first_E = self.encode(next(archs))
        same = (np.ones(first_V.shape, dtype=bool), np.ones(first_E.shape, dtype=bool))
        for arch in archs:
            V, E = self.encode(arch)
            same[0][first_V != V] = False
            same[1][first_E != E] = False
        return same
