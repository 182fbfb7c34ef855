"""Ranks all of NAS-Bench-201 from few labels of the target dataset: Kendall tau over its 15,625 strings, and calibration.

    python -m experiments.few_labels [--seeds 20] [--datasets ...] [--methods ...] [--splits ...]

Labels are drawn uniformly from the strings. The methods differ in what else they know:
  random-forest, mlp, gp     nothing
  gp+proxies                 the training-free proxies of the target in the table, which are computed and are not labels
  meta                       the tables of the two other datasets; the shipped predictor `meta` with its own fit
  meta+adaptation            the same tables; the scores of `meta` are the prior of `Adaptation`
  copied-ranks+adaptation    the same tables; the prior is the normal score of the mean rank by test accuracy in them
Coverage and NLL are measured on the strings whose labels were not drawn. Coverage is the share of labels inside the central interval
of the prediction, after its warp if it has one. NLL is in nats, for a normal with the predicted mean and standard deviation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.shared.common import DATASETS, begin, one_thread, parser
from experiments.shared.results import read_result, record, write_result
from experiments.shared.statistics import kendall_tau, normal_scores
from experiments.shared.table_proxies import proxies

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.io.tables import BenchmarkTable
    from diffnag.protocols import SearchSpace

LABELS = (39, 78, 156, 469)
BARS = {"gp": (0.70, 0.74, 0.80, 0.84), "meta+adaptation": (0.88, 0.885, 0.89, 0.90)}
"""Kendall tau to reach on CIFAR-10, for each number of labels."""
BASELINES = ("random-forest", "mlp", "meta")
METHODS = ("gp", "gp+proxies", "meta+adaptation", "copied-ranks+adaptation", *BASELINES)
FEWER_SEEDS = 5
"""Number of seeds for baselines, which are measured on CIFAR-10 only, for the other datasets, and for the validation split."""
Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Function (indices, their labels) -> predicted quantiles at `LEVELS` of all strings."""
LEVELS = tuple(0.5 * (1 + math.erf(z / 2**0.5)) for z in (-1.6449, -1, -0.6745, 0, 0.6745, 1, 1.6449))
"""Levels of quantiles: ends of the central intervals of 90 %, one standard deviation and 50 %, and the median."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    options.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="the other rows of the result file stay")
    options.add_argument("--splits", nargs="+", choices=("test", "val"), default=("test", "val"))
    args = options.parse_args()
    begin()
    from diffnag import load_space
    from diffnag.io.tables import load_table
    from diffnag.predictors.path_features import PathFeatures

    one_thread()
    space = load_space("nasbench201")
    table = load_table(space)
    archs = [space.from_str(text) for text in table.archs]
    features = PathFeatures(space)(archs)
    rows = {_place(row): row for row in read_result("few_labels").get("rows", [])}
    about = {"strings": len(archs), "table_version": table.version, "table_sha256": table.sha256}
    for dataset in args.datasets:
        methods, priors = _methods(args.methods, archs, features, table, space, dataset)
        for split in args.splits:
            target = table.values[f"{dataset}/{split}/200"].astype(np.float64)
            for name, fit in methods.items():
                foremost = (dataset, split) == ("cifar10", "test")
                if name not in args.methods or (name in BASELINES and not foremost):
                    continue
                seeds = args.seeds if foremost and name not in BASELINES else min(args.seeds, FEWER_SEEDS)
                for k, labels in enumerate(LABELS):
                    row = {"dataset": dataset, "split": split, "method": name, "labels_target": labels, "seeds": seeds}
                    if name in priors:
                        row["tau_prior"] = kendall_tau(priors[name], target)
                    row |= _row(fit, target, labels, seeds)
                    if foremost and name in BARS:
                        row["bar"] = BARS[name][k]
                    row = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
                    print(row, flush=True)
                    rows[_place(row)] = record(row)
        write_result("few_labels", {**about, "rows": [rows[place] for place in sorted(rows)]})


def _methods(
    asked: Sequence[str], archs: Sequence[Arch], features: Sequence[np.ndarray], table: BenchmarkTable, space: SearchSpace, dataset: str
) -> tuple[dict[str, Fit], dict[str, np.ndarray]]:
    """The fits of all methods on one dataset, and the prior scores of those that have a prior."""
    from diffnag import load_predictor

    meta = nothing = np.zeros(len(archs))
    if any(name.startswith("meta") for name in asked):
        meta = load_predictor("meta", space=space, dataset=dataset, seed=0).predict(archs)[0]
    extra = np.array([proxies(dataset)[text] for text in table.archs])
    ranks = np.mean([normal_scores(table.values[f"{other}/test/200"]) for other in DATASETS if other != dataset], axis=0)
    methods: dict[str, Fit] = {
        "gp": _adapted(nothing, features),
        "gp+proxies": _adapted(nothing, [*features, extra]),
        "meta+adaptation": _adapted(meta, features),
        "copied-ranks+adaptation": _adapted(ranks, features),
    }
    methods |= {name: _plugin(name, archs, space, dataset) for name in BASELINES}
    return methods, {"meta": meta, "meta+adaptation": meta, "copied-ranks+adaptation": ranks}


def _place(row: dict[str, Any]) -> tuple[int, bool, int, int]:
    """Sort key of a row, and what identifies it."""
    return DATASETS.index(row["dataset"]), row["split"] == "val", METHODS.index(row["method"]), row["labels_target"]


def _row(fit: Fit, target: np.ndarray, labels: int, seeds: int) -> dict[str, float]:
    """Means over the seeds, and the standard error of tau."""
    from scipy.stats import norm

    parts = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(target))
        paid, rest = order[:labels], order[labels:]
        start = time.process_time()
        quantiles = fit(paid, target[paid])
        seconds = time.process_time() - start
        low90, low, low50, mean, high50, high, high90 = quantiles
        std = np.maximum(high - low, 0.02) / 2
        density = norm.logpdf(target, mean, std)[rest]
        parts.append({
            "tau": kendall_tau(mean, target), "cpu_seconds": seconds,
            "coverage_50": float(np.mean(((target >= low50) & (target <= high50))[rest])),
            "coverage_90": float(np.mean(((target >= low90) & (target <= high90))[rest])),
            "nll": float(-density.mean()), "nll_median": float(-np.median(density)),
        })  # fmt: skip
    taus = np.array([part["tau"] for part in parts])
    spread = {"tau_stderr": float(taus.std(ddof=1) / len(taus) ** 0.5)} if len(taus) > 1 else {}
    return {key: float(np.mean([part[key] for part in parts])) for key in parts[0]} | spread


def _adapted(prior: np.ndarray, features: Sequence[np.ndarray]) -> Fit:
    """The fit of `Adaptation` with prior scores `(m,)` and groups of features."""
    from diffnag.predictors.adaptation import Adaptation

    def fit(paid: np.ndarray, y: np.ndarray) -> np.ndarray:
        process = Adaptation()
        process.fit(prior[paid], [group[paid] for group in features], y)
        return process.quantiles(prior, features, LEVELS)

    return fit


def _plugin(name: str, archs: Sequence[Arch], space: SearchSpace, dataset: str) -> Fit:
    """The fit of a registered predictor."""
    from scipy.stats import norm

    from diffnag import load_predictor

    def fit(paid: np.ndarray, y: np.ndarray) -> np.ndarray:
        predictor = load_predictor(name, space=space, dataset=dataset, seed=0)
        predictor.fit([archs[i] for i in paid], y)
        mean, std = predictor.predict(archs)
        return mean + std * norm.ppf(LEVELS)[:, None]

    return fit


if __name__ == "__main__":
    main()
