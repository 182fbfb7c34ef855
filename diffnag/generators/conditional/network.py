"""The network of the family `conditional`: that of `discrete`, and what a draw asks for enters every block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from diffnag.errors import UserError
from diffnag.generators.conditional.conditions import KNOTS, KNOWN, WORDS, Laws
from diffnag.generators.conditional.options import Config
from diffnag.generators.discrete.network import DiscreteNetwork

if TYPE_CHECKING:
    from diffnag.generators.edge_groups import EdgeGroups
    from diffnag.protocols import SearchSpace

WIDTH = 0.1
"""Width of a cluster at first, in standard deviations of the condition."""
LARGEST = 5.0
"""Standard deviations from the mean up to which clusters and intervals lie."""


class ConditionalNetwork(DiscreteNetwork):
    """Estimates `p(x | z_t, c)`; the condition `c (b, 2 c)` holds standardised numbers, NaN where open, and words, -1 where there is none.

    Each number and each word becomes a vector; their sum joins the noise level, and scales, shifts and gates every block (AdaLN-zero).
    A number is shown by `Linear(softmax(Linear(c)))`, a soft clustering (Liu et al. 2024, section 3.2), by the interval that it
    lies in, or plainly, by a small network.
    """

    family: ClassVar[str] = "conditional"
    config_type: ClassVar[type] = Config
    quantiles: Tensor
    centre: Tensor
    spread: Tensor
    known: Tensor

    def __init__(self, space: SearchSpace, config: Config, marginals: Tensor | None = None, groups: EdgeGroups | None = None) -> None:
        super().__init__(space, config, marginals, groups)
        self.names = tuple(name.strip() for name in config.conditions.split(","))
        if len(set(self.names)) < len(self.names) or not all(self.names):
            raise UserError(f"--conditions {config.conditions} must be different names, separated by commas")
        self.units: Mapping[str, str] = {}
        """Condition -> its unit."""
        c, width = len(self.names), config.width
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

    def learn_laws(self, values: Tensor) -> None:
        """Take the laws of the conditions from the training set's values `(m, c)`."""
        for buffer, found in zip((self.quantiles, self.centre, self.spread, self.known), Laws.described(values), strict=True):
            buffer.copy_(found)

    def context(self, abar: Tensor, condition: Tensor | None) -> Tensor:
        """What every block is modulated by, `(b, width)`."""
        level = super().context(abar, None)
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
        """The units of the conditions."""
        return {"units": dict(self.units)}

    @classmethod
    def rebuilt(cls, space: SearchSpace, config: Any, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The network of a file, before its weights are set."""
        made = super().rebuilt(space, config, meta, tensors)
        made.units = {name: str(meta["units"][name]) for name in made.names}
        return made


class Clusters(nn.Module):
    """Soft clusters, whose centres begin evenly spread."""

    def __init__(self, bins: int, width: int) -> None:
        super().__init__()
        self.place = nn.Linear(1, bins)
        self.vector = nn.Linear(bins, width)
        centres = torch.linspace(-LARGEST / 2, LARGEST, bins)
        with torch.no_grad():  # then softmax gives the posterior of normal clusters of equal width
            self.place.weight.copy_(centres[:, None] / WIDTH**2)
            self.place.bias.copy_(-(centres**2) / (2 * WIDTH**2))

    def forward(self, number: Tensor) -> Tensor:
        """`(b, 1)` -> `(b, width)`."""
        shown: Tensor = self.vector(self.place(number).softmax(dim=1))
        return shown


class Intervals(nn.Module):
    """One of several intervals of equal width."""

    ends: Tensor

    def __init__(self, bins: int, width: int) -> None:
        super().__init__()
        self.vector = nn.Embedding(bins, width)
        self.register_buffer("ends", torch.linspace(-LARGEST / 2, LARGEST, bins - 1), persistent=False)

    def forward(self, number: Tensor) -> Tensor:
        """`(b, 1)` -> `(b, width)`."""
        shown: Tensor = self.vector(torch.bucketize(number[:, 0].contiguous(), self.ends))
        return shown


class Plain(nn.Sequential):
    """The number itself, through a small network."""

    def __init__(self, bins: int, width: int) -> None:
        super().__init__(nn.Linear(1, bins), nn.SiLU(), nn.Linear(bins, width))


ENCODERS: Mapping[str, type[nn.Module]] = {"clusters": Clusters, "intervals": Intervals, "plain": Plain}
