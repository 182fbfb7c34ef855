"""What a search leaves in its folder: options.json, trials.csv, result.json and search.png."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffnag import _version
from diffnag.io.files import write_json, written_whole
from diffnag.search_loop.show.measure import Measure
from diffnag.search_loop.study.study import shown

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from diffnag.protocols import SearchSpace
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.result import SearchResult

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "optuna")
COLUMNS = ("number", "round", "arch", "value", "state", "epochs", "error", "predicted_mean", "predicted_std", "cost_s")
BESIDE = 9.0
"""Widest drawing, in inches of its own, that has room beside the curve."""
NAMED, COUNTED = 120, 40
"""Most classes whose names, or counts, a confusion matrix has room for."""


def write_options(folder: Path, search: Search, *, storage: str) -> None:
    """Every option with its default resolved, and the versions of what runs; written before work begins."""
    options: dict[str, Any] = asdict(search.options)
    options |= {"oracle": search.oracle_name, "storage": shown(storage)}
    if search.options.method == "diffnag":
        options["checkpoint"] = str(search.options.checkpoint or "shipped")
    versions = {package: version(package) for package in PACKAGES}
    about = {"diffnag": _version.__version__, "commit": _commit(), "packages": versions}
    write_json(folder / "options.json", {**options, **about})


def write_result(folder: Path, result: SearchResult, space: SearchSpace, *, more: Mapping[str, Any] | None = None) -> None:
    """trials.csv, result.json (with what there is `more` to tell) and search.png."""
    with written_whole(folder / "trials.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for trial in result.trials:
            row = {**vars(trial), "arch": space.to_str(trial.arch), "state": trial.state}
            writer.writerow({column: row[column] for column in COLUMNS})
    write_json(folder / "result.json", {**result.to_json(), **(more or {})})
    with written_whole(folder / "search.png") as temporary:
        _picture(temporary, result, space, finally_tested=(more or {}).get("test_accuracy"))


def _picture(path: Path, result: SearchResult, space: SearchSpace, *, finally_tested: float | None) -> None:
    """The best-so-far curve and, where there is a best, its drawing: beside it, or below where it is wide."""
    from matplotlib.figure import Figure

    from diffnag.drawing.picture import arrangement_of, draw

    best = space.from_str(result.best.arch) if result.best else None
    left, bottom, right, top = arrangement_of(best, space).bounds if best else (0, 0, 1, 1)
    if right - left <= BESIDE:
        figure = Figure(figsize=(13, 4.5), layout="constrained")
        curve, cell = figure.subplots(1, 2, width_ratios=(1, 1.25))
    else:
        below = 0.4 + 13 * (top - bottom) / max(right - left, 13)
        figure = Figure(figsize=(13, 4.5 + below), layout="constrained")
        curve, cell = figure.subplots(2, 1, height_ratios=(4.5, below))
    measure = Measure.of(space, dataset=result.dataset, kind=str(result.oracle["kind"]))
    _curve(curve, result, measure)
    cell.set_axis_off()
    if result.best and best:
        found = {measure.name(result.reward): result.best.value}
        if result.best.test is not None:
            found[measure.name("test")] = result.best.test
        if finally_tested is not None:
            found["trained fully, test accuracy"] = 100 * finally_tested
        told = (f"{name} {measure.figure(value)} {measure.unit}".rstrip() for name, value in found.items())
        cell.set_title("best found: " + ", ".join(told), fontsize=11)
        figure.draw_without_rendering()  # gives the axes their places, so that it is known what room a drawing has
        draw(best, space, cell)
    figure.savefig(path, dpi=120)


def _curve(axes: Axes, result: SearchResult, measure: Measure) -> None:
    from matplotlib.ticker import MaxNLocator

    labels = range(1, result.labels_target + 1)
    valued = [(label, trial) for label, trial in zip(labels, result.trials, strict=True) if trial.value is not None]
    done = [(label, trial.value or 0.0) for label, trial in valued if not trial.pruned]
    pruned = [(label, trial.value or 0.0) for label, trial in valued if trial.pruned]
    failed = [label for label, trial in zip(labels, result.trials, strict=True) if trial.value is None]
    if done:
        axes.scatter([label for label, _ in done], [value for _, value in done], color="#9a9a9a", s=18, label="evaluated")
    if pruned:
        numbers, values = zip(*pruned, strict=True)
        axes.scatter(numbers, values, facecolors="none", edgecolors="#9a9a9a", s=18, label="stopped early")
    curve = [(label, value) for label, value in zip(labels, result.incumbent_curve, strict=True) if value is not None]
    if curve:
        axes.step(*zip(*curve, strict=True), where="post", color="#1f6fb4", linewidth=2, label="best so far")
        heights = sorted(value for _, value in done + pruned)
        bottom = heights[len(heights) // 10]  # a few broken architectures would squash all else
        margin = 0.08 * max(heights[-1] - bottom, 0.1 if measure.unit else 1e-3)
        axes.set_ylim(bottom - margin, heights[-1] + margin)
        if hidden := sum(height < bottom - margin for height in heights):
            text = f"{hidden} below this range"
            axes.annotate(text, (0.98, 0.02), xycoords="axes fraction", ha="right", fontsize=9, color="#606060")
    if failed:
        axes.scatter(failed, [0.02] * len(failed), transform=axes.get_xaxis_transform(), marker="x", color="#c03030", label="failed")
    axes.set_xlabel("labels paid for")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(", ".join(filter(None, (measure.name(result.reward), measure.unit))))
    axes.set_title(f"{result.space}, {Path(result.dataset).name}: {_searcher(result)}", fontsize=11)  # of a path its end
    axes.grid(alpha=0.3)
    if done or failed:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=4, frameon=False, fontsize=9)


def confusion_picture(path: Path, counts: np.ndarray, classes: Sequence[str], *, title: str) -> None:
    """Draw `counts (c, c)`, true class by chosen class: colours are shares of the true class, hits blue and errors red."""
    import numpy as np
    from matplotlib.figure import Figure

    c = len(classes)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    hit = np.eye(c, dtype=bool)
    cell = 0.55 if c <= 12 else 0.36 if c <= COUNTED else 0.15 if c <= NAMED else 10 / c  # inches
    names = [name if len(name) <= 20 else f"{name[:19]}…" for name in classes]
    room = 0.085 * max(map(len, names)) if c <= NAMED else 0.0
    side = max(c * cell, 2.6)
    figure = Figure(figsize=(side + room + 1.3, side + room + 1.3), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.ma.masked_where(~hit, shares), cmap="Blues", vmin=0, vmax=1.25)
    axes.imshow(np.ma.masked_where(hit | (counts == 0), np.sqrt(shares)), cmap="Reds", vmin=-0.15, vmax=1)
    if c <= COUNTED:
        for i, j in zip(*np.nonzero(counts), strict=True):
            dark = shares[i, j] > 0.6 if i == j else np.sqrt(shares[i, j]) > 0.55
            axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", fontsize=9 if c <= 12 else 7, color="white" if dark else "black")
    if c <= NAMED:
        size = 9 if c <= 12 else 8 if c <= COUNTED else 6
        upright = max(map(len, names)) <= 3 and c <= COUNTED
        axes.set_xticks(range(c), names, rotation=0 if upright else 90, fontsize=size)
        axes.set_yticks(range(c), names, fontsize=size)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(c - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(c - 1) + 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", color="#e6e6e6", linewidth=0.5)
    axes.set_xlabel("chosen class")
    axes.set_ylabel("true class")
    right, total = int(counts.trace()), int(counts.sum())
    axes.set_title(f"{title}\n{right} of {total} right ({100 * right / total:.2f} %)", fontsize=11)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _searcher(result: SearchResult) -> str:
    return result.method if result.predictor == "none" else f"{result.method} with {result.predictor}"


def _commit() -> str | None:
    """The commit that runs, where the package is a git checkout."""
    root = Path(_version.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None
