"""What the experiments share: where the reference data is, and how a result file looks."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parents[1] / "results"
REFERENCE = Path(__file__).parents[3] / "shared" / "data"
DATASETS = ("cifar10", "cifar100", "ImageNet16-120")


def use_reference_data() -> Path:
    """Point the package at `$DIFFNAG_DATA`, else at the reference data beside the checkout."""
    folder = Path(os.environ.setdefault("DIFFNAG_DATA", str(REFERENCE)))
    if not (folder / "nas_bench_201.csv.gz").is_file():
        sys.exit(f"experiments need nas_bench_201.csv.gz in $DIFFNAG_DATA or {REFERENCE}")
    return folder


def about(name: str) -> dict[str, Any]:
    """The command `experiments.<name>` as it was given, and the machine."""
    import torch

    from diffnag import __version__

    return {
        "command": shlex.join(["python", "-m", f"experiments.{name}", *sys.argv[1:]]),
        "diffnag": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def read_result(name: str) -> dict[str, Any]:
    """What `experiments/results/<name>.json` has; empty where there is no such file."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def write_result(name: str, **content: Any) -> None:
    """Write `experiments/results/<name>.json`: the command and the machine, then the content."""
    from diffnag.io.files import write_json

    write_json(RESULTS / f"{name}.json", {**about(name), **content})
    print(f"wrote {RESULTS / name}.json")


def one_thread() -> None:
    """For processes that share the cores."""
    import torch

    torch.set_num_threads(1)


def copied_ranks(target: str, budget: int) -> np.ndarray:
    """Best test accuracy so far `(budget,)`, cells taken in the order of their mean rank by test accuracy in the sister tables."""
    from scipy.stats import rankdata

    from diffnag import load_space
    from diffnag.io.tables import load_table

    table = load_table(load_space("nasbench201"))
    sisters = [table.values[f"{other}/test/200"] for other in DATASETS if other != target]
    order = np.argsort(-np.mean([rankdata(column) for column in sisters], axis=0), kind="stable")
    return np.maximum.accumulate(table.values[f"{target}/test/200"][order[:budget]])


def optimum_found(curves: np.ndarray, optimum: float) -> dict[str, float | None]:
    """Of `curves (runs, labels)`, the best value after each label: how many reach the optimum, and after how many labels."""
    hit = curves >= optimum - 1e-4
    first = np.where(hit.any(1), hit.argmax(1) + 1, np.inf)
    return {"hit_rate": float(hit.any(1).mean()), "median_labels_to_optimum": median_labels(first)}


def median_labels(first: np.ndarray) -> float | None:
    """Of labels `(runs,)`, infinite where nothing was found; None where fewer than half found it."""
    median = float(np.median(first))
    return median if np.isfinite(median) else None
