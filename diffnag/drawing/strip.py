"""The picture of a trace: how the matrices of one architecture form from noise, step by step, and the architecture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.drawing.lettering import Lettering, lettering
from diffnag.io.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from diffnag.generators.diffusion.trace import Moment, Trace
    from diffnag.protocols import Decoded, SearchSpace

# Lengths are inches.
WIDTH, ENTRY, DPI = 13.0, (0.11, 0.17), 200
"""Width of the picture, and the least and largest side of an entry of a matrix: names beside smaller ones could not be read."""
GAP, HEAD, KEY = 0.22, 0.32, 0.62
"""Space between matrices, above a band for its times, and above all for the key."""
LETTER, POINTS = 0.052, 6.5
"""Width and size, at most, of the letters that name nodes and operators."""
STATES, ESTIMATES, SPREAD = "RdBu_r", "Blues", 1.6
"""Colour maps, and the range of states around 0; without noise they are -1 and 1."""


@dataclass(frozen=True)
class Grid:
    """Where the matrices of `n` steps lie: in `bands` below each other with `per` steps each, entries of side `entry`."""

    f: int
    nodes: int
    per: int
    bands: int
    entry: float
    left: float
    names: float
    """Height of the operators' names below a band."""

    @classmethod
    def of(cls, n: int, nodes: list[str], operators: list[str]) -> Grid:
        """The grid with the fewest bands in which all names can be read; in a very large space, entries become smaller."""
        left = 0.55 + LETTER * max(map(len, nodes))
        across = len(operators) + len(nodes) + 0.5
        most = max(1, int((WIDTH - left) / (across * ENTRY[0] + GAP)))
        bands = -(-n // most)
        per = -(-n // bands)
        entry = min(ENTRY[1], ((WIDTH - left) / per - GAP) / across)
        return cls(len(operators), len(nodes), per, bands, entry, left, 0.2 + LETTER * max(map(len, operators)))

    @property
    def points(self) -> float:
        """Size of the names."""
        return min(POINTS, 58 * self.entry)

    @property
    def side(self) -> float:
        """Side of an edge matrix, and height of an operator matrix."""
        return self.nodes * self.entry

    @property
    def step(self) -> float:
        """Width of a step, with the space beside it."""
        return (self.f + self.nodes + 0.5) * self.entry + GAP

    @property
    def band(self) -> float:
        """Height of a band: times, states, estimates, names."""
        return HEAD + 2 * self.side + GAP + self.names

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the key and all bands."""
        return max(self.left + self.per * self.step, 6.0), KEY + self.bands * self.band

    def corner(self, k: int) -> tuple[float, float]:
        """The upper left corner of the states of step k, from the left and from the top."""
        return self.left + k % self.per * self.step, KEY + k // self.per * self.band + HEAD


def save_trace(path: str | Path, trace: Trace, n: int, *, result: Decoded, space: SearchSpace) -> None:
    """Write a picture of `n` moments as PNG: states above estimates, operators beside edges, and below them `result`."""
    from matplotlib.figure import Figure

    from diffnag.drawing.picture import arrangement_of, draw

    steps = trace.steps(n)
    with lettering([*space.operators, result.reason or ""]) as letters:
        operators = [letters.plain(operator) for operator in space.operators]
        grid = Grid.of(n, node_names(steps[-1], space, letters), operators)
        left, bottom, right, top = arrangement_of(result.arch, space).bounds if result.arch is not None else (0.0, 0.0, 1.0, 0.3)
        width, strip = grid.size
        drawn = (top - bottom) * min(1.0, width / (right - left))
        canvas = Canvas(Figure(figsize=(width, strip + drawn)))
        _draw_key(canvas)
        for k, moment in enumerate(steps):
            _draw_step(canvas, grid, k, moment, node_names(steps[-1], space, letters), operators, last=k == n - 1)
        below = canvas.place(0, strip, width, drawn)
        below.set_axis_off()
        if result.arch is not None:
            draw(result.arch, space, below)
        else:
            reason = letters.plain(f"no architecture: {result.reason}")
            below.text(0.5, 0.5, reason, ha="center", va="center", transform=below.transAxes)
        with written_whole(path) as temporary:
            canvas.figure.savefig(temporary, dpi=DPI, format="png")


def node_names(end: Moment, space: SearchSpace, letters: Lettering) -> list[str]:
    """The number of each node, with its operator if this is the same in every architecture."""
    fixed = [bool(row.all()) for row in space.constant[0]]
    operators = [space.operators[int(row.argmax())] for row in end.estimate[0]]
    return [f"{k} {letters.plain(operators[k])}" if fixed[k] else f"{k}" for k in range(space.nodes)]


@dataclass(frozen=True)
class Canvas:
    """A figure whose axes are placed in inches."""

    figure: Figure

    def place(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes of this width and height whose upper left corner is `x` from the left and `y` from the top."""
        across, down = self.figure.get_size_inches()
        return self.figure.add_axes((x / across, 1 - (y + height) / down, width / across, height / down))

    def write(self, x: float, y: float, text: str, size: float, *, ha: str = "left", va: str = "baseline") -> None:
        """Text at a point, aligned as matplotlib's `ha` and `va` say."""
        across, down = self.figure.get_size_inches()
        self.figure.text(x / across, 1 - y / down, text, fontsize=size, ha=ha, va=va)


def _draw_key(canvas: Canvas) -> None:
    """A bar of colours for states and one for estimates."""
    keys = (
        ("state $x_t$ in standard deviations;\nat the end 1: there, -1: not there", STATES, (-SPREAD, SPREAD), (-1, 0, 1)),
        ("estimate $E[x_0 | x_t]$ of each entry;\n1: there, 0: not there", ESTIMATES, (0, 1), (0, 0.5, 1)),
    )
    for number, (text, colours, (low, high), ticks) in enumerate(keys):
        bar = canvas.place(0.15 + 3.0 * number, 0.08, 0.8, 0.12)
        bar.imshow(np.linspace(low, high, 64)[None], cmap=colours, aspect="auto", extent=(low, high, 0, 1))
        bar.set_yticks([])
        bar.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=POINTS)
        bar.tick_params(length=2, pad=1)
        canvas.write(1.05 + 3.0 * number, 0.19, text, 7, va="center")


def _draw_step(canvas: Canvas, grid: Grid, k: int, moment: Moment, nodes: list[str], operators: list[str], *, last: bool) -> None:
    """The four matrices of step k; names of nodes at the left of a band, those of operators below each step."""
    x, y = grid.corner(k)
    canvas.write(x + (grid.step - GAP) / 2, y - 0.1, f"t = {moment.t:.2g}" + (", estimate quantised" if last else ""), 8, ha="center")
    for row, ((V, E), colours, (low, high)) in enumerate(((moment.state, STATES, (-SPREAD, SPREAD)), (moment.estimate, ESTIMATES, (0, 1)))):
        top = y + row * (grid.side + GAP)
        of_V = canvas.place(x, top, grid.f * grid.entry, grid.side)
        of_E = canvas.place(x + (grid.f + 0.5) * grid.entry, top, grid.side, grid.side)
        upper = np.where(np.tri(grid.nodes, dtype=bool), np.nan, E)
        for axes, matrix in ((of_V, V), (of_E, upper)):
            axes.imshow(matrix, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.tick_params(length=0, pad=2)
            axes.spines[:].set(color="#c0c0c0", linewidth=0.5)
        if k % grid.per == 0:
            of_V.set_ylabel(("state", "estimate")[row] + "\nnode", fontsize=7.5)
            of_V.set_yticks(range(grid.nodes), nodes, fontsize=grid.points)
        if row == 1:
            of_V.set_xticks(range(grid.f), operators, rotation=90, fontsize=grid.points)
            of_E.set_xticks(range(grid.nodes), [str(node) for node in range(grid.nodes)], fontsize=grid.points * 0.85)
            of_E.set_xlabel("edge to node", fontsize=POINTS, labelpad=2)
