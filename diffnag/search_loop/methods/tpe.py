"""The tree-structured Parzen estimator, Optuna's, on the categorical parameters of a space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import UserError
from diffnag.search_loop.domain import Domain
from diffnag.search_loop.methods.base import History, batch_of, paid
from diffnag.search_loop.trial import Batch, Generated

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from diffnag.arch import Arch
    from diffnag.search_loop.trial import Trial

INITIAL = 10
"""Random draws before the estimator, Optuna's own default."""
ASKS = 200
"""Suggestions in a row that are no use before random draws take their place."""


@dataclass(frozen=True)
class TPE:
    """Optuna's `TPESampler` with its defaults (Bergstra et al., NeurIPS 2011; Watanabe, arXiv 2304.11127), told all labels anew each time.

    A suggestion that makes no architecture of the domain is told as failed, which the estimator leaves out; one that was paid
    for stays running, like what is proposed or pending, and its constant liar leads the next elsewhere.
    """

    domain: Domain
    seed: int

    def propose(self, history: History, q: int, *, pending: Sequence[Arch] = (), generated: Generated | None = None) -> Batch:
        from optuna.trial import TrialState

        rng = np.random.default_rng([self.seed, len(history) + len(pending)])
        seen = paid(self.domain, history, pending)
        if (missing := INITIAL - len(history) - len(pending)) > 0:
            return batch_of(islice(self.domain.random(rng, seen), min(missing, q)))
        study, distributions = self._told(history, pending, seed=int(rng.integers(2**32)))
        found: list[Arch] = []
        misses = 0
        while len(found) < q and misses < ASKS:
            trial = study.ask(distributions)
            if not (archs := self._decoded(trial.params)):
                study.tell(trial, state=TrialState.FAIL)
            fresh = list(self.domain.fresh(archs, seen))
            found += fresh
            misses = 0 if fresh else misses + 1
        return batch_of([*found, *islice(self.domain.random(rng, seen), q - len(found))])

    def _decoded(self, parameters: Mapping[str, str]) -> list[Arch]:
        """The architecture, or nothing where the choices make none or the limits forbid it."""
        try:
            arch = self.domain.space.from_parameters(parameters)
        except UserError:
            return []
        return [arch] if self.domain.allows(arch) else []

    def _told(self, history: History, pending: Sequence[Arch], *, seed: int) -> tuple[optuna.Study, dict[str, BaseDistribution]]:
        """A private study that knows the history, and what to ask it for."""
        import optuna
        from optuna.trial import TrialState, create_trial

        from diffnag.search_loop.study.study import quiet

        space = self.domain.space
        distributions: dict[str, BaseDistribution] = {
            name: optuna.distributions.CategoricalDistribution(choices) for name, choices in space.parameters.items()
        }
        with quiet():
            study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, constant_liar=True))

        def told(arch: Arch, state: TrialState, trial: Trial | None = None) -> optuna.trial.FrozenTrial:
            return create_trial(
                state=state, params=space.to_parameters(arch), distributions=distributions,
                value=trial.value if trial and state == TrialState.COMPLETE else None,
                intermediate_values=dict(trial.curve) if trial else None,
            )  # fmt: skip

        states = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        study.add_trials([told(trial.arch, states[trial.state], trial) for trial in history])
        study.add_trials([told(arch, TrialState.RUNNING) for arch in pending])
        return study, distributions
