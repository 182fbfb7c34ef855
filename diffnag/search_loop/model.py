"""A predictor in a search: fitted to what is known and pending, it chooses the next evaluation by an acquisition function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diffnag.search_loop.acquisition import expected_improvement, rank
from diffnag.search_loop.outlook import Outlook
from diffnag.search_loop.trial import Proposal, Trial, best_of, expected_values

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.search_loop.outlook import Expected


PREDICTED = 0.9
"""Default of `Model.confidence` where a missed limit costs a label or is never noticed. Where a measurement shows it before the label is paid
for, the chance is weighed against the gain, and nothing has to be likely."""


@dataclass(frozen=True)
class Model:
    """An outlook on all objectives, whose predictor knows the label, and an acquisition function.

    Candidates that meet the limits on what is paid for with a probability of at least `confidence` come before all others; None stands
    for `PREDICTED`, or for 0 where a miss costs no label. The order is then that of the improvement that is expected of the best within the
    limits, times the chance to meet them (Gardner et al., ICML 2014), which ended nearer to the optimum than the acquisition function among
    what is at least as likely as not (`experiments.limit_benchmark`).
    """

    outlook: Outlook
    acquisition: str
    confidence: float | None = None

    @property
    def predictor(self) -> CheckedPredictor:
        """The predictor of the label, in which more is better."""
        return self.outlook.label

    def fit(self, history: Sequence[Trial], pending: Sequence[Arch] = ()) -> CheckedPredictor | None:
        """Fit the predictor, `believe` in what is pending, and return it; None if it has neither a label nor a prior."""
        self.outlook.learn(history)
        if any(trial.value is not None for trial in history):
            self._learn(history)
        if not self.predictor.knows_something:
            return None
        self.believe(history, pending)
        return self.predictor

    def believe(self, history: Sequence[Trial], pending: Sequence[Arch]) -> None:
        """Count `pending` as labelled with its predicted mean. The predictor must be fitted to the history.

        So neither these architectures nor similar ones are worth asking for again ("kriging believer"; Ginsbourger, Le Riche &
        Carraro 2010, section 4.2.1).
        """
        if pending:
            self._learn(history, pending, self.predictor.predict(list(pending))[0])

    def _learn(self, history: Sequence[Trial], archs: Sequence[Arch] = (), values: Sequence[float] | np.ndarray = ()) -> None:
        """Fit to the labels of `history`, and to `archs` as if `values` were their labels."""
        labelled = [trial for trial in history if trial.value is not None]
        self.predictor.fit([*(trial.arch for trial in labelled), *archs], np.array([*expected_values(labelled), *values]))

    def order(self, archs: Sequence[Arch], history: Sequence[Trial], rng: np.random.Generator) -> np.ndarray:
        """Indices of `archs`, the one most worth its evaluation first. The predictor must be fitted."""
        return self._ranked(archs, history, rng)[0]

    def choose(
        self, pool: Sequence[Arch], q: int, history: Sequence[Trial], rng: np.random.Generator, *, pending: Sequence[Arch] = ()
    ) -> tuple[Proposal, ...]:
        """At most `q` architectures of `pool`, chosen one after the other, each as if the earlier ones were pending too.

        Independent Thompson sampling keeps them apart by itself: `ts` takes all from one draw (White et al., AAAI 2021).
        """
        left, chosen = list(pool), list[Proposal]()
        sign = self.outlook.goal.label_sign
        while left and len(chosen) < q:
            waiting = [*pending, *(proposal.arch for proposal in chosen)]
            if chosen:
                self.fit(history, waiting)
            order, (mean, std) = self._ranked(left, history, rng, pending=waiting)
            best = order[: q if self.acquisition == "ts" else 1].tolist()
            chosen += (Proposal(left[i], sign * float(mean[i]), float(std[i])) for i in best)
            left = [arch for i, arch in enumerate(left) if i not in best]
        return tuple(chosen)

    def _ranked(
        self, archs: Sequence[Arch], history: Sequence[Trial], rng: np.random.Generator, *, pending: Sequence[Arch] = ()
    ) -> tuple[np.ndarray, Expected]:
        """Indices of `archs`, the one most worth its evaluation first, and the mean and deviation of each label, more being better."""
        mean, std = self.predictor.predict(archs)
        goal = self.outlook.goal
        chance = self.outlook.chance(archs, (mean, std))
        best = goal.best(history) if goal.paid_limits else best_of(history)
        if goal.has_front:
            order = np.lexsort((-mean, -self.outlook.improvement(archs, (mean, std), self.outlook.standing(history, pending))))
        elif goal.paid_limits and not self._least_chance:
            gain = 1.0 if best is None or best.worth is None else expected_improvement(mean, std, best.worth)
            order = np.lexsort((-mean, -chance * gain))
        else:
            order = rank(self.acquisition, mean, std, best=best.worth if best else None, rng=rng)
        if goal.paid_limits:
            unlikely = np.maximum(self._least_chance - chance, 0.0)
            order = order[np.argsort(unlikely[order], kind="stable")]
        return order, (mean, std)

    @property
    def _least_chance(self) -> float:
        if self.confidence is not None:
            return self.confidence
        return 0.0 if self.outlook.goal.measures_limits_first else PREDICTED
