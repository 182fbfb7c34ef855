"""The generators of conditional families: those of `discrete` and `sde`, with classifier-free guidance towards what is asked for."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from diffnag.errors import UserError
from diffnag.generators.base import Condition, Generation, Steer, refuse_conditions
from diffnag.generators.conditional import options
from diffnag.generators.conditional.conditions import Measures
from diffnag.generators.conditional.network import ConditionalDenoiser, ConditionalNetwork, Conditioned
from diffnag.generators.diffusion.generator import Course, Generator
from diffnag.generators.diffusion.samplers import Score
from diffnag.generators.discrete.generator import DiscreteGenerator
from diffnag.generators.discrete.noising import Predict
from diffnag.generators.trained import Matrices, NetworkGenerator, Noise

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

MOST_WEIGHT = 100.0
"""Beyond it nothing changes."""


class ConditionedGenerator(NetworkGenerator):
    """Draws architectures with the values that are asked for; what is not asked for is left open."""

    network: Conditioned
    units: Mapping[str, str]
    """Condition -> unit in which its values are given."""

    def __init__(self, space: SearchSpace, network: Any, sampling: Any = None) -> None:
        super().__init__(space, network, sampling)
        self.conditions, self.units = network.names, network.units
        self._measures = cache(lambda names: Measures(names, space))  # they can have to read a table

    @abstractmethod
    def _chosen(self, draws: Sequence[Any], best: np.ndarray) -> Any:
        """For each row that of the draw `best (b,)`."""

    def condition_of(self, archs: Sequence[Arch], names: Sequence[str]) -> Condition:
        """Values that the conditions `names` have for `archs`, brought within what training saw: a draw can be asked for others like these."""
        values = self._measures(tuple(names))(archs)
        return {name: self.network.laws.within(name, column) for name, column in zip(names, values.T, strict=True)}

    def sample(self, n: int, *, seed: int, steer: Steer = Steer(), sampling: Any = None) -> Generation:  # noqa: B008 - frozen
        """Draw `n` architectures from `p(A | c)^(1 + w) / p(A)^w`, entry by entry, with w the weight of `steer`; a tilt comes on top.

        Without a tilt, of `nearest` draws for each sample the one that comes nearest to what is asked is kept; `UserError` where that
        cannot be measured.
        """
        refuse_conditions(self, steer)
        self.network.laws.read(steer.condition)
        if not 0 <= steer.weight <= MOST_WEIGHT:
            raise UserError(f"the weight of the condition is {steer.weight}; accepted is a number from 0 to {MOST_WEIGHT:g}")
        return super().sample(n, seed=seed, steer=steer, sampling=sampling)

    def _asked(self, condition: Condition) -> Tensor:
        """What the network is shown of a condition: `(1, 2 c)`, or one row for each of the values that samples have in turn."""
        return torch.cat([part.float() for part in self.network.laws.read(condition)], dim=1).to(self.network.device)

    def _nearest(self, draw: Callable[[], Any], draws: int, steer: Steer) -> Any:
        """The nearest of several draws of `draw`, sample by sample; without a condition, or with a tilt, whose law it would change, the first."""
        if draws == 1 or not steer.condition or steer.tilt is not None:
            return draw()
        measures = self._measures(tuple(name for name in self.conditions if name in steer.condition))  # before any draw: it can lack a table
        drawn, asked = [draw() for _ in range(draws)], self.network.laws.read(steer.condition)
        return self._chosen(drawn, np.stack([self._apart(one, asked, measures) for one in drawn]).argmin(0))

    def _apart(self, drawn: Any, asked: tuple[Tensor, Tensor], measures: Measures) -> np.ndarray:
        """Distances `(b,)` of the samples of one draw from what each is asked for, see `Laws.read`; infinite for invalid ones."""
        decoded = self._decode(drawn)
        apart, valid = np.full(len(decoded), np.inf), np.array([k for k, item in enumerate(decoded) if item.arch is not None], dtype=int)
        if len(valid):
            columns = [self.conditions.index(name) for name in measures.units]
            values = torch.zeros(len(valid), len(self.conditions), dtype=torch.float64)
            values[:, columns] = measures([item.arch for item in decoded if item.arch is not None])
            apart[valid] = self.network.laws.apart(values, *(part[valid % len(part)] for part in asked)).numpy()
        return apart


class ConditionalGenerator(ConditionedGenerator, DiscreteGenerator):
    """Draws from a discrete diffusion with conditions; without a tilt, only plausible categories of each entry, see `Sampling.plausible`."""

    Sampling: ClassVar[type] = options.Sampling
    network: ConditionalNetwork

    def _draw(self, b: int, sampling: Any, steer: Steer, kind: str, noise: Noise) -> Matrices:
        return self._nearest(partial(super()._draw, b, sampling, steer, kind, noise), sampling.nearest, steer)

    def _chosen(self, draws: Sequence[Matrices], best: np.ndarray) -> Matrices:
        return Matrices(*(np.stack(parts)[best, np.arange(len(best))] for parts in zip(*draws, strict=True)))

    def _unguided(self, steer: Steer, sampling: Any) -> Predict:
        """The law of the clean entries under the condition: `(1 + w) log p(x | z, c) - w log p(x | z)` (Ho and Salimans 2022).

        What is impossible is a small number in both laws, whose ratio says nothing: such categories are left out (Li et al. 2023,
        contrastive decoding, section 3.2). Guidance by a tilt needs a law that reaches all of them.
        """
        network, weight, plausible = self.network, steer.weight, sampling.plausible if steer.tilt is None else 0.0
        if not steer.condition:
            return self._law
        asked = self._asked(steer.condition)

        def predict(rows: Tensor, abar: Tensor) -> Tensor:
            z, c = rows[:, 1:], asked[rows[:, 0] % len(asked)] if len(asked) > 1 else asked
            given: Tensor = network(z, abar, c)
            law = (1 + weight) * given - weight * network(z, abar) if weight else given
            if plausible:
                law = law.masked_fill(given < given.amax(2, keepdim=True) + math.log(plausible), -torch.inf)
            return law.log_softmax(dim=2)

        return lambda z, abar: self._pieces(lambda rows: predict(rows, abar), numbered(z))


class ConditionalScoreGenerator(ConditionedGenerator, Generator):
    """Draws from a score SDE with conditions."""

    Sampling: ClassVar[type] = options.ScoreSampling
    network: ConditionalDenoiser

    def _draw(self, b: int, sampling: Any, steer: Steer, kind: str, noise: Course) -> Tensor:
        if sampling.nearest > 1 and sampling.trace is not None:
            raise UserError("a trace shows how one sample forms, and the nearest of several draws is chosen afterwards; leave out one of them")
        found: Tensor = self._nearest(partial(super()._draw, b, sampling, steer, kind, noise), sampling.nearest, steer)
        return found

    def _chosen(self, draws: Sequence[Tensor], best: np.ndarray) -> Tensor:
        return torch.stack(list(draws))[best, np.arange(len(best))]

    def _unguided(self, steer: Steer) -> Score:
        """The score of the law under the condition, with classifier-free guidance."""
        if not steer.condition:
            return self._score
        asked = self._asked(steer.condition)

        def score(rows: Tensor, t: Tensor) -> Tensor:
            c = asked[rows[:, 0].long() % len(asked)] if len(asked) > 1 else asked
            return self.network.guided_score(rows[:, 1:], t, c, steer.weight)

        return lambda x, t: self._pieces(lambda rows: score(rows, t), numbered(x))


def numbered(rows: Tensor) -> Tensor:
    """Rows `(b, d)` behind their numbers, `(b, 1 + d)`: so that pieces of them know which they are."""
    return torch.cat([torch.arange(len(rows), device=rows.device, dtype=rows.dtype)[:, None], rows], dim=1)
