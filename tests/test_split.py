"""The split of a space: which architectures a generator learns from."""

from __future__ import annotations

from diffnag.arch import Arch
from diffnag.errors import DataNotFound
from diffnag.generators.metrics import generation_metrics
from diffnag.spaces.split import CanonicalSplit
from tests.exact_space import ARCHS, SPACE, Chain


class Known(Chain):
    """A space that is known by examples."""

    def examples(self) -> list[Arch]:
        return ARCHS[:20]


def test_a_generator_learns_from_the_examples_of_a_space_that_has_them():
    split = CanonicalSplit(0.5)
    training = [arch for arch in ARCHS if split.trains(SPACE.canonical(arch))]
    assert split.training_archs(SPACE) == training and 10 < len(training) < 44
    assert split.training_archs(Known()) == [arch for arch in ARCHS[:20] if arch in training]


def test_what_is_none_of_the_examples_that_train_is_novel():
    split = CanonicalSplit(0.5)
    training = split.training_archs(Known())
    made = [*training[:3], *ARCHS[20:25]]
    assert generation_metrics(made, 8, Known(), split)["novelty"] == 5 / 8
    assert generation_metrics(made, 8, Unread(), split)["novelty"] is None
    assert generation_metrics(made, 8, SPACE, split)["novelty"] == sum(not split.trains(SPACE.canonical(arch)) for arch in made) / 8


class Unread(Chain):
    """A space whose examples are not there."""

    def examples(self) -> list[Arch]:
        raise DataNotFound("they are not here")
