"""The tree-structured Parzen estimator of Optuna, on the categorical parameters of a space. With several objectives it is MOTPE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from diffnag.errors import UserError
from diffnag.search_loop.methods.base import WithoutOptions, batch_of, taken
from diffnag.search_loop.trial import Batch, Known

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from diffnag.arch import Arch
    from diffnag.objectives.goal import Goal
    from diffnag.protocols import SearchSpace
    from diffnag.search_loop.domain import Domain
    from diffnag.search_loop.trial import Trial

INITIAL = 10
"""Random draws before the estimator is asked, as is Optuna's default."""
ASKS = 200
"""Useless suggestions in a row after which random draws take their place."""


@dataclass(frozen=True)
class TPE(WithoutOptions):
    """Optuna's `TPESampler` with its defaults (Bergstra et al., NeurIPS 2011; Watanabe, arXiv 2304.11127), fitted anew to all labels.

    With several objectives the sampler is MOTPE (Ozaki et al., GECCO 2020; JAIR 2022). A suggestion that is no architecture of the
    domain is reported as failed, and the estimator leaves it out. One that is labelled already stays running, as do those that are
    proposed or pending: the constant liar leads the next suggestions elsewhere.
    """

    searches_fronts: ClassVar[bool] = True

    def propose(self, known: Known, q: int) -> Batch:
        """See `Method`."""
        from optuna.trial import TrialState

        count = len(known.history) + len(known.pending)
        rng = np.random.default_rng([self.seed, count])
        seen = taken(self.domain, known)
        if (missing := INITIAL - count) > 0:
            return batch_of(islice(self.domain.random(rng, seen), min(missing, q)))
        study, distributions = self._fitted(known, seed=int(rng.integers(2**32)))
        found: list[Arch] = []
        misses = 0
        while len(found) < q and misses < ASKS:
            trial = study.ask(distributions)
            if not (archs := decoded(self.domain, trial.params)):
                study.tell(trial, state=TrialState.FAIL)
            fresh = list(self.domain.fresh(archs, seen))
            found += fresh
            misses = 0 if fresh else misses + 1
        return batch_of([*found, *islice(self.domain.random(rng, seen), q - len(found))])

    def _fitted(self, known: Known, *, seed: int) -> tuple[optuna.Study, dict[str, BaseDistribution]]:
        """A private study that holds all that is known, and the distributions to ask it for."""
        import optuna
        from optuna.trial import TrialState, create_trial

        from diffnag.search_loop.study.storage import quiet

        space, goal = self.domain.space, self.domain.goal
        distributions = distributions_of(space)
        directions = [optuna.study.StudyDirection.MAXIMIZE] * max(len(goal.objectives), 1)
        with quiet():
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, constant_liar=True)
            study = optuna.create_study(directions=directions, sampler=sampler)
        values = worths(goal, known.history)

        def frozen(arch: Arch, state: TrialState, values: list[float] | None = None, trial: Trial | None = None) -> optuna.trial.FrozenTrial:
            curve = {epochs: value if trial.maximise else -value for epochs, value in trial.curve} if trial else None
            parameters = space.to_parameters(arch)
            return create_trial(state=state, params=parameters, distributions=distributions, values=values, intermediate_values=curve)

        for trial, row in zip(known.history, values, strict=True):
            state = TrialState.COMPLETE if row is not None else TrialState.PRUNED if trial.pruned and not goal.has_front else TrialState.FAIL
            study.add_trial(frozen(trial.arch, state, row, trial))
        study.add_trials([frozen(arch, TrialState.RUNNING) for arch in known.pending])
        return study, distributions


def distributions_of(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The parameters of a space for Optuna."""
    from optuna.distributions import CategoricalDistribution

    return {name: CategoricalDistribution(choices) for name, choices in space.parameters.items()}


def decoded(domain: Domain, parameters: Mapping[str, str]) -> list[Arch]:
    """The architecture, or nothing if the choices make none or the limits forbid it."""
    try:
        arch = domain.space.from_parameters(parameters)
    except UserError:
        return []
    return [arch] if domain.allows(arch) else []


def worths(goal: Goal, history: Sequence[Trial]) -> list[list[float] | None]:
    """The values of each whole evaluation in all objectives, more being better; None for what failed, was stopped early or misses a limit."""
    if not goal.has_front and not goal.paid_limits:
        return [None if trial.worth is None or trial.pruned else [trial.worth] for trial in history]
    complete = {trial.number for trial in goal.complete(history)}
    rows = goal.signs * goal.values(history)
    return [row.tolist() if trial.number in complete else None for trial, row in zip(history, rows, strict=True)]
