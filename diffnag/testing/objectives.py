"""The contract of objectives."""

from __future__ import annotations

import numpy as np
import pytest

from diffnag.datasets.tasks import Task
from diffnag.protocols import Objective, SearchSpace
from diffnag.testing.draws import draws


class ObjectiveContract:
    """What every objective must do. Fixtures: `objective`, set up for `task` in `space`, and these two."""

    def test_describes_itself(self, objective: Objective) -> None:
        assert objective.name and objective.name.split() == [objective.name] and not set("<>=") & set(objective.name)
        assert isinstance(objective.unit, str) and isinstance(objective.maximise, bool) and isinstance(objective.paid, bool)

    def test_values_are_numbers(self, objective: Objective, space: SearchSpace, task: Task) -> None:
        values = [float(objective.measure(arch, task=task)) for arch in draws(space, 20)]
        assert np.isfinite(values).any(), "every value has failed"
        assert not np.isinf(values).any()

    def test_values_are_those_of_the_architecture(self, objective: Objective, space: SearchSpace, task: Task) -> None:
        if objective.paid:
            pytest.skip("what is paid for may be noisy")
        archs = draws(space, 20)
        values = [objective.measure(arch, task=task) for arch in archs]
        np.testing.assert_array_equal([objective.measure(arch, task=task) for arch in reversed(archs)], values[::-1])
