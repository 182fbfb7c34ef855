"""The tree-structured Parzen estimator of Optuna, on the categorical parameters of a space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import UserError
from diffnag.search_loop.methods.base import WithoutOptions, batch_of, taken
from diffnag.search_loop.trial import Batch, Known

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from diffnag.arch import Arch
    from diffnag.search_loop.trial import Trial

INITIAL = 10
"""Random draws before the estimator is asked, as is Optuna's default."""
ASKS = 200
"""Useless suggestions in a row after which random draws take their place."""


@dataclass(frozen=True)
class TPE(WithoutOptions):
    """Optuna's `TPESampler` with its defaults (Bergstra et al., NeurIPS 2011; Watanabe, arXiv 2304.11127), fitted anew to all labels.

    A suggestion that is no architecture of the domain is reported as failed, and the estimator leaves it out. One that is labelled
    already stays running, as do those that are proposed or pending: the constant liar leads the next suggestions elsewhere.
    """

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
            if not (archs := self._decoded(trial.params)):
                study.tell(trial, state=TrialState.FAIL)
            fresh = list(self.domain.fresh(archs, seen))
            found += fresh
            misses = 0 if fresh else misses + 1
        return batch_of([*found, *islice(self.domain.random(rng, seen), q - len(found))])

    def _decoded(self, parameters: Mapping[str, str]) -> list[Arch]:
        """The architecture, or nothing if the choices make none or the limits forbid it."""
        try:
            arch = self.domain.space.from_parameters(parameters)
        except UserError:
            return []
        return [arch] if self.domain.allows(arch) else []

    def _fitted(self, known: Known, *, seed: int) -> tuple[optuna.Study, dict[str, BaseDistribution]]:
        """A private study that holds all that is known, and the distributions to ask it for."""
        import optuna
        from optuna.trial import TrialState, create_trial

        from diffnag.search_loop.study.storage import quiet

        space = self.domain.space
        distributions: dict[str, BaseDistribution] = {
            name: optuna.distributions.CategoricalDistribution(choices) for name, choices in space.parameters.items()
        }
        with quiet():
            study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, constant_liar=True))

        def frozen(arch: Arch, state: TrialState, trial: Trial | None = None) -> optuna.trial.FrozenTrial:
            return create_trial(
                state=state, params=space.to_parameters(arch), distributions=distributions,
                value=trial.value if trial and state == TrialState.COMPLETE else None,
                intermediate_values=dict(trial.curve) if trial else None,
            )  # fmt: skip

        states = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        study.add_trials([frozen(trial.arch, states[trial.state], trial) for trial in known.history])
        study.add_trials([frozen(arch, TrialState.RUNNING) for arch in known.pending])
        return study, distributions
