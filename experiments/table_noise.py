"""Measures chance in the benchmark tables: how copies of one architecture differ, and a ceiling for honest searches.

    python -m experiments.table_noise

The members of a canonical class compute the same function and were trained separately, so their differences are chance. A search buys
one member of a class, and which one is chance too. Figures of a task:
  std_within            standard deviation within classes whose median is above the table's 30th percentile; equal values in a class
                        count once, because the tables copy values within some classes
  explained_by_strings  share of that variance that a random forest on the strings explains, with classes held out
  std_learnt            standard deviation of all values above the 30th percentile
  rank_of_best          rank of the class of the table's best value, by the mean of the class; a low rank means a lucky training
  ceiling_at_50         mean best validation value of 50 labels, when classes are bought in the order of the process of `gp` fitted to
                        the means of all classes (or of `fitted` classes, if there are more); a search of 50 labels knows less, so
                        anything above is luck
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diffnag import load_space
from diffnag.arch import ArchBatch
from diffnag.datasets.tasks import Task
from diffnag.oracles.table import TableOracle
from diffnag.predictors.gaussian_process import GaussianProcessPredictor
from experiments.shared.arena_search import TASKS, labels_of
from experiments.shared.common import DATASETS, begin, one_thread, parser
from experiments.shared.results import made_by, write_result

TABLES = {"transnasbench101-micro": TASKS, "nasbench201": DATASETS}
LABELS, DRAWS = 50, 1000
FITTED = 1500
"""Largest number of classes that the process is fitted to, drawn at random; its time grows with the cube."""
LEARNT = 0.3
"""Quantile of the table below which networks have hardly learnt, so that chance is different."""


def main() -> None:
    parser(__doc__).parse_args()
    begin()
    one_thread()
    rows = [row for name, tasks in TABLES.items() for row in _rows(name, tasks)]
    write_result("table_noise", {"made_by": made_by(), "labels": LABELS, "fitted": FITTED, "rows": rows})


def _rows(name: str, tasks: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row for each task of one space."""
    space, oracle = load_space(name), TableOracle()
    oracle.setup(space=space)
    archs = [space.from_str(text) for text in oracle.table.archs]
    by_key: dict[str, list[int]] = {}
    for i, arch in enumerate(archs):
        by_key.setdefault(space.canonical(arch), []).append(i)
    classes = [np.array(members) for members in by_key.values()]
    first = [archs[members[0]] for members in classes]
    strings = ArchBatch.of(archs, space).V.numpy().reshape(len(archs), -1)
    rows = []
    for task in tasks:
        y = labels_of(oracle.table, task, "val")
        ranked = np.argsort(-_smoothed(space, first, np.array([y[members].mean() for members in classes])))[:LABELS]
        rng = np.random.default_rng(0)
        best = [max(y[rng.choice(classes[c])] for c in ranked) for _ in range(DRAWS)]
        within, explained = _within(y, classes, strings)
        tested = labels_of(oracle.table, task, "test")
        rows.append({
            "space": name, "task": task, "classes": len(classes), "best": float(y.max()), "std_within": within,
            "std_learnt": float(y[y > np.quantile(y, LEARNT)].std()), "explained_by_strings": explained,
            "rank_of_best": {"val": _rank_of_best(y, classes), "test": _rank_of_best(tested, classes)},
            "ceiling_at_50": float(np.mean(best)),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def _smoothed(space: Any, archs: list[Any], means: np.ndarray) -> np.ndarray:
    """Predictions `(classes,)` of the process of `gp`, fitted to the means of the classes."""
    predictor = GaussianProcessPredictor()
    predictor.setup(space=space, task=Task("class_object"), seed=0)
    some = np.random.default_rng(0).permutation(len(archs))[:FITTED]
    predictor.fit([archs[i] for i in some], means[some])
    return predictor.predict(archs)[0]


def _rank_of_best(y: np.ndarray, classes: list[np.ndarray]) -> int:
    """Rank from 1, by the mean of the class, of the class with the best value."""
    means = np.array([y[members].mean() for members in classes])
    best = max(range(len(classes)), key=lambda c: y[classes[c]].max())
    return 1 + int((means > means[best]).sum())


def _within(y: np.ndarray, classes: list[np.ndarray], strings: np.ndarray) -> tuple[float, float]:
    """Standard deviation within classes, and the share of the variance that the strings explain in classes held out."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import GroupKFold, cross_val_score

    floor, squares, freedom = np.quantile(y, LEARNT), 0.0, 0
    inputs: list[np.ndarray] = []
    apart: list[np.ndarray] = []
    groups: list[list[int]] = []
    for c, members in enumerate(classes):
        values, places = np.unique(y[members], return_index=True)
        if len(values) < 2 or np.median(values) <= floor:
            continue
        gaps = values - values.mean()
        squares, freedom = squares + float(gaps @ gaps), freedom + len(values) - 1
        inputs, apart, groups = [*inputs, strings[members[places]]], [*apart, gaps], [*groups, [c] * len(values)]
    forest = RandomForestRegressor(100, min_samples_leaf=3, random_state=0, n_jobs=1)
    shares = cross_val_score(forest, np.concatenate(inputs), np.concatenate(apart), cv=GroupKFold(5), groups=np.concatenate(groups))
    return (squares / freedom) ** 0.5, float(np.mean(shares))


if __name__ == "__main__":
    main()
