"""The cost of a label as a study grows: `python -m experiments.endurance growth`.

Some workers share one study with an oracle that answers at once, so that all processor time goes into choosing architectures and into
the storage. Processor time does not depend on what else the machine does, unless caches are short.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from experiments.endurance.forked import preload, start_forked
from experiments.shared.results import RESULTS, made_by, write_result

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

RESULT = "endurance_growth"
SPACE, DATASET = "darts", "cifar10"
"""The space has far more classes than a study has labels."""
STORAGES = {"sqlite": "sqlite:///{}/study.db", "journal": "journal:{}/study.log"}
BINS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    parser.add_argument("--labels", type=int, default=5000, help="labels of a study (default: 5000)")
    parser.add_argument("--workers", type=int, default=8, help="processes that share it (default: 8)")
    parser.add_argument("--method", default="random", help="method of the search (default: random)")


def main(args: argparse.Namespace) -> int:
    """Grow a study in each storage; write the processor time of a label by the number of labels that are there, and plot it."""
    preload()
    rows = [_grown(name, args.labels, args.workers, args.method) for name in STORAGES]
    write_result(RESULT, {"made_by": made_by(), "labels": args.labels, "workers": args.workers, "method": args.method, "rows": rows})
    _plot(rows, RESULTS / f"{RESULT}.png")
    return 0


class _Timed:
    """Answers at once, with a number that the architecture's checksum gives, and notes the processor time of its process."""

    kind = "table"
    available: Mapping[str, tuple[str, ...]] = {DATASET: ("val",)}

    def __init__(self, log: Path) -> None:
        self.log = log

    def setup(self, *, space: SearchSpace) -> None:
        self._space = space

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        del dataset, split, epochs
        with self.log.open("a") as file:
            file.write(f"{os.getpid()} {time.process_time()}\n")
        return crc32(self._space.to_str(arch).encode()) / 2**32

    def provenance(self) -> Mapping[str, str | float]:
        return {}


def _grown(name: str, labels: int, workers: int, method: str) -> dict[str, Any]:
    """Milliseconds of processor time a label, in bins of the number of labels."""
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.options import SearchOptions
    from diffnag.spaces.loading import load_space

    with tempfile.TemporaryDirectory(prefix="endurance-") as folder:
        place, log = STORAGES[name].format(folder), Path(folder) / "log"
        options = SearchOptions(dataset=DATASET, space=SPACE, oracle="table", method=method, budget=labels)

        def work() -> None:
            oracle = _Timed(log)
            oracle.setup(space=load_space(SPACE))
            with Search(options, storage=place, oracle=oracle) as search:
                search.work()

        begin = time.monotonic()
        started = [
            start_forked(work, folder=Path(folder), env={}, stdout=Path(folder) / f"out{k}", stderr=Path(folder) / f"err{k}") for k in range(workers)
        ]
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in started]
        assert not any(codes), [(Path(folder) / f"err{k}").read_text()[-500:] for k in range(workers)]
        cost = _cost(log.read_text())
        return {"storage": name, "wall_s": round(time.monotonic() - begin, 1), **cost}


def _cost(log: str) -> dict[str, Any]:
    before: dict[str, float] = {}
    spent = []
    for line in log.splitlines():
        process, seconds = line.split()
        spent.append(float(seconds) - before.get(process, float("nan")))
        before[process] = float(seconds)
    parts = np.array_split(np.array(spent), BINS)
    edges = np.cumsum([len(part) for part in parts])
    return {"labels": edges.tolist(), "ms_of_a_label": [round(1e3 * float(np.nanmean(part)), 2) for part in parts]}


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        _line(axes, row)
    axes.set(xlabel="labels in the study", ylabel="processor time of a label (ms)", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def _line(axes: Any, row: Mapping[str, Any]) -> None:
    axes.plot(row["labels"], row["ms_of_a_label"], label=row["storage"])
