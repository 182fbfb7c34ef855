"""Photos of five classes: searches for a part of a pretrained network, as a user runs them, beside what a user would do without them.

    python -m experiments.photos [--seeds A:B] [--minutes M] [--a-class N] [--latency-share S] [--arm NAME]

Photos of CIFAR-10 (32 pixels) for training and validation, drawn by the seed; 1,000 others are the test images. A row is one run with its
wall time. The arm `search` is the command line; the linear probe on the whole network is part of it and used the same images. The arm
`random` is the same with parts that are drawn at random. The arm `fine-tuning` is what a page of PyTorch does in the same time, with the
same weights: all layers are trained, normalisation uses the statistics of each batch, the images are mirrored and shifted. A quarter of
the time goes to 128 pixels a side, a quarter to 160, and the rest to the side that was better on the validation images, on all images.
Rows that the result file has are kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.images.pretrained_arms import fine_tuned
from experiments.own_images import CLASSES
from experiments.shared.common import begin, parser
from experiments.shared.pool import seeds_argument
from experiments.shared.results import add_row, measured

NAME = "photos"
PROBE = "linear probe"
METHODS = {"search": ("--predictor", "gp"), "random": ("--method", "random")}
"""Arm -> how the command line searches."""
FINE_TUNING = "fine-tuning"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=seeds_argument, default=range(5), help="A:B, B excluded (default: 0:5)")
    options.add_argument("--minutes", type=float, default=15.0, help="time limit of a run (default: %(default)s)")
    options.add_argument("--a-class", type=int, default=300, help="photos a class for training and validation (default: %(default)s)")
    options.add_argument("--latency-share", type=float, help="limit of the latency here, as a share of the whole network's at 224 pixels")
    options.add_argument("--arm", choices=[*METHODS, FINE_TUNING], default="search", help="what runs (default: %(default)s)")
    args = options.parse_args()
    data = begin()
    for seed in args.seeds:
        limits = [] if args.latency_share is None else [f"latency here at most {args.latency_share:g} of the whole network's"]
        key = {"arm": args.arm, "seed": seed, "minutes": args.minutes, "a_class": args.a_class, "limits": limits}
        if measured(NAME, key):
            continue
        with tempfile.TemporaryDirectory() as folder:
            photos = write_photos(Path(folder) / "photos", data / "images" / "cifar10.npz", seed, a_class=args.a_class)
            start, load = time.perf_counter(), os.getloadavg()[0]
            if args.arm == FINE_TUNING:
                found = fine_tuned(photos, seed, 60 * args.minutes)
            else:
                found = searched(photos, seed, args.minutes, args.latency_share, Path(folder), method=METHODS[args.arm])
            took = {"wall_s": round(time.perf_counter() - start, 1), "load_average_before": round(load, 1)}
        add_row(NAME, key, took | found)


def write_photos(folder: Path, source: Path, seed: int, *, a_class: int = 300) -> Path:
    """Write the folders `train` and `test`, each with one folder of PNG files a class; returns `folder`."""
    from PIL import Image

    arrays, rng = np.load(source), np.random.default_rng(seed)
    for split, most in (("train", a_class), ("test", None)):
        for name, label in CLASSES.items():
            (folder / split / name).mkdir(parents=True)
            images = arrays[f"x_{split}"][arrays[f"y_{split}"] == label]
            for i in rng.permutation(len(images))[:most]:
                Image.fromarray(images[i]).save(folder / split / name / f"{i:04}.png")
    return folder


def latency_here(photos: Path) -> float:
    """Latency of the whole network at 224 pixels on this machine, in ms."""
    from diffnag.datasets.tasks import Task
    from diffnag.objectives.reading import load_objective
    from diffnag.spaces.loading import load_space

    space: Any = load_space("efficientnet-lite")
    task = Task.of(str(photos), space)
    return load_objective("latency:here", space=space, task=task).measure(space.largest, task=task)


def searched(photos: Path, seed: int, minutes: float, share: float | None, folder: Path, *, method: Sequence[str]) -> dict[str, Any]:
    """Run the command line with an empty cache; accuracies are fractions, latencies are in ms."""
    out = folder / "run"
    whole_ms = None if share is None else latency_here(photos)
    limits = [] if share is None or whole_ms is None else [f"--limit=latency:here<={share * whole_ms:.3f}ms"]
    begin = time.perf_counter()
    command = [
        sys.executable, "-m", "diffnag.search", "--dataset", str(photos), "--space", "efficientnet-lite", *method,
        "--seed", str(seed), "--time-limit", f"{minutes}m", "--out", str(out), *limits,
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.DEVNULL, env={**os.environ, "DIFFNAG_CACHE": str(folder / "cache")}, check=False)
    wall = time.perf_counter() - begin
    if done.returncode:
        sys.exit(f"{command} failed")
    result = json.loads((out / "result.json").read_text())
    by_name = {row["name"]: row for row in result["compare"]}
    scratch = next((row for name, row in by_name.items() if name.endswith("from scratch")), None)
    shown = ("arch", "params", "flops", "epochs", "validation_accuracy", "test_accuracy")
    return {
        "labels": result["labels_target"], "test_accuracy": result["test_accuracy"], "probe": {key: by_name[PROBE][key] for key in shown},
        "searched": {key: by_name[result["method"]][key] for key in shown}, "kept": result["final"]["name"],
        "from_scratch": scratch and {key: scratch[key] for key in ("name", "epochs", "validation_accuracy", "test_accuracy")},
        "whole_ms": whole_ms, "eight_bits": result.get("eight_bits"), "best_values": result["best"]["values"], "command_s": round(wall, 1),
    }  # fmt: skip


if __name__ == "__main__":
    main()
