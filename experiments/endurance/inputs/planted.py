"""Objects whose pickles show that they were loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class Planted:
    """An object whose pickle makes the file `marker` when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Any, ...]]:
        return open, (self.marker, "w")
