"""A Gaussian process over architectures and tasks together, for few measurements on many tasks.

    f(A, task) = g(A) + h(A, task),   cov h = k(A, A') k(task, task')

The kernel over architectures is Matern-5/2 on path features, the one over tasks squared-exponential on the inputs of a task, with one
length scale for each input (automatic relevance determination). Amplitudes, length scales and noise maximise the posterior probability
(Rasmussen & Williams 2006). With some two thousand labels a network cannot separate what holds for all tasks from what holds for one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

STEPS, LEARNING_RATE = 40, 0.1
SUBSET = 1200
"""Labels to which hyper-parameters are fitted: those of whole tasks, drawn at random."""
STARTS = {"arch length": 0.4, "shared": -0.4, "by task": -0.8, "noise": -0.5}
TASK_LENGTH = 0.7
"""Medians of the logarithms of the hyper-parameters. Each has a log-normal prior whose logarithm has standard deviation 1."""


class TaskProcess:
    """Process of values of architectures on tasks, in normal scores within each task.

    Args:
        subset: Labels to which hyper-parameters are fitted, at most: those of whole tasks.
    """

    def __init__(self, *, subset: int = SUBSET) -> None:
        self._subset = subset

    def fit(self, archs: Tensor, tasks: Tensor, member: Tensor, values: Tensor, *, seed: int, report: Callable[[int, int, float], None]) -> None:
        """Learn from n labels on r tasks; `report(step, steps, loss)` follows the fit of the hyper-parameters.

        Args:
            archs: Features of the labelled architectures `(n, k)`.
            tasks: Inputs of the tasks `(r, p)`, NaN for unknown ones.
            member: Index of each label's task `(n,)`.
            values: Normal score of each label among those of its task `(n,)`.
            seed: Draws the tasks to which hyper-parameters are fitted.
            report: Called after each step.
        """
        self._centre, self._spread = tasks.nanmean(0), (tasks - tasks.nanmean(0)).square().nanmean(0).sqrt().clamp_min(0.05)
        self._archs, self._member, self._tasks = archs.double(), member, self._standard(tasks)
        start = torch.tensor([*STARTS.values(), *[TASK_LENGTH] * tasks.shape[1]], dtype=torch.float64)
        chosen = torch.randperm(len(tasks), generator=torch.Generator().manual_seed(seed))
        some = torch.isin(member, chosen[: max(1, round(len(tasks) * min(1.0, self._subset / len(values))))])
        self._theta = _most_probable(start, self._archs[some], self._tasks[member[some]], values[some].double(), report)
        factor = _factor(self._archs, self._tasks[member], self._theta)
        self._weights = torch.cholesky_solve(values.double()[:, None], factor)[:, 0]

    def predict(self, archs: Tensor, task: Tensor) -> np.ndarray:
        """Mean of f `(b,)` for architectures with features `(b, k)` on one task with inputs `(p,)`."""
        of = self._standard(task[None]).expand(len(archs), -1)
        cross = _covariance(archs.double(), self._archs, of, self._tasks[self._member], self._theta)
        return (cross @ self._weights).numpy()

    @property
    def hyper_parameters(self) -> dict[str, float | list[float]]:
        """The fitted values: standard deviations, and length scales in units of the inputs' standard deviations."""
        found = self._theta.exp().tolist()
        return {**dict(zip(STARTS, found[:4], strict=True)), "task lengths": found[4:]}

    def _standard(self, tasks: Tensor) -> Tensor:
        """Standardised inputs of tasks `(r, p)`; unknown inputs (NaN) count as the mean."""
        return ((tasks - self._centre) / self._spread).nan_to_num(0.0).clamp(-3, 3).double()


def _most_probable(start: Tensor, archs: Tensor, tasks: Tensor, values: Tensor, report: Callable[[int, int, float], None]) -> Tensor:
    """The hyper-parameters of largest posterior probability, found by Adam from `start`; tasks are given for each label `(n, p)`."""
    theta = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([theta], LEARNING_RATE)
    for step in range(STEPS):
        factor = _factor(archs, tasks, theta)
        white = torch.linalg.solve_triangular(factor, values[:, None], upper=False)
        loss = 0.5 * white.square().sum() + factor.diagonal().log().sum() + 0.5 * (theta - start).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        report(step + 1, STEPS, loss.item() / len(values))
    return theta.detach()


def _factor(archs: Tensor, tasks: Tensor, theta: Tensor) -> Tensor:
    """Lower Cholesky factor `(n, n)` of the covariance of the labels."""
    noise = (2 * theta[3]).exp() * torch.eye(len(archs), dtype=torch.float64)
    return torch.linalg.cholesky(_covariance(archs, archs, tasks, tasks, theta) + noise)


def _covariance(archs: Tensor, others: Tensor, tasks: Tensor, of_others: Tensor, theta: Tensor) -> Tensor:
    """Covariance `(b, n)` of f between architectures on their tasks and other architectures on theirs."""
    r = (5 * _squared_distances(archs, others) / archs.shape[1] / (2 * theta[0]).exp() + 1e-12).sqrt()
    shared = (2 * theta[1]).exp()
    if tasks.shape[1]:
        lengths = theta[4:].exp()
        shared = shared + (2 * theta[2]).exp() * (-_squared_distances(tasks / lengths, of_others / lengths) / 2).exp()
    return (1 + r + r**2 / 3) * (-r).exp() * shared


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """`a (b, k)`, `b (n, k)` -> `(b, n)`."""
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)
