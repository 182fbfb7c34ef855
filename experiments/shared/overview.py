"""Values of the most important figures and of the list of shipped files, for README.md and other pages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffnag.datasets.meta_dataset import CROSSED, TRAINING, read
from diffnag.generators.recipes import RECIPES
from diffnag.io.files import PRETRAINED
from experiments.images.figures import own_images, photos, small_images
from experiments.shared.arena_results import OURS
from experiments.shared.common import DATASETS
from experiments.shared.results import Values, by_keys, distinct, read_result
from experiments.shared.templates import render

CELLS, WIRINGS = [f"nasbench201/{dataset}" for dataset in DATASETS], "nasbench101/cifar10"


def measured(root: str) -> str:
    """Table of the figures of the README. `root` is the path from the page to the root of the repository, empty or `../`."""
    return render("measured", {"root": root, "overview": overview()})


def overview() -> Values:
    """Values for the rows of `overview.md.j2`."""
    speed = read_result("speed")
    choosing = [row for row in speed["choosing"] if row.get("objectives", 1) == 1]
    return {
        "ours": OURS, "arena": _arena(), "meta_search": _meta_search(), "speed": speed, "gain": _gain(), "awareness": _awareness(),
        **_quality(), "workers": _workers(), "digits": own_images(),
        "photos": max((row for row in photos() if row["gain"] is not None), key=lambda row: row["a_class"]), "small": _small_images(),
        "fronts": read_result("front_benchmark")["device_means"],
        "rate": {row["guidance"]: row["archs_per_s"] for row in speed["generation"]},
        "choosing": {
            name: max(row["median_s"] for row in choosing if row["predictor"] == name) for name in distinct(choosing, "predictor")
        },
    }  # fmt: skip


def shipped(root: str) -> str:
    """List of the files of weights and measurements in the package."""
    others = [f"{space}/{family}" for space, families in json.loads(RECIPES.read_text()).items() for family in families]
    named = (f"nasbench201/{kind}-{target}" for kind in ("sister-tables", "meta-only") for target in (*DATASETS, "own-images"))
    return render("shipped", {
        "root": root, "files": [_file(name) for name in (*others, *named, "nasbench201/surrogate")], "encoder": weights("image_encoder.safetensors"),
        "supernet": weights("nasbench201/supernet.safetensors"),
        "latency": weights("nasbench201/latency.safetensors"),
        "measured": [_measurements(path) for files in (TRAINING, CROSSED) for paths in files.values() for path in paths],
    })  # fmt: skip


def weights(name: str) -> dict[str, Any]:
    """Metadata of shipped weights."""
    from safetensors import safe_open

    with safe_open(PRETRAINED / name, framework="np") as file:
        return json.loads(file.metadata()["diffnag"])


def _arena() -> Values:
    """Labels to the optimum of NAS-Bench-201 by method, and best accuracies of NAS-Bench-101; under protocol T."""
    rows = [row for row in read_result("arena")["rows"] if row["protocol"] == "T"]
    found = by_keys(rows, "benchmark", "method")

    def methods(benchmark: str) -> list[str]:
        return [method for name, method in found if name == benchmark]

    return {
        "seeds": found[CELLS[0], OURS]["seeds"], "wiring_seeds": found[WIRINGS, OURS]["seeds"], "wiring_optimum": found[WIRINGS, OURS]["optimum"],
        "labels": {method: [found[cells, method]["median_labels_to_optimum"] for cells in CELLS] for method in methods(CELLS[0])},
        "after_150": {method: found[WIRINGS, method]["mean_best_at"]["150"] for method in methods(WIRINGS)},
        "cells": _without_ours(methods(CELLS[0])), "wirings": _without_ours(methods(WIRINGS)),
    }  # fmt: skip


def _without_ours(methods: Iterable[str]) -> list[str]:
    return [method for method in methods if method != OURS]


def _meta_search() -> Values:
    found = by_keys(read_result("meta_search")["rows"], "method", "dataset")
    return {
        "runs": found["meta", "cifar10"]["runs"], "labels": [found["meta", dataset]["median_labels_to_optimum"] for dataset in DATASETS],
        "after_10": {method: [found[method, dataset]["mean_best_at"]["10"] for dataset in DATASETS] for method in ("meta-only", "gp")},
    }  # fmt: skip


def _gain() -> dict[str, list[float]]:
    """Test accuracy of generated architectures above the mean of the space, by predictor."""
    found = by_keys((row for row in read_result("transfer_generation")["rows"] if row["scale"] == 3), "predictor", "dataset")
    return {name: [found[name, dataset]["gain"] for dataset in DATASETS] for name in ("meta", "meta-only")}


def _small_images() -> Values:
    """Set -> mean accuracy of each arm in three minutes, for the sets that have both arms which are shown."""
    found: dict[str, dict[str, float]] = {}
    for row in small_images():
        if row["minutes"] == 3:
            found.setdefault(row["set"], {})[row["arm"]] = row["test_accuracy"]
    return {name: arms for name, arms in found.items() if {"search", "plain"} <= arms.keys()}


def _awareness() -> Values:
    """Gain of Kendall tau from knowing the task."""
    return by_keys(read_result("dataset_awareness")["awareness"]["differences"], "pair")["c - a"]["tau"]


def _quality() -> Values:
    """Raw validity in each space, and the largest errors of mean z against the exact law."""
    found = read_result("generation_quality")
    return {
        "validity": {name: space["samples"]["dpmpp, 20 evaluations"]["validity"] for name, space in found["spaces"].items()},
        "law_error": {
            kind: max(abs(row[f"{kind}_mean_z"] - row["exact_mean_z"]) for row in found["law"] if row["scale"] <= largest)
            for kind, largest in (("gradient", 1), ("particles", 4))
        },
    }  # fmt: skip


def _workers() -> Values:
    found = read_result("workers")
    most = max(row["workers"] for row in found["rows"])
    return {**found, "most": most, "rows": [row for row in found["rows"] if row["workers"] == most]}


def _file(name: str) -> Values:
    """A file of weights: name, size and metadata."""
    path = PRETRAINED / f"{name}.safetensors"
    return {**weights(path.relative_to(PRETRAINED).as_posix()), "name": name, "megabytes": path.stat().st_size / 1e6}


def _measurements(path: Path) -> Values:
    """A file of own measurements: name, number of tasks, and architectures per task."""
    data = read(path)
    pairs = {(measurement.task, measurement.arch) for measurement in data.measurements}
    return {"name": f"{path.parent.name}/{path.name}", "tasks": len(data.tasks), "architectures": len(pairs) // len(data.tasks)}
