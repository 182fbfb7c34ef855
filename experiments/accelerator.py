"""What an accelerator changes: whether it makes what the CPU makes, and how long either takes. Medians, warm.

    python -m experiments.accelerator [--device cuda]

`generation`: the same seed on both, architectures a second and the share of samples that are the same to the last entry, unguided
and, where a space has a meta-predictor, guided by its gradient (the predictor stays on the CPU). `training`: seconds a step of a
score network with the options of the shipped one. `evaluation`: one epoch of a network on `IMAGES` images of CIFAR-10, the average
weights judged, as an oracle and as the final training does; and the accuracies that the same seed gives after `EPOCHS` epochs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffnag import Generator, load_denoiser, load_predictor, load_space
from diffnag.command.running import run_command
from diffnag.generators.diffusion.denoiser import KIND, Denoiser
from diffnag.generators.diffusion.sde import make_sde
from diffnag.generators.diffusion.training import Options, ScoreTraining, training_set
from diffnag.io.checkpoint import load_checkpoint
from diffnag.io.device import resolve_device
from diffnag.io.files import PRETRAINED
from diffnag.networks.plan import Skeleton
from diffnag.networks.training import Recipe, accuracy, as_input, epochs
from diffnag.spaces.split import CanonicalSplit
from experiments.shared.common import use_reference_data, write_result

SPACES, TRAINED = ("nasbench201", "nasbench101", "mobilenetv3"), ("nasbench201", "mobilenetv3")
N, RUNS = 2048, 3
STEPS = 20
IMAGES, EPOCHS = 4096, 5
SKELETONS = {"nasbench201": ((8, 1), (16, 5)), "mobilenetv3": ((16, 1),)}
"""Channels and cells of the networks that are trained."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="what is compared with the CPU (default: %(default)s)")
    device = resolve_device(parser.parse_args().device)
    data = use_reference_data()
    devices = {"cpu": torch.device("cpu"), "accelerator": device}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    content: dict[str, Any] = {
        "accelerator": name,
        "generation": [row for space in SPACES for row in _generation(space, devices)],
        "training": [_training(space, devices) for space in TRAINED],
        "evaluation": [
            _evaluation(space, channels, cells, devices, data) for space, shapes in SKELETONS.items() for channels, cells in shapes
        ],
    }  # fmt: skip
    write_result("accelerator", **content)


def _generation(name: str, devices: dict[str, torch.device]) -> list[dict[str, Any]]:
    space = load_space(name)
    predictors = {"none": None}
    if name == "nasbench201":
        predictors["gradient"] = load_predictor("meta", space=space, dataset="cifar10", seed=0)
    rows = []
    for guidance, predictor in predictors.items():
        made: dict[str, Any] = {}
        row: dict[str, Any] = {"space": name, "guidance": guidance, "n": N}
        for where, device in devices.items():
            generator = Generator(space, load_denoiser(space, device=device))
            runs = [generator.generate(N, seed=seed, predictor=predictor) for seed in range(RUNS + 1)]
            made[where] = [run.decoded for run in runs]
            row[f"{where}_archs_per_s"] = N / float(np.median([run.wall_s for run in runs[1:]]))
            row[f"{where}_validity"] = float(np.mean([item.arch is not None for run in runs for item in run.decoded]))
        same = [a.arch == b.arch for runs in zip(*made.values(), strict=True) for a, b in zip(*runs, strict=True)]
        rows.append({**row, "same": float(np.mean(same))})
        print(rows[-1], flush=True)
    return rows


def _training(name: str, devices: dict[str, torch.device]) -> dict[str, Any]:
    """Seconds a step, with the options that the shipped network was trained with."""
    space = load_space(name)
    meta = load_checkpoint(PRETRAINED / name / "denoiser.safetensors", kind=KIND)[1]
    trained = {key.removeprefix("trained_"): value for key, value in meta.items() if key.startswith("trained_")}
    options = Options(space=name, sde=meta["sde"]["name"], split=meta["split"], **trained)
    row: dict[str, Any] = {"space": name, "batch_size": options.batch_size, "steps": options.steps}
    x0: Tensor | None = None
    for where, device in devices.items():
        net = Denoiser(space, make_sde(options.sde), options.network())
        x0 = training_set(net, space, CanonicalSplit.named(options.split)) if x0 is None else x0
        run, there = ScoreTraining(net.to(device), options), x0.to(device)
        row[f"{where}_step_s"] = _median(lambda run=run, there=there: float(run.advance(there)), runs=STEPS)
    print(row, flush=True)
    return row


def _evaluation(name: str, channels: int, cells: int, devices: dict[str, torch.device], data: Path) -> dict[str, Any]:
    """Seconds an epoch of training, and what the network is worth after `EPOCHS`."""
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
        torch.manual_seed(0)  # the weights of the network
        network = Skeleton(channels, cells, stem_stride=2).build(arch, space, num_classes=10, image_size=32)
        network = network.to(device, memory_format=torch.channels_last)
        moments = [time.perf_counter()]
        for averaged in epochs(network, x, y, recipe, generator=torch.Generator().manual_seed(0)):
            row[f"{where}_test"] = accuracy(averaged, x_test, y_test)
            moments.append(time.perf_counter())  # the accuracy is a number: nothing is pending on the device
        row[f"{where}_epoch_s"] = float(np.median(np.diff(moments)[1:]))
    print(row, flush=True)
    return row


def _median(call: Callable[[], float], *, runs: int) -> float:
    """Median seconds of `runs` calls after three that are not counted; each gives a number, so that nothing is pending."""
    seconds = []
    for _ in range(runs + 3):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds[3:]))


if __name__ == "__main__":
    run_command(main)
