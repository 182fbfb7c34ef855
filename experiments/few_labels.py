"""How well few labels of the target rank all of NAS-Bench-201: Kendall tau over its 15,625 strings, and calibration.

    python -m experiments.few_labels [--seeds 20] [--datasets ...] [--methods ...] [--splits ...]

Labels are drawn uniformly from the strings. Rows: `random-forest`, `mlp` and `gp` know these labels only; `gp+proxies`
also the table's training-free proxies of the target (computed, not labels); the others know the tables of the two other
datasets: `meta` is the shipped sister-tables predictor's own fit, `meta+adaptation` its scores as the prior of `Adaptation`,
`copied-ranks+adaptation` the mean rank by test accuracy in those tables, as a normal score, as the prior.
Coverage (share of labels inside the central interval; of the warped normal where there is a warp) and NLL (nats, by the normal of
`predict`'s mean and standard deviation) are over the strings whose labels were not drawn.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.shared.common import DATASETS, read_result, use_reference_data, write_result
from experiments.shared.table_proxies import normal_scores, proxies

LABELS = (39, 78, 156, 469)
BARS = {"gp": (0.70, 0.74, 0.80, 0.84), "meta+adaptation": (0.88, 0.885, 0.89, 0.90)}
"""What is to be reached on CIFAR-10."""
BASELINES = ("random-forest", "mlp", "meta")
METHODS = ("gp", "gp+proxies", "meta+adaptation", "copied-ranks+adaptation", *BASELINES)
FEWER_SEEDS = 5
"""Of the baselines, which are shown on CIFAR-10 only, of the other datasets, and of the validation split."""
Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(indices, their labels) -> quantiles of all strings at `LEVELS`."""
LEVELS = tuple(0.5 * (1 + math.erf(z / 2**0.5)) for z in (-1.6449, -1, -0.6745, 0, 0.6745, 1, 1.6449))
"""Ends of the central intervals of 90 %, one standard deviation and 50 %, and the median."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="the other rows stay as they are in the result file")
    parser.add_argument("--splits", nargs="+", choices=("test", "val"), default=("test", "val"))
    args = parser.parse_args()
    use_reference_data()
    import torch

    from diffnag import load_predictor, load_space
    from diffnag.io.tables import load_table
    from diffnag.predictors.path_features import PathFeatures

    torch.set_num_threads(1)
    space = load_space("nasbench201")
    table = load_table(space)
    archs = [space.from_str(text) for text in table.archs]
    features = PathFeatures(space)(archs)
    rows = {_place(row): row for row in read_result("few_labels").get("rows", [])}
    for dataset in args.datasets:
        meta = nothing = np.zeros(len(archs))
        if any(name.startswith("meta") for name in args.methods):
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
        priors = {"meta": meta, "meta+adaptation": meta, "copied-ranks+adaptation": ranks}
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
                        row["tau_prior"] = _tau(priors[name], target)
                    row |= _row(fit, target, labels, seeds)
                    if foremost and name in BARS:
                        row["bar"] = BARS[name][k]
                    row = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
                    rows[_place(row)] = row
                    print(row, flush=True)
        ordered = [rows[place] for place in sorted(rows)]
        write_result("few_labels", strings=len(archs), table_version=table.version, table_sha256=table.sha256, rows=ordered)


def _place(row: dict[str, Any]) -> tuple[int, bool, int, int]:
    return DATASETS.index(row["dataset"]), row["split"] == "val", METHODS.index(row["method"]), row["labels_target"]


def _row(fit: Fit, target: np.ndarray, labels: int, seeds: int) -> dict[str, float]:
    """Means over the seeds, of tau also the standard error."""
    from scipy.stats import norm

    parts = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(target))
        paid, rest = order[:labels], order[labels:]
        begin = time.process_time()
        quantiles = fit(paid, target[paid])
        seconds = time.process_time() - begin
        low90, low, low50, mean, high50, high, high90 = quantiles
        std = np.maximum(high - low, 0.02) / 2
        density = norm.logpdf(target, mean, std)[rest]
        parts.append({
            "tau": _tau(mean, target), "cpu_seconds": seconds,
            "coverage_50": float(np.mean(((target >= low50) & (target <= high50))[rest])),
            "coverage_90": float(np.mean(((target >= low90) & (target <= high90))[rest])),
            "nll": float(-density.mean()), "nll_median": float(-np.median(density)),
        })  # fmt: skip
    taus = np.array([part["tau"] for part in parts])
    spread = {"tau_stderr": float(taus.std(ddof=1) / len(taus) ** 0.5)} if len(taus) > 1 else {}
    return {key: float(np.mean([part[key] for part in parts])) for key in parts[0]} | spread


def _adapted(prior: np.ndarray, features: Sequence[np.ndarray]) -> Fit:
    from diffnag.predictors.adaptation import Adaptation

    def fit(paid: np.ndarray, y: np.ndarray) -> np.ndarray:
        process = Adaptation()
        process.fit(prior[paid], [group[paid] for group in features], y)
        return process.quantiles(prior, features, LEVELS)

    return fit


def _plugin(name: str, archs: Sequence[Any], space: Any, dataset: str) -> Fit:
    from scipy.stats import norm

    from diffnag import load_predictor

    def fit(paid: np.ndarray, y: np.ndarray) -> np.ndarray:
        predictor = load_predictor(name, space=space, dataset=dataset, seed=0)
        predictor.fit([archs[i] for i in paid], y)
        mean, std = predictor.predict(archs)
        return mean + std * norm.ppf(LEVELS)[:, None]

    return fit


def _tau(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(a, b).statistic)


if __name__ == "__main__":
    main()
