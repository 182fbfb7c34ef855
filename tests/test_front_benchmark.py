"""The front benchmark: its regret and what is out of reach, in closed form and beside the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.fronts import results, search
from experiments.fronts.search import BENCHMARKS, Fronts, Truth

TRUE = Truth(np.array([[2.0, 1.0], [1.0, 2.0]]), np.zeros(2), np.array([1.0, -1.0]))
"""Covers an area of 3."""


def test_the_regret_is_the_share_of_the_volume_that_is_missing() -> None:
    assert results.front_regret(TRUE.front, TRUE) == pytest.approx(0)
    assert results.front_regret(np.array([[1.0, 1.0]]), TRUE) == pytest.approx(100 * 2 / 3)
    assert results.front_regret(np.array([[2.0, 0.5], [-1.0, 9.0]]), TRUE) == pytest.approx(100 * 2 / 3), "what is below the reference adds nothing"


def test_out_of_reach_is_the_regret_of_all_copies_that_can_be_bought(monkeypatch: pytest.MonkeyPatch) -> None:
    place = next(name for name, about in BENCHMARKS.items() if about.tabled)
    monkeypatch.setattr(results, "cheapest_copies", lambda about: np.array([[2.0, -1.0], [np.nan, -2.0], [0.5, -2.0]]))
    assert results.out_of_reach(place, TRUE) == pytest.approx(100 * 0.5 / 3, abs=1e-3)
    monkeypatch.setattr(results, "cheapest_copies", lambda about: np.empty((0, 2)))
    assert results.out_of_reach(place, TRUE) is None


@pytest.mark.timeout(120)
def test_one_copy_of_each_class_is_bought_and_none_is_cheaper(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    about = Fronts("nasbench201", "cifar100", ("params",))
    space, _ = search.space_and_oracle("nasbench201", "table")
    goal = search.goal_of(about)
    least: dict[str, float] = {}
    for arch in space.enumerate():
        key, value = space.canonical(arch), goal.measure(goal.objectives[1], arch)
        least[key] = min(value, least.get(key, np.inf))
    values = search.cheapest_copies(about)
    assert values[:, 1].tolist() == list(least.values())
    assert values[:, 0].max() <= search.table_values(about)[:, 0].max()
