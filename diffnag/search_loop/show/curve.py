"""search.png: the values of a search, its best value so far, and the best architecture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.drawing.lettering import Lettering, lettering
from diffnag.io.files import written_whole
from diffnag.search_loop.show.measure import Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from diffnag.protocols import SearchSpace
    from diffnag.search_loop.result import SearchResult
    from diffnag.search_loop.show.reference import Reference

BESIDE = 9.0
"""Widest drawing, in inches of its own size, that has room beside the curve."""
WIDTH, CURVE_HEIGHT = 13.0, 4.8
"""Inches of the picture, and of the curve."""
STRING_SIZE, STRING_LINES = 8, 8
"""Points of the letters, and most lines, of the architecture's string."""
TITLE_LETTERS = 84
"""Most letters in a line of the title above the drawing."""
LETTER_INCHES = 0.603 * STRING_SIZE / 72
"""Width of one of these letters, which are all equally wide."""
LINE_INCHES = 1.45 * STRING_SIZE / 72
GREY, BLUE, RED, ORANGE = "#8c8c8c", "#1f6fb4", "#c03030", "#b8860b"
LOW = 10
"""One in so many values may lie below the range of the plot: a few broken architectures would squash all others."""


def search_picture(
    path: Path, result: SearchResult, space: SearchSpace, *, reference: Reference | None = None, finally_tested: float | None = None
) -> None:
    """Write the curve and, if there is a best architecture, its drawing and its string: beside the curve, or below if it is wide.

    `finally_tested` is the share of test images that the best architecture classifies right after its final training, or its score.
    """
    measure = Measure(str(result.oracle["kind"]), result.objectives[0].name) if result.objectives else Measure.of(
        space, dataset=result.dataset, kind=str(result.oracle["kind"])
    )
    best = result.best.arch if result.best else ""
    texts = [result.space, result.dataset, result.predictor, result.method, measure.name(result.reward), best]
    with lettering(texts) as letters:
        figure, curve, cell = _figure(best, space, letters)
        _draw_curve(curve, result, measure, reference, letters)
        if cell is not None:
            from diffnag.drawing.picture import draw

            title = textwrap.wrap(_found(result, measure, finally_tested), TITLE_LETTERS)
            cell.set_title("\n".join(map(letters.plain, title)), fontsize=11)
            figure.draw_without_rendering()  # places the axes, so that `draw` knows its room
            figure.set_layout_engine("none")  # they stay there
            draw(space.from_str(best), space, cell)
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=120)


