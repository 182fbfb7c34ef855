"""What is expected of architectures in all objectives of a goal, and how likely they meet its limits.

The predictor of the search knows the label. What costs nothing is computed. An objective that is paid for predicts itself if it can
(`Predicts`), else by the predictor `gp`, which learns from what is measured. Values are turned so that more is better in each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from diffnag.objectives.hypervolume import expected_improvement_of_volume
from diffnag.plugins import named_errors
from diffnag.protocols import Predicts
from diffnag.search_loop.trial import Trial
from diffnag.spaces.draws import random_archs

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.objectives.goal import Goal
    from diffnag.protocols import Objective, SearchSpace

Expected = tuple[np.ndarray, np.ndarray]
"""Means and standard deviations."""
REFERENCE_DRAWS = 256
"""Number of `Outlook.draws`."""
ORDINARY, BEYOND = 0.6, 0.02
"""Where the reference point lies among them: the quantile of their expected labels, and the share of their range in every other objective
by which it lies beyond the worst. Many random architectures are copies of few poor ones, so that the median would be too low."""
LEVELS = tuple((np.arange(24) + 0.5) / 24)
"""Levels of equally likely values of a label."""
REPEATED = 0.99
"""Correlation of ranks from which the expected label only repeats another objective."""


@dataclass(frozen=True)
class Standing:
    """What has to be improved on: values that are there `(m, k)`, more being better, and the reference point `(k,)`."""

    front: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True)
class Outlook:
    """Expectations of one search.

    Args:
        space: The search space.
        goal: Objectives and limits.
        label: The predictor of the label, in which more is better.
        others: Predictors of the objectives that are paid for and do not predict themselves, by name.
    """

    space: SearchSpace
    goal: Goal
    label: CheckedPredictor
    others: Mapping[str, CheckedPredictor] = field(default_factory=dict)

    def learn(self, history: Sequence[Trial]) -> None:
        """Take what was measured beside the label."""
        for objective in self.goal.measured:
            known = [trial for trial in history if objective.name in trial.values]
            archs, values = [trial.arch for trial in known], np.array([trial.values[objective.name] for trial in known])
            if isinstance(objective, Predicts):
                with named_errors("objective", objective.name, "learn", type(objective)):
                    objective.learn(archs, values)
            elif known:
                self.others[objective.name].fit(archs, values)

    # -- expectations

    def expected(self, archs: Sequence[Arch], label: Expected) -> Expected:
        """Means and standard deviations `(b, k)` of the objectives; `label` are those of the label, `(b,)` each."""
        columns = [label, *(self._turned(one, archs) for one in self.goal.objectives[1:])]
        mean, std = (np.stack(parts, axis=1) for parts in zip(*columns, strict=True))
        return mean, std

    def chance(self, archs: Sequence[Arch], label: Expected) -> np.ndarray:
        """Probability `(b,)` that each architecture meets the limits on what is paid for, taken as independent."""
        found = np.ones(len(archs))
        for limit, objective in self.goal.paid_limits:
            sign = 1.0 if objective.maximise else -1.0
            mean, std = (sign * label[0], label[1]) if objective is self.goal.objectives[0] else self._predicted(objective, archs)
            found *= limit.chance(mean, std)
        return found

    def standing(self, history: Sequence[Trial], pending: Sequence[Arch] = ()) -> Standing:
        """The front of the trials, and of what is `pending` as if it had its expected values, with the reference point. Fit `label` first."""
        front = self.goal.signs * self.goal.values(self.goal.complete(history))
        if pending:
            front = np.concatenate([front, self.expected(pending, self.label.predict(pending))[0]])
        return Standing(front, self._reference())

    def improvement(self, archs: Sequence[Arch], label: Expected, standing: Standing) -> np.ndarray:
        """Expected growth of the hypervolume by each architecture, `(b,)`, times its chance to meet the limits.

        A label has the law that its predictor knows, and the normal one where it knows none. Accuracies are dense near the top: by the
        normal law of their deviations, what is far below would seem to have a chance.
        """
        mean, std = self.expected(archs, label)
        mean = np.where(np.isnan(mean), -np.inf, mean)
        growth = expected_improvement_of_volume(mean, std, standing.front, standing.reference, first=self.label.quantiles(archs, LEVELS))
        return self.chance(archs, label) * growth

    @cached_property
    def draws(self) -> list[Arch]:
        """Random architectures that say what is ordinary in the space."""
        return random_archs(self.space, REFERENCE_DRAWS, seed=0)

    def prior_is_an_objective(self) -> bool:
        """Whether a predictor without labels expects that what is better in another objective has the worse label, and nothing else.

        All architectures then lie on the front that it expects, so that none is worth more than another. Multiply-adds as a prior beside
        the number of parameters do that.
        """
        mean = self._ordinary()
        places = np.array([np.unique(column, return_inverse=True)[1] for column in mean.T], dtype=np.float64)
        places -= places.mean(1, keepdims=True)
        lengths = np.linalg.norm(places, axis=1)
        return bool((places[1:] @ places[0] < -REPEATED * lengths[1:] * lengths[0]).any())

    def _ordinary(self) -> np.ndarray:
        """Expected values of `draws`, `(REFERENCE_DRAWS, k)`."""
        return self.expected(self.draws, self.label.predict(self.draws))[0]

    def _reference(self) -> np.ndarray:
        mean = self._ordinary()
        self.goal.refuse_unknown(mean)
        worst, best = np.nanmin(mean, axis=0), np.nanmax(mean, axis=0)
        reference = worst - BEYOND * (best - worst)
        reference[0] = np.quantile(mean[:, 0], ORDINARY)
        return reference

    # -- one objective

    def _turned(self, objective: Objective, archs: Sequence[Arch]) -> Expected:
        mean, std = self._predicted(objective, archs)
        return (mean if objective.maximise else -mean), std

    def _predicted(self, objective: Objective, archs: Sequence[Arch]) -> Expected:
        """Mean and standard deviation `(b,)` in the objective's own unit; a value that is computed has no deviation."""
        if not objective.paid:
            return np.array([self.goal.measure(objective, arch) for arch in archs]), np.zeros(len(archs))
        if isinstance(objective, Predicts):
            return self.goal.predicted(objective, archs)
        if (predictor := self.others[objective.name]).knows_something:
            return predictor.predict(list(archs))
        return np.zeros(len(archs)), np.full(len(archs), 1.0)
