"""What the experiments share: where the reference data is, and how a result file looks."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
REFERENCE = Path(__file__).parents[2] / "shared" / "data"
DATASETS = ("cifar10", "cifar100", "ImageNet16-120")


def use_reference_data() -> Path:
    """Point the package at `$DIFFNAG_DATA`, else at the reference data beside the checkout."""
    folder = Path(os.environ.setdefault("DIFFNAG_DATA", str(REFERENCE)))
    if not (folder / "nas_bench_201.csv.gz").is_file():
        sys.exit(f"experiments need nas_bench_201.csv.gz in $DIFFNAG_DATA or {REFERENCE}")
    return folder


def write_result(name: str, **content: Any) -> None:
    """Write `experiments/results/<name>.json`: the command and the machine, then the content."""
    import torch

    from diffnag import __version__
    from diffnag.files import write_json

    about = {
        "command": shlex.join(["python", "-m", f"experiments.{name}", *sys.argv[1:]]),
        "diffnag": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    write_json(RESULTS / f"{name}.json", {**about, **content})
    print(f"wrote {RESULTS / name}.json")
