"""Names, units and digits for the values of a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffnag.objectives.accuracy import ACCURACY, PROXY, SCORE, label_name, unit_of

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

MEASURED = ("table", "training")
"""Kinds of oracle whose values are measured; all others are named with their values."""


@dataclass(frozen=True)
class Measure:
    """The quantity `what`, the name of a label, that an oracle of this `kind` returns for one dataset."""

    kind: str
    what: str = ACCURACY

    @classmethod
    def of(cls, space: SearchSpace, *, dataset: str, kind: str) -> Measure:
        """A score for a proxy; else the quantity that the space names for the dataset; else accuracy."""
        return cls(kind, label_name(space, dataset=dataset, kind=kind))

    @property
    def unit(self) -> str:
        """`%` for accuracies, empty for all else."""
        return unit_of(self.what)

    def name(self, split: str) -> str:
        """The name of the values of a split; it says so if they come from a surrogate or another oracle that measures nothing."""
        if self.kind == PROXY:
            return f"{PROXY} {SCORE}"
        name = f"{'validation' if split == 'val' else split} {self.what}"
        return name if self.kind in MEASURED else f"{self.kind} {name}"

    def figure(self, value: float) -> str:
        """Two decimals for an accuracy in %; four for other quantities, which are small numbers."""
        return f"{value:.2f}" if self.unit else f"{value:.4f}"
