"""Values of the page of all measurements, `docs/measurements.md`, from the result files and the metadata of the shipped weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from diffnag.io.files import PRETRAINED
from experiments.shared.common import DATASETS
from experiments.shared.results import read_result
from experiments.shared.templates import render

Values = dict[str, Any]
Row = Mapping[str, Any]


def document() -> str:
    """The page."""
    sections: dict[str, Callable[[], Any]] = {
        "generation": _generation, "search": _search, "meta_search": _meta_search, "arena": _arena, "ablations": _arena_ablations,
        "candidates": _candidates, "few_labels": _few_labels, "scale_features": _scale_features, "awareness": _awareness,
        "own_images": _own_images, "networks": _networks, "wiring": _wiring, "parts": _parts, "onnx": _onnx, "accelerator": _accelerator,
        "proxies": _proxies,
    }  # fmt: skip
    return render("measurements", {
        "results": "../experiments/results", "datasets": DATASETS, "noise": read_result("table_noise"),
        "analysis": read_result("meta_dataset_analysis"), "surrogate": weights("nasbench201/surrogate.safetensors"),
        **{name: section() for name, section in sections.items()},
    })  # fmt: skip


def weights(name: str) -> Values:
    """Metadata of shipped weights."""
    from safetensors import safe_open

    with safe_open(PRETRAINED / name, framework="np") as file:
        return json.loads(file.metadata()["diffnag"])


def table(rows: Iterable[Row], *keys: str) -> dict[Any, Row]:
    """Rows by the values of these keys: tuples, or values themselves for one key."""
    return {tuple(row[key] for key in keys) if len(keys) > 1 else row[keys[0]]: row for row in rows}


def distinct(rows: Iterable[Row], key: str) -> list[Any]:
    """The different values of a key, in the order of the rows."""
    return list(dict.fromkeys(row[key] for row in rows))


def _labels_source(rows: Sequence[Row], method: str, datasets: Sequence[str] = DATASETS) -> list[int]:
    """Numbers of labels of other datasets behind a method, for each target."""
    return [row["labels_source"] for row in rows if row["method"] == method and row["dataset"] in datasets]


def _generation() -> Values:
    search = read_result("transfer_search")["rows"]
    rows = [
        {**row, "labels_source": _labels_source(search, row["predictor"], [row["dataset"]])}
        for row in read_result("transfer_generation")["rows"] if row["scale"] == 3
    ]  # fmt: skip
    return {
        "rows": rows, "tau": [row["tau_all_cells"] for row in rows if row["predictor"] == "meta-only"],
        "behind": [row for row in rows if row["mean"] < row["ranked_mean"]],
    }  # fmt: skip


def _search() -> Values:
    rows = read_result("transfer_search")["rows"]
    found, methods = table(rows, "method", "dataset"), distinct(rows, "method")
    best = {place: row["mean_best"] for place, row in found.items()}
    return {
        "methods": methods, "found": found, "labels_source": {method: _labels_source(rows, method) for method in methods},
        "copy_rank_ahead": [dataset for dataset in DATASETS if best["copy-rank", dataset] > best["meta", dataset] + 0.005],
    }  # fmt: skip


def _meta_search() -> Values:
    rows = read_result("meta_search")["rows"]
    return {"methods": distinct(rows, "method"), "found": table(rows, "method", "dataset")}


def _arena() -> Values:
    arena = read_result("arena")
    rows = arena["rows"]
    return {
        "core_hours": arena["core_hours"], "methods": distinct(rows, "method"), "found": table(rows, "benchmark", "protocol", "method"),
        "places": list(table(rows, "benchmark", "protocol")),
    }  # fmt: skip


def _arena_ablations() -> Values:
    ablations = read_result("arena_ablations")
    rows = [row for row in ablations["rows"] if row["protocol"] == "T"]
    methods = distinct(rows, "method")
    return {
        "core_hours": ablations["core_hours"], "seeds": [row["seeds"] for row in rows], "benchmarks": distinct(rows, "benchmark"),
        "methods": methods, "found": table(rows, "benchmark", "method"),
        "labels_source": {method: [row["labels_source"] for row in rows if row["method"] == method] for method in methods},
    }  # fmt: skip


def _candidates() -> Values:
    rows = read_result("candidate_sources")["rows"]
    return {"spaces": distinct(rows, "space"), "names": distinct(rows, "row"), "found": table(rows, "space", "row")}


def _few_labels() -> Values:
    rows = [row for row in read_result("few_labels")["rows"] if (row["dataset"], row["split"]) == ("cifar10", "test")]
    return {
        "labels": sorted({row["labels_target"] for row in rows if row["labels_target"]}),
        "tau": {place: row["tau"] for place, row in table(rows, "method", "labels_target").items()},
        "sources": {
            "gp": "none", "gp+proxies": "none", "random-forest": "none", "mlp": "none", "meta+adaptation": "sister-tables",
            "copied-ranks+adaptation": "sister-tables",
        },
    }  # fmt: skip


def _scale_features() -> Values:
    found = read_result("scale_features")
    rows = found["rows"]
    return {
        "good": found["good"], "seeds": found["seeds"], "labels": list(rows[0]["tau"]), "tasks": distinct(rows, "task"),
        "groups": distinct(rows, "groups"), "tau": {place: row["tau"] for place, row in table(rows, "task", "groups").items()},
    }  # fmt: skip


def _awareness() -> Values:
    awareness = read_result("dataset_awareness")["awareness"]
    return {**awareness, "gains": {row["pair"].removeprefix("c - "): row["tau"] for row in awareness["differences"]}}


def _own_images() -> Values:
    found = read_result("own_images")
    digits = found["digits"]
    compared = [row for photo in found["photos"] for row in photo["compare"]]
    return {
        "digits": digits, "accuracy": [row["test_accuracy"] for row in digits], "cpu_s": [row["cpu_s"] for row in digits],
        "wall_s": [row["wall_s"] for row in digits], "photos": len(found["photos"]),
        "compared": {name: _mean([row["test_accuracy"] for row in compared if row["name"] == name]) for name in distinct(compared, "name")},
    }  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _networks() -> list[Values]:
    """The shipped score networks, with the figures of their training."""
    rows = []
    for path in sorted(PRETRAINED.glob("*/sde.safetensors")):
        meta = weights(f"{path.parent.name}/{path.name}")
        if figures := next((value for key, value in meta.items() if key.startswith("figures_1024")), None):
            rows.append({"space": path.parent.name, "megabytes": path.stat().st_size / 1e6, **figures})
    return rows


def _wiring() -> Values:
    """Samples of the space whose wiring varies."""
    samples = read_result("generation_quality")["spaces"]["nasbench101"]["samples"]
    rows = {"ours": "dpmpp, 20 evaluations", "floor": "random draws", "independent": "independent entries"}
    return {key: samples[name] for key, name in rows.items()}


def _parts() -> Values:
    """Ablations of the score network, in all spaces that have them."""
    found = {name: space["ablations"] for name, space in read_result("generation_quality")["spaces"].items() if space.get("ablations")}
    return {"found": found, "names": list(dict.fromkeys(name for rows in found.values() for name in rows))}


def _onnx() -> Values:
    found = read_result("onnx_differences")["largest"]
    worst = max(found, key=lambda name: found[name]["difference"])
    (architectures,) = {row["architectures"] for row in found.values()}
    return {"architectures": architectures, "spaces": len(found), "worst": worst, "difference": found[worst]["difference"]}


def _accelerator() -> Values:
    found = read_result("accelerator")
    return {**found, "same": min(row["same"] for row in found["generation"])}


def _proxies() -> Values:
    rows = read_result("proxy_quality")["ranking"]
    trans = (("transnasbench101-micro", "class_scene"), ("transnasbench101-macro", "class_scene"))
    return {
        "names": distinct(rows, "predictor"), "found": table(rows, "predictor", "space", "dataset"),
        "places": (("nasbench201", "cifar10"), ("nasbench101", "cifar10"), *trans),
    }  # fmt: skip
