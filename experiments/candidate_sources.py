"""Where the candidates of a search come from, at equal labels, in spaces that are too large to be scored whole.

    python -m experiments.candidate_sources [--spaces nasbench101 mobilenetv3] [--rows guided mutation ...] [--seeds 20]

In `nasbench101` the oracle is the table (protocol T: the reward is mean test accuracy) and the predictor `mlp`; in `mobilenetv3`,
which has no table, the training-free score `naswot` of networks of at most 5 million parameters, and `gp`. Rows `guided`,
`unguided`, `mutation`, `mutation and uniform` and `uniform` are one loop, with the same predictor, acquisition and number of
candidates a round; only what draws and varies the candidates differs: guided diffusion (`python -m diffnag.search --method
diffnag`), the same unguided, neighbours of the best ten labelled architectures, half of them and half uniform draws, uniform
draws. `random` and `evolution` are the baselines of the package, without a predictor. Every search that ends is in the result
file, whose rows say how many seeds they have. What is finished is also kept in the user cache, so that a run goes on where it
was stopped; with other weights, or after `--anew`, it begins again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.shared.common import one_thread, read_result, use_reference_data, write_result
from experiments.shared.draws import MUTATED, Draws

SPACES: Mapping[str, Mapping[str, Any]] = {
    "nasbench101": {"dataset": "cifar10", "oracle": "table", "reward": "test", "predictor": "mlp", "budget": 150, "candidates": 256},
    "mobilenetv3": {
        "dataset": "imagenet", "oracle": "naswot", "reward": "val", "predictor": "gp", "budget": 100, "candidates": 256,
        "max_params": 5_000_000,
    },
}  # fmt: skip
"""Space -> options of a search in it."""
DIFFUSION = ("guided", "unguided")
SOURCES = (*DIFFUSION, *MUTATED)
ROWS = (*SOURCES, "evolution", "random")
AT = (10, 30, 50, 100, 150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--anew", action="store_true", help="forget what is kept: for code that searches otherwise now")
    args = parser.parse_args()
    use_reference_data()
    one_thread()
    places = list(SPACES)
    for space in args.spaces:
        for name in args.rows:
            found: list[dict[str, Any]] = []
            for seed in range(args.seeds):
                found.append(_search(space, name, seed, anew=args.anew))
                rows = read_result("candidate_sources").get("rows", [])  # anew: others may have searched meanwhile
                rows = [row for row in rows if (row["space"], row["row"]) != (space, name)] + [_row(space, name, found)]
                rows.sort(key=lambda row: (places.index(row["space"]), ROWS.index(row["row"])))
                write_result("candidate_sources", searches=SPACES, rows=rows)


def _row(space: str, name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    curves = np.array([item["curve"] for item in found])
    best = curves[:, -1]
    return {
        "space": space, "row": name, "seeds": len(found),
        "mean_best": float(best.mean()), "stderr": float(best.std(ddof=1) / len(best) ** 0.5) if len(best) > 1 else None,
        "mean_best_at": {str(at): float(curves[:, at - 1].mean()) for at in AT if at <= curves.shape[1]},
        "best": best.round(4).tolist(), "seconds_a_search": round(float(np.mean([item["seconds"] for item in found])), 1),
    }  # fmt: skip


def _search(place: str, name: str, seed: int, *, anew: bool) -> dict[str, Any]:
    """The best value after each label, and the seconds that it took; from the cache where it is there."""
    from diffnag import Generator, SearchOptions, load_denoiser, load_space
    from diffnag.generators.diffusion.denoiser import shipped_denoiser
    from diffnag.io.checkpoint import checksum
    from diffnag.io.files import cache_folder, write_json
    from diffnag.search_loop.loop import Search, find_oracle

    options: dict[str, Any] = {"space": place, "seed": seed, **SPACES[place]}
    weights = checksum(shipped_denoiser(place))[:12] if name in DIFFUSION else "none"
    kept = cache_folder() / "candidate_sources" / f"{place}-{name.replace(' ', '-')}-{seed}-{options['budget']}-{weights}.json"
    if kept.is_file() and not anew:
        return json.loads(kept.read_text())
    space = load_space(place)
    if name not in SOURCES:
        del options["predictor"], options["candidates"]
        options["method"] = name
    elif name == "unguided":
        options["scale"] = 0.0
    begin = time.perf_counter()
    draws = Draws(space, mutated=MUTATED[name]) if name in MUTATED else None
    generator: Any = draws or (Generator(space, load_denoiser(space)) if name in DIFFUSION else None)
    with Search(SearchOptions(**options), oracle=find_oracle(options["oracle"], space), generator=generator) as search:
        if draws:
            draws.search = search
        result = search.run()
    found: dict[str, Any] = {"curve": result.incumbent_curve, "seconds": time.perf_counter() - begin}
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, found)
    print(place, name, seed, round(float(found["curve"][-1]), 3), f"{found['seconds']:.0f} s", flush=True)
    return found


if __name__ == "__main__":
    main()
