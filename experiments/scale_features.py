"""Measures what the group `scale` of `PathFeatures` adds in a space that chooses the widths of layers and the sizes of maps.

    python -m experiments.scale_features [--seeds 20]

The Gaussian process of `gp` learns from the groups of features that a row names. Labels are validation values, drawn uniformly from all
networks of `transnasbench101-macro`. The figure is Kendall's tau over the other networks that are among the best 30 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.shared.arena_search import TASKS
from experiments.shared.common import begin, one_thread, parser
from experiments.shared.results import made_by, write_result
from experiments.shared.statistics import kendall_tau

LABELS = (25, 50, 100, 200)
GROUPS = {"structure and flow": (0, 1), "scale": (2,), "all": (0, 1, 2)}
GOOD = 0.7
"""Quantile of the table above which networks count; the ranks of bad ones do not help a search."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=20)
    args = options.parse_args()
    begin()
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
    write_result("scale_features", {"made_by": made_by(), "seeds": args.seeds, "good": GOOD, "rows": rows})


def _tau(features: Sequence[np.ndarray], y: np.ndarray, *, labels: int, seeds: int) -> float:
    """Mean of tau over draws of the labelled networks."""
    from diffnag.predictors.adaptation import Adaptation

    found = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(y))
        paid, rest = order[:labels], order[labels:]
        good = rest[y[rest] > np.quantile(y, GOOD)]
        process = Adaptation()
        process.fit(np.zeros(labels), [group[paid] for group in features], y[paid])
        mean, _ = process.predict(np.zeros(len(good)), [group[good] for group in features])
        found.append(kendall_tau(mean, y[good]))
    return float(np.mean(found))


if __name__ == "__main__":
    main()
