"""Measures training-free proxies: rank correlation with accuracy and with published proxies, and the gain from labels.

    python -m experiments.proxy_quality [--spaces ...] [--proxies ...]

`ranking`: correlation of the scores of random architectures with test values, and on NAS-Bench-201 with the proxies published in the
table, which were computed with the benchmark's own network and real images. `ms` is processor time per architecture.
`labels`: Kendall tau over the unlabelled architectures of cifar10, when the proxy is the prior and labels are drawn at random; `gp` is
the same process without a prior. Figures are means over the seeds.
Rows that are not selected stay in the result file.
"""

from __future__ import annotations

import csv
import gzip
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from experiments.shared.common import DATASETS, begin, one_thread, parser
from experiments.shared.results import read_result, record, write_result
from experiments.shared.statistics import kendall_tau

PROXIES = ("params", "flops", "naswot", "synflow", "zen")
SPACES = {
    "nasbench201": (1000, DATASETS), "nasbench101": (500, ("cifar10",)),
    "transnasbench101-micro": (500, ("class_scene", "class_object", "jigsaw", "room_layout")),
    "transnasbench101-macro": (500, ("class_scene", "class_object", "jigsaw", "room_layout")),
    "mobilenetv3": (50, ("imagenet",)), "darts": (50, ("cifar10",)),
}  # fmt: skip
"""Space -> number of random architectures, and datasets. The last two have no table and show only the cost of a score."""
SEED = 0
COLUMNS = {"params": "params_m", "naswot": "naswot", "synflow": "synflow", "zen": "zen"}
"""Proxy -> name of its columns in the reference table."""
LABELS, LABEL_SEEDS = (0, 5, 10, 20, 40), 10


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--spaces", nargs="+", choices=SPACES, default=list(SPACES))
    options.add_argument("--proxies", nargs="+", choices=PROXIES, default=list(PROXIES))
    args = options.parse_args()
    folder = begin()
    one_thread()
    kept = read_result("proxy_quality")
    ranking = {_place(row): row for row in kept.get("ranking", [])}
    labels = {_place(row): row for row in kept.get("labels", [])}
    for space in args.spaces:
        for row in _rows(space, args.proxies, folder):
            print(row, flush=True)
            (labels if "tau" in row else ranking)[_place(row)] = record(row)
            parts = {name: [rows[place] for place in sorted(rows)] for name, rows in (("ranking", ranking), ("labels", labels))}
            write_result("proxy_quality", {"seed": SEED, **parts})


def _place(row: dict[str, Any]) -> tuple[int, int, int, int]:
    """Sort key of a row, and what identifies it."""
    datasets = SPACES[row["space"]][1]
    proxy = PROXIES.index(row["predictor"]) if row["predictor"] in PROXIES else len(PROXIES)
    return list(SPACES).index(row["space"]), datasets.index(row["dataset"]), proxy, row.get("labels", 0)


def _rows(name: str, proxies: Sequence[str], folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of both parts for one space."""
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
            start = time.process_time()
            scores = predictor.predictor.scores(archs)
            row = {"space": name, "dataset": dataset, "predictor": proxy, "architectures": count}
            row |= {"ms": round(1e3 * (time.process_time() - start) / count, 3)}
            if values is not None:
                row |= _correlations("with_test", scores, values)
            if published and proxy in COLUMNS and values is not None:
                theirs = published[f"{dataset}_{COLUMNS[proxy]}"][chosen]
                row |= _correlations("with_published", scores, theirs)
                row |= _correlations("published_with_test", theirs, values)
            yield row
            if dataset == "cifar10" and values is not None:
                yield from _with_labels(proxy, predictor, archs, values, space, dataset)


def _with_labels(
    proxy: str, predictor: Any, archs: Sequence[Any], values: np.ndarray, space: Any, dataset: str
) -> Iterator[dict[str, Any]]:
    """Yield a row for each number of labels. A given `predictor` has the scores of `archs` already; None loads a new one."""
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
            taus.append(round(kendall_tau(predictor.predict([archs[i] for i in rest])[0], values[rest]), 4))
        if taus:
            tau = round(float(np.mean(taus)), 4)
            yield {"space": space.name, "dataset": dataset, "predictor": proxy, "labels": labels, "seeds": len(taus), "tau": tau}


def _correlations(what: str, a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Spearman's rho and Kendall's tau of two columns `(m,)`."""
    from scipy.stats import spearmanr

    found = {"spearman": float(spearmanr(a, b).statistic), "kendall": kendall_tau(a, b)}
    return {f"{name}_{what}": round(value, 4) for name, value in found.items()}


def _column(columns: Iterable[str], dataset: str) -> str:
    """Name of the column of test values after the longest training."""
    there = [column for column in columns if column.startswith(f"{dataset}/test/")]
    return max(there, key=lambda column: int(column.rpartition("/")[2]))


def _published(folder: Path) -> dict[str, np.ndarray]:
    """Columns of proxies in the reference table. A proxy that could not be computed keeps its value there: -inf, or -1e8 for `zen`."""
    with gzip.open(folder / "nas_bench_201.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(cast("TextIO", file)))
    names = [f"{dataset}_{column}" for dataset in DATASETS for column in COLUMNS.values()]
    return {name: np.array([float(row[name]) for row in rows]) for name in names}


if __name__ == "__main__":
    main()
