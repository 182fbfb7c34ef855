"""Curves of the front benchmark: front regret against labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from diffnag.io.files import written_whole
from experiments.fronts.results import Curves
from experiments.fronts.search import BENCHMARKS, METHODS
from experiments.shared.arena_plots import BLUE, CONFIDENCE, GREY, OTHERS
from experiments.shared.arena_results import Entry

COLUMNS = 4
COLOURS = {
    "diffnag": BLUE, "random": GREY,
    **dict(zip((name for name in METHODS if name not in ("diffnag", "random")), (*OTHERS, "#000000"), strict=False)),
}  # fmt: skip


def draw(entries: Sequence[Entry], curves: Mapping[tuple[str, str, str], Curves], path: Path) -> None:
    """Draw a panel for each benchmark, in it the mean regret of each method with its band of 95 %."""
    from matplotlib.figure import Figure

    benchmarks = [name for name in BENCHMARKS if any(entry.place[0] == name for entry in entries)]
    columns = min(COLUMNS, len(benchmarks))
    rows = -(-len(benchmarks) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.7 * rows + 0.8), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    lines = {}
    for place in axes.flat[len(benchmarks) :]:
        place.set_axis_off()
    for place, benchmark in zip(axes.flat, benchmarks, strict=False):
        for entry in (entry for entry in entries if entry.place[0] == benchmark):
            regret = curves[entry.place]["regret"]
            labels, mean = np.arange(1, regret.shape[1] + 1), regret.mean(0)
            band = CONFIDENCE * regret.std(0, ddof=1) / len(regret) ** 0.5 if len(regret) > 1 else np.zeros_like(mean)
            (lines[entry.method],) = place.plot(labels, mean, color=COLOURS[entry.method], linewidth=1.6)
            place.fill_between(labels, mean - band, mean + band, color=COLOURS[entry.method], alpha=0.15, linewidth=0)
        seeds = sorted({len(entry.runs) for entry in entries if entry.place[0] == benchmark})
        place.set_title(f"{benchmark}\n{' or '.join(map(str, seeds))} {'seed' if seeds == [1] else 'seeds'}", fontsize=8.5)
        place.set_ylim(0, 60)
        place.grid(alpha=0.3)
        place.set_xlabel("labels", fontsize=8.5)
        place.set_ylabel("front regret, %", fontsize=8.5)
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncol=len(lines), frameon=False, fontsize=9)
    figure.suptitle("Mean front regret; band: 95 % confidence interval of the mean", fontsize=10)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110)
