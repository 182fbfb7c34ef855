"""What search methods share: the setting that they are made from, and small helpers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from diffnag.objectives.front import ranks
from diffnag.protocols import Predicts
from diffnag.search_loop.domain import Domain
from diffnag.search_loop.options import SearchOptions
from diffnag.search_loop.outlook import Outlook
from diffnag.search_loop.trial import Batch, Known, Proposal, Trial, best_first

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.protocols import Generator


MEASURED_BY = "gp"
"""Predictor of objectives that are paid for and do not predict themselves."""


@dataclass(frozen=True)
class Setting:
    """What a method is made from. Predictor and generator are loaded only if the method asks for them."""

    domain: Domain
    seed: int
    options: SearchOptions
    """With the defaults of the method filled in."""
    load_predictor: Callable[[str], CheckedPredictor]
    """A fresh predictor by its name or dotted path, set up for the task."""
    load_generator: Callable[[], Generator]

    def outlook(self, predictor: CheckedPredictor) -> Outlook:
        """What is expected of all objectives if `predictor` knows the label."""
        goal = self.domain.goal
        others = {one.name: self.load_predictor(MEASURED_BY) for one in goal.measured if not isinstance(one, Predicts)}
        return Outlook(self.domain.space, goal, predictor, others)


@dataclass(frozen=True)
class WithoutOptions:
    """A method that needs the domain and a seed alone, and makes no use of options: the part before `propose`."""

    domain: Domain
    seed: int
    uses: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def of(cls, setting: Setting) -> Self:
        """See `Method`."""
        return cls(setting.domain, setting.seed)


def taken(domain: Domain, known: Known) -> set[str]:
    """Canonical forms of what is labelled or pending."""
    return domain.taken((*(trial.arch for trial in known.history), *known.pending))


def promising(domain: Domain, history: Sequence[Trial]) -> list[Trial]:
    """The trials that have a value, from best to worst: by rank if there are several objectives, equal ranks by the label."""
    ordered = best_first(history)
    if not domain.goal.has_front:
        return ordered
    complete = {trial.number for trial in domain.goal.complete(ordered)}
    ordered = [trial for trial in ordered if trial.number in complete]
    found = ranks(domain.goal.signs * domain.goal.values(ordered)) if ordered else np.empty(0)
    return [ordered[i] for i in np.argsort(found, kind="stable")]


def shuffled(archs: list[Arch], rng: np.random.Generator) -> list[Arch]:
    """The architectures in random order."""
    return [archs[i] for i in rng.permutation(len(archs))]


def mutations(domain: Domain, best: Iterable[Arch], count: int, seen: set[str], rng: np.random.Generator) -> list[Arch]:
    """At most `count` fresh neighbours of the architectures `best`, those of the first before the others, in random order."""
    found: list[Arch] = []
    for arch in best:
        if len(found) == count:
            break
        found += islice(domain.fresh(shuffled(domain.space.neighbours(arch), rng), seen), count - len(found))
    return found


def batch_of(archs: Iterable[Arch]) -> Batch:
    """A batch of proposals without predictions."""
    return Batch(tuple(map(Proposal, archs)))
