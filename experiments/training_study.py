"""Compares settings of short trainings: Kendall tau between two seeds and with the 200-epoch table, and the cost.

    python -m experiments.training_study [--settings NAME ...]

Fourteen random cells with a convolution, all of different function, are trained on two tasks at 16 x 16 pixels: CIFAR-10 with 2,000
training images and handwritten digits with 1,000. They are tested on all other images, 3,000 and 4,000. Each setting changes one option
of the setting that `diffnag.datasets.meta_dataset` uses. Seconds are processor time of one core.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.shared.common import begin, one_thread, parser
from experiments.shared.results import read_result, record, write_result
from experiments.shared.statistics import kendall_tau

if TYPE_CHECKING:
    from diffnag.arch import Arch


@dataclass(frozen=True)
class Setting:
    """Options of a short training: `network` of the space's network, `recipe` of the trainer, at most `judged` test images."""

    passes: int = 16_000
    train_images: float = 1.0  # share of the task's training images
    network: dict[str, Any] = field(default_factory=lambda: {"channels": 16, "cells": 1, "stem_stride": 2, "small": True})
    recipe: dict[str, Any] = field(default_factory=lambda: {"batch_size": 128, "learning_rate": 0.1, "flip": False})
    judged: int = 10_000

    def but(self, *, network: dict[str, Any] | None = None, recipe: dict[str, Any] | None = None) -> Setting:
        """A copy with some options of the network and the recipe changed."""
        return replace(self, network={**self.network, **(network or {})}, recipe={**self.recipe, **(recipe or {})})


CHOSEN = Setting()
SETTINGS = {
    "chosen": CHOSEN,
    "residual reductions": CHOSEN.but(network={"small": False}),
    "8 channels": CHOSEN.but(network={"channels": 8}),
    "no stride in the stem, 8 channels": CHOSEN.but(network={"channels": 8, "stem_stride": 1}),
    "2 cells, 8,000 passes": replace(CHOSEN.but(network={"cells": 2}), passes=8_000),
    "8,000 passes": replace(CHOSEN, passes=8_000),
    "32,000 passes": replace(CHOSEN, passes=32_000),
    "half the images": replace(CHOSEN, train_images=0.5),
    "batch 64": CHOSEN.but(recipe={"batch_size": 64}),
    "learning rate 0.2": CHOSEN.but(recipe={"learning_rate": 0.2}),
    "mirrored images": CHOSEN.but(recipe={"flip": True}),
    "no shifted images": CHOSEN.but(recipe={"shift": 0}),
    "no averaging of weights": CHOSEN.but(recipe={"average": 0.0}),
    "judged on 1,000 images": replace(CHOSEN, judged=1_000),
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    args = options.parse_args()
    begin()
    import torch

    one_thread()
    torch.set_flush_denormal(True)
    tasks = _tasks()
    archs, table = _cells(14)
    for name in args.settings:
        row = {"setting": name, **_row(SETTINGS[name], tasks, archs, table)}
        print(row, flush=True)
        rows = [*(other for other in read_result("training_study").get("rows", []) if other["setting"] != name), record(row)]
        rows.sort(key=lambda row: list(SETTINGS).index(row["setting"]))
        write_result("training_study", {"cells": len(archs), "seeds": 2, "rows": rows})


def _row(setting: Setting, tasks: dict[str, Any], archs: list[Any], table: np.ndarray) -> dict[str, Any]:
    """Figures of one setting on all tasks."""
    row: dict[str, Any] = {}
    seconds = []
    for name, images in tasks.items():
        start = time.process_time()
        first, second = ([_accuracy(setting, images, arch, seed) for arch in archs] for seed in (0, 1))
        a, b = np.array(list(first)), np.array(list(second))
        seconds.append((time.process_time() - start) / (2 * len(archs)))
        row[name] = {
            "seed_tau": round(kendall_tau(a, b), 2), "seed_sd": round(float((a - b).std() / 2**0.5), 2),
            "architecture_sd": round(float(((a + b) / 2).std()), 2), "mean_accuracy": round(float((a + b).mean() / 2), 1),
        }  # fmt: skip
        if name == "cifar10":
            row[name]["table_tau"] = round(kendall_tau((a + b) / 2, table), 2)
    return {"core_seconds": round(float(np.mean(seconds)), 2), **row}


def _accuracy(setting: Setting, images: Any, arch: Any, seed: int) -> float:
    """Test accuracy after one training."""
    import torch

    from diffnag.networks.training import Recipe, accuracy, as_input, train
    from diffnag.search_spaces.nasbench201.network import Network
    from diffnag.search_spaces.nasbench201.space import NASBench201

    n = round(len(images.x_train) * setting.train_images)
    x, judged = as_input(images.x_train[:n]), as_input(images.x_judged[: setting.judged])
    y, y_judged = torch.from_numpy(images.y_train[:n]), torch.from_numpy(images.y_judged[: setting.judged])
    batch = setting.recipe["batch_size"]
    recipe = Recipe(epochs=-(-setting.passes // (n // batch * batch)), **setting.recipe)
    torch.manual_seed(seed)
    model = Network(NASBench201().operations(arch), num_classes=10, **setting.network)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return accuracy(train(model, x, y, recipe, generator=torch.Generator().manual_seed(seed)), judged, y_judged)


def _tasks() -> dict[str, Any]:
    """Name -> images of the two tasks."""
    from diffnag.datasets.drawn_tasks import Change, TaskSpec, task_images

    classes = tuple(range(10))
    return {
        "cifar10": task_images(TaskSpec("cifar10", classes, 2_000, 0.0, Change(), seed=0)),
        "mnist": task_images(TaskSpec("mnist", classes, 1_000, 0.0, Change(grey=True), seed=0)),
    }


def _cells(count: int) -> tuple[list[Any], np.ndarray]:
    """Random cells of different function with a convolution, and their test accuracy on CIFAR-10 after 200 epochs."""
    from diffnag import load_space
    from diffnag.io.tables import load_table

    space = load_space("nasbench201")
    table = load_table(space)
    rng = np.random.default_rng(7)
    found: dict[str, Arch] = {}
    while len(found) < count:
        arch = space.random(rng)
        key = space.canonical(arch)
        if "conv" in key:
            found.setdefault(key, arch)
    archs = list(found.values())
    values = dict(zip(table.archs, table.values["cifar10/test/200"], strict=True))
    return archs, np.array([values[space.to_str(arch)] for arch in archs])


if __name__ == "__main__":
    main()
