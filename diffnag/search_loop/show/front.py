"""front.csv and front.png: the members that no other dominates, among all that was evaluated."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.drawing.lettering import lettering
from diffnag.io.files import written_whole
from diffnag.objectives.quantities import with_unit
from diffnag.search_loop.show.curve import label_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from diffnag.search_loop.result import Front, SearchResult, Wanted
    from diffnag.search_loop.trial import Trial

PANEL = 5.2
"""Inches of one panel."""
GREY, BLUE, ORANGE = "#8c8c8c", "#1f6fb4", "#b8860b"
LARGE = 1e5
"""Numbers from which axes are labelled in thousands or millions."""
LOW = 0.1
"""Share of the labels that may lie outside the range of the picture: a few broken architectures would squash all others."""


def write_front(path: Path, result: SearchResult) -> None:
    """Write one row for each member: its trial, its architecture, its values, deviations of predicted ones, and its test value."""
    front = result.front
    assert front
    predicted = [one.name for one in result.objectives if not one.measured]
    columns = ["number", "arch", *(one.name for one in result.objectives), *(f"{name} std" for name in predicted), "test"]
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for member in front.members:
            values = [member.values.get(one.name) for one in result.objectives]
            writer.writerow([member.number, member.arch, *values, *(member.predicted_std.get(name) for name in predicted), member.test])


def front_picture(path: Path, result: SearchResult) -> None:
    """Write the label against every other objective, one panel each, and the growth of the hypervolume."""
    from matplotlib.figure import Figure

    assert result.front
    label, *others = [one for one in result.objectives if one.name in result.front.reference]
    with lettering([result.space, result.dataset, *(one.name for one in result.objectives)]) as letters:
        figure = Figure(figsize=(PANEL * (len(others) + 1), PANEL), layout="constrained")
        *panels, growth = figure.subplots(1, len(others) + 1, squeeze=False)[0]
        for axes, other in zip(panels, others, strict=True):
            _draw_panel(axes, result, other, label)
            axes.set_xlabel(letters.plain(_titled(other)))
            axes.set_ylabel(letters.plain(_titled(label)))
        curve = result.front.hypervolume_curve
        growth.step(range(1, len(curve) + 1), curve, where="post", color=BLUE, linewidth=2)
        _ticks(growth.yaxis, curve)
        growth.set_xticks(label_ticks(max(len(curve), 1)))
        growth.set_xlabel("labels paid for (evaluations)")
        growth.set_ylabel("hypervolume of the front")
        growth.grid(alpha=0.3)
        found = f"{len(result.front.members)} of {len(result.trials)} evaluations are on the front"
        figure.suptitle(letters.plain(f"{result.space}, {Path(result.dataset).name}: {found}"), fontsize=11)
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=120)


def _titled(objective: Wanted) -> str:
    direction = "more is better" if objective.maximise else "less is better"
    predicted = "" if objective.measured else ", predicted"
    return f"{objective.name}{f', {objective.unit}' if objective.unit else ''}{predicted} ({direction})"


def _draw_panel(axes: Axes, result: SearchResult, other: Wanted, label: Wanted) -> None:
    front = result.front
    assert front
    points = np.array([[trial.values.get(other.name, math.nan), _label(trial, label)] for trial in result.trials]).reshape(-1, 2)
    points = points[np.isfinite(points).all(1)]
    members = np.array([[member.values[other.name], member.values[label.name]] for member in front.members]).reshape(-1, 2)
    axes.scatter(points[:, 0], points[:, 1], s=18, facecolors="none", edgecolors=GREY, label="evaluated")
    if len(members):
        order = np.argsort(members[:, 0])
        if len(front.reference) == 2:
            axes.step(*members[order].T, where="post" if not other.maximise else "pre", color=BLUE, linewidth=1.2, alpha=0.6)
        axes.scatter(members[:, 0], members[:, 1], s=34, color=BLUE, zorder=3, label="front")
        best = members[np.argmax(members[:, 1] if label.maximise else -members[:, 1])]
        axes.scatter(best[:1], best[1:], s=90, facecolors="none", edgecolors=ORANGE, linewidths=1.8, zorder=4, label=f"best {label.name}")
    if len(points):
        inside = np.quantile(points[:, 1], [LOW, 1] if label.maximise else [0, 1 - LOW])
        margin = 0.06 * (inside.max() - inside.min() or 1.0)
        axes.set_ylim(inside.min() - margin, inside.max() + margin)
        _mark_outside(axes, points, members, label)
        _ticks(axes.xaxis, points[:, 0])
    axes.grid(alpha=0.3)
    axes.legend(loc="best", frameon=False, fontsize=8.5)


def _mark_outside(axes: Axes, points: np.ndarray, members: np.ndarray, label: Wanted) -> None:
    """Arrows at the edge for what is too poor for the range, blue for members of the front."""
    low, high = axes.get_ylim()
    edge, arrow = (0.02, "v") if label.maximise else (0.98, "^")
    word = "below this range" if label.maximise else "above this range"
    on_front = {tuple(member) for member in members.tolist()}
    for x, y in points[(points[:, 1] < low) | (points[:, 1] > high)].tolist():
        colour = BLUE if (x, y) in on_front else GREY
        axes.scatter([x], [edge], transform=axes.get_xaxis_transform(), marker=arrow, color=colour, s=22, label=word, zorder=3)
        word = ""


def _ticks(axis: Axis, values: Sequence[float] | np.ndarray) -> None:
    """Few numbers, large ones as 250k: long ones would run into each other."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    if np.abs(np.asarray(values)).max(initial=0.0) >= LARGE:
        axis.set_major_formatter(EngFormatter(sep=""))


def _label(trial: Trial, label: Wanted) -> float:
    return math.nan if trial.pruned else trial.values.get(label.name, math.nan)


def member_lines(front: Front, objectives: tuple[Wanted, ...], *, most: int, with_test: bool) -> list[tuple[str, str]]:
    """Values and architecture of at most `most` members, spread evenly over the front, that with the best label first."""
    label = objectives[0]
    ordered = sorted(front.members, key=lambda member: member.values[label.name], reverse=label.maximise)
    lines = []
    for member in (ordered[i] for i in np.unique(np.linspace(0, len(ordered) - 1, min(most, len(ordered))).round().astype(int))):
        parts = []
        for one in objectives:
            if one.name in member.values:
                doubt = f" ± {member.predicted_std[one.name]:.2g}, predicted" if one.name in member.predicted_std else ""
                parts.append(f"{one.name} {with_unit(member.values[one.name], one.unit)}{doubt}")
        if member.test is not None and with_test:
            parts.append(f"test {label.name} {with_unit(member.test, label.unit)}")
        lines.append(("; ".join(parts), member.arch))
    return lines