def _figure(best: str, space: SearchSpace, letters: Lettering) -> tuple[Figure, Axes, Axes | None]:
    """The figure with the string of `best` in it, the axes of the curve and those of the drawing, None if there is no best."""
    from matplotlib.figure import Figure

    from diffnag.drawing.picture import arrangement_of

    if not best:
        figure = Figure(figsize=(WIDTH / 2, CURVE_HEIGHT), layout="constrained")
        return figure, figure.subplots(), None
    left, bottom, right, top = arrangement_of(space.from_str(best), space).bounds
    beside = right - left <= BESIDE
    room = WIDTH * (0.52 if beside else 0.92)
    lines = wrapped(best, int(room / LETTER_INCHES))
    string = 0.15 + LINE_INCHES * len(lines)
    drawing = 0.4 + WIDTH * (top - bottom) / max(right - left, WIDTH)
    names, heights = ("AB;AC", [CURVE_HEIGHT - string, string]) if beside else ("A;B;C", [CURVE_HEIGHT, drawing, string])
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    axes = figure.subplot_mosaic(names, height_ratios=heights, width_ratios=(1, 1.25) if beside else None)
    curve, cell, below = (axes[name] for name in "ABC")
    for place in (cell, below):
        place.set_axis_off()
    written = below.text(
        0.5, 0.5, "\n".join(map(letters.plain, lines)), ha="center", va="center", fontsize=STRING_SIZE,
        family=letters.monospace, linespacing=1.3, transform=below.transAxes,
    )  # fmt: skip
    written.set_in_layout(False)  # else its width would narrow the curve
    return figure, curve, cell


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` letters, broken after marks between its parts; what is too long ends in an ellipsis."""
    lines = []
    while len(text) > width:
        cut = text.rfind(" ", width // 2, width) + 1 or max(text.rfind(mark, width // 2, width) for mark in "|/:,+_-") + 1 or width
        lines.append(text[:cut].strip())
        text = text[cut:]
    lines = [line for line in (*lines, text.strip()) if line]
    return lines if len(lines) <= STRING_LINES else [*lines[: STRING_LINES - 1], f"{lines[STRING_LINES - 1][: width - 1]}…"]


def _found(result: SearchResult, measure: Measure, finally_tested: float | None) -> str:
    """The values of the best architecture."""
    assert result.best is not None
    values = {measure.name(result.reward): f"{measure.figure(result.best.value)} {measure.unit}"}
    if result.best.test is not None:
        values[measure.name("test")] = f"{measure.figure(result.best.test)} {measure.unit}"
    if finally_tested is not None:
        values[f"test {measure.what} after the final training"] = f"{100 * finally_tested:.2f} %"
    return "best found: " + ", ".join(f"{name} {value}".rstrip() for name, value in values.items())


@dataclass(frozen=True)
class Points:
    """Labels, counted from 1, and values of the trials by their outcome; for failed ones, labels alone."""

    done: tuple[tuple[int, float], ...]
    pruned: tuple[tuple[int, float], ...]
    failed: tuple[int, ...]

    @classmethod
    def of(cls, result: SearchResult) -> Points:
        """The points of a search."""
        trials = tuple(enumerate(result.trials, start=1))
        valued = [(label, trial.value, trial.pruned) for label, trial in trials if trial.value is not None]
        return cls(
            tuple((label, value) for label, value, pruned in valued if not pruned),
            tuple((label, value) for label, value, pruned in valued if pruned),
            tuple(label for label, trial in trials if trial.value is None),
        )


def _draw_curve(axes: Axes, result: SearchResult, measure: Measure, reference: Reference | None, letters: Lettering) -> None:
    points, sign = Points.of(result), -1.0 if result.minimised else 1.0
    bottom = _set_limits(axes, result, measure, points, reference)
    edge = 0.02 if sign > 0 else 0.98
    for shown, face, word in ((points.done, GREY, "evaluated"), (points.pruned, "none", "stopped early")):
        if inside := [(label, value) for label, value in shown if sign * value >= bottom]:
            labels, values = zip(*inside, strict=True)
            axes.scatter(labels, values, facecolors=face, edgecolors=GREY, s=18, label=word)
    if outside := [label for label, value in points.done + points.pruned if sign * value < bottom]:
        arrow, word = ("v", "below this range") if sign > 0 else ("^", "above this range")
        axes.scatter(outside, [edge] * len(outside), transform=axes.get_xaxis_transform(), marker=arrow, color=GREY, s=18, label=word)
    if points.failed:
        heights = [0.02] * len(points.failed)
        axes.scatter(points.failed, heights, transform=axes.get_xaxis_transform(), marker="x", color=RED, s=22, label="failed")
    curve = [(label, value) for label, value in enumerate(result.incumbent_curve, start=1) if value is not None]
    if curve:
        axes.step(*zip(*curve, strict=True), where="post", color=BLUE, linewidth=2, label="best so far")
    if reference is not None and curve:
        marker = None if len(reference.labels) > 1 else "D"
        axes.plot(reference.labels, reference.mean, marker=marker, color=ORANGE, linewidth=1.4, label="random search, expected best")
        figure = f"{measure.figure(reference.optimum)} {measure.unit}".rstrip()
        axes.axhline(reference.optimum, color="black", linestyle="--", linewidth=1, zorder=3, label=f"best of the table: {figure}")
    axes.set_xlabel("labels paid for (evaluations)")
    axes.set_ylabel(", ".join(filter(None, (measure.name(result.reward), measure.unit))))
    searcher = result.method if result.predictor == "none" else f"{result.method} with {result.predictor}"
    axes.set_title(letters.plain(f"{result.space}, {Path(result.dataset).name}: {searcher}"), fontsize=11)  # the last part of a path
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=3, frameon=False, fontsize=8.5, columnspacing=1.2)


def _set_limits(axes: Axes, result: SearchResult, measure: Measure, points: Points, reference: Reference | None) -> float:
    """Set limits and ticks so that no point is cut at the edge; returns the worst value that is drawn as a point, more being better."""
    count = max(result.labels_target, 1)
    aside = max(0.5, 0.025 * count)
    axes.set_xlim(1 - aside, count + aside)
    axes.set_xticks(label_ticks(count))
    sign = -1.0 if result.minimised else 1.0
    heights = sorted(sign * value for _, value in points.done + points.pruned)
    if not heights:
        return 0.0
    bottom, top = heights[len(heights) // LOW], heights[-1]
    if reference is not None:  # random search is in sight at least in the second half
        bottom = min(bottom, float(reference.mean[len(reference.mean) // 2]))
        top = max(top, reference.optimum)
    margin = 0.08 * max(top - bottom, 0.1 if measure.unit else 1e-3)
    axes.set_ylim(*sorted((sign * (bottom - margin), sign * (top + margin))))
    return bottom


def label_ticks(count: int) -> Sequence[int]:
    """1, then round numbers up to `count`: about eight in all."""
    from matplotlib.ticker import MaxNLocator

    round_ones = (int(tick) for tick in MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]).tick_values(0, count) if 1 < tick <= count)
    return [1, *round_ones]
