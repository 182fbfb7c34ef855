"""Measures what the group `scale` of `PathFeatures` adds in a space that chooses the widths of layers and the sizes of maps.

    python -m experiments.scale_features [--seeds 20]

The Gaussian process of `gp` learns from the groups of features that a row names. Labels are validation values, drawn uniformly from all
networks of `transnasbench101-macro`. The figure is Kendall's tau over the other networks that are among the best 30 %.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.shared.arena_search import TASKS, labels_of
from experiments.shared.common import begin, one_thread, parser
from experiments.shared.results import made_by, write_result
from experiments.shared.statistics import process_tau

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
    from diffnag.predictors.path_features import PathFeatures

    space = load_space("transnasbench101-macro")
    table = load_table(space)
    features = PathFeatures(space)([space.from_str(text) for text in table.archs])
    rows = list[dict[str, Any]]()
    for task in TASKS:
        y = labels_of(table, task, "val")
        for name, chosen in GROUPS.items():
            groups = [features[k] for k in chosen]
            taus = {
                str(m): float(np.mean([process_tau(groups, y, labels=m, seed=seed, good=GOOD) for seed in range(args.seeds)]))
                for m in LABELS
            }
            rows.append({"task": task, "groups": name, "tau": taus})
            print(rows[-1], flush=True)
    write_result("scale_features", {"made_by": made_by(), "seeds": args.seeds, "good": GOOD, "rows": rows})


if __name__ == "__main__":
    main()
