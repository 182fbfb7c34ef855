"""A Gaussian process scores every architecture of a small space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from diffnag.errors import UserError
from diffnag.search_loop.domain import LARGEST, Domain
from diffnag.search_loop.methods.base import Setting, shuffled
from diffnag.search_loop.methods.model_based import ModelBased
from diffnag.search_loop.model import Model
from diffnag.search_loop.trial import Known

if TYPE_CHECKING:
    from diffnag.arch import Arch


@dataclass(frozen=True)
class GPEnumerate(ModelBased):
    """The predictor `gp` on all that is left of the space; `UserError` if the space is too large."""

    uses: ClassVar[frozenset[str]] = frozenset({"acquisition"})
    defaults: ClassVar[Mapping[str, Any]] = {"acquisition": "ei"}
    searches_fronts: ClassVar[bool] = True

    @classmethod
    def of(cls, setting: Setting) -> Self:
        """See `Method`."""
        everything = Enumerated(setting.domain, setting.seed)
        acquisition = setting.options.acquisition
        assert acquisition, "by its default"
        model = Model(setting.outlook(setting.load_predictor("gp")), acquisition, setting.options.confidence)
        return cls(setting.domain, setting.seed, model, everything)


@dataclass(frozen=True)
class Enumerated:
    """All that is left of a space that is small enough to be enumerated: one of each canonical class, chosen by the seed.

    Raises `UserError` for a larger space.
    """

    domain: Domain
    seed: int

    def __post_init__(self) -> None:
        space = self.domain.space
        if (archs := space.enumerate()) is None or len(list(islice(archs, LARGEST + 1))) > LARGEST:
            raise UserError(
                f"method 'gp-enumerate' scores every architecture of a space, and {space.name} has more than {LARGEST:,}; "
                f"use --method diffnag or bananas"
            )

    def __call__(self, known: Known, seen: set[str], rng: np.random.Generator) -> list[Arch]:
        """See `Pool`."""
        left = [arch for key, arch in self._classes.items() if key not in seen]
        seen.update(self._classes)
        return left

    @cached_property
    def _classes(self) -> dict[str, Arch]:
        archs = shuffled(list(self.domain.space.enumerate() or ()), np.random.default_rng(self.seed))
        return {self.domain.space.canonical(arch): arch for arch in self.domain.fresh(archs, set())}
