"""Oracles that write the begin of each evaluation to a file that all processes share: `$ENDURANCE_LOG`."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.oracles.surrogate import SurrogateOracle
from diffnag.oracles.table import TableOracle
from diffnag.oracles.training import TrainingOracle
from diffnag.spaces.loading import load_space

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

LOG, SECONDS = "ENDURANCE_LOG", "ENDURANCE_SECONDS"
SPACE = "nasbench201"


@cache
def known_oracle() -> TableOracle | SurrogateOracle:
    """The table of the space where it is there, else the surrogate; loaded once in the parent of all searches."""
    oracle: TableOracle | SurrogateOracle = TableOracle() if os.environ.get("DIFFNAG_DATA") else SurrogateOracle()
    oracle.setup(space=load_space(SPACE))
    return oracle


class LoggedTable:
    """Answers from the table after `$ENDURANCE_SECONDS`."""

    kind = "table"

    def setup(self, *, space: SearchSpace) -> None:
        self._space = space

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        return known_oracle().available

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        if split == "val":
            _write(self._space.canonical(arch))
            time.sleep(float(os.environ[SECONDS]))
        return known_oracle().query(arch, dataset=dataset, split=split, epochs=epochs)

    def provenance(self) -> Mapping[str, str | float]:
        return known_oracle().provenance()


class LoggedTraining(TrainingOracle):
    """Really trains."""

    def stages(self, arch: Arch, *, dataset: str, split: str) -> Iterator[tuple[int, float]]:
        _write(self._space.canonical(arch))
        yield from super().stages(arch, dataset=dataset, split=split)


def begun(log: Path) -> Counter[str]:
    """How often the evaluation of each architecture, by its canonical form, was begun."""
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()


def _write(key: str) -> None:
    handle = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(handle, f"{key}\n".encode())
    os.close(handle)
