"""What the group `scale` of `PathFeatures` adds where an architecture chooses how wide its layers and how small their maps are.

    python -m experiments.scale_features [--seeds 20]

A process as that of `gp` learns from labels drawn uniformly from all networks of `transnasbench101-macro`, by validation value, from
the groups of features that a row names; the figure is Kendall's tau over the other networks that are among the best 30 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.shared.arena_search import TASKS
from experiments.shared.common import one_thread, use_reference_data, write_result

LABELS = (25, 50, 100, 200)
GROUPS = {"structure and flow": (0, 1), "scale": (2,), "all": (0, 1, 2)}
GOOD = 0.7
"""Quantile of the table above which networks count: how the bad ones rank does not help a search."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    use_reference_data()
    one_thread()
    from diffnag import load_space
    from diffnag.io.tables import load_table
    from diffnag.oracles.columns import Columns
    from diffnag.predictors.path_features import PathFeatures

    space = load_space("transnasbench101-macro")
    table = load_table(space)
    features = PathFeatures(space)([space.from_str(text) for text in table.archs])
    columns, rows = Columns("table", table.values), list[dict[str, Any]]()
    for task in TASKS:
        y = np.asarray(table.values[columns.find(task, "val", None)], dtype=np.float64)
        for name, chosen in GROUPS.items():
            taus = {str(m): _tau([features[k] for k in chosen], y, labels=m, seeds=args.seeds) for m in LABELS}
            rows.append({"task": task, "groups": name, "tau": taus})
            print(rows[-1], flush=True)
    write_result("scale_features", seeds=args.seeds, good=GOOD, rows=rows)


def _tau(features: Sequence[np.ndarray], y: np.ndarray, *, labels: int, seeds: int) -> float:
    """Mean over draws of the labelled networks."""
    from scipy.stats import kendalltau

    from diffnag.predictors.adaptation import Adaptation

    found = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(y))
        paid, rest = order[:labels], order[labels:]
        good = rest[y[rest] > np.quantile(y, GOOD)]
        process = Adaptation()
        process.fit(np.zeros(labels), [group[paid] for group in features], y[paid])
        mean, _ = process.predict(np.zeros(len(good)), [group[good] for group in features])
        found.append(float(kendalltau(mean, y[good]).statistic))
    return float(np.mean(found))


if __name__ == "__main__":
    main()
