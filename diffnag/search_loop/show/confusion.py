"""confusion.png: which classes a classifier takes for which others; for many classes, the worst ones and the most frequent errors."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.drawing.lettering import Lettering, lettering
from diffnag.io.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COUNTED, NAMED = 40, 120
"""Most classes for a matrix with a count in each cell, and for any matrix; above, cells would be too small to see."""
LISTED = 20
"""Bars in each list of a picture with many classes."""
LONGEST = 24
"""Letters of a class name; longer ones lose their middle."""
DPI = 130


def confusion_picture(path: Path, counts: np.ndarray, classes: Sequence[str], *, title: str) -> None:
    """Draw `counts (c, c)`, images by true class and by chosen class, whatever the classes are named."""
    with lettering([*classes, title]) as letters:
        names = class_names(classes, letters)
        figure = _matrix(counts, names) if len(classes) <= NAMED else _summary(counts, names)
        right, total = int(counts.trace()), int(counts.sum())
        result = f"{right:,} of {total:,} right ({100 * right / max(total, 1):.2f} %)"
        figure.suptitle("\n".join([*map(letters.plain, _lines(figure, title, size=11)), result]), fontsize=11)
        notes = ["blue: right, red: wrong; the darker, the larger the share of the images of the true class"] if len(classes) <= NAMED else []
        if any(name == f"#{k}" != letters.plain(classes[k]) for k, name in enumerate(names)):
            notes.append("#k: the name of class k, entry k of `classes` in result.json counted from 0, has letters that no font here has")
        figure.supxlabel("\n".join(line for note in notes for line in _lines(figure, note, size=8)), fontsize=8)
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=DPI)


def class_names(classes: Sequence[str], letters: Lettering) -> list[str]:
    """Names that can be drawn; `#k` for the class k whose name has letters that no font has, or many bytes that are no letters."""
    names = [letters.plain(_short(name)) for name in classes]
    return [name if letters.shows(full) and len(name) <= 2 * LONGEST else f"#{k}" for k, (full, name) in enumerate(zip(classes, names, strict=True))]


def _lines(figure: Figure, text: str, *, size: float) -> list[str]:
    """`text` in lines that are no wider than the figure, for letters of `size` points, 0.62 of it wide on average."""
    return textwrap.wrap(text, int(72 * figure.get_figwidth() / (0.62 * size)))


def _short(name: str) -> str:
    half = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[:half]}…{name[1 - half :]}"


def _matrix(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """All counts: colours are shares of the true class, hits blue and errors red."""
    from matplotlib.figure import Figure

    c = len(names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    hit = np.eye(c, dtype=bool)
    cell = 0.55 if c <= 12 else 0.36 if c <= COUNTED else 0.15  # inches
    room = 0.085 * max(map(len, names))
    side = max(c * cell, 2.6) + room + 1.3
    figure = Figure(figsize=(max(side, 4.5), side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.ma.masked_where(~hit, shares), cmap="Blues", vmin=0, vmax=1.25)
    axes.imshow(np.ma.masked_where(hit | (counts == 0), np.sqrt(shares)), cmap="Reds", vmin=-0.15, vmax=1)
    if c <= COUNTED:
        for i, j in zip(*np.nonzero(counts), strict=True):
            dark = shares[i, j] > 0.6 if i == j else np.sqrt(shares[i, j]) > 0.55
            axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", fontsize=9 if c <= 12 else 7, color="white" if dark else "black")
    size = 9 if c <= 12 else 8 if c <= COUNTED else 6
    upright = max(map(len, names)) <= 3 and c <= COUNTED
    axes.set_xticks(range(c), names, rotation=0 if upright else 90, fontsize=size)
    axes.set_yticks(range(c), names, fontsize=size)
    axes.tick_params(length=0)
    between = np.arange(c - 1) + 0.5
    axes.hlines(between, -0.5, c - 0.5, colors="#e6e6e6", linewidth=0.5)
    axes.vlines(between, -0.5, c - 0.5, colors="#e6e6e6", linewidth=0.5)
    axes.set_xlabel("chosen class")
    axes.set_ylabel("true class")
    return figure


def _summary(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """For many classes: their accuracies in order, the worst of them, and the most frequent errors."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    images = counts.sum(1)
    there = np.flatnonzero(images)
    accuracy = 100 * counts.diagonal()[there] / images[there]
    order = np.argsort(accuracy, kind="stable")
    figure = Figure(figsize=(14, 8), layout="constrained")
    axes = figure.subplot_mosaic([["all", "errors"], ["worst", "errors"]], height_ratios=(1, 1.5), width_ratios=(1, 1.1))
    _draw_accuracies(axes["all"], accuracy[order])
    worst = order[:LISTED]
    labels = [f"{names[there[k]]}: {counts[there[k], there[k]]} of {images[there[k]]}" for k in worst]
    _draw_bars(axes["worst"], accuracy[worst], labels, color="#1f6fb4")
    axes["worst"].set_title("classes with the lowest accuracy: images right", loc="right", fontsize=10)
    axes["worst"].set(xlabel="accuracy of the class, %", xlim=(0, 100))
    found = frequent_errors(counts)
    errors = [f"{names[i]} → {names[j]}: {counts[i, j]} of {images[i]}" for i, j in found]
    _draw_bars(axes["errors"], np.array([counts[pair] for pair in found]), errors, color="#c03030")
    axes["errors"].set_title("most frequent errors, true class → chosen class: images", loc="right", fontsize=10)
    axes["errors"].set(xlabel="images", xlim=(0, None if found else 1))
    if not found:
        axes["errors"].text(0.5, 0.5, "no errors", ha="center", transform=axes["errors"].transAxes)
    axes["errors"].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def frequent_errors(counts: np.ndarray) -> list[tuple[int, int]]:
    """True and chosen class of the most frequent errors, the most frequent first; at most `LISTED`."""
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    order = np.argsort(-wrong, axis=None, kind="stable")[:LISTED]
    return [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, counts.shape), strict=True) if wrong[i, j] > 0]


def _draw_accuracies(axes: Axes, accuracy: np.ndarray) -> None:
    """Accuracies in %, sorted upwards, with their mean."""
    axes.fill_between(range(1, len(accuracy) + 1), accuracy, step="mid", color="#1f6fb4", alpha=0.25, linewidth=0)
    axes.step(range(1, len(accuracy) + 1), accuracy, where="mid", color="#1f6fb4", label=f"median {np.median(accuracy):.1f} %")
    axes.axhline(accuracy.mean(), color="black", linestyle="--", linewidth=1, label=f"mean over classes {accuracy.mean():.1f} %")
    axes.set(xlim=(1, len(accuracy)), ylim=(0, 102), xlabel=f"{len(accuracy):,} classes, from worst to best", ylabel="accuracy, %")
    axes.set_title("accuracy of each class", loc="right", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9, frameon=False)


def _draw_bars(axes: Axes, values: np.ndarray, labels: Sequence[str], *, color: str) -> None:
    """Horizontal bars, the first on top."""
    axes.barh(range(len(values)), values, color=color, alpha=0.6)
    axes.set_yticks(range(len(values)), labels, fontsize=8)
    axes.set_ylim(LISTED - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
