"""Analyses the crossed measurements: is the interaction of task and architecture larger than the noise of a seed?

    python -m experiments.meta_dataset_analysis

A label is the mean accuracy over several trainings of a network. A quarter of the architectures has two labels. Labels become normal
scores within each task, so that all tasks count equally. The variance over the same architectures on every task has three parts:
`architecture` is the mean covariance between two tasks, `seed` is half the mean squared difference of two labels, and `interaction` is
the rest. Both seed and interaction lower the tau between tasks.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from diffnag.datasets.sources import normal_scores
from experiments.shared.common import parser
from experiments.shared.results import made_by, write_result
from experiments.shared.statistics import kendall_tau


def main() -> None:
    parser(__doc__).parse_args()
    from diffnag.datasets.meta_dataset import CROSSED, read_together

    data = read_together(CROSSED["nasbench201"])
    rows = analysis(data)
    for key, value in rows.items():
        print(key, value)
    write_result("meta_dataset_analysis", {"made_by": made_by(), **rows})


def analysis(data: Any) -> dict[str, Any]:
    """Figures of a crossed meta-dataset."""
    tasks = list(data.tasks.values())
    accuracy, again = _crossed(data)
    whole = np.isfinite(accuracy).all(1)
    if not whole.all():
        print(f"{(~whole).sum()} tasks are not fully measured and are left out")
        accuracy, again, tasks = accuracy[whole], again[whole], [task for task, kept in zip(tasks, whole, strict=True) if kept]
    scores = np.array([normal_scores(row) for row in accuracy])
    twice = np.isfinite(again[0])
    seed_tau = [kendall_tau(a[twice], b[twice]) for a, b in zip(accuracy, again, strict=True)]
    noise = [_seed_variance(row, other, twice) for row, other in zip(accuracy, again, strict=True)]
    pairs = list(combinations(range(len(tasks)), 2))
    shared = np.mean([np.cov(scores[i], scores[j])[0, 1] for i, j in pairs])
    total, seed = float(scores.var(1, ddof=1).mean()), float(np.mean(noise))
    cost = [m.seconds for m in data.measurements]
    return {
        "tasks": len(tasks), "architectures": accuracy.shape[1], "measurements": len(data.measurements),
        "seeds_per_label": (1 + max(m.seed for m in data.measurements)) // 2,
        "core_seconds_per_label": round(float(np.mean(cost)) * ((1 + max(m.seed for m in data.measurements)) // 2), 2),
        "seed_tau_median": float(np.median(seed_tau)), "seed_tau_quartiles": np.quantile(seed_tau, [0.25, 0.75]).tolist(),
        "variance_share": {
            "architecture": float(shared / total), "interaction": 1 - float(shared + seed) / total, "seed": seed / total,
        },
        "task_tau": {
            kind: float(np.mean([kendall_tau(accuracy[i], accuracy[j]) for i, j in chosen]))
            for kind, chosen in {
                "all pairs": pairs,
                "same source": [(i, j) for i, j in pairs if tasks[i].source == tasks[j].source],
                "other source": [(i, j) for i, j in pairs if tasks[i].source != tasks[j].source],
                "both unchanged": [(i, j) for i, j in pairs if _plain(tasks[i]) and _plain(tasks[j])],
            }.items() if chosen
        },
        "per_task": [
            {"source": t.source, "classes": len(t.classes), "train_images": t.train_images, "label_noise": t.label_noise,
             **vars(t.change), "mean_accuracy": round(float(a.mean()), 1), "seed_tau": round(float(tau), 2)}
            for t, a, tau in zip(tasks, accuracy, seed_tau, strict=True)
        ],
    }  # fmt: skip


def _plain(task: Any) -> bool:
    """True if neither images nor labels of the task were changed."""
    return not (task.change.edges or task.change.shuffle or task.change.blur > 1 or task.change.noise or task.label_noise)


def _crossed(data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two labels `(tasks, architectures)`: means over the first and the second half of the seeds; NaN without a measurement."""
    archs = list(dict.fromkeys(m.arch for m in data.measurements))
    values = np.full((1 + max(m.seed for m in data.measurements), len(data.tasks), len(archs)), np.nan)
    for m in data.measurements:
        values[m.seed, m.task, archs.index(m.arch)] = m.accuracy
    half = len(values) // 2
    return values[:half].mean(0), values[half:].mean(0)


def _seed_variance(first: np.ndarray, second: np.ndarray, twice: np.ndarray) -> float:
    """Half the mean squared difference of the two labels, as normal scores among all architectures of the task."""
    one = normal_scores(first)
    other = normal_scores(np.where(twice, second, first))
    return float(((one - other)[twice] ** 2).mean() / 2)


if __name__ == "__main__":
    main()
