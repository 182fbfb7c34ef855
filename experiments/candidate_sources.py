"""Compares sources of candidates for a search, at equal labels, in spaces too large to score every architecture.

    python -m experiments.candidate_sources [--spaces nasbench101 mobilenetv3] [--rows guided mutation ...] [--seeds 20]

In `nasbench101` the oracle is the table (protocol T: the reward is mean test accuracy) and the predictor is `mlp`. `mobilenetv3` has
no table: the oracle is the training-free score `naswot` of networks with at most 5 million parameters, and the predictor is `gp`.
The rows `guided`, `unguided`, `mutation`, `mutation and uniform` and `uniform` use the same loop, with the same predictor, acquisition
and number of candidates per round. Only the source of the candidates differs:
  guided                 guided diffusion, as in `python -m diffnag.search --method diffnag`
  unguided               diffusion without guidance
  mutation               neighbours of the ten best labelled architectures
  mutation and uniform   half of each
  uniform                uniform samples of the space
`random` and `evolution` are the baselines of the package, without a predictor.
Every search is saved in the result file as soon as it ends, and in the user cache, so that a stopped run continues. Other weights, or
`--anew`, repeat the searches.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.shared.common import begin, one_thread, parser
from experiments.shared.draws import MUTATED, Draws
from experiments.shared.results import by_seeds, read_result, record, write_result

SPACES: Mapping[str, Mapping[str, Any]] = {
    "nasbench101": {"dataset": "cifar10", "oracle": "table", "reward": "test", "predictor": "mlp", "budget": 150, "candidates": 256},
    "mobilenetv3": {
        "dataset": "imagenet", "oracle": "naswot", "reward": "val", "predictor": "gp", "budget": 100, "candidates": 256,
        "max_params": 5_000_000,
    },
}  # fmt: skip
"""Space -> fields of `SearchOptions`."""
DIFFUSION = ("guided", "unguided")
SOURCES = (*DIFFUSION, *MUTATED)
ROWS = (*SOURCES, "evolution", "random")
AT = (10, 30, 50, 100, 150)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--spaces", nargs="+", choices=SPACES, default=list(SPACES))
    options.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--anew", action="store_true", help="discard the saved searches first, for code that searches differently now")
    args = options.parse_args()
    begin()
    one_thread()
    places = list(SPACES)
    for space in args.spaces:
        for name in args.rows:
            found: list[dict[str, Any]] = []
            for seed in range(args.seeds):
                found.append(_search(space, name, seed, anew=args.anew))
                rows = read_result("candidate_sources").get("rows", [])  # again: other processes may have searched meanwhile
                rows = [row for row in rows if (row["space"], row["row"]) != (space, name)] + [_row(space, name, found)]
                rows.sort(key=lambda row: (places.index(row["space"]), ROWS.index(row["row"])))
                write_result("candidate_sources", {"searches": SPACES, "rows": rows})


def _row(space: str, name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Row of one source in one space, from the searches of the seeds 0, 1, ..."""
    curves = np.array([item["curve"] for item in found])
    best = curves[:, -1]
    return {
        "space": space, "row": name, "seeds": len(found),
        "mean_best": float(best.mean()), "stderr": float(best.std(ddof=1) / len(best) ** 0.5) if len(best) > 1 else None,
        "mean_best_at": {str(at): float(curves[:, at - 1].mean()) for at in AT if at <= curves.shape[1]},
        "best": best.round(4).tolist(), "seconds_a_search": round(float(np.mean([item["seconds"] for item in found])), 1),
        "made_by": by_seeds({seed: item["made_by"] for seed, item in enumerate(found)}),
    }  # fmt: skip


def _search(place: str, name: str, seed: int, *, anew: bool) -> dict[str, Any]:
    """`curve`, the best value after each label, and `seconds` of one search; read from the cache if it is there."""
    from diffnag import Generator, SearchOptions, load_denoiser, load_space
    from diffnag.generators.network import shipped_network
    from diffnag.io.checkpoint import weights_checksum
    from diffnag.io.files import cache_folder, write_json
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.oracle import find_oracle

    options: dict[str, Any] = {"space": place, "seed": seed, **SPACES[place]}
    weights = weights_checksum(shipped_network(place, "sde"))[:12] if name in DIFFUSION else "none"
    kept = cache_folder() / "candidate_sources" / f"{place}-{name.replace(' ', '-')}-{seed}-{options['budget']}-{weights}.json"
    if kept.is_file() and not anew:
        return json.loads(kept.read_text())
    space = load_space(place)
    if name not in SOURCES:
        del options["predictor"], options["candidates"]
        options["method"] = name
    elif name == "unguided":
        options["scale"] = 0.0
    start = time.perf_counter()
    draws = Draws(space, mutated=MUTATED[name]) if name in MUTATED else None
    generator: Any = draws or (Generator(space, load_denoiser(space)) if name in DIFFUSION else None)
    with Search(SearchOptions(**options), oracle=find_oracle(options["oracle"], space), generator=generator) as search:
        if draws:
            draws.search = search
        result = search.run()
    found = record({"curve": result.incumbent_curve, "seconds": time.perf_counter() - start})
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, found)
    print(place, name, seed, round(float(found["curve"][-1]), 3), f"{found['seconds']:.0f} s", flush=True)
    return found


if __name__ == "__main__":
    main()
