"""What a search found and what it used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from diffnag.search_loop.trial import Trial


@dataclass(frozen=True)
class Best:
    """The architecture with the largest reward; `test` is its test value, None if there is none."""

    arch: str
    predicted: float | None
    value: float
    test: float | None


@dataclass(frozen=True)
class SearchResult:
    """What a search found and what it used. Values are those of the oracle: accuracies in %, or what the space `measures`."""

    space: str
    dataset: str
    oracle: Mapping[str, Any]
    """Its `kind` and its `provenance`."""
    reward: str
    method: str
    predictor: str
    best: Best | None
    """None if every evaluation failed."""
    incumbent_curve: tuple[float | None, ...]
    """The best value after each label."""
    labels_target: int
    """Number of oracle queries, failures and the first round included."""
    epochs_target: int | None
    """Epochs that were trained for them; None if the oracle does not report epochs."""
    seconds_target: float
    """Seconds that they took."""
    labels_source: Mapping[str, int]
    guidance: str
    wall_s: float
    """Seconds in the loop, over all runs of the search."""
    nfe: int
    predictor_nfe: int
    seed: int
    budget: int
    trials: tuple[Trial, ...]
    code: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Plug-in given by dotted path -> checksums of its source file, in the order of the labels; several if it has changed."""

    def to_json(self) -> dict[str, Any]:
        """The content of `result.json`: everything but the trials, and `code` only if there is some."""
        left_out = {"trials"} if self.code else {"trials", "code"}
        return {key: value for key, value in asdict(replace(self, trials=())).items() if key not in left_out}
