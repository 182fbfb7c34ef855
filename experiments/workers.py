"""Measures how much faster several workers search than one, and the cost of the storages.

    python -m experiments.workers [--workers 1 4] [--methods random diffnag] [--labels 60] [--seconds 1]

The oracle is the NAS-Bench-201 table, which answers after `--seconds`. Each worker is a process with one thread. Wall time starts when
all workers have loaded what they need. `storage_overhead` is measured with an oracle that answers at once.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.shared.common import begin, one_thread, parser
from experiments.shared.results import made_by, write_result

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

DATASET, SPACE = "cifar10", "nasbench201"
STORAGES = {"memory": None, "journal": "journal:{}/study.log", "sqlite": "sqlite:///{}/study.db"}
SHARED = ("journal", "sqlite")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--labels", type=int, default=60)
    options.add_argument("--seconds", type=float, default=1.0, help="seconds of the oracle for one label")
    options.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    options.add_argument("--methods", nargs="+", default=["random", "diffnag"], help="diffnag uses predictor gp")
    options.add_argument("--overhead-labels", type=int, default=200)
    args = options.parse_args()
    begin()
    one_thread()
    overhead = [_overhead(name, args.overhead_labels) for name in STORAGES]
    rows = []
    for method in args.methods:
        for storage in SHARED:
            found = {workers: _search(method, storage, workers, args.labels, args.seconds) for workers in args.workers}
            alone = found[min(found)]["wall_s"]
            rows += [{**row, "share_of_one_worker": round(row["wall_s"] / alone, 3)} for row in found.values()]
            print(*rows[-len(found) :], sep="\n", flush=True)
    about = {"made_by": made_by(), "space": SPACE, "dataset": DATASET, "labels": args.labels, "oracle_seconds": args.seconds}
    write_result("workers", {**about, "rows": rows, "storage_overhead": overhead})


def _options(method: str, labels: int) -> Any:
    from diffnag import SearchOptions

    own = {"predictor": "gp"} if method == "diffnag" else {}
    return SearchOptions(dataset=DATASET, space=SPACE, oracle="table", method=method, budget=labels, **own)  # type: ignore[arg-type]


def _search(method: str, storage: str, workers: int, labels: int, seconds: float) -> dict[str, Any]:
    """Row of one search that several workers share."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        place = str(STORAGES[storage]).format(folder)
        ready, times = context.Barrier(workers), context.Queue()
        processes = [context.Process(target=_work, args=(place, method, labels, seconds, ready, times)) for _ in range(workers)]
        for process in processes:
            process.start()
        reports = [times.get() for _ in processes]
        for process in processes:
            process.join()
    started, ended, cells, evaluated = zip(*reports, strict=True)
    assert len(set(cells)) == 1, "all workers see the same labels"
    return {
        "method": method, "storage": storage, "workers": workers, "wall_s": round(max(ended) - min(started), 2),
        "labels": len(cells[0]), "distinct": len(set(cells[0])), "evaluated": sum(evaluated), "by_worker": sorted(evaluated),
    }  # fmt: skip


def _work(place: str, method: str, labels: int, seconds: float, ready: Any, times: Any) -> None:
    """Search as one worker, and report begin, end, labels and the number of evaluations."""
    from diffnag import load_space
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.oracle import find_oracle

    one_thread()
    space = load_space(SPACE)
    oracle = _Slow(find_oracle("table", space), seconds)
    with Search(_options(method, labels), storage=place, oracle=oracle) as search:
        ready.wait()
        start = time.monotonic()  # the same clock for all processes of a machine
        search.work()
        end = time.monotonic()
        times.put((start, end, tuple(space.canonical(trial.arch) for trial in search.study.history), oracle.evaluated))


class _Slow:
    """An oracle that answers as another one, after some seconds."""

    def __init__(self, oracle: Any, seconds: float) -> None:
        self.kind, self.available = oracle.kind, oracle.available
        self._oracle, self._seconds, self.evaluated = oracle, seconds, 0

    def setup(self, *, space: SearchSpace) -> None:
        """Nothing to do: the other oracle is set up already."""

    def query(self, arch: Any, *, dataset: str, split: str, epochs: int | None = None) -> float:
        time.sleep(self._seconds)
        self.evaluated += 1
        return float(self._oracle.query(arch, dataset=dataset, split=split, epochs=epochs))

    def provenance(self) -> Mapping[str, str | float]:
        return dict(self._oracle.provenance())


def _overhead(storage: str, labels: int) -> dict[str, Any]:
    """Milliseconds per label of one worker with random draws and an oracle that answers at once: the cost of the storage."""
    from diffnag import load_space
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.oracle import find_oracle

    oracle = find_oracle("table", load_space(SPACE))
    with tempfile.TemporaryDirectory() as folder:
        place = STORAGES[storage] and str(STORAGES[storage]).format(Path(folder))
        with Search(_options("random", labels), storage=place, oracle=oracle) as search:
            wall, core = time.perf_counter(), time.process_time()
            search.work()
            wall, core = time.perf_counter() - wall, time.process_time() - core
    row = {"storage": storage, "labels": labels, "wall_ms": round(1e3 * wall / labels, 2), "core_ms": round(1e3 * core / labels, 2)}
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
