"""How much faster several workers search than one, and what the storages cost: `python -m experiments.workers`.

The oracle is the NAS-Bench-201 table, which answers after `--seconds`; each worker is a process of one thread. The wall time
counts from the moment at which all have loaded what they need. The storages are measured with no oracle time at all.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.shared.common import one_thread, use_reference_data, write_result

DATASET, SPACE = "cifar10", "nasbench201"
STORAGES = {"memory": None, "journal": "journal:{}/study.log", "sqlite": "sqlite:///{}/study.db"}
SHARED = ("journal", "sqlite")


def main() -> None:
    """Measure, and write `results/workers.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=1.0, help="of the oracle for one label")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--methods", nargs="+", default=["random", "diffnag"], help="diffnag has predictor gp")
    parser.add_argument("--overhead-labels", type=int, default=200)
    args = parser.parse_args()
    use_reference_data()
    one_thread()
    overhead = [_overhead(name, args.overhead_labels) for name in STORAGES]
    rows = []
    for method in args.methods:
        for storage in SHARED:
            found = {workers: _search(method, storage, workers, args.labels, args.seconds) for workers in args.workers}
            alone = found[min(found)]["wall_s"]
            rows += [{**row, "share_of_one_worker": round(row["wall_s"] / alone, 3)} for row in found.values()]
            print(*rows[-len(found) :], sep="\n", flush=True)
    write_result(
        "workers", space=SPACE, dataset=DATASET, labels=args.labels, oracle_seconds=args.seconds, rows=rows, storage_overhead=overhead
    )


def _options(method: str, labels: int) -> Any:
    from diffnag import SearchOptions

    own = {"predictor": "gp"} if method == "diffnag" else {}
    return SearchOptions(dataset=DATASET, space=SPACE, oracle="table", method=method, budget=labels, **own)  # type: ignore[arg-type]


def _search(method: str, storage: str, workers: int, labels: int, seconds: float) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        place = str(STORAGES[storage]).format(folder)
        ready, times = context.Barrier(workers), context.Queue()
        processes = [context.Process(target=_work, args=(place, method, labels, seconds, ready, times)) for _ in range(workers)]
        for process in processes:
            process.start()
        told = [times.get() for _ in processes]
        for process in processes:
            process.join()
    begun, ended, cells, evaluated = zip(*told, strict=True)
    assert len(set(cells)) == 1, "the workers see the same labels"
    return {
        "method": method, "storage": storage, "workers": workers, "wall_s": round(max(ended) - min(begun), 2),
        "labels": len(cells[0]), "distinct": len(set(cells[0])), "evaluated": sum(evaluated), "by_worker": sorted(evaluated),
    }  # fmt: skip


def _work(place: str, method: str, labels: int, seconds: float, ready: Any, times: Any) -> None:
    from diffnag import load_space
    from diffnag.search_loop.loop import Search, find_oracle

    one_thread()
    space = load_space(SPACE)
    oracle = _Slow(find_oracle("table", space), seconds)
    with Search(_options(method, labels), storage=place, oracle=oracle) as search:
        ready.wait()
        begin = time.monotonic()  # the same for all processes of a machine
        search.work()
        end = time.monotonic()
        times.put((begin, end, tuple(space.canonical(trial.arch) for trial in search.study.history), oracle.evaluated))


class _Slow:
    """Another oracle's answers, each after some seconds."""

    def __init__(self, oracle: Any, seconds: float) -> None:
        self.kind, self.available = oracle.kind, oracle.available
        self._oracle, self._seconds, self.evaluated = oracle, seconds, 0

    def query(self, arch: Any, *, dataset: str, split: str, epochs: int | None = None) -> float:
        time.sleep(self._seconds)
        self.evaluated += 1
        return float(self._oracle.query(arch, dataset=dataset, split=split, epochs=epochs))

    def provenance(self) -> Mapping[str, str | float]:
        return dict(self._oracle.provenance())


def _overhead(storage: str, labels: int) -> dict[str, Any]:
    """Milliseconds a label of one worker, random draws and answers at once: what remains is the storage's."""
    from diffnag import load_space
    from diffnag.search_loop.loop import Search, find_oracle

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
