"""What experiments read off the samples of a generator."""

from __future__ import annotations

from typing import Any

import pytest

from diffnag import Generation, Generator, load_denoiser
from experiments.shared.measured_space import MeasuredSpace


@pytest.mark.parametrize("name", ["nasbench201", "transnasbench101-macro"])
def test_the_matrices_of_all_samples_are_seen(name: str) -> None:
    measured = MeasuredSpace(name)
    denoiser = load_denoiser(measured.space)
    made: list[Generation] = []

    def sample(watched: Any) -> None:
        made.append(Generator(watched, denoiser).sample(6, seed=0))

    V, E = measured.matrices(sample)
    assert [measured.space.decode(v, e) for v, e in zip(V, E, strict=True)] == list(made[0].decoded)
