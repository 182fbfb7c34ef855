"""Search from a meta-learned prior against search from scratch: table oracle, protocol T (reward = mean test accuracy).

    python -m experiments.meta_search [--methods meta-only meta] [--targets ...] [--workers 2]

Five training seeds x ten search seeds a prior (`--training-seeds`, `--search-seeds`), 40 labels, one set of
hyper-parameters for all targets. Networks of other seeds than the shipped ones are trained first and kept in the user cache, so
that a run goes on where it was stopped. `gp` is the same search from scratch, as the arena has it (`experiments.arena`);
`copy-rank` sorts all cells by their mean rank in the tables of the other datasets.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.shared.common import DATASETS, RESULTS, copied_ranks, one_thread, optimum_found, read_result, use_reference_data, write_result

METHODS = ("meta-only", "meta")
BUDGET = 40
AT = (1, 5, 10, 20, 40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--targets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--training-seeds", type=int, default=5)
    parser.add_argument("--search-seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    use_reference_data()
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
            curves = np.concatenate([part for part, job in zip(parts, jobs, strict=True) if job[:2] == (method, target)])
            rows = [row for row in rows if (row["method"], row["dataset"]) != (method, target)]
            rows.append(_row(method, target, curves))
    for target in args.targets:
        rows = [row for row in rows if row["dataset"] != target or row["method"] in METHODS]
        rows += [_row("gp", target, _from_scratch(target)), _row("copy-rank", target, copied_ranks(target, BUDGET)[None])]
    rows.sort(key=lambda row: (DATASETS.index(row["dataset"]), (*METHODS, "gp", "copy-rank").index(row["method"])))
    write_result("meta_search", protocol="T", budget=BUDGET, rows=rows)


def _searches(method: str, target: str, training_seed: int, searches: int) -> np.ndarray:
    """Best test accuracy so far `(searches, BUDGET)` with the networks of one training seed."""
    from diffnag import Generator, SearchOptions, load_denoiser, load_space, run_search
    from diffnag.io.files import cache_folder
    from diffnag.search_loop.loop import find_oracle

    kept = cache_folder() / "meta_search" / f"{method}-{target}-{training_seed}-{searches}-{_weights_name(method, target, training_seed)}.npy"
    if kept.is_file():
        return np.load(kept)
    space = load_space("nasbench201")
    generator, oracle = Generator(space, load_denoiser(space)), find_oracle("table", space)
    curves = []
    for k in range(searches):
        options = SearchOptions(
            dataset=target, reward="test", oracle="table", budget=BUDGET, seed=searches * training_seed + k, predictor=method
        )
        result = run_search(options, oracle=oracle, generator=generator, predictor=_predictor(method, target, training_seed, space))
        curves.append(result.incumbent_curve)
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.save(kept, np.array(curves, dtype=float))
    print(method, target, training_seed, np.round(np.mean(curves, axis=0)[[at - 1 for at in AT]], 3).tolist(), flush=True)
    return np.array(curves, dtype=float)


def _predictor(method: str, target: str, seed: int, space: Any) -> Any:
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.plugins import make_predictor

    predictor: Any = make_predictor(method)
    predictor.load(_weights(method, target, seed, space), space=space, target=target)
    return CheckedPredictor(method, predictor)


def _weights(method: str, target: str, seed: int, space: Any) -> Path:
    """The weights of one training seed, trained if they are not there."""
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
        begin = time.monotonic()
        predictor.meta_fit(load_sources(predictor.transfer, space, target), space=space, target=target, seed=seed, report=lambda *_: None)
        predictor.save(path, target=target, meta={"seed": seed})
        print(f"trained {method} for {target}, seed {seed}, in {time.monotonic() - begin:.0f} s", flush=True)
    return path


def _weights_name(method: str, target: str, seed: int) -> str:
    """What tells searches with other weights apart."""
    from diffnag import load_space
    from diffnag.io.checkpoint import checksum

    return checksum(_weights(method, target, seed, load_space("nasbench201")))[:8]


def _from_scratch(target: str) -> np.ndarray:
    """Best test accuracy so far `(seeds, BUDGET)` of the arena's searches with `gp`, which knows the labels of the search alone."""
    from experiments.shared.arena_results import OURS, curves_folder, load_all

    place = (f"nasbench201/{target}", OURS, "T")
    return next(entry for entry in load_all(curves_folder(RESULTS / "arena.json")) if entry.place == place).curves()[:, :BUDGET]


def _row(method: str, target: str, curves: np.ndarray) -> dict[str, Any]:
    """`curves (seeds, BUDGET)`: the best value after each label."""
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
