"""The contract of objectives in NAS-Bench-201, on CIFAR-10."""

from __future__ import annotations

import pytest

from diffnag.datasets.tasks import Task
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.testing import ObjectiveContract

SPACE, TASK = NASBench201(), Task("cifar10")


class CellObjectiveContract(ObjectiveContract):
    """A test adds the fixture `objective`, set up for `SPACE` and `TASK`."""

    @pytest.fixture
    def space(self) -> NASBench201:
        return SPACE

    @pytest.fixture
    def task(self) -> Task:
        return TASK
