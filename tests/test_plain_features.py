"""The plain group of features: with it all architectures have different features, and the other groups stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np
import pytest

from diffnag import load_space
from diffnag.arch import Arch
from diffnag.datasets.tasks import Task
from diffnag.plugins import names
from diffnag.predictors.gaussian_process import GaussianProcessPredictor
from diffnag.predictors.path_features import MOST_NODES, REFERENCE_DRAWS, PathFeatures, ambiguous
from diffnag.predictors.plain_features import plain_features, varying
from diffnag.protocols import HasRoles, Role
from diffnag.testing import draws
from experiments.plain_features import Chain, accuracy


class Without(GaussianProcessPredictor):
    plain = False


class Declared(Chain):
    roles: Mapping[str, Set[Role]] = {"input": {"input"}, "identity": {"layer"}, "conv3x3": {"layer"}, "conv5x5": {"layer"}}


class Narrow(Chain):
    """Random draws never have `conv5x5`."""

    def random(self, rng: np.random.Generator) -> Arch:
        return self.from_parameters({name: choices[int(rng.integers(2))] for name, choices in self.parameters.items()})


def distinct(*groups: np.ndarray) -> int:
    return len(np.unique(np.concatenate(groups, axis=1), axis=0))


def test_columns_are_the_entries_of_both_matrices() -> None:
    V, E = np.zeros((1, 3, 2)), np.zeros((1, 3, 3))
    V[0, 1, 1] = E[0, 0, 2] = 1
    assert plain_features(V, E).tolist() == [[0, 0, 0, 1, 0, 0, 0, 1, 0]]
    assert varying(Chain()).tolist() == [False] * 4 + [False, True, True, True] * 8 + [False] * 36


@pytest.mark.parametrize("name", [name for name in names("space") if load_space(name).nodes <= MOST_NODES])
def test_architectures_of_different_canonical_form_have_different_features(name: str) -> None:
    space = load_space(name)
    archs = draws(space, 300, seed=7)
    archs = list(dict.fromkeys([*archs, *(other for arch in archs[:3] for other in space.neighbours(arch))]))
    without, (*others, plain) = PathFeatures(space, plain=False)(archs), PathFeatures(space, plain=True)(archs)
    assert distinct(plain) == len(archs) >= len({space.canonical(arch) for arch in archs})
    assert all(map(np.array_equal, without, others)), "the other groups stay as they are"


def test_a_misleading_name_makes_architectures_equal_only_without_the_group() -> None:
    archs = list(Chain().enumerate() or ())
    assert distinct(*PathFeatures(Chain(), plain=False)(archs)) < 600
    assert distinct(PathFeatures(Chain(), plain=True)(archs)[-1]) == len(archs) == 6561


def test_the_share_counts_the_keys_that_features_do_not_tell_apart() -> None:
    left, right = np.array([[0.0], [0.0], [-0.0], [1.0], [2.0], [2.0]]), np.array([[1.0], [1.0], [1.0], [1.0], [1.0], [1.0]])
    assert ambiguous((left, right), ["a", "b", "a", "c", "d", "d"]) == 2 / 4
    assert ambiguous((left, right), ["a", "a", "a", "c", "d", "d"]) == 0


def test_the_group_is_there_where_roles_are_not_declared_or_leave_architectures_equal() -> None:
    """The path features count pairs of operators that follow each other, so that two orders of the same pairs are equal."""
    for cls in (Chain, Declared):
        archs = draws(cls(), 3)
        assert len(PathFeatures(cls())(archs)) == len(PathFeatures(cls(), plain=False)(archs)) + 1


@pytest.mark.parametrize("name", [name for name in names("space") if load_space(name).nodes <= MOST_NODES])
def test_of_the_spaces_of_the_package_only_micro_needs_the_group(name: str) -> None:
    space = load_space(name)
    assert isinstance(space, HasRoles)
    archs = draws(space, 3)
    assert len(PathFeatures(space)(archs)) - len(PathFeatures(space, plain=False)(archs)) == (name == "transnasbench101-micro")


def test_operators_that_random_draws_never_have_have_different_features_too() -> None:
    archs = list(Narrow().enumerate() or ())
    assert distinct(PathFeatures(Narrow(), plain=True)(archs)[-1]) == 6561


def test_distances_count_the_entries_that_differ() -> None:
    space = Chain()
    reference = PathFeatures(space, plain=True)(draws(space, REFERENCE_DRAWS))[-1]
    assert reference.var(0).mean() == pytest.approx(1) and np.allclose(reference.mean(0), 0)
    first, second, third = PathFeatures(space, plain=True)(
        [space.from_str(",".join(["conv3x3"] * k + ["conv5x5"] * (8 - k))) for k in (8, 7, 5)]
    )[-1]
    assert ((first - third) ** 2).sum() == pytest.approx(3 * ((first - second) ** 2).sum())


def test_a_process_learns_with_the_group_what_it_cannot_without() -> None:
    space = Chain()
    archs = draws(space, 40)
    y = np.array([accuracy(arch) for arch in archs])
    starts = ("identity,identity,conv3x3,conv3x3", "conv3x3,identity,conv3x3,identity")
    first, second = (space.from_str(f"{start},conv3x3,conv3x3,conv3x3,conv3x3") for start in starts)
    means = {}
    for predictor, plain in ((Without(), False), (GaussianProcessPredictor(), True)):
        predictor.setup(space=space, task=Task("chain", own=False), seed=0)
        predictor.fit(archs, y)
        means[plain] = predictor.predict([first, second])[0]
    assert means[False][0] == means[False][1]
    assert means[True][1] - means[True][0] == pytest.approx(accuracy(second) - accuracy(first), abs=1.5)
