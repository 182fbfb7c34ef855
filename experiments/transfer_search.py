"""Search with 30 labels of the target dataset: which methods profit from the labels of other datasets?

    python -m experiments.transfer_search [--methods meta gp ...] [--workers 2]

The oracle is the table, under protocol T: the reward is mean test accuracy. Each method has `SEARCH_SEEDS` searches on each target.
`copy-rank` needs no model: it takes all cells in the order of their mean rank in the tables of the other datasets.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from experiments.shared.common import DATASETS, begin, one_thread, parser
from experiments.shared.results import read_result, record, write_result
from experiments.shared.statistics import copied_ranks, optimum_found

BUDGET, SEARCH_SEEDS = 30, 20
METHODS = ("meta", "meta-only", "gp", "random-forest", "mlp", "random", "evolution", "local-search")
BASELINES = METHODS[-3:]


def main() -> None:
    options = parser(__doc__)
    everything = (*METHODS, "copy-rank")
    options.add_argument("--methods", nargs="+", choices=everything, default=everything, help="the other rows of the result file stay")
    options.add_argument("--workers", type=int, default=2, help="number of processes (default: %(default)s)")
    args = options.parse_args()
    begin()
    from concurrent.futures import ProcessPoolExecutor

    from diffnag import load_space
    from diffnag.io.tables import load_table

    table = load_table(load_space("nasbench201"))
    kept = [row for row in read_result("transfer_search").get("rows", []) if row["method"] not in args.methods]
    pairs = [(dataset, method) for dataset in DATASETS for method in args.methods]
    with ProcessPoolExecutor(args.workers, initializer=one_thread) as pool:
        rows = [*kept, *map(record, pool.map(_searches, *zip(*pairs, strict=True)))]
    rows.sort(key=lambda row: (DATASETS.index(row["dataset"]), everything.index(row["method"])))
    about = {"protocol": "T", "budget": BUDGET, "seeds": SEARCH_SEEDS, "table_version": table.version, "table_sha256": table.sha256}
    write_result("transfer_search", {**about, "rows": rows})


def _searches(dataset: str, method: str) -> dict[str, Any]:
    """Row of one method on one target, from `SEARCH_SEEDS` searches."""
    from diffnag import SearchOptions, load_generator, load_space, run_search
    from diffnag.io.tables import load_table
    from diffnag.search_loop.oracle import find_oracle

    space = load_space("nasbench201")
    table = load_table(space)
    optimum = table.values[f"{dataset}/test/200"].max()
    if method == "copy-rank":
        return _row(dataset, method, copied_ranks(dataset, BUDGET)[None], optimum, labels_source=2 * len(table.archs))
    baseline = method in BASELINES
    generator, oracle = load_generator(space), find_oracle("table", space)
    start, curves, sources = time.perf_counter(), [], 0
    for seed in range(SEARCH_SEEDS):
        options = SearchOptions(
            dataset=dataset, reward="test", oracle="table", budget=BUDGET, seed=seed,
            method=method if baseline else "diffnag", predictor=None if baseline else method,
        )  # fmt: skip
        result = run_search(options, oracle=oracle, generator=None if baseline else generator)
        curves.append(result.incumbent_curve)
        sources = sum(result.labels_source.values())
    row = _row(dataset, method, np.array(curves, dtype=float), optimum, labels_source=sources)
    row["seconds_per_run"] = (time.perf_counter() - start) / SEARCH_SEEDS
    print(row, flush=True)
    return row


def _row(dataset: str, method: str, curves: np.ndarray, optimum: float, *, labels_source: int) -> dict[str, Any]:
    """Row of `curves (seeds, budget)`, the best value after each label."""
    return {
        "dataset": dataset, "method": method, "seeds": len(curves), "labels_target": curves.shape[1], "labels_source": labels_source,
        "mean_best": float(curves[:, -1].mean()),
        "stderr": float(curves[:, -1].std(ddof=1) / len(curves) ** 0.5) if len(curves) > 1 else None,
        "mean_best_at": {str(m): float(curves[:, m - 1].mean()) for m in (1, 5, 10, 20, 30)},
        **optimum_found(curves, optimum),
    }  # fmt: skip


if __name__ == "__main__":
    main()
