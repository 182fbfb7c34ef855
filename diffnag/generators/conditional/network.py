"""The networks of conditional families: what a draw asks for enters every block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from diffnag.errors import UserError
from diffnag.generators.conditional.conditions import KNOTS, KNOWN, WORDS, Laws, Measures
from diffnag.generators.conditional.encoders import ENCODERS
from diffnag.generators.conditional.options import Config, Learned, ScoreConfig
from diffnag.generators.diffusion.denoiser import Denoiser
from diffnag.generators.discrete.network import DiscreteNetwork
from diffnag.generators.network import GraphNetwork

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.generators.diffusion.sde import SDE
    from diffnag.generators.edge_groups import EdgeGroups
    from diffnag.protocols import SearchSpace


class Conditioned(GraphNetwork):
    """A network with conditions `c (b, 2 c)`: standardised numbers, NaN where open, and words, -1 where there is none.

    Each number and each word becomes a vector; their sum joins the noise level, and scales, shifts and gates every block (AdaLN-zero).
    A number is shown by `Linear(softmax(Linear(c)))`, a soft clustering (Liu et al. 2024, section 3.2), by the interval that it
    lies in, or plainly, by a small network.
    """

    quantiles: Tensor
    centre: Tensor
    spread: Tensor
    known: Tensor

    def make_conditions(self, config: Learned, width: int) -> None:
        """Add the layers that conditions need, for a context of `width`; `UserError` for names that are not different."""
        self.names = tuple(name.strip() for name in config.conditions.split(","))
        if len(set(self.names)) < len(self.names) or not all(self.names):
            raise UserError(f"--conditions {config.conditions} must be different names, separated by commas")
        self.units: Mapping[str, str] = {}
        """Condition -> its unit."""
        c = len(self.names)
        for name, shape in (("quantiles", (c, KNOTS)), ("centre", (c,)), ("spread", (c,))):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("known", torch.zeros(KNOWN, c))
        self.numbers_in = nn.ModuleList(ENCODERS[config.encoder](config.bins, width) for _ in self.names)
        self.words_in = nn.ModuleList(nn.Embedding(len(WORDS), width) for _ in self.names)
        self.both = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    @property
    def laws(self) -> Laws:
        """How the conditions are spread."""
        return Laws(self.names, self.quantiles, self.centre, self.spread, self.known)

    def learn_conditions(self, archs: Sequence[Arch], space: SearchSpace) -> Tensor:
        """Standardised values of the conditions `(m, c)` of the training set, whose laws are kept."""
        measures = Measures(self.names, space)
        self.units, values = measures.units, measures(archs)
        for buffer, found in zip((self.quantiles, self.centre, self.spread, self.known), Laws.described(values), strict=True):
            buffer.copy_(found)
        return self.laws.standard(values)

    def context(self, level: Tensor, condition: Tensor | None) -> Tensor:
        """What every block is modulated by, `(b, width)`."""
        asked = torch.zeros_like(level)
        if condition is not None:
            numbers, words = condition.chunk(2, dim=1)
            for k, (number_in, word_in) in enumerate(zip(self.numbers_in, self.words_in, strict=True)):
                number, word = numbers[:, k, None], words[:, k].long()
                asked = asked + torch.where(number.isnan(), 0.0, number_in(number.nan_to_num()))
                asked = asked + torch.where(word[:, None] < 0, 0.0, word_in(word.clamp_min(0)))
        joined: Tensor = self.both(torch.cat([level.expand(len(asked), -1), asked], dim=1))
        return joined

    def described(self) -> Mapping[str, Any]:
        """The units of the conditions, and what the family describes."""
        return {**super().described(), "units": dict(self.units)}

    @classmethod
    def rebuilt(cls, space: SearchSpace, config: Any, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The network of a file, before its weights are set."""
        made = super().rebuilt(space, config, meta, tensors)
        made.units = {name: str(meta["units"][name]) for name in made.names}
        return made


class ConditionalNetwork(Conditioned, DiscreteNetwork):
    """Estimates `p(x | z_t, c)`, entry by entry."""

    family: ClassVar[str] = "conditional"
    config_type: ClassVar[type] = Config

    def __init__(self, space: SearchSpace, config: Config, marginals: Tensor | None = None, groups: EdgeGroups | None = None) -> None:
        super().__init__(space, config, marginals, groups)
        self.make_conditions(config, config.width)


class ConditionalDenoiser(Conditioned, Denoiser):
    """Estimates the clean architecture `E[x_0 | x_t, c]`, and the score of the law under the condition."""

    family: ClassVar[str] = "conditional-sde"
    config_type: ClassVar[type] = ScoreConfig

    def __init__(self, space: SearchSpace, sde: SDE, config: ScoreConfig, groups: EdgeGroups | None = None) -> None:
        super().__init__(space, sde, config, groups)
        self.make_conditions(config, config.width)

    def guided_score(self, x: Tensor, t: Tensor, condition: Tensor, weight: float) -> Tensor:
        """Score at `x (b, d)` of `p(A | c)^(1 + w) / p(A)^w`, entry by entry, so that the estimate stays in the cube."""
        logits = self.logits(x, t, condition=condition)
        if weight:
            logits = (1 + weight) * logits - weight * self.logits(x, t)
        return self.score_of(self.in_cube(logits), x, t)
