"""Photos of five classes: searches for a part of a pretrained network, as a user runs them, beside a linear probe on the whole network.

    python -m experiments.photos [--seeds N] [--minutes M]

300 photos a class of CIFAR-10 (32 pixels) for training and validation, drawn by the seed; 1,000 others are the test images. Every row is one
run of the command line, with its wall time. The probe of a row used the same images. Rows that the result file has are kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.own_images import CLASSES
from experiments.shared.common import begin, parser
from experiments.shared.results import read_result, record, write_result

A_CLASS = 300
NAME = "photos"
PROBE = "linear probe"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=5, help="number of seeds (default: %(default)s)")
    options.add_argument("--minutes", type=float, default=15.0, help="time limit of a search (default: %(default)s)")
    args = options.parse_args()
    data = begin()
    rows: list[dict[str, Any]] = list(read_result(NAME).get("rows", []))
    for seed in range(args.seeds):
        key = {"seed": seed, "minutes": args.minutes}
        if not any(key.items() <= row.items() for row in rows):
            with tempfile.TemporaryDirectory() as folder:
                photos = write_photos(Path(folder) / "photos", data / "images" / "cifar10.npz", seed)
                rows.append(record(key | searched(photos, seed, args.minutes, Path(folder))))
            print(rows[-1], flush=True)
            write_result(NAME, {"rows": rows})


def write_photos(folder: Path, source: Path, seed: int) -> Path:
    """Write the folders `train` and `test`, each with one folder of PNG files a class; returns `folder`."""
    from PIL import Image

    arrays, rng = np.load(source), np.random.default_rng(seed)
    for split, most in (("train", A_CLASS), ("test", None)):
        for name, label in CLASSES.items():
            (folder / split / name).mkdir(parents=True)
            images = arrays[f"x_{split}"][arrays[f"y_{split}"] == label]
            for i in rng.permutation(len(images))[:most]:
                Image.fromarray(images[i]).save(folder / split / name / f"{i:04}.png")
    return folder


def searched(photos: Path, seed: int, minutes: float, folder: Path) -> dict[str, Any]:
    """Run the command line with an empty cache; accuracies are fractions."""
    out = folder / "run"
    command = [
        sys.executable, "-m", "diffnag.search", "--dataset", str(photos), "--space", "efficientnet-lite", "--predictor", "flops",
        "--seed", str(seed), "--time-limit", f"{minutes}m", "--out", str(out),
    ]  # fmt: skip
    start, load = time.perf_counter(), os.getloadavg()[0]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, env={**os.environ, "DIFFNAG_CACHE": str(folder / "cache")}, check=False)
    wall = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{command} failed")
    result = json.loads((out / "result.json").read_text())
    by_name = {row["name"]: row for row in result["compare"]}
    shown = ("arch", "params", "flops", "epochs", "validation_accuracy", "test_accuracy")
    return {
        "wall_s": round(wall, 1), "load_average_before": round(load, 1), "labels": result["labels_target"],
        "test_accuracy": result["test_accuracy"], "probe": {key: by_name[PROBE][key] for key in shown},
        "searched": {key: row[key] for name, row in by_name.items() if name != PROBE for key in shown},
    }  # fmt: skip


if __name__ == "__main__":
    main()
