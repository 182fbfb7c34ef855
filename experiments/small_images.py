"""Small images: searches as a user runs them, beside what trains one network all the time.

    python -m experiments.small_images [--sets NAME ...] [--seeds A:B] [--minutes M] [--arms NAME ...]

The sets are those of `experiments.images.sets`, drawn by the seed. The arm `search` is the command line with `--space nasbench201
--predictor meta`, `scratch` the same with `--from-scratch`; `random` and `scratch-random` are both with random search. `plain` trains one
residual network of three stages of 16, 32 and 64 channels from random weights, at full resolution up to 32 pixels, by the same trainer in
the same wall time, and `resnet18` a ResNet-18 for small images. `probe` and `fine-tuning` use a network that knows the photos of ImageNet.
All have the same images of training, validation and test, and one thread. Rows that the result file has are kept; several commands may
run at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from experiments.images.measuring import add_rows, add_set_options
from experiments.images.pretrained_arms import fine_tuned, probed
from experiments.images.resnet18 import train_resnet18
from experiments.shared.common import begin, parser

NAME = "small_images"


def main() -> None:
    options = parser(__doc__)
    add_set_options(options, seeds=3)
    options.add_argument("--minutes", type=float, default=3.0, help="time limit of a run (default: %(default)s)")
    options.add_argument("--arms", nargs="+", metavar="NAME", default=["search", "plain"], choices=list(ARMS), help="default: search plain")
    args = options.parse_args()
    arms = {arm: partial(timed, arm=arm, seconds=60 * args.minutes) for arm in args.arms}
    add_rows(NAME, begin(), args.sets, args.seeds, arms, given={"minutes": args.minutes})


def timed(images: Path, seed: int, *, arm: str, seconds: float) -> dict[str, Any]:
    """What an arm finds, with its wall time and the load of the machine before it."""
    start, load = time.perf_counter(), os.getloadavg()[0]
    found = ARMS[arm](images, seed, seconds)
    return {**found, "wall_s": round(time.perf_counter() - start, 1), "load_average_before": round(load, 1)}


def searched(images: Path, seed: int, seconds: float, *, method: Sequence[str]) -> dict[str, Any]:
    """Run the command line; accuracies are fractions."""
    out = images.parent / "run"
    command = [
        sys.executable, "-m", "diffnag.search", "--dataset", str(images), "--space", "nasbench201", *method,
        "--seed", str(seed), "--time-limit", f"{seconds:g}s", "--out", str(out),
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    if done.returncode:
        sys.exit(f"{command} failed")
    result = json.loads((out / "result.json").read_text())
    final = result["final"]
    return {
        "test_accuracy": result["test_accuracy"], "test_images": result["test_images"], "labels": result["labels_target"],
        **{key: final[key] for key in ("arch", "params", "flops", "epochs", "seconds")},
        "skeleton": {key: final["plan"][key] for key in ("channels", "cells", "stem_stride")},
    }  # fmt: skip


def plain(images: Path, seed: int, seconds: float) -> dict[str, Any]:
    """Train the residual network for so many seconds; accuracies are fractions."""
    import torch

    from diffnag.search_loop.finish.plain import PlainTraining
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.options import SearchOptions

    torch.set_num_threads(1)
    options = SearchOptions(dataset=str(images), space="nasbench201", method="random", seed=seed, time_limit=seconds, from_scratch=True)
    with Search(options) as search:
        found = PlainTraining(search, images.parent, seconds, lambda what, done, of: None).resnet()
    return {
        "test_accuracy": found.test.value, "test_images": found.test.images, "labels": 0, "arch": found.arch, "params": found.size.params,
        "flops": found.size.flops, "epochs": found.epochs, "seconds": round(found.seconds, 1),
        "skeleton": {"channels": 16, "cells": 1, "stem_stride": found.model.description.skeleton.stem_stride},
    }  # fmt: skip


ARMS: Mapping[str, Callable[[Path, int, float], dict[str, Any]]] = {
    "search": partial(searched, method=("--predictor", "meta")), "scratch": partial(searched, method=("--predictor", "meta", "--from-scratch")),
    "random": partial(searched, method=("--method", "random")),
    "scratch-random": partial(searched, method=("--method", "random", "--from-scratch")),
    "plain": plain, "resnet18": train_resnet18, "probe": probed, "fine-tuning": fine_tuned,
}  # fmt: skip
"""Arm -> a function of the file of images, the seed and the seconds that it has."""


if __name__ == "__main__":
    main()
