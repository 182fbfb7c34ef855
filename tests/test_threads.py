"""Threads for small work and for the steps of a training: what is chosen from the seconds that the steps took."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from diffnag.io.threads import FEW, SHORT_S, STRIKES, StepThreads, threads_for
from diffnag.networks.training import Recipe, epochs


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_few_rows() -> None:
    with threads_for(FEW):
        assert torch.get_num_threads() == 1
    with threads_for(FEW + 1):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 2


def after(*seconds: float, own: float | None = None) -> int:
    """Threads after steps that took so long; of their own time, `own` if it is given."""
    with StepThreads() as threads:
        for wall in seconds:
            threads.took(wall, wall if own is None else own)
        return torch.get_num_threads()


def test_short_steps_keep_one_thread() -> None:
    assert after() == 1
    assert after(9.0, SHORT_S / 2, SHORT_S / 2) == 1
    assert after(9.0, SHORT_S / 2, SHORT_S / 2, 0.001, 0.001) == 1
    assert after(9.0, 1.0, 1.0, own=SHORT_S / 2) == 1, "a busy machine makes a step no longer one"


def test_long_steps_have_all_threads_as_long_as_that_pays() -> None:
    assert after(9.0, 0.1) == 1
    assert after(9.0, 0.1, 0.12) == 2
    assert after(9.0, 0.1, 0.12, *[0.07] * 20) == 2
    assert after(9.0, 0.1, 0.12, *[0.5] * (STRIKES - 1), 0.07, *[0.5] * (STRIKES - 1)) == 2, "a slow step now and then"
    assert after(9.0, 0.1, 0.12, *[0.5] * STRIKES) == 1
    assert after(9.0, 0.1, 0.12, *[0.5] * STRIKES, 0.07, 0.07) == 1
    assert torch.get_num_threads() == 2


def test_a_training_has_its_threads_and_gives_them_back() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    x, y = torch.randn(16, 3, 2, 2), torch.arange(16) % 2
    training = epochs(network, x, y, Recipe(epochs=3, batch_size=8), generator=torch.Generator().manual_seed(0))
    next(training)
    assert torch.get_num_threads() == 1
    training.close()  # an evaluation that is stopped early
    assert torch.get_num_threads() == 2
