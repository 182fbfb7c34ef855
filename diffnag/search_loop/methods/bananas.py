"""BANANAS: a predictor scores mutations of the best architectures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from diffnag.search_loop.domain import Domain
from diffnag.search_loop.methods.base import Setting, mutations
from diffnag.search_loop.methods.model_based import ModelBased
from diffnag.search_loop.model import Model
from diffnag.search_loop.trial import Known, best_first

if TYPE_CHECKING:
    from diffnag.arch import Arch

MUTATIONS = 100
"""Candidates that are scored at every step."""


@dataclass(frozen=True)
class Bananas(ModelBased):
    """BANANAS (White et al., AAAI 2021, algorithm 1): an ensemble on paths, mutations, independent Thompson sampling."""

    uses: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def of(cls, setting: Setting) -> Self:
        """See `Method`."""
        model = Model(setting.outlook(setting.load_predictor("path-ensemble")), "ts", setting.options.confidence)
        return cls(setting.domain, setting.seed, model, Mutations(setting.domain))


@dataclass(frozen=True)
class Mutations:
    """Neighbours of the best trials, best first; random draws if there are too few."""

    domain: Domain

    def __call__(self, known: Known, seen: set[str], rng: np.random.Generator) -> list[Arch]:
        """See `Pool`."""
        found = mutations(self.domain, (trial.arch for trial in best_first(known.history)), MUTATIONS, seen, rng)
        return found + list(islice(self.domain.random(rng, seen), MUTATIONS - len(found)))
