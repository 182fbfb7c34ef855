"""What a search found and what it used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from diffnag.search_loop.trial import Trial


@dataclass(frozen=True)
class Best:
    """The architecture with the best label that meets all limits; `test` is its test value, None if there is none."""

    arch: str
    predicted: float | None
    value: float
    test: float | None
    values: Mapping[str, float] = field(default_factory=dict)
    """Value of every objective."""


@dataclass(frozen=True)
class Wanted:
    """One objective of the search."""

    name: str
    unit: str
    maximise: bool
    measured: bool
    """Whether its values are computed or measured, and not predicted."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """The file that its values come from, with its checksum; empty if they come from none."""


@dataclass(frozen=True)
class Member:
    """A member of the front."""

    number: int
    """Its trial."""
    arch: str
    values: Mapping[str, float]
    """Value of every objective."""
    predicted_std: Mapping[str, float]
    """Standard deviation of each value that is predicted and not measured."""
    test: float | None
    """Its test value, None if there is none."""


@dataclass(frozen=True)
class Front:
    """The members that no other dominates, and how good they are together."""

    members: tuple[Member, ...]
    reference: Mapping[str, float | None]
    """The point from which volumes count: the median of the labels, and the worst of the front and a tenth of its range beyond; None
    without members."""
    hypervolume: float
    hypervolume_curve: tuple[float, ...]
    """Volume after each label, from the same reference."""


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
    objectives: tuple[Wanted, ...] = ()
    """The label, the other objectives, and those that limits name."""
    limits: tuple[str, ...] = ()
    front: Front | None = None
    """None for a single objective."""
    measurements: Mapping[str, int] = field(default_factory=dict)
    """Objective beside the label -> how often it was measured."""
    code: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Plug-in given by dotted path -> checksums of its source file, in the order of the labels; several if it has changed."""

    @property
    def minimised(self) -> bool:
        """Whether less of the label is better."""
        return bool(self.objectives) and not self.objectives[0].maximise

    def to_json(self) -> dict[str, Any]:
        """The content of `result.json`: everything but the trials, and `code` only if there is some."""
        left_out = {"trials"} if self.code else {"trials", "code"}
        return {key: value for key, value in asdict(replace(self, trials=())).items() if key not in left_out}
