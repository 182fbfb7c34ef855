"""Compares an accelerator with the CPU: are the results equal, and how long does each take? Times are medians after a warm-up.

    python -m experiments.accelerator [--device cuda]

`generation`: architectures per second from the same seeds on both devices, and the share of samples that are equal in every entry.
Samples are unguided, and in `nasbench201` also guided by the gradient of `meta`, which stays on the CPU.
`training`: seconds per step of a score network, with the options of the shipped network.
`evaluation`: seconds per epoch of a network on `IMAGES` images of CIFAR-10, including a test of the averaged weights, as an oracle and
the final training do it; and the test accuracy that the same seed gives after `EPOCHS` epochs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffnag import Steer, load_generator, load_predictor, load_space
from diffnag.arch import ArchBatch
from diffnag.command.running import run_command
from diffnag.generators.diffusion.family import SDEFamily
from diffnag.generators.training import TrainingRun, training_set
from diffnag.guidance.checked import CheckedPredictor
from diffnag.io.device import resolve_device
from diffnag.networks.plan import Skeleton
from diffnag.networks.training import Recipe, accuracy, as_input, epochs
from diffnag.spaces.split import CanonicalSplit
from experiments.shared.common import begin, parser
from experiments.shared.results import made_by, write_result
from experiments.shared.score_ablations import shipped_options

SPACES, TRAINED = ("nasbench201", "nasbench101", "mobilenetv3"), ("nasbench201", "mobilenetv3")
N, RUNS = 2048, 3
STEPS = 20
IMAGES, EPOCHS = 4096, 5
SKELETONS = {"nasbench201": ((8, 1), (16, 5)), "mobilenetv3": ((16, 1),)}
"""Space -> channels and cells per stage of the networks that are trained."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--device", default="auto", help="the device to compare with the CPU (default: %(default)s)")
    device = resolve_device(options.parse_args().device)
    data = begin()
    devices = {"cpu": torch.device("cpu"), "accelerator": device}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    content: dict[str, Any] = {
        "made_by": made_by(),
        "accelerator": name,
        "generation": [row for space in SPACES for row in _generation(space, devices)],
        "training": [_training(space, devices) for space in TRAINED],
        "evaluation": [
            _evaluation(space, channels, cells, devices, data) for space, shapes in SKELETONS.items() for channels, cells in shapes
        ],
    }  # fmt: skip
    write_result("accelerator", content)


def _generation(name: str, devices: dict[str, torch.device]) -> list[dict[str, Any]]:
    """A row for each kind of guidance in one space."""
    space = load_space(name)
    predictors: dict[str, CheckedPredictor | None] = {"none": None}
    if name == "nasbench201":
        predictors["gradient"] = load_predictor("meta", space=space, dataset="cifar10", seed=0)
    rows = []
    for guidance, predictor in predictors.items():
        made: dict[str, Any] = {}
        row: dict[str, Any] = {"space": name, "guidance": guidance, "n": N}
        for where, device in devices.items():
            generator = load_generator(space, device=device)
            steer = Steer() if predictor is None else Steer.by(predictor, space)
            runs = [generator.sample(N, seed=seed, steer=steer) for seed in range(RUNS + 1)]
            made[where] = [run.decoded for run in runs]
            row[f"{where}_archs_per_s"] = N / float(np.median([run.wall_s for run in runs[1:]]))
            row[f"{where}_validity"] = float(np.mean([item.arch is not None for run in runs for item in run.decoded]))
        same = [a.arch == b.arch for runs in zip(*made.values(), strict=True) for a, b in zip(*runs, strict=True)]
        rows.append({**row, "same": float(np.mean(same))})
        print(rows[-1], flush=True)
    return rows


def _training(name: str, devices: dict[str, torch.device]) -> dict[str, Any]:
    """Seconds per step, with the options that the shipped network was trained with."""
    space, (options, config), family = load_space(name), shipped_options(name), SDEFamily()
    row: dict[str, Any] = {"space": name, "batch_size": options.batch_size, "steps": options.steps}
    data, _ = training_set(space, CanonicalSplit.named(options.split))
    for where, device in devices.items():
        net = family.build(space, config, seed=options.seed).to(device)
        row[f"{where}_step_s"] = _median_step(TrainingRun(family, net, options, config), data.to(device))
    print(row, flush=True)
    return row


def _evaluation(name: str, channels: int, cells: int, devices: dict[str, torch.device], data: Path) -> dict[str, Any]:
    """Seconds per epoch of training, and test accuracy after `EPOCHS` epochs."""
    space = load_space(name)
    arch = space.random(np.random.default_rng(0))
    with np.load(data / "images" / "cifar10.npz") as arrays:
        images = {key: arrays[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    order = np.random.default_rng(0).permutation(len(images["y_train"]))[:IMAGES]
    recipe = Recipe(epochs=EPOCHS, batch_size=128)
    row: dict[str, Any] = {"space": name, "channels": channels, "cells": cells, "images": IMAGES, "epochs": EPOCHS}
    for where, device in devices.items():
        x, x_test = (as_input(part, device=device) for part in (images["x_train"][order], images["x_test"]))
        y, y_test = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (images["y_train"][order], images["y_test"]))
        torch.manual_seed(0)  # layers draw their weights from the global generator
        network = Skeleton(channels, cells, stem_stride=2).build(arch, space, num_classes=10, image_size=32)
        network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        moments = [time.perf_counter()]
        for averaged in epochs(network, x, y, recipe, generator=torch.Generator().manual_seed(0)):
            row[f"{where}_test"] = accuracy(averaged, x_test, y_test)
            moments.append(time.perf_counter())  # the accuracy is a number, so nothing is pending on the device
        row[f"{where}_epoch_s"] = float(np.median(np.diff(moments)[1:]))
    print(row, flush=True)
    return row


def _median_step(run: TrainingRun, data: ArchBatch) -> float:
    """Median seconds of `STEPS` steps after three that are not counted."""
    seconds = []
    for _ in range(STEPS + 3):
        start = time.perf_counter()
        float(run.advance(data))  # a number, so nothing is pending on the device
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[3:]))


if __name__ == "__main__":
    run_command(main)
