"""What a search leaves in its folder: options.json, trials.csv, result.json and search.png."""

from __future__ import annotations

import csv
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffnag
from diffnag.files import write_json, written_whole
from diffnag.search_loop.study import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from diffnag.protocols import SearchSpace
    from diffnag.search_loop.loop import Search, SearchResult

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "optuna")
COLUMNS = ("number", "round", "arch", "value", "state", "error", "predicted_mean", "predicted_std", "cost_s")


def write_options(folder: Path, search: Search, *, storage: str) -> None:
    """Every option with its default resolved, and the versions of what runs; written before work begins."""
    options: dict[str, Any] = asdict(search.options)
    options |= {"oracle": search.oracle_name, "storage": shown(storage)}
    if search.options.method == "diffnag":
        options["checkpoint"] = str(search.options.checkpoint or "shipped")
    versions = {package: version(package) for package in PACKAGES}
    about = {"diffnag": diffnag.__version__, "commit": _commit(), "packages": versions}
    write_json(folder / "options.json", {**options, **about})


def write_result(folder: Path, result: SearchResult, space: SearchSpace) -> None:
    """trials.csv, result.json and search.png."""
    with written_whole(folder / "trials.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for trial in result.trials:
            state = "done" if trial.error is None else "failed"
            writer.writerow({**vars(trial), "arch": space.to_str(trial.arch), "state": state})
    write_json(folder / "result.json", result.to_json())
    with written_whole(folder / "search.png") as temporary:
        _picture(temporary, result, space)


def accuracy(kind: str, split: str) -> str:
    """What the values of a split are, in words: a surrogate's are called so wherever they are shown."""
    name = ("validation" if split == "val" else split) + " accuracy"
    return name if kind == "table" else f"{kind} {name}"


def _picture(path: Path, result: SearchResult, space: SearchSpace) -> None:
    """The best-so-far curve and, where there is a best, its drawing side by side."""
    from matplotlib.figure import Figure

    from diffnag.drawing import draw

    figure = Figure(figsize=(13, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    _curve(left, result)
    right.set_axis_off()
    if result.best:
        draw(space.from_str(result.best.arch), space, right)
        found = {accuracy(result.oracle["kind"], result.reward): result.best.value}
        if result.best.test is not None:
            found[accuracy(result.oracle["kind"], "test")] = result.best.test
        right.set_title("best found: " + ", ".join(f"{name} {value:.2f} %" for name, value in found.items()), fontsize=11)
    figure.savefig(path, dpi=120)


def _curve(axes: Axes, result: SearchResult) -> None:
    labels = range(1, result.labels_target + 1)
    done = [(label, trial.value) for label, trial in zip(labels, result.trials, strict=True) if trial.value is not None]
    failed = [label for label, trial in zip(labels, result.trials, strict=True) if trial.value is None]
    if done:
        axes.scatter([label for label, _ in done], [value for _, value in done], color="#9a9a9a", s=18, label="evaluated")
    curve = [(label, value) for label, value in zip(labels, result.incumbent_curve, strict=True) if value is not None]
    if curve:
        axes.step(*zip(*curve, strict=True), where="post", color="#1f6fb4", linewidth=2, label="best so far")
        values = sorted(value for _, value in done)
        bottom = values[len(values) // 10]  # a few broken architectures would squash all else
        margin = 0.08 * max(values[-1] - bottom, 0.1)
        axes.set_ylim(bottom - margin, values[-1] + margin)
        if hidden := sum(value < bottom - margin for value in values):
            text = f"{hidden} below this range"
            axes.annotate(text, (0.98, 0.02), xycoords="axes fraction", ha="right", fontsize=9, color="#606060")
    if failed:
        axes.scatter(failed, [0.02] * len(failed), transform=axes.get_xaxis_transform(), marker="x", color="#c03030", label="failed")
    axes.set_xlabel("labels paid for")
    axes.set_ylabel(f"{accuracy(result.oracle['kind'], result.reward)}, %")
    axes.set_title(f"{result.space}, {result.dataset}: {_searcher(result)}", fontsize=11)
    axes.grid(alpha=0.3)
    if done or failed:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=3, frameon=False, fontsize=9)


def _searcher(result: SearchResult) -> str:
    return result.method if result.predictor == "none" else f"{result.method} with {result.predictor}"


def _commit() -> str | None:
    """The commit that runs, where the package is a git checkout."""
    root = Path(diffnag.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None
