"""Measures what operators and wiring would add to the features by which labels correct a training-free score, in searches within a limit.

    python -m experiments.limit_features [--seeds 2]

The space is NAS-Bench-201, protocol T. One cell of each canonical class within a limit on the latency of a device, drawn by the seed, is a
candidate; the predictor is `flops`, and the next label is that of the largest upper confidence bound. No generator takes part. The figures
are the searches that find the class of the best cell within 60 labels, and the median of the labels that they need. Beside the limits of
`experiments.limit_benchmark` there are those of other datasets and devices: 108 limits in all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from diffnag.datasets.tasks import Task
from diffnag.predictors.path_features import PathFeatures
from diffnag.predictors.proxies.predictor import FlopsPredictor
from diffnag.search_loop.acquisition import upper_confidence_bound
from experiments.fronts.limits import REWARD, SHARES, cell_latencies, limit_of
from experiments.fronts.search import DEVICES
from experiments.fronts.simulated import SPACE
from experiments.shared.arena_search import labels_of, space_and_oracle
from experiments.shared.common import DATASETS, begin, one_thread, parser
from experiments.shared.results import made_by, write_result
from experiments.shared.statistics import median_labels

BUDGET = 60
OTHERS = ("1080ti_1", "2080ti_1", "titan_rtx_32", "silver_4114", "samsung_a50", "essential_ph_1")
"""Devices beside those of the benchmark."""


class WithPlain(FlopsPredictor):
    """`flops` with the group of operators and wiring."""

    @cached_property
    def _features(self) -> PathFeatures:
        return PathFeatures(self._space, plain=True)


PREDICTORS: Mapping[str, Callable[[], FlopsPredictor]] = {"paths": FlopsPredictor, "paths, operators and wiring": WithPlain}


class Cells:
    """All cells of the space: architectures, classes, and values of each dataset."""

    def __init__(self) -> None:
        self.space, oracle = space_and_oracle(SPACE, "table")
        self.archs = [self.space.from_str(text) for text in oracle.table.archs]
        numbers = {key: k for k, key in enumerate(dict.fromkeys(map(self.space.canonical, self.archs)))}
        self.classes = np.array([numbers[self.space.canonical(arch)] for arch in self.archs])
        self.values = {name: labels_of(oracle.table, name, REWARD) for name in DATASETS}

    def labels_needed(self, predictor: FlopsPredictor, dataset: str, device: str, share: int, *, seed: int) -> float:
        """Labels until a search has bought a cell of the best class within the limit; infinite if it has not after `BUDGET`."""
        values, ms = self.values[dataset], cell_latencies(device)
        within = np.flatnonzero(ms <= limit_of(ms, share))
        best = self.classes[within[np.argmax(values[within])]]
        drawn = np.random.default_rng(seed).permutation(within)
        left = drawn[np.unique(self.classes[drawn], return_index=True)[1]]
        known = np.empty(0, dtype=int)
        predictor.setup(space=self.space, task=Task(dataset), seed=0)
        while len(known) < BUDGET:
            if len(known):
                predictor.fit([self.archs[k] for k in known], values[known])
            place = int(np.argmax(upper_confidence_bound(*predictor.predict([self.archs[k] for k in left]))))
            known, left = np.append(known, left[place]), np.delete(left, place)
            if self.classes[known[-1]] == best:
                return len(known)
        return np.inf


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=2)
    args = options.parse_args()
    begin()
    one_thread()
    cells, rows = Cells(), list[dict[str, Any]]()
    for name, predictor in PREDICTORS.items():
        for devices in (DEVICES, OTHERS):
            for dataset in DATASETS:
                asked = predictor()  # its features of the cells serve all searches
                needed = np.array([
                    cells.labels_needed(asked, dataset, device, share, seed=seed)
                    for device in devices for share in SHARES for seed in range(args.seeds)
                ])  # fmt: skip
                rows.append({
                    "features": name, "dataset": dataset, "devices": "benchmark" if devices is DEVICES else "others", "searches": len(needed),
                    "found": round(float(np.isfinite(needed).mean()), 3), "median": median_labels(needed),
                })  # fmt: skip
                print(rows[-1], flush=True)
    write_result("limit_features", {"made_by": made_by(), "budget": BUDGET, "seeds": args.seeds, "rows": rows})


if __name__ == "__main__":
    main()
