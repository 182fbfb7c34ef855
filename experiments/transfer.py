"""Does knowledge of other datasets carry over? Guided generation with no label of the target, and search with 30.

    python -m experiments.transfer [--only generation|search] [--workers 2]

`generation`: 256 samples a row, means over `SEEDS` seeds, accuracies over the *distinct* architectures; beside each row
what ranking gives: unguided samples made in the same time, ranked by the same predictor, as many kept as the guided row has
distinct ones. `search`: table oracle, protocol T (reward = mean test accuracy), budget 30, 20 seeds, methods side by side;
`copy-rank` sorts all cells by their mean rank in the tables of the other datasets and needs no model.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.common import DATASETS, RESULTS, copied_ranks, one_thread, optimum_found, use_reference_data, write_result

N, SEEDS, BUDGET, SEARCH_SEEDS = 256, 5, 30, 20
SCALES = (0.0, 1.0, 2.0, 3.0, 4.0)
METHODS = ("meta", "meta-only", "gp", "random-forest", "mlp", "random", "evolution", "local-search")
BASELINES = METHODS[-3:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("generation", "search"))
    parser.add_argument("--methods", nargs="+", choices=(*METHODS, "copy-rank"), default=(*METHODS, "copy-rank"), help="of the search part")
    parser.add_argument("--workers", type=int, default=2, help="processes of the search part")
    args = parser.parse_args()
    use_reference_data()
    if args.only != "search":
        generation()
    if args.only != "generation":
        search(args.workers, args.methods)


def generation() -> None:
    from scipy.stats import kendalltau

    from diffnag import Generator, load_denoiser, load_predictor, load_space
    from diffnag.io.tables import load_table

    space = load_space("nasbench201")
    generator = Generator(space, load_denoiser(space))
    table = load_table(space)
    archs = [space.from_str(text) for text in table.archs]
    index = {arch: i for i, arch in enumerate(archs)}
    rows = []
    for dataset in DATASETS:
        test = table.values[f"{dataset}/test/200"]
        for name in ("meta", "meta-only"):
            predictor = load_predictor(name, space=space, dataset=dataset, seed=0)
            scores, _ = predictor.predict(archs)
            generator.generate(N, seed=0, predictor=predictor)  # warm
            for scale in SCALES:
                parts = [_guided_and_ranked(generator, predictor, scale, seed, index, test) for seed in range(SEEDS)]
                row = {
                    "dataset": dataset, "predictor": name, "scale": scale, "space_mean": float(test.mean()),
                    "tau_all_cells": float(kendalltau(scores, test)[0]),
                    **{key: float(np.mean([part[key] for part in parts])) for key in parts[0]},
                }  # fmt: skip
                row["gain"] = row["mean"] - row["space_mean"]
                rows.append(row)
                print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})
    write_result("transfer_generation", n=N, seeds=SEEDS, table_version=table.version, table_sha256=table.sha256, rows=rows)


def _guided_and_ranked(generator: Any, predictor: Any, scale: float, seed: int, index: Any, test: np.ndarray) -> dict[str, float]:
    made = generator.generate(N, seed=seed, predictor=predictor, scale=scale)
    guided = [index[arch] for arch in dict.fromkeys(made.archs)]
    begin, ranked = time.perf_counter(), {}
    pool: list[Any] = []
    while (time.perf_counter() - begin) < made.wall_s or len(ranked) < len(guided):
        pool += generator.generate(N, seed=10_000 * (seed + 1) + len(pool)).archs
        fresh = list(dict.fromkeys(pool))
        ranked = dict(zip(fresh, predictor.predict(fresh)[0], strict=True))
    kept = [index[arch] for arch in sorted(ranked, key=ranked.__getitem__, reverse=True)[: len(guided)]]
    return {
        "validity": len(made.archs) / N, "distinct": len(guided) / N, "wall_s": made.wall_s,
        "mean": float(test[guided].mean()), "max": float(test[guided].max()),
        "ranked_from": float(len(pool)), "ranked_mean": float(test[kept].mean()), "ranked_max": float(test[kept].max()),
    }  # fmt: skip


def search(workers: int, methods: Sequence[str]) -> None:
    """All rows, or those of `methods` anew and the others as they stand in the result file."""
    from concurrent.futures import ProcessPoolExecutor

    from diffnag import load_space
    from diffnag.io.tables import load_table

    table = load_table(load_space("nasbench201"))
    everything = (*METHODS, "copy-rank")
    kept: list[dict[str, Any]] = []
    if set(methods) != set(everything):
        kept = [row for row in json.loads((RESULTS / "transfer_search.json").read_text())["rows"] if row["method"] not in methods]
    pairs = [(dataset, method) for dataset in DATASETS for method in methods]
    with ProcessPoolExecutor(workers, initializer=one_thread) as pool:
        rows = [*kept, *pool.map(_searches, *zip(*pairs, strict=True))]
    rows.sort(key=lambda row: (DATASETS.index(row["dataset"]), everything.index(row["method"])))
    write_result(
        "transfer_search", protocol="T", budget=BUDGET, seeds=SEARCH_SEEDS, table_version=table.version,
        table_sha256=table.sha256, rows=rows,
    )  # fmt: skip


def _searches(dataset: str, method: str) -> dict[str, Any]:
    """The row of one method on one target: `SEARCH_SEEDS` searches."""
    from diffnag import Generator, SearchOptions, load_denoiser, load_space, run_search
    from diffnag.io.tables import load_table
    from diffnag.search_loop.loop import find_oracle

    space = load_space("nasbench201")
    table = load_table(space)
    optimum = table.values[f"{dataset}/test/200"].max()
    if method == "copy-rank":
        return _row(dataset, method, copied_ranks(dataset, BUDGET)[None], optimum, labels_source=2 * len(table.archs))
    baseline = method in BASELINES
    generator, oracle = Generator(space, load_denoiser(space)), find_oracle("table", space)
    begin, curves, sources = time.perf_counter(), [], 0
    for seed in range(SEARCH_SEEDS):
        options = SearchOptions(
            dataset=dataset, reward="test", oracle="table", budget=BUDGET, seed=seed,
            method=method if baseline else "diffnag", predictor=None if baseline else method,
        )  # fmt: skip
        result = run_search(options, oracle=oracle, generator=None if baseline else generator)
        curves.append(result.incumbent_curve)
        sources = sum(result.labels_source.values())
    row = _row(dataset, method, np.array(curves, dtype=float), optimum, labels_source=sources)
    row["seconds_per_run"] = (time.perf_counter() - begin) / SEARCH_SEEDS
    print(row, flush=True)
    return row


def _row(dataset: str, method: str, curves: np.ndarray, optimum: float, *, labels_source: int) -> dict[str, Any]:
    """`curves (seeds, budget)`: the best value after each label."""
    return {
        "dataset": dataset, "method": method, "seeds": len(curves), "labels_target": curves.shape[1], "labels_source": labels_source,
        "mean_best": float(curves[:, -1].mean()),
        "stderr": float(curves[:, -1].std(ddof=1) / len(curves) ** 0.5) if len(curves) > 1 else None,
        "mean_best_at": {str(m): float(curves[:, m - 1].mean()) for m in (1, 5, 10, 20, 30)},
        **optimum_found(curves, optimum),
    }  # fmt: skip


if __name__ == "__main__":
    main()
