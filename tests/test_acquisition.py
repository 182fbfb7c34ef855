"""Acquisition functions against hand-made values, numeric integration and sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from diffnag.errors import UserError
from diffnag.search_loop.acquisition import (
    expected_improvement,
    probability_of_improvement,
    rank,
    thompson,
    upper_confidence_bound,
)
from diffnag.search_loop.options import ACQUISITIONS


def test_values_by_hand() -> None:
    # at mean = best: EI = std / sqrt(2 pi), PI = 1/2; one deviation above: EI = Phi(1) + phi(1), PI = Phi(1)
    mean, std = np.array([90.0, 91.0]), np.array([1.0, 1.0])
    assert expected_improvement(mean, std, 90.0) == pytest.approx([1 / math.sqrt(2 * math.pi), 0.8413447 + 0.2419707], abs=1e-7)
    assert probability_of_improvement(mean, std, 90.0) == pytest.approx([0.5, 0.8413447], abs=1e-7)
    assert upper_confidence_bound(mean, std, beta=2.0) == pytest.approx([92.0, 93.0])


@pytest.mark.parametrize(("mean", "std", "best"), [(88.0, 1.5, 90.0), (91.0, 0.2, 90.0), (90.0, 3.0, 90.0), (70.0, 5.0, 94.0)])
def test_against_integration(mean: float, std: float, best: float) -> None:
    density = stats.norm(mean, std).pdf
    top = mean + 15 * std
    gain, _ = integrate.quad(lambda f: (f - best) * density(f), best, top, epsabs=0, epsrel=1e-10, limit=200)
    chance, _ = integrate.quad(density, best, top, epsabs=0, epsrel=1e-10, limit=200)
    assert expected_improvement(np.array([mean]), np.array([std]), best)[0] == pytest.approx(gain, rel=1e-7)
    assert probability_of_improvement(np.array([mean]), np.array([std]), best)[0] == pytest.approx(chance, rel=1e-7)


def test_no_deviation_is_exact() -> None:
    mean, std = np.array([89.0, 90.0, 92.5]), np.zeros(3)
    assert expected_improvement(mean, std, 90.0).tolist() == [0.0, 0.0, 2.5]
    assert probability_of_improvement(mean, std, 90.0).tolist() == [0.0, 0.0, 1.0]
    assert upper_confidence_bound(mean, std).tolist() == mean.tolist()
    assert thompson(mean, std, np.random.default_rng(0)).tolist() == mean.tolist()


def test_expected_improvement_is_the_limit_of_small_deviations() -> None:
    mean = np.array([89.0, 90.0, 92.5])
    assert expected_improvement(mean, np.full(3, 1e-9), 90.0) == pytest.approx([0.0, 0.0, 2.5], abs=1e-8)


def test_thompson_draws_from_the_predictive_law() -> None:
    draws = thompson(np.full(20_000, 3.0), np.full(20_000, 2.0), np.random.default_rng(0))
    assert draws.mean() == pytest.approx(3.0, abs=0.05)
    assert draws.std() == pytest.approx(2.0, abs=0.05)


def test_rank() -> None:
    mean, std, rng = np.array([90.0, 92.0, 91.0]), np.array([5.0, 0.0, 0.5]), np.random.default_rng(0)
    assert rank("ei", mean, std, best=91.9, rng=rng).tolist() == [0, 1, 2]
    assert rank("pi", mean, std, best=91.9, rng=rng).tolist() == [1, 0, 2]
    assert rank("ucb", mean, std, best=91.9, rng=rng).tolist() == [0, 1, 2]
    assert sorted(rank("ts", mean, std, best=91.9, rng=rng).tolist()) == [0, 1, 2]


def test_rank_without_an_observation_is_by_the_mean() -> None:
    mean, std = np.array([90.0, 92.0, 91.0]), np.array([50.0, 0.0, 0.5])
    for name in ("ei", "pi"):
        assert rank(name, mean, std, best=None, rng=np.random.default_rng(0)).tolist() == [1, 2, 0]


def test_ties_go_to_the_larger_mean() -> None:
    assert rank("ei", np.array([1.0, 3.0, 2.0]), np.zeros(3), best=50.0, rng=np.random.default_rng(0)).tolist() == [1, 2, 0]


def test_unknown_name() -> None:
    with pytest.raises(UserError, match="unknown acquisition 'kg'; there are: " + ", ".join(ACQUISITIONS)):
        rank("kg", np.zeros(1), np.zeros(1), best=None, rng=np.random.default_rng(0))
