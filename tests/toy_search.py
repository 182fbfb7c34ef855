"""Searches for the best of the toy oracle, in a call each."""

from __future__ import annotations

import dataclasses
from typing import Any

from diffnag.guidance.checked import CheckedPredictor
from diffnag.plugins import names
from diffnag.search_loop.loop import run_search
from diffnag.search_loop.options import SearchOptions
from diffnag.search_loop.result import SearchResult
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.search_fakes import Nearest, RandomGenerator, ToyOracle

METHODS = names("method")

def options(method: str = "random", **changes: Any) -> SearchOptions:
    own = {"predictor": "nearest", "candidates": 64} if method == "diffnag" else {}
    return SearchOptions(**{"dataset": "cifar10", "method": method, "budget": 17, "batch": 5, **own, **changes})


def search(asked: SearchOptions, *, oracle: ToyOracle | None = None, predictor: object = None, **places: Any) -> SearchResult:
    parts: dict[str, Any] = {"oracle": oracle or ToyOracle()}
    if asked.method == "diffnag":
        parts["predictor"] = CheckedPredictor("nearest", predictor or Nearest())  # type: ignore[arg-type]
        parts["generator"] = RandomGenerator(NASBench201())
    return run_search(asked, **{**parts, **places})


def outcome(result: SearchResult) -> list[Any]:
    """The trials without the time they took."""
    return [dataclasses.replace(trial, cost_s=0.0) for trial in result.trials]
