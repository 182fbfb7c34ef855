"""Curves of the arena: regret, how far the best found is from the best of the table, against labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffnag.io.files import written_whole
from experiments.shared.arena_results import OURS, REFERENCE, Entry
from experiments.shared.arena_search import METHODS

COLUMNS, COLUMNS_OF_PARTS = 4, 3
CONFIDENCE = 1.96
"""Standard errors that a band of 95 % reaches to either side."""
COLOURS = {name: f"C{k}" for k, name in enumerate(METHODS)} | {"random": "0.55", REFERENCE: "C0"}
"""The same in every picture."""
NAME_INCHES, LINE_INCHES = 0.075, 0.6
"""Width of a letter of the legend, and of what stands beside a name."""


def draw(entries: Sequence[Entry], protocol: str, path: Path) -> Path | None:
    """A panel for each benchmark, a curve with its 95 % confidence band for each method; None where there is nothing to draw.

    Variations have a panel for each part of the loop, beside the reference.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    entries = [entry for entry in entries if entry.place[2] == protocol]
    if not entries:
        return None
    varied = any(entry.method not in COLOURS for entry in entries)
    panels = by_part(entries) if varied else by_benchmark(entries)
    columns = min(COLUMNS_OF_PARTS if varied else COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(3.4 * columns, 2.7 * rows + 0.6), squeeze=False, layout="constrained")
    for place in axes.flat[len(panels) :]:
        place.set_axis_off()
    lines = {}
    for place, (title, shown) in zip(axes.flat, panels.items(), strict=False):
        floor = np.inf
        for number, entry in enumerate(shown):
            regret = entry.identity["optimum"] - entry.curves()
            labels, mean = np.arange(1, regret.shape[1] + 1), regret.mean(0)
            error = regret.std(0, ddof=1) / len(regret) ** 0.5 if len(regret) > 1 else np.zeros_like(mean)
            colour = COLOURS.get(entry.method, f"C{number}")
            lines[entry.method], = place.plot(labels, mean, color=colour, lw=2.0 if entry.method in (OURS, REFERENCE) else 1.2)
            place.fill_between(labels, mean - CONFIDENCE * error, mean + CONFIDENCE * error, color=colour, alpha=0.2, lw=0)
            floor = min(floor, *mean[mean > 0])
        place.set(title=title, yscale="log", xlim=(1, None))
        place.set_ylim(bottom=max(floor / 2, 1e-4 * place.get_ylim()[1]))
        place.grid(alpha=0.3)
        place.title.set_fontsize(9)
        if varied:
            place.legend([lines[entry.method] for entry in shown], [entry.method for entry in shown], fontsize=7, frameon=False)
    unit = "validation" if protocol == "V" else "test"
    figure.supxlabel("labels", fontsize=10)
    figure.supylabel(f"regret ({unit})", fontsize=10)
    if not varied:
        abreast = int(figure.get_figwidth() / (NAME_INCHES * max(map(len, lines)) + LINE_INCHES))
        figure.legend(lines.values(), lines, loc="outside upper center", ncols=max(1, min(len(lines), abreast)), fontsize=9, frameon=False)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return path


def by_benchmark(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The entries of each benchmark."""
    panels: dict[str, list[Entry]] = {}
    for entry in entries:
        panels.setdefault(entry.place[0], []).append(entry)
    return panels


def by_part(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The reference of each benchmark with the variations of one part: those whose names begin with the same word."""
    panels: dict[str, list[Entry]] = {}
    for benchmark, shown in by_benchmark(entries).items():
        reference = [entry for entry in shown if entry.method == REFERENCE]
        for entry in shown:
            if entry.method != REFERENCE:
                panels.setdefault(f"{benchmark}: {entry.method.split()[0]}", [*reference]).append(entry)
    return panels
