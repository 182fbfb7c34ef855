"""What the values of a search are, in words and figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffnag.protocols import NamesMeasures

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

MEASURED = ("table", "training")
"""Kinds of oracle whose figures need no warning."""
ACCURACY, SCORE = "accuracy", "score"
PROXY = "proxy"
"""The kind whose figures are of no split: nothing is trained."""


@dataclass(frozen=True)
class Measure:
    """What an oracle of this `kind` answers on one dataset."""

    kind: str
    what: str = ACCURACY

    @classmethod
    def of(cls, space: SearchSpace, *, dataset: str, kind: str) -> Measure:
        """A proxy's score; else as the space names it; an accuracy where it names nothing."""
        if kind == PROXY:
            return cls(kind, SCORE)
        return cls(kind, space.measures.get(dataset, ACCURACY) if isinstance(space, NamesMeasures) else ACCURACY)

    @property
    def unit(self) -> str:
        return "%" if self.what == ACCURACY else ""

    def name(self, split: str) -> str:
        """What the values of a split are: a surrogate's are called so wherever they are shown."""
        if self.kind == PROXY:
            return f"{PROXY} {SCORE}"
        name = f"{'validation' if split == 'val' else split} {self.what}"
        return name if self.kind in MEASURED else f"{self.kind} {name}"

    def figure(self, value: float) -> str:
        """In hundredths of a percent; other measures are small numbers."""
        return f"{value:.2f}" if self.what == ACCURACY else f"{value:.4f}"
