"""The oracle `table`: measured results of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import UserError
from diffnag.io.tables import BenchmarkTable, load_table
from diffnag.oracles.columns import Columns

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace


class TableOracle:
    """Answers with the results in the benchmark's table."""

    kind = "table"
    table: BenchmarkTable

    def setup(self, *, space: SearchSpace) -> None:
        """Load the table of `space`; raises the errors of `load_table`."""
        self.table = load_table(space)
        self._space = space
        self._row = {text: row for row, text in enumerate(self.table.archs)}
        self._columns = Columns("table", self.table.values)

    @property
    def complete(self) -> bool:
        """Whether the table covers the whole space; `--oracle auto` takes no other."""
        return self.table.complete

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        """Dataset -> its splits."""
        return self._columns.available

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        """Accuracy in %, or what the space `measures` instead, after `epochs`, by default the longest training.

        Raises `UserError` if the table has no such result.
        """
        column = self._columns.find(dataset, split, epochs)
        text = self._space.to_str(arch)
        if text not in self._row:
            raise UserError(f"{text} is not among the {len(self._row)} architectures of the {self.table.space} table")
        value = self.table.values[column][self._row[text]]
        if np.isnan(value):
            count = np.count_nonzero(~np.isnan(self.table.values[column]))
            raise UserError(f"the {self.table.space} table has {column} for {count:,} of its {len(self._row):,} architectures, not for {text}")
        return round(float(value), 4)  # as the benchmark prints it; float32 would add digits that were not measured

    def provenance(self) -> Mapping[str, str | float]:
        """The table's space, version, checksum and number of architectures."""
        return {
            "table": self.table.space, "version": self.table.version,
            "sha256": self.table.sha256, "architectures": len(self.table.archs),
        }
