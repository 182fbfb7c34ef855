"""The Gaussian process over architectures and tasks, on values with a known structure."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffnag.predictors.meta.task_process import TaskProcess


def _drawn(tasks: int, archs: int, *, by_task: float, seed: int) -> tuple[torch.Tensor, ...]:
    """Values: the first feature of the architecture, plus its second feature times the first input of the task."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tasks * archs, 4, generator=generator)
    task = torch.randn(tasks, 2, generator=generator)
    member = torch.arange(tasks).repeat_interleave(archs)
    values = x[:, 0] + by_task * task[member, 0] * x[:, 1]
    return x, task, member, values + 0.1 * torch.randn(len(x), generator=generator)


def _fitted(by_task: float, *, blind: bool = False) -> TaskProcess:
    x, task, member, values = _drawn(40, 8, by_task=by_task, seed=0)
    process = TaskProcess()
    process.fit(x, task[:, :0] if blind else task, member, values, seed=0, report=lambda *_: None)
    return process


def test_it_finds_the_part_that_depends_on_the_task() -> None:
    x, task, member, values = _drawn(10, 50, by_task=1.0, seed=1)
    knows, blind = _fitted(1.0), _fitted(1.0, blind=True)

    def fit_of(process: TaskProcess, inputs: torch.Tensor) -> float:
        said = np.concatenate([process.predict(x[member == k], inputs[k]) for k in range(10)])
        return float(np.corrcoef(said, values)[0, 1])

    assert fit_of(knows, task) > 0.9 > 0.8 > fit_of(blind, task[:, :0])
    other = fit_of(knows, -task)
    assert other < fit_of(knows, task) - 0.2
    lengths = knows.hyper_parameters["task lengths"]
    assert lengths[0] < lengths[1], "the input that matters has the shorter length scale"


def test_unknown_inputs_of_a_task_count_as_the_mean() -> None:
    process = _fitted(1.0)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    _, task, _, _ = _drawn(40, 8, by_task=1.0, seed=0)
    unknown, mean = process.predict(x, torch.full((2,), torch.nan)), process.predict(x, task.mean(0))
    np.testing.assert_allclose(unknown, mean, atol=1e-5)


def test_predictions_follow_the_textbook_formula() -> None:
    """Mean = k_* (K + s^2)^-1 y with the fitted hyper-parameters; the kernels are computed directly."""
    x, task, member, values = _drawn(6, 5, by_task=0.5, seed=3)
    process = TaskProcess()
    process.fit(x, task, member, values, seed=0, report=lambda *_: None)
    found = process.hyper_parameters
    scaled = ((task - task.mean(0)) / (task - task.mean(0)).square().mean(0).sqrt()).clamp(-3, 3).double().numpy()
    lengths = np.array(found["task lengths"])

    def kernel(a: np.ndarray, s: np.ndarray, b: np.ndarray, t: np.ndarray) -> float:
        r = np.sqrt(5 * ((a - b) ** 2).mean()) / found["arch length"]
        apart = (((s - t) / lengths) ** 2).sum()
        return (1 + r + r**2 / 3) * np.exp(-r) * (found["shared"] ** 2 + found["by task"] ** 2 * np.exp(-apart / 2))

    points = [(a, scaled[k]) for a, k in zip(x.double().numpy(), member, strict=True)]
    K = np.array([[kernel(*p, *q) for q in points] for p in points]) + found["noise"] ** 2 * np.eye(len(points))
    new = torch.randn(3, 4, generator=torch.Generator().manual_seed(4))
    cross = np.array([[kernel(a, scaled[2], *q) for q in points] for a in new.double().numpy()])
    np.testing.assert_allclose(process.predict(new, task[2]), cross @ np.linalg.solve(K, values.double().numpy()), atol=1e-4)


def test_the_same_seed_gives_the_same() -> None:
    assert _fitted(0.5).hyper_parameters == _fitted(0.5).hyper_parameters
    with pytest.raises(RuntimeError):
        _fitted(0.5).predict(torch.randn(2, 3), torch.zeros(2))
