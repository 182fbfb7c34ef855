"""Compares search from a meta-learned prior with search from scratch: table oracle, protocol T (the reward is mean test accuracy).

    python -m experiments.meta_search [--methods meta-only meta] [--targets ...] [--workers 2]

Each prior has five training seeds with ten searches each (`--training-seeds`, `--search-seeds`), 40 labels per search, and the same
hyper-parameters for all targets. Networks with other seeds than the shipped ones are trained first. Networks and searches are saved in
the user cache, so that a stopped run continues.
`gp` is the same search from scratch, read from the results of `experiments.arena`. `copy-rank` takes all cells in the order of their
mean rank in the tables of the other datasets.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.shared.common import DATASETS, begin, one_thread, parser
from experiments.shared.results import RESULTS, by_seeds, read_result, record, write_result
from experiments.shared.statistics import copied_ranks, optimum_found

METHODS = ("meta-only", "meta")
BUDGET = 40
AT = (1, 5, 10, 20, 40)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    options.add_argument("--targets", nargs="+", choices=DATASETS, default=DATASETS)
    options.add_argument("--training-seeds", type=int, default=5)
    options.add_argument("--search-seeds", type=int, default=10)
    options.add_argument("--workers", type=int, default=2)
    args = options.parse_args()
    begin()
    from concurrent.futures import ProcessPoolExecutor

    jobs = [
        (method, target, seed, args.search_seeds)
        for method in args.methods for target in args.targets for seed in range(args.training_seeds)
    ]  # fmt: skip
    with ProcessPoolExecutor(args.workers, initializer=one_thread) as pool:
        parts = list(pool.map(_searches, *zip(*jobs, strict=True)))
    rows = read_result("meta_search").get("rows", [])
    for method in args.methods:
        for target in args.targets:
            mine = [part for part, job in zip(parts, jobs, strict=True) if job[:2] == (method, target)]
            rows = [row for row in rows if (row["method"], row["dataset"]) != (method, target)]
            row = _row(method, target, np.concatenate([np.array(part["curves"], dtype=float) for part in mine]))
            rows.append({**row, "made_by": by_seeds({seed: part["made_by"] for seed, part in enumerate(mine)})})
    for target in args.targets:
        rows = [row for row in rows if row["dataset"] != target or row["method"] in METHODS]
        rows += [_from_scratch(target), record(_row("copy-rank", target, copied_ranks(target, BUDGET)[None]))]
    rows.sort(key=lambda row: (DATASETS.index(row["dataset"]), (*METHODS, "gp", "copy-rank").index(row["method"])))
    write_result("meta_search", {"protocol": "T", "budget": BUDGET, "rows": rows})


def _searches(method: str, target: str, training_seed: int, searches: int) -> dict[str, Any]:
    """`curves (searches, BUDGET)`, the best test accuracy so far with the networks of one training seed, and `made_by`."""
    from diffnag import SearchOptions, load_generator, load_space, run_search
    from diffnag.io.files import cache_folder, write_json
    from diffnag.search_loop.oracle import find_oracle

    kept = cache_folder() / "meta_search" / f"{method}-{target}-{training_seed}-{searches}-{_weights_name(method, target, training_seed)}.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    space = load_space("nasbench201")
    generator, oracle = load_generator(space), find_oracle("table", space)
    curves = []
    for k in range(searches):
        options = SearchOptions(
            dataset=target, reward="test", oracle="table", budget=BUDGET, seed=searches * training_seed + k, predictor=method
        )
        result = run_search(options, oracle=oracle, generator=generator, predictor=_predictor(method, target, training_seed, space))
        curves.append(result.incumbent_curve)
    found = record({"curves": curves})
    write_json(kept, found)
    print(method, target, training_seed, np.round(np.mean(np.array(curves, dtype=float), axis=0)[[at - 1 for at in AT]], 3).tolist(), flush=True)
    return found


def _predictor(method: str, target: str, seed: int, space: Any) -> Any:
    """The predictor with the weights of one training seed."""
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.plugins import make_predictor

    predictor: Any = make_predictor(method)
    predictor.load(_weights(method, target, seed, space), space=space, target=target)
    return CheckedPredictor(method, predictor)


def _weights(method: str, target: str, seed: int, space: Any) -> Path:
    """Path of the weights of one training seed; they are trained if the file does not exist."""
    from diffnag.datasets.sources import load_sources
    from diffnag.io.checkpoint import load_checkpoint
    from diffnag.io.files import cache_folder
    from diffnag.plugins import make_predictor
    from diffnag.predictors.meta.predictor import shipped

    predictor: Any = make_predictor(method)
    path = shipped(space.name, predictor.transfer, target)
    if load_checkpoint(path, kind="meta-predictor")[1]["seed"] == seed:
        return path
    path = cache_folder() / "meta_search" / f"{method}-{target}-{seed}.safetensors"
    if not path.is_file():
        start = time.monotonic()
        predictor.meta_fit(load_sources(predictor.transfer, space, target), space=space, target=target, seed=seed, report=lambda *_: None)
        predictor.save(path, target=target, meta={"seed": seed})
        print(f"trained {method} for {target}, seed {seed}, in {time.monotonic() - start:.0f} s", flush=True)
    return path


def _weights_name(method: str, target: str, seed: int) -> str:
    """Short checksum of the weights, for names of files."""
    from diffnag import load_space
    from diffnag.io.checkpoint import weights_checksum

    return weights_checksum(_weights(method, target, seed, load_space("nasbench201")))[:8]


def _from_scratch(target: str) -> dict[str, Any]:
    """Row of the searches of the arena with `gp`, which knows only the labels of the search."""
    from experiments.shared.arena_results import OURS, curves_folder, load_all

    place = (f"nasbench201/{target}", OURS, "T")
    entry = next(entry for entry in load_all(curves_folder(RESULTS / "arena.json")) if entry.place == place)
    return {**_row("gp", target, entry.curves()[:, :BUDGET]), "made_by": entry.row()["made_by"]}


def _row(method: str, target: str, curves: np.ndarray) -> dict[str, Any]:
    """Row of `curves (runs, BUDGET)`, the best value after each label."""
    from diffnag import load_space
    from diffnag.io.tables import load_table

    optimum = load_table(load_space("nasbench201")).values[f"{target}/test/200"].max()
    return {
        "method": method, "dataset": target, "runs": len(curves),
        "mean_best_at": {str(at): float(curves[:, at - 1].mean()) for at in AT},
        "stderr_at": {str(at): float(curves[:, at - 1].std(ddof=1) / len(curves) ** 0.5) for at in AT} if len(curves) > 1 else None,
        **optimum_found(curves, optimum),
    }  # fmt: skip


if __name__ == "__main__":
    main()
