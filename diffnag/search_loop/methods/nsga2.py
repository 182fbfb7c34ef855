"""Non-dominated sorting genetic algorithm II of Optuna, on the categorical parameters of a space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from diffnag.search_loop.domain import Domain
from diffnag.search_loop.methods.base import WithoutOptions, batch_of, taken
from diffnag.search_loop.methods.tpe import decoded, distributions_of, worths
from diffnag.search_loop.trial import Batch, Known, Trial

if TYPE_CHECKING:
    import optuna

    from diffnag.arch import Arch

POPULATION = 20
"""Individuals of a generation: fewer than Optuna's 50, which are half of the labels of a search."""
ASKS = 200
"""Suggestions in a row without a new architecture after which random draws take their place for good."""
Row = list[float] | None
"""Values in all objectives, more being better; None for a failure."""


@dataclass(frozen=True)
class NSGA2(WithoutOptions):
    """Optuna's `NSGAIISampler` (Deb et al., IEEE TEVC 2002) with its defaults but for the population.

    The algorithm knows the generations of nothing but its own suggestions, so it is replayed round by round: what it suggests again
    gets the value that is known, and costs no label. A run that has led to the present history goes on instead.
    """

    searches_fronts: ClassVar[bool] = True
    _last: list[_Run] = field(default_factory=list, compare=False, repr=False)
    """The run of the last proposal, if there is one."""

    def propose(self, known: Known, q: int) -> Batch:
        """See `Method`."""
        rounds = [list(trials) for _, trials in groupby(known.history, key=lambda trial: trial.round)]
        run = self._last[0] if self._last and self._last[0].led_to(rounds) else _Run.begin(self.domain, self.seed)
        self._last[:] = [run]
        for number in range(len(run.played), len(rounds)):
            run.suggest([trial for trials in rounds[:number] for trial in trials], set(), len(rounds[number]))
        seen = taken(self.domain, known)
        found = run.suggest(known.history, seen, q)
        rng = np.random.default_rng([self.seed, len(known.history) + len(known.pending)])
        return batch_of([*found, *islice(self.domain.random(rng, seen), q - len(found))])


@dataclass
class _Run:
    """A run of the algorithm so far."""

    domain: Domain
    study: optuna.Study
    open: dict[str, optuna.Trial] = field(default_factory=dict)
    """Suggestions whose architecture has no value yet, by canonical form."""
    history: list[Trial] = field(default_factory=list)
    """The history that it knows."""
    played: list[int] = field(default_factory=list)
    """Number of suggestions that were asked for in each round."""
    spent: bool = False
    """Whether it has nothing new to suggest."""

    @classmethod
    def begin(cls, domain: Domain, seed: int) -> _Run:
        import optuna

        from diffnag.search_loop.study.storage import quiet

        with quiet():
            sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
            return cls(domain, optuna.create_study(directions=["maximize"] * max(len(domain.goal.objectives), 1), sampler=sampler))

    def led_to(self, rounds: Sequence[Sequence[Trial]]) -> bool:
        """Whether a replay of `rounds` would have come to where this run is."""
        sizes = [len(trials) for trials in rounds]
        history = [trial for trials in rounds for trial in trials]
        return self.played == sizes[: len(self.played)] and history[: len(self.history)] == self.history

    def suggest(self, history: Sequence[Trial], seen: set[str], count: int) -> list[Arch]:
        """Take up `history`, and return at most `count` new architectures, whose canonical forms are added to `seen`."""
        space = self.domain.space
        values = dict(zip(map(space.canonical, (trial.arch for trial in history)), worths(self.domain.goal, history), strict=True))
        for key in [key for key in self.open if key in values]:
            self._tell(self.open.pop(key), values[key])
        seen.update(values)
        self.history = list(history)
        self.played.append(count)
        found: list[Arch] = []
        misses = 0
        while len(found) < count and not self.spent:
            fresh = self._suggested(values, seen)
            found += fresh
            misses = 0 if fresh else misses + 1
            self.spent = misses == ASKS
        return found

    def _suggested(self, values: dict[str, Row], seen: set[str]) -> list[Arch]:
        """The next suggestion if it is new; otherwise nothing, and the algorithm gets the value that is known."""
        trial = self.study.ask(distributions_of(self.domain.space))
        archs = decoded(self.domain, trial.params)
        key = self.domain.space.canonical(archs[0]) if archs else ""
        if not archs or key in values or key in self.open:
            self._tell(trial, values.get(key))
            return []
        self.open[key] = trial
        return list(self.domain.fresh(archs, seen))

    def _tell(self, trial: optuna.Trial, row: Row) -> None:
        from optuna.trial import TrialState

        from diffnag.search_loop.study.storage import quiet

        with quiet():
            if row is None:
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                self.study.tell(trial, row)
