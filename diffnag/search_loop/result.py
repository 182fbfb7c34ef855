"""What a search found and what it has used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from diffnag.search_loop.trial import Trial


@dataclass(frozen=True)
class Best:
    """The architecture of the largest observed reward; `test` is its test value, None where there is none."""

    arch: str
    predicted: float | None
    value: float
    test: float | None


@dataclass(frozen=True)
class SearchResult:
    """What a search found and what it has used; values as the oracle gives them: accuracies in %, or what the space `measures`."""

    space: str
    dataset: str
    oracle: Mapping[str, Any]
    """Its `kind` and what else `provenance` tells."""
    reward: str
    method: str
    predictor: str
    best: Best | None
    """None where every evaluation failed."""
    incumbent_curve: tuple[float | None, ...]
    """The best value after each label."""
    labels_target: int
    """Oracle queries, failures and the first round included."""
    epochs_target: int | None
    """Epochs trained for them; None where the oracle does not tell."""
    seconds_target: float
    """Seconds they took."""
    labels_source: Mapping[str, int]
    guidance: str
    wall_s: float
    """Seconds in the loop, over all runs of the search."""
    nfe: int
    predictor_nfe: int
    seed: int
    budget: int
    trials: tuple[Trial, ...]

    def to_json(self) -> dict[str, Any]:
        """What `result.json` holds: all but the trials."""
        return {key: value for key, value in asdict(replace(self, trials=())).items() if key != "trials"}
