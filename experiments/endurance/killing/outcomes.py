"""Counts of kills and of what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self


@dataclass
class Found:
    """What one campaign found."""

    kills: int = 0
    finished: int = 0
    """Evaluations, or trainings, that were finished in the end."""
    compared: int = 0
    """1 where the result was compared with that of an unbroken run."""
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Tally:
    """Counts over all campaigns of one kind."""

    kind: str
    campaigns: int = 0
    kills: int = 0
    finished: int = 0
    compared: int = 0
    faults: int = 0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        return cls(**row)

    def with_campaign(self, found: Found) -> Self:
        """The counts with those of one more campaign."""
        return replace(
            self, campaigns=self.campaigns + 1, kills=self.kills + found.kills, finished=self.finished + found.finished,
            compared=self.compared + found.compared, faults=self.faults + len(found.faults),
        )  # fmt: skip

    def row(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.kind}: {self.campaigns} campaigns, {self.kills} kills, {self.finished} finished, {self.compared} compared, {self.faults} faults"
        )
