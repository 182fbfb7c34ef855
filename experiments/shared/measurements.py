"""Values of the page of all measurements, `docs/measurements.md`, from the result files and the metadata of the shipped weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from diffnag.io.files import PRETRAINED
from experiments.images.figures import elastic_fronts, head_starts, mixed_images, own_images, photos, small_images
from experiments.shared.common import DATASETS
from experiments.shared.overview import overview, weights
from experiments.shared.results import Row, Values, by_keys, distinct, read_result
from experiments.shared.templates import render


def document() -> str:
    """The page."""
    sections: dict[str, Callable[[], Any]] = {
        "generation": _generation, "search": _search, "meta_search": _meta_search, "arena": _arena, "ablations": _arena_ablations,
        "candidates": _candidates, "few_labels": _few_labels, "scale_features": _scale_features, "plain": _plain_features, "awareness": _awareness,
        "own_images": own_images, "photos": photos, "small_images": small_images, "elastic_fronts": elastic_fronts, "mixed": mixed_images,
        "head_starts": head_starts,
        "inherited": lambda: read_result("inherited_rank"),
        "elastic": lambda: read_result("elastic_awareness"),
        "networks": _networks, "wiring": _wiring, "samples": _samples, "parts": _parts, "onnx": _onnx,
        "accelerator": _accelerator, "proxies": _proxies, "encoder": _encoder, "comparison": _comparison,
        "transfer": _device_transfer, "fronts": _fronts, "limits": _limits,
        "limit_features": lambda: read_result("limit_features"), "generators": _generators,
        "conditions": lambda: read_result("condition_errors"), "condition_floor": lambda: read_result("condition_floor"),
        "conditional_ablations": lambda: read_result("conditional_ablations"),
        "ratios": lambda: read_result("speed_ratios"), "large": _large, "whole": _whole,
        "limited": _limited, "kills": lambda: read_result("endurance_kills"), "growth": lambda: read_result("endurance_growth"),
    }  # fmt: skip
    return render("measurements", {
        "root": "../", "overview": overview(), "datasets": DATASETS, "noise": read_result("table_noise"),
        "analysis": read_result("meta_dataset_analysis"), "law": read_result("generation_quality")["law"],
        "short": read_result("training_study"), "workers": read_result("workers"), "speed": read_result("speed"),
        "surrogate": weights("nasbench201/surrogate.safetensors"),
        **{name: section() for name, section in sections.items()},
    })  # fmt: skip


def _labels_source(rows: Sequence[Row], method: str, datasets: Sequence[str] = DATASETS) -> list[int]:
    """Numbers of labels of other datasets behind a method, for each target."""
    return [row["labels_source"] for row in rows if row["method"] == method and row["dataset"] in datasets]


def _generation() -> Values:
    search, found = read_result("transfer_search")["rows"], read_result("transfer_generation")
    rows = [
        {**row, "labels_source": _labels_source(search, row["predictor"], [row["dataset"]])} for row in found["rows"] if row["scale"] == 3
    ]
    return {
        "n": found["n"], "seeds": found["seeds"], "rows": rows, "tau": [row["tau_all_cells"] for row in rows if row["predictor"] == "meta-only"],
        "behind": [row for row in rows if row["mean"] < row["ranked_mean"]],
    }  # fmt: skip


def _limited() -> list[Values]:
    """Rows of searches within limits; a search that did not find the best counts as one that needs more labels than all others."""
    rows: list[Values] = []
    for row in read_result("limited_sources").get("rows", []):
        known = row["place"].startswith("nasbench201")
        hits = sorted(math.inf if hit is None else hit for hit in row["labels_to_best"])
        middle = (hits[(len(hits) - 1) // 2] + hits[len(hits) // 2]) / 2
        rows.append({
            **row, "found": sum(map(math.isfinite, hits)) if known else None, "median": f"{middle:g}" if math.isfinite(middle) else None,
            "means": [f"{row['mean_best_at'][at]:.2f}" for at in row["mean_best_at"] if at in ("10", "30", max(row["mean_best_at"], key=int))],
        })  # fmt: skip
    return rows


def _search() -> Values:
    result = read_result("transfer_search")
    rows = result["rows"]
    found, methods = by_keys(rows, "method", "dataset"), distinct(rows, "method")
    best = {place: row["mean_best"] for place, row in found.items()}
    return {
        "budget": result["budget"], "seeds": result["seeds"], "methods": methods, "found": found,
        "labels_source": {method: _labels_source(rows, method) for method in methods},
        "copy_rank_ahead": [dataset for dataset in DATASETS if best["copy-rank", dataset] > best["meta", dataset] + 0.005],
    }  # fmt: skip


def _meta_search() -> Values:
    rows = read_result("meta_search")["rows"]
    return {"methods": distinct(rows, "method"), "found": by_keys(rows, "method", "dataset")}


def _arena() -> Values:
    arena = read_result("arena")
    rows = arena["rows"]
    return {
        "core_hours": arena["core_hours"], "methods": distinct(rows, "method"), "found": by_keys(rows, "benchmark", "protocol", "method"),
        "places": list(by_keys(rows, "benchmark", "protocol")),
    }  # fmt: skip


def _arena_ablations() -> Values:
    ablations = read_result("arena_ablations")
    rows = [row for row in ablations["rows"] if row["protocol"] == "T"]
    methods = distinct(rows, "method")
    return {
        "core_hours": ablations["core_hours"], "seeds": [row["seeds"] for row in rows], "benchmarks": distinct(rows, "benchmark"),
        "methods": methods, "found": by_keys(rows, "benchmark", "method"),
        "labels_source": {method: [row["labels_source"] for row in rows if row["method"] == method] for method in methods},
    }  # fmt: skip


def _candidates() -> Values:
    rows = read_result("candidate_sources")["rows"]
    return {"spaces": distinct(rows, "space"), "names": distinct(rows, "row"), "found": by_keys(rows, "space", "row")}


def _few_labels() -> Values:
    rows = [row for row in read_result("few_labels")["rows"] if (row["dataset"], row["split"]) == ("cifar10", "test")]
    return {
        "labels": sorted({row["labels_target"] for row in rows if row["labels_target"]}),
        "tau": {place: row["tau"] for place, row in by_keys(rows, "method", "labels_target").items()},
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
        "groups": distinct(rows, "groups"), "tau": {place: row["tau"] for place, row in by_keys(rows, "task", "groups").items()},
    }  # fmt: skip


def _limits() -> Values:
    """Empty before the first measurement."""
    return read_result("limit_benchmark")


def _comparison() -> Values:
    """Empty before the first measurement."""
    found = read_result("commit_comparison")
    if not found:
        return found
    rows = found["rows"]
    return {
        **found, "equal": [row for row in rows if row["outcome"] == "equal"], "differs": [row for row in rows if row["outcome"] == "differs"],
        "skipped": [row for row in rows if row["outcome"] == "skipped"],
        "largest_error": max((row["largest_error"] for row in rows if row["outcome"] == "equal"), default=0.0),
    }  # fmt: skip


def _plain_features() -> Values:
    """Empty before the first measurement."""
    found = read_result("plain_features")
    return found and {**found, "pairs": list(zip(found["tables"][::2], found["tables"][1::2], strict=True))}


def _awareness() -> Values:
    awareness = read_result("dataset_awareness")["awareness"]
    return {**awareness, "gains": {row["pair"].removeprefix("c - "): row["tau"] for row in awareness["differences"]}}


def _networks() -> list[Values]:
    """The shipped score networks, with the figures of their training."""
    rows: list[Values] = []
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


def _samples() -> Values:
    """Unguided samples of every space, with every sampler."""
    result = read_result("generation_quality")
    found = {name: space["samples"] for name, space in result["spaces"].items()}
    return {"seeds": result["seeds"], "found": found, "names": _names(found)}


def _parts() -> Values:
    """Ablations of the score network, in all spaces that have them, and by space the gaps of those rows that have one."""
    found = {name: space["ablations"] for name, space in read_result("generation_quality")["spaces"].items() if space.get("ablations")}
    measured = {space: {name: row["held_out_gap"] for name, row in rows.items() if "held_out_gap" in row} for space, rows in found.items()}
    gaps = {space: rows for space, rows in measured.items() if rows}
    return {"found": found, "names": _names(found), "gaps": gaps, "names_of_gaps": _names(gaps)}


def _names(found: Mapping[str, Mapping[str, Row]]) -> list[str]:
    """Names of the rows of all spaces."""
    return list(dict.fromkeys(name for rows in found.values() for name in rows))


def _onnx() -> Values:
    found = read_result("onnx_differences")["largest"]
    worst = max(found, key=lambda name: found[name]["difference"])
    (architectures,) = {row["architectures"] for row in found.values()}
    return {"architectures": architectures, "spaces": len(found), "worst": worst, "difference": found[worst]["difference"]}


def _accelerator() -> Values:
    found = read_result("accelerator")
    return {**found, "same": min(row["same"] for row in found["generation"])}


def _proxies() -> Values:
    result = read_result("proxy_quality")
    rows, with_labels = result["ranking"], result["labels"]
    trans = (("transnasbench101-micro", "class_scene"), ("transnasbench101-macro", "class_scene"))
    return {
        "names": distinct(rows, "predictor"), "found": by_keys(rows, "predictor", "space", "dataset"),
        "places": (("nasbench201", "cifar10"), ("nasbench101", "cifar10"), *trans),
        "label_names": distinct(with_labels, "predictor"), "label_places": list(by_keys(with_labels, "space", "labels")),
        "tau": {place: row["tau"] for place, row in by_keys(with_labels, "predictor", "space", "labels").items()},
    }  # fmt: skip


def _fronts() -> Values:
    """The front benchmark; empty before its first search."""
    if not (found := read_result("front_benchmark")):
        return {}
    rows = found["rows"]
    return {
        "core_hours": found["core_hours"], "budget": rows[0]["budget"], "at": list(rows[0]["regret_at"]),
        "benchmarks": distinct(rows, "benchmark"), "methods": distinct(rows, "method"),
        "regret": {(row["benchmark"], row["method"]): row["regret_at"] for row in rows},
        "seeds": {name: _range(row["seeds"] for row in rows if row["benchmark"] == name) for name in distinct(rows, "benchmark")},
        "devices": found["device_means"], "out_of_reach": {row["benchmark"]: row["out_of_reach"] for row in rows},
    }  # fmt: skip


def _range(numbers: Iterable[int]) -> str:
    """`10`, or `5 to 10` for different numbers."""
    numbers = list(numbers)
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"


def _device_transfer() -> Values:
    found = read_result("device_transfer")
    return {**found, "devices": len(found["rows"][0]["devices"]), "here": read_result("device_here")}


def _encoder() -> Values:
    found = read_result("encoder_quality")
    accuracy = next(iter(found["few_shot"]["accuracy"].values()))
    return {**found, "names": [name for name in accuracy if name != "encoder - random convolutions"]}


def _generators() -> Values:
    """Rows of the arena of generators by space, and what its figures are means of."""
    rows = read_result("generator_arena")["rows"]
    spaces = {name: [row for row in rows if row["space"] == name] for name in distinct(rows, "space")}
    steered = [row for row in rows if "steering" in row]
    figures = {(row["space"], row["family"]): _figures_of_training(row["space"], row["family"]) for row in rows if row["checkpoint"]}
    read = [{"space": space, "family": family, **found} for (space, family), found in figures.items() if "reconstructed" in found]
    return {"spaces": spaces, "steered": steered, "median": _median_labels, "reconstructed": read}


def _figures_of_training(space: str, family: str) -> Values:
    """What was measured of a shipped network at the end of its training."""
    return weights(f"{space}/{family}.safetensors").get("figures_1024_samples", {})


def _median_labels(labels: Sequence[int | None], budget: int) -> str:
    """Median number of labels to the optimum, where a search that does not find it counts as beyond the budget."""
    middle = sorted(budget + 1 if label is None else label for label in labels)[(len(labels) - 1) // 2]
    found = sum(label is not None for label in labels)
    return f"{'> ' + str(budget) if middle > budget else middle} ({found} of {len(labels)})"


def _large() -> Values:
    return _by_parts("large_graphs", "graphs", "runtime", "guided", "time")


def _whole() -> Values:
    return _by_parts("whole_networks", "graphs", "likelihood", "networks", "time")


def _by_parts(result: str, *parts: str) -> Values:
    """Rows of each part; empty where nothing is measured."""
    rows = read_result(result).get("rows", [])
    return {part: [row for row in rows if row["part"] == part] for part in parts} if rows else {}
