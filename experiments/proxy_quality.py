"""What training-free proxies are worth: rank correlation with accuracy and with the benchmark's own columns, and what labels add.

    python -m experiments.proxy_quality [--spaces ...] [--proxies ...]

`ranking`: the predictors' scores of random architectures against test values, and on NAS-Bench-201 against the proxies that were
published with the table, of the benchmark's own network and real images. `labels`: Kendall tau over the architectures not labelled,
of the proxy as the prior of labels drawn at random, beside `gp`, the same process without a prior; cifar10, means over the seeds.
Rows of what is not asked for stay as they are in the result file; `ms` is processor time an architecture.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from experiments.shared.common import DATASETS, one_thread, read_result, use_reference_data, write_result

PROXIES = ("params", "flops", "naswot", "synflow", "zen")
SPACES = {
    "nasbench201": (1000, DATASETS), "nasbench101": (500, ("cifar10",)),
    "transnasbench101-micro": (500, ("class_scene", "class_object", "jigsaw", "room_layout")),
    "transnasbench101-macro": (500, ("class_scene", "class_object", "jigsaw", "room_layout")),
    "mobilenetv3": (50, ("imagenet",)), "darts": (50, ("cifar10",)),
}  # fmt: skip
"""Random architectures of each space, and the datasets: of the last two there is no table, they show what a score costs."""
SEED = 0
COLUMNS = {"params": "params_m", "naswot": "naswot", "synflow": "synflow", "zen": "zen"}
"""What the reference table calls them."""
LABELS, LABEL_SEEDS = (0, 5, 10, 20, 40), 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--proxies", nargs="+", choices=PROXIES, default=list(PROXIES))
    args = parser.parse_args()
    folder = use_reference_data()
    one_thread()
    kept = read_result("proxy_quality")
    ranking = {_place(row): row for row in kept.get("ranking", [])}
    labels = {_place(row): row for row in kept.get("labels", [])}
    for space in args.spaces:
        for row in _rows(space, args.proxies, folder):
            print(row, flush=True)
            (labels if "tau" in row else ranking)[_place(row)] = row
            parts = ([rows[place] for place in sorted(rows)] for rows in (ranking, labels))
            write_result("proxy_quality", seed=SEED, ranking=next(parts), labels=next(parts))


def _place(row: dict[str, Any]) -> tuple[int, int, int, int]:
    datasets = SPACES[row["space"]][1]
    proxy = PROXIES.index(row["predictor"]) if row["predictor"] in PROXIES else len(PROXIES)
    return list(SPACES).index(row["space"]), datasets.index(row["dataset"]), proxy, row.get("labels", 0)


def _rows(name: str, proxies: Sequence[str], folder: Path) -> Any:
    from diffnag import load_predictor, load_space
    from diffnag.io.tables import load_table
    from diffnag.predictors.proxies.predictor import ProxyPredictor
    from diffnag.protocols import ReadsTables

    space, (count, datasets) = load_space(name), SPACES[name]
    table = load_table(space) if isinstance(space, ReadsTables) else None
    rng = np.random.default_rng(SEED)
    if table is None:
        chosen, archs = np.arange(count), [space.random(rng) for _ in range(count)]
    else:
        chosen = np.sort(rng.choice(len(table.archs), count, replace=False))
        archs = [space.from_str(table.archs[i]) for i in chosen]
    published = _published(folder) if name == "nasbench201" else {}
    for dataset in datasets:
        values = None if table is None else table.values[_column(table.values, dataset)].astype(np.float64)[chosen]
        if dataset == "cifar10" and values is not None:
            yield from _with_labels("gp", None, archs, values, space, dataset)
        for proxy in proxies:
            predictor = load_predictor(proxy, space=space, dataset=dataset, seed=SEED)
            assert isinstance(predictor.predictor, ProxyPredictor)
            begin = time.process_time()
            scores = predictor.predictor.scores(archs)
            row = {"space": name, "dataset": dataset, "predictor": proxy, "architectures": count}
            row |= {"ms": round(1e3 * (time.process_time() - begin) / count, 3)}
            if values is not None:
                row |= _correlations("with_test", scores, values)
            if published and proxy in COLUMNS:
                theirs = published[f"{dataset}_{COLUMNS[proxy]}"][chosen]
                row |= _correlations("with_published", scores, theirs)
                row |= _correlations("published_with_test", theirs, values)
            yield row
            if dataset == "cifar10" and values is not None:
                yield from _with_labels(proxy, predictor, archs, values, space, dataset)


def _with_labels(proxy: str, predictor: Any, archs: Sequence[Any], values: np.ndarray, space: Any, dataset: str) -> Any:
    """A row for each number of labels; `predictor` has measured `archs`."""
    from diffnag import load_predictor

    predictor = predictor or load_predictor(proxy, space=space, dataset=dataset, seed=SEED)
    for labels in LABELS:
        taus = []
        for seed in range(LABEL_SEEDS if labels else 1):
            order = np.random.default_rng(seed).permutation(len(archs))
            paid, rest = order[:labels], order[labels:]
            if labels:
                predictor.fit([archs[i] for i in paid], values[paid])
            elif not predictor.knows_something:
                continue
            taus.append(_correlations("of", predictor.predict([archs[i] for i in rest])[0], values[rest])["kendall_of"])
        if taus:
            tau = round(float(np.mean(taus)), 4)
            yield {"space": space.name, "dataset": dataset, "predictor": proxy, "labels": labels, "seeds": len(taus), "tau": tau}


def _correlations(what: str, a: np.ndarray, b: np.ndarray | None) -> dict[str, float]:
    """Spearman's rho and Kendall's tau of two columns."""
    from scipy.stats import kendalltau, spearmanr

    found = {"spearman": spearmanr(a, b).statistic, "kendall": kendalltau(a, b).statistic}
    return {f"{name}_{what}": round(float(value), 4) for name, value in found.items()}


def _column(columns: Any, dataset: str) -> str:
    """That of the test values after the longest training."""
    there = [column for column in columns if column.startswith(f"{dataset}/test/")]
    return max(there, key=lambda column: int(column.rpartition("/")[2]))


def _published(folder: Path) -> dict[str, np.ndarray]:
    """The proxies of the reference table; what could not be computed (-inf, or -1e8 of `zen`) stays the least value."""
    with gzip.open(folder / "nas_bench_201.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(cast("TextIO", file)))
    names = [f"{dataset}_{column}" for dataset in DATASETS for column in COLUMNS.values()]
    return {name: np.array([float(row[name]) for row in rows]) for name in names}


if __name__ == "__main__":
    main()
