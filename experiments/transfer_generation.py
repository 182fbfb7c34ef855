"""Guided generation with no label of the target dataset: how accurate are the architectures, and does guidance beat ranking?

    python -m experiments.transfer_generation

Each row has 256 samples for each of `SEEDS` seeds. Accuracies are means over the distinct architectures. The rows `ranked_*` show
the alternative: unguided samples made in the same time are ranked by the same predictor, and as many are kept as the guided run has
distinct ones.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from experiments.shared.common import DATASETS, begin, parser
from experiments.shared.results import record, write_result
from experiments.shared.statistics import kendall_tau

N, SEEDS = 256, 5
SCALES = (0.0, 1.0, 2.0, 3.0, 4.0)


def main() -> None:
    parser(__doc__).parse_args()
    begin()
    from diffnag import Steer, load_generator, load_predictor, load_space
    from diffnag.io.tables import load_table

    space = load_space("nasbench201")
    generator = load_generator(space)
    table = load_table(space)
    archs = [space.from_str(text) for text in table.archs]
    index = {arch: i for i, arch in enumerate(archs)}
    rows = []
    for dataset in DATASETS:
        test = table.values[f"{dataset}/test/200"]
        for name in ("meta", "meta-only"):
            predictor = load_predictor(name, space=space, dataset=dataset, seed=0)
            scores, _ = predictor.predict(archs)
            generator.sample(N, seed=0, steer=Steer.by(predictor, space))  # a warm-up
            for scale in SCALES:
                parts = [_guided_and_ranked(generator, predictor, scale, seed, index, test) for seed in range(SEEDS)]
                row: dict[str, Any] = {
                    "dataset": dataset, "predictor": name, "scale": scale, "space_mean": float(test.mean()),
                    "tau_all_cells": kendall_tau(scores, test),
                    **{key: float(np.mean([part[key] for part in parts])) for key in parts[0]},
                }  # fmt: skip
                row["gain"] = row["mean"] - row["space_mean"]
                rows.append(record(row))
                print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})
    about = {"n": N, "seeds": SEEDS, "table_version": table.version, "table_sha256": table.sha256}
    write_result("transfer_generation", {**about, "rows": rows})


def _guided_and_ranked(generator: Any, predictor: Any, scale: float, seed: int, index: Any, test: np.ndarray) -> dict[str, float]:
    """Figures of one guided run, and of ranking unguided samples that are made in the same time."""
    from diffnag import Steer

    made = generator.sample(N, seed=seed, steer=Steer.by(predictor, generator.space, scale))
    guided = [index[arch] for arch in dict.fromkeys(made.archs)]
    start = time.perf_counter()
    ranked: dict[Any, float] = {}
    pool: list[Any] = []
    while (time.perf_counter() - start) < made.wall_s or len(ranked) < len(guided):
        pool += generator.sample(N, seed=10_000 * (seed + 1) + len(pool)).archs
        fresh = list(dict.fromkeys(pool))
        ranked = dict(zip(fresh, predictor.predict(fresh)[0], strict=True))
    kept = [index[arch] for arch in sorted(ranked, key=ranked.__getitem__, reverse=True)[: len(guided)]]
    return {
        "validity": len(made.archs) / N, "distinct": len(guided) / N, "wall_s": made.wall_s,
        "mean": float(test[guided].mean()), "max": float(test[guided].max()),
        "ranked_from": float(len(pool)), "ranked_mean": float(test[kept].mean()), "ranked_max": float(test[kept].max()),
    }  # fmt: skip


if __name__ == "__main__":
    main()
