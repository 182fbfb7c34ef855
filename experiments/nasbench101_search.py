"""Search in NAS-Bench-101: where the candidates come from, at equal labels (table oracle, protocol T: the reward is mean test accuracy).

    python -m experiments.nasbench101_search [--rows guided mutation ...] [--seeds 20] [--budget 150]

Rows `guided`, `unguided`, `mutation` and `uniform` are one loop, with the same predictor (`mlp`), acquisition and number of
candidates a round; only what draws and varies the candidates differs: guided diffusion (`python -m diffnag.search --method
diffnag`), the same unguided, neighbours of the best ten labelled cells, uniform draws. `random` and `evolution` are the
baselines of the package, without a predictor. Every search that ends is in the result file, whose rows say how many seeds
they have. What is finished is also kept in the user cache, so that a run goes on where it was stopped; with other weights, or
after `--anew`, it begins again.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from experiments.common import one_thread, read_result, use_reference_data, write_result
from experiments.draws import Draws

SPACE, DATASET, PREDICTOR = "nasbench101", "cifar10", "mlp"
SOURCES = ("guided", "unguided", "mutation", "uniform")
ROWS = (*SOURCES, "evolution", "random")
AT = (10, 30, 50, 100, 150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=int, default=150)
    parser.add_argument("--anew", action="store_true", help="forget what is kept: for code that searches otherwise now")
    args = parser.parse_args()
    use_reference_data()
    one_thread()
    for name in args.rows:
        found: list[dict[str, Any]] = []
        for seed in range(args.seeds):
            found.append(_search(name, seed, args.budget, anew=args.anew))
            rows = read_result("nasbench101_search").get("rows", [])  # anew: others may have searched meanwhile
            rows = [row for row in rows if (row["row"], row["budget"]) != (name, args.budget)] + [_row(name, args.budget, found)]
            rows.sort(key=lambda row: (row["budget"], ROWS.index(row["row"])))
            write_result("nasbench101_search", protocol="T", space=SPACE, dataset=DATASET, predictor=PREDICTOR, rows=rows)


def _row(name: str, budget: int, found: list[dict[str, Any]]) -> dict[str, Any]:
    curves = np.array([item["curve"] for item in found])
    best = curves[:, -1]
    return {
        "row": name, "budget": budget, "seeds": len(found),
        "mean_best_test": float(best.mean()), "stderr": float(best.std(ddof=1) / len(best) ** 0.5) if len(best) > 1 else None,
        "mean_best_at": {str(at): float(curves[:, at - 1].mean()) for at in AT if at <= budget},
        "best": best.round(4).tolist(), "seconds_a_search": round(float(np.mean([item["seconds"] for item in found])), 1),
    }  # fmt: skip


def _search(name: str, seed: int, budget: int, *, anew: bool) -> dict[str, Any]:
    """Best test accuracy after each label, and the seconds that it took; from the cache where it is there."""
    from diffnag import Generator, SearchOptions, load_denoiser, load_space
    from diffnag.checkpoint import checksum
    from diffnag.denoiser import shipped_denoiser
    from diffnag.files import cache_folder, write_json
    from diffnag.search_loop.loop import Search, find_oracle

    weights = checksum(shipped_denoiser(SPACE))[:12] if name in ("guided", "unguided") else "none"
    kept = cache_folder() / "nasbench101_search" / f"{name}-{seed}-{budget}-{weights}.json"
    if kept.is_file() and not anew:
        return json.loads(kept.read_text())
    space = load_space(SPACE)
    options: dict[str, Any] = {"space": SPACE, "dataset": DATASET, "oracle": "table", "reward": "test", "budget": budget, "seed": seed}
    options |= {"predictor": PREDICTOR} if name in SOURCES else {"method": name}
    options |= {"scale": 0.0} if name == "unguided" else {}
    begin = time.perf_counter()
    draws = Draws(space, mutate=name == "mutation") if name in ("mutation", "uniform") else None
    generator: Any = draws or (Generator(space, load_denoiser(space)) if name in SOURCES else None)
    with Search(SearchOptions(**options), oracle=find_oracle("table", space), generator=generator) as search:
        if draws:
            draws.search = search
        result = search.run()
    found: dict[str, Any] = {"curve": result.incumbent_curve, "seconds": time.perf_counter() - begin}
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, found)
    print(name, seed, round(float(found["curve"][-1]), 3), f"{found['seconds']:.0f} s", flush=True)
    return found


if __name__ == "__main__":
    main()
