"""Curves of the arena: regret, the distance of the best value found from the best of the table, against labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.io.files import written_whole
from experiments.shared.arena_results import OURS, REFERENCE, Entry
from experiments.shared.arena_search import METHODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

COLUMNS, COLUMNS_OF_PARTS = 4, 3
CONFIDENCE = 1.96
"""Standard errors on either side of the mean in a band of 95 %."""
BLUE, GREY = "#0072b2", "#8c8c8c"
OTHERS = ("#d55e00", "#009e73", "#cc79a7", "#6b4a2b", "#e69f00", "#56b4e9")
"""Colours that colour-blind readers can tell apart (Okabe and Ito, 2008)."""
COLOURS = {
    OURS: BLUE, REFERENCE: BLUE, "random": GREY,
    **dict(zip((name for name in METHODS if name not in (OURS, "random")), OTHERS, strict=False)),
}  # fmt: skip
"""The same in every picture."""
NAME_INCHES, LINE_INCHES = 0.075, 0.6
"""Width of a letter of the legend, and of the line and the space beside a name."""
EXPLAINED = (
    "Mean over {seeds}; band: 95 % confidence interval of the mean ({confidence:g} standard errors to either side). "
    "Logarithmic scale: a curve leaves a panel below when every seed has found the best of the table."
)


def draw(entries: Sequence[Entry], protocol: str, path: Path) -> Path | None:
    """Draw a panel for each benchmark, in it a curve with its confidence band for each method; None if there is nothing to draw.

    Variations have a panel for each part of the loop, with the reference in each.
    """
    from matplotlib.figure import Figure

    entries = [entry for entry in entries if entry.place[2] == protocol]
    if not entries:
        return None
    varied = any(entry.method not in COLOURS for entry in entries)
    panels = by_part(entries) if varied else by_benchmark(entries)
    columns = min(COLUMNS_OF_PARTS if varied else COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(3.4 * columns, 6.8), 2.7 * rows + 1.0), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for place in axes.flat[len(panels) :]:
        place.set_axis_off()
    lines: dict[str, Line2D] = {}
    for place, (title, shown) in zip(axes.flat, panels.items(), strict=False):
        equal = len({len(entry.runs) for entry in entries}) == 1
        drawn = _panel(place, title if equal else f"{title}\n{seeds_of(shown)}", shown, others=varied)
        lines |= drawn
        if varied:
            place.legend(drawn.values(), drawn, fontsize=8, frameon=False, loc="upper right")
    what = {"V": "validation", "T": "test"}[protocol]
    figure.supxlabel(f"labels paid for\n{explained(entries, letters=int(13 * figure.get_figwidth()))}", fontsize=9)
    figure.supylabel(f"regret on {what}: best of the table - best found", fontsize=10)
    if not varied:
        abreast = int(figure.get_figwidth() / (NAME_INCHES * max(map(len, lines)) + LINE_INCHES))
        figure.legend(lines.values(), lines, loc="outside upper center", ncols=max(1, min(len(lines), abreast)), fontsize=10, frameon=False)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
    return path


def explained(entries: Sequence[Entry], *, letters: int) -> str:
    """What curves and bands are, in lines of at most so many letters."""
    import textwrap

    return "\n".join(textwrap.wrap(EXPLAINED.format(seeds=seeds_of(entries), confidence=CONFIDENCE), letters))


def seeds_of(entries: Sequence[Entry]) -> str:
    """How many seeds, such as `50 to 100 seeds`."""
    least, most = (count(len(entry.runs) for entry in entries) for count in (min, max))
    return f"{least} seeds" if least == most else f"{least} to {most} seeds"


def unit_of(benchmark: str) -> str:
    """The unit of regret on a benchmark, such as `nasbench201/cifar10`."""
    from diffnag import load_space
    from diffnag.search_loop.show.measure import Measure

    space, dataset = benchmark.split("/")
    measure = Measure.of(load_space(space), dataset=dataset, kind="table")
    return "percentage points" if measure.unit == "%" else measure.what


def _panel(axes: Axes, title: str, shown: Sequence[Entry], *, others: bool) -> dict[str, Line2D]:
    """Draw the curves of one panel; returns the line of each method. With `others`, methods have colours by their order."""
    lines, floor = {}, np.inf
    names = [entry.method for entry in shown if entry.method != REFERENCE]
    for entry in shown:
        regret = entry.identity["optimum"] - entry.curves()
        labels, mean = np.arange(1, regret.shape[1] + 1), regret.mean(0)
        error = regret.std(0, ddof=1) / len(regret) ** 0.5 if len(regret) > 1 else np.zeros_like(mean)
        by_order = others and entry.method != REFERENCE
        colour = OTHERS[names.index(entry.method) % len(OTHERS)] if by_order else COLOURS[entry.method]
        (lines[entry.method],) = axes.plot(labels, mean, color=colour, lw=2.2 if entry.method in (OURS, REFERENCE) else 1.3)
        axes.fill_between(labels, mean - CONFIDENCE * error, mean + CONFIDENCE * error, color=colour, alpha=0.2, lw=0)
        floor = min(floor, *mean[mean > 0], np.inf)
    axes.set(yscale="log", xlim=(1, None))
    axes.set_title(title, fontsize=8.5)
    axes.set_ylabel(unit_of(shown[0].place[0]), fontsize=8)
    axes.set_ylim(bottom=max(floor / 2 if np.isfinite(floor) else 0, 1e-4 * axes.get_ylim()[1]))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    return lines


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
