"""Hypervolume and its expected growth: closed forms, and sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from diffnag.objectives.hypervolume import expected_improvement_of_volume, hypervolume, surplus
from diffnag.search_loop.acquisition import expected_improvement

FRONT = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
ORIGIN = np.zeros(2)


def test_volume_by_hand() -> None:
    assert hypervolume(FRONT, ORIGIN) == 6.0
    assert hypervolume(np.concatenate([FRONT, [[1.0, 1.0], [2.0, 2.0]]]), ORIGIN) == 6.0, "what is dominated adds nothing"
    assert hypervolume(FRONT, np.array([1.0, 0.0])) == 3.0, "nor what is no better than the reference in one objective"
    assert hypervolume(np.empty((0, 2)), ORIGIN) == 0.0 == hypervolume(-FRONT, ORIGIN)
    assert hypervolume(np.array([[2.0], [5.0]]), np.array([1.0])) == 4.0


@pytest.mark.parametrize("k", [2, 3, 4])
def test_volume_is_the_share_of_points_that_are_dominated(k: int) -> None:
    rng = np.random.default_rng(k)
    values, reference, points = rng.random((8, k)), np.full(k, 0.1), rng.uniform(0.1, 1, size=(100_000, k))
    dominated = (values[:, None] >= points[None]).all(-1).any(0)
    assert hypervolume(values, reference) == pytest.approx(0.9**k * dominated.mean(), abs=0.006)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_what_is_known_improves_by_the_difference_of_volumes(k: int) -> None:
    rng = np.random.default_rng(k)
    front, candidates, reference = rng.random((6, k)), rng.random((20, k)), np.full(k, 0.2)
    before = hypervolume(front, reference)
    gains = [hypervolume(np.concatenate([front, row[None]]), reference) - before for row in candidates]
    found = expected_improvement_of_volume(candidates, np.zeros_like(candidates), front, reference)
    assert found == pytest.approx(gains, abs=1e-12) and max(gains) > 0.01


@pytest.mark.parametrize("k", [2, 3])
def test_the_expectation_is_the_mean_over_draws(k: int) -> None:
    rng = np.random.default_rng(k)
    front, reference = rng.random((6, k)), np.full(k, 0.1)
    mean, std = rng.random((3, k)), rng.uniform(0.05, 0.4, size=(3, k))
    std[1, 1:] = 0.0  # one objective is unknown, the others are counted
    before = hypervolume(front, reference)
    draws = mean + std * rng.standard_normal((4000, 3, k))
    gains = np.array([[hypervolume(np.concatenate([front, row[None]]), reference) - before for row in draw] for draw in draws])
    found = expected_improvement_of_volume(mean, std, front, reference)
    np.testing.assert_allclose(found, gains.mean(0), atol=4 * gains.std(0).max() / math.sqrt(len(draws)))


def test_a_law_of_equally_likely_values_takes_the_place_of_the_normal_one() -> None:
    """The mean of what each value would add; with many values of a normal law, what that law gives."""
    rng = np.random.default_rng(0)
    mean, std, reference = rng.random((3, 2)), rng.uniform(0.05, 0.4, size=(3, 2)), np.full(2, 0.1)
    front, few = rng.random((6, 2)), rng.random((5, 3))
    known = std * [0.0, 1.0]
    each = [expected_improvement_of_volume(np.column_stack([row, mean[:, 1]]), known, front, reference) for row in few]
    assert expected_improvement_of_volume(mean, std, front, reference, first=few) == pytest.approx(np.mean(each, axis=0), rel=1e-12)
    many = mean[:, 0] + std[:, 0] * norm.ppf((np.arange(2000) + 0.5) / 2000)[:, None]
    normal = expected_improvement_of_volume(mean, std, front, reference)
    assert expected_improvement_of_volume(mean, std, front, reference, first=many) == pytest.approx(normal, rel=2e-3, abs=1e-5)


def test_with_one_objective_it_is_expected_improvement() -> None:
    mean, std = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 0.5, 0.0, 0.1])
    found = expected_improvement_of_volume(mean[:, None], std[:, None], np.array([[1.5], [0.3]]), np.array([-10.0]))
    assert found == pytest.approx(expected_improvement(mean, std, 1.5), rel=1e-12)


def test_without_a_front_it_is_a_product() -> None:
    mean, std, reference = np.array([[0.3, -0.2]]), np.array([[1.0, 2.0]]), np.array([0.1, 0.4])
    parts = [surplus(mean[:, j], std[:, j], float(reference[j])) for j in range(2)]
    assert expected_improvement_of_volume(mean, std, np.empty((0, 2)), reference) == pytest.approx(parts[0] * parts[1])


def test_surplus_in_closed_form() -> None:
    assert surplus(np.array([0.0]), np.array([1.0]), 0.0) == pytest.approx(1 / math.sqrt(2 * math.pi))
    assert surplus(np.array([1.0]), np.array([2.0]), 3.0) == pytest.approx(2 * (norm.pdf(1) - norm.sf(1)))
    assert surplus(np.array([5.0, 1.0]), np.zeros(2), 3.0).tolist() == [2.0, 0.0]
    assert surplus(np.array([5.0]), np.ones(1), math.inf).tolist() == [0.0]
