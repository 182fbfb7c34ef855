"""The generator of the family `conditional`: that of `discrete`, with classifier-free guidance towards what is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from diffnag.errors import UserError
from diffnag.generators.base import Condition, Generation, Steer, refuse_conditions
from diffnag.generators.conditional import options
from diffnag.generators.conditional.conditions import Measures
from diffnag.generators.conditional.network import ConditionalNetwork
from diffnag.generators.discrete.generator import DiscreteGenerator
from diffnag.generators.discrete.noising import Predict
from diffnag.generators.trained import Matrices, Noise

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

MOST_WEIGHT = 100.0
"""Beyond it nothing changes."""


class ConditionalGenerator(DiscreteGenerator):
    """Draws architectures with the values that are asked for; what is not asked for is left open."""

    Sampling: ClassVar[type] = options.Sampling
    network: ConditionalNetwork
    units: Mapping[str, str]
    """Condition -> unit in which its values are given."""

    def __init__(self, space: SearchSpace, network: ConditionalNetwork, sampling: options.Sampling | None = None) -> None:
        super().__init__(space, network, sampling)
        self.conditions, self.units = network.names, network.units
        self._measures = cache(lambda names: Measures(names, space))  # they can have to read a table

    def condition_of(self, archs: Sequence[Arch], names: Sequence[str]) -> Condition:
        """Values that the conditions `names` have for `archs`, brought within what training saw: a draw can be asked for others like these."""
        values = self._measures(tuple(names))(archs)
        return {name: self.network.laws.within(name, column) for name, column in zip(names, values.T, strict=True)}

    def sample(self, n: int, *, seed: int, steer: Steer = Steer(), sampling: Any = None) -> Generation:  # noqa: B008 - frozen
        """Draw `n` architectures from `p(A | c)^(1 + w) / p(A)^w`, entry by entry, with w the weight of `steer`; a tilt comes on top.

        Without a tilt, only plausible categories of each entry are drawn, see `Sampling.plausible`, and of `Sampling.nearest` draws for each
        sample the one that comes nearest to what is asked is kept; `UserError` where that cannot be measured.
        """
        refuse_conditions(self, steer)
        self.network.laws.read(steer.condition)
        if not 0 <= steer.weight <= MOST_WEIGHT:
            raise UserError(f"the weight of the condition is {steer.weight}; accepted is a number from 0 to {MOST_WEIGHT:g}")
        return super().sample(n, seed=seed, steer=steer, sampling=sampling)

    def _draw(self, b: int, sampling: Any, steer: Steer, kind: str, noise: Noise) -> Matrices:
        if sampling.nearest == 1 or not steer.condition or steer.tilt is not None:
            return super()._draw(b, sampling, steer, kind, noise)
        measures = self._measures(tuple(name for name in self.conditions if name in steer.condition))  # before any draw: it can lack a table
        draws = [super(ConditionalGenerator, self)._draw(b, sampling, steer, kind, noise) for _ in range(sampling.nearest)]
        best = np.stack([self._apart(one, steer.condition, measures) for one in draws]).argmin(0), np.arange(b)
        return Matrices(*(np.stack(parts)[best] for parts in zip(*draws, strict=True)))

    def _apart(self, drawn: Matrices, condition: Condition, measures: Measures) -> np.ndarray:
        """Distances `(b,)` of the samples of one draw from what each is asked for, infinite for invalid ones."""
        decoded, apart = self._decode(drawn), np.full(len(drawn.V), np.inf)
        valid = np.array([k for k, item in enumerate(decoded) if item.arch is not None], dtype=int)
        if len(valid):
            laws, columns = self.network.laws, [self.conditions.index(name) for name in measures.units]
            numbers, words = (part[valid % len(part)] for part in laws.read(condition))
            values = torch.zeros(len(valid), len(self.conditions), dtype=torch.float64)
            values[:, columns] = measures([item.arch for item in decoded if item.arch is not None])
            apart[valid] = laws.apart(values, numbers, words).numpy()
        return apart

    def _unguided(self, steer: Steer, sampling: Any) -> Predict:
        """The law of the clean entries under the condition: `(1 + w) log p(x | z, c) - w log p(x | z)` (Ho and Salimans 2022).

        What is impossible is a small number in both laws, whose ratio says nothing: such categories are left out (Li et al. 2023,
        contrastive decoding, section 3.2). Guidance by a tilt needs a law that reaches all of them.
        """
        network, weight, plausible = self.network, steer.weight, sampling.plausible if steer.tilt is None else 0.0
        if not steer.condition:
            return self._law
        asked = torch.cat([part.float() for part in network.laws.read(steer.condition)], dim=1).to(network.device)

        def predict(rows: Tensor, abar: Tensor) -> Tensor:
            z, c = rows[:, 1:], asked[rows[:, 0] % len(asked)] if len(asked) > 1 else asked
            given: Tensor = network(z, abar, c)
            law = (1 + weight) * given - weight * network(z, abar) if weight else given
            if plausible:
                law = law.masked_fill(given < given.amax(2, keepdim=True) + math.log(plausible), -torch.inf)
            return law.log_softmax(dim=2)

        def numbered(z: Tensor, abar: Tensor) -> Tensor:
            places = torch.arange(len(z), device=z.device)[:, None]
            return self._pieces(lambda rows: predict(rows, abar), torch.cat([places, z], dim=1))

        return numbered
