"""How one architecture forms from noise: the states and estimates that a sampler passes, and a picture of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.io.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from diffnag.arch import Packing
    from diffnag.generators.diffusion.samplers import RecordCalls
    from diffnag.generators.diffusion.sde import SDE
    from diffnag.protocols import Decoded, SearchSpace

Matrices = tuple[np.ndarray, np.ndarray]
"""V `(n, f)` and E `(n, n)`."""

WIDTH, ENTRY, DPI = 13.0, (0.05, 0.17), 200
"""Inches of a strip and of one entry of a matrix, at least and at most."""
LEFT, TOP, GAP, LETTER = 0.75, 0.42, 0.22, 0.055
"""Inches beside and above the matrices, between steps, and of a letter in the names of operators, at most."""
STATES, ESTIMATES, SPREAD = "RdBu_r", "Blues", 1.6
"""Colour maps, and the range of states from 0, which are 1 and -1 where there is no noise."""


@dataclass(frozen=True)
class Moment:
    """One sample at time `t`: its noisy `state` x_t, in units of its standard deviation, and the `estimate` E[x_0 | x_t] in [0, 1].

    At the end the estimate is what is read: the state quantised.
    """

    t: float
    state: Matrices
    estimate: Matrices


@dataclass(frozen=True)
class Trace:
    """The moments of one sample from noise to x_0, and its place among the samples."""

    sample: int
    moments: tuple[Moment, ...]

    @classmethod
    def of(cls, sample: int, recorded: RecordCalls, x0: Tensor, *, sde: SDE, packing: Packing, rule: str) -> Trace:
        """What `recorded` saw of row `sample`, guidance included, and where it ended: in `x0 (b, d)`, quantised by `rule`.

        Of a time that the sampler asked about twice the last is kept.
        """

        def matrices(x: Tensor) -> Matrices:
            V, E = packing.split(x[None])
            return V[0].cpu().numpy(), E[0].cpu().numpy()

        seen = {float(t[0]): (x, t, score) for x, t, score in recorded.calls if float(t[0]) > sde.t_min}
        moments = []
        for t, (x, times, score) in sorted(seen.items(), reverse=True):
            alpha, sigma = sde.marginal(times[:1])
            state, estimate = x[sample], (x[sample] + sigma**2 * score[sample]) / alpha
            moments.append(Moment(t, matrices(state / (alpha**2 + sigma**2).sqrt()), matrices((estimate.clamp(-1, 1) + 1) / 2)))
        V, E = packing.quantise(x0[sample : sample + 1], rule)
        return cls(sample, (*moments, Moment(sde.t_min, matrices(x0[sample]), (V[0], E[0]))))

    def steps(self, n: int) -> list[Moment]:
        """`n` of the moments, evenly spread, the first and the last among them."""
        return [self.moments[k] for k in np.linspace(0, len(self.moments) - 1, n).round().astype(int)]


def save_trace(path: str | Path, trace: Trace, n: int, *, result: Decoded, space: SearchSpace) -> None:
    """Write a strip of `n` moments as PNG: states above estimates, operators beside edges, and below what came of it."""
    from matplotlib.figure import Figure

    from diffnag.drawing.picture import arrangement_of, draw

    steps, f = trace.steps(n), len(space.operators)
    across = f + space.nodes + 0.5  # entries of operators and edges beside each other
    entry = float(np.clip((WIDTH - LEFT - n * GAP) / (n * across), *ENTRY))
    pair, side = across * entry, space.nodes * entry
    width = LEFT + n * (pair + GAP)
    cell = (0.0, 0.0, 1.0, 0.3)
    if result.arch is not None:
        cell = arrangement_of(result.arch, space).bounds
    drawn = (cell[3] - cell[1]) * min(1.0, width / (cell[2] - cell[0]))
    strip = TOP + 2 * side + 2 * GAP + LETTER * max(map(len, space.operators))
    height = strip + drawn
    figure = Figure(figsize=(width, height))

    def place(x: float, y: float, w: float, h: float) -> Axes:
        """Axes of so many inches, as far from the left and from the top."""
        return figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))

    for column, moment in enumerate(steps):
        x = LEFT + column * (pair + GAP)
        figure.text((x + pair / 2) / width, 1 - 0.3 / height, f"t = {moment.t:.2g}", ha="center", fontsize=9)
        for row, (V, E) in enumerate((moment.state, moment.estimate)):
            y = TOP + row * (side + GAP)
            of_V, of_E = place(x, y, f * entry, side), place(x + (f + 0.5) * entry, y, side, side)
            for axes, matrix in ((of_V, V), (of_E, np.where(np.tri(space.nodes, dtype=bool), np.nan, E))):
                low, high, colours = ((-SPREAD, SPREAD, STATES), (0, 1, ESTIMATES))[row]
                axes.imshow(matrix, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set(color="#c0c0c0", linewidth=0.5)
            if column == 0:
                of_V.set_ylabel(("state\n$x_t$", "estimate\n$E[x_0 | x_t]$")[row], fontsize=8)
            if column == 0 and row == 1:
                of_V.set_xticks(range(f), space.operators, rotation=90, fontsize=min(6.5, 65 * entry))
                of_V.tick_params(length=0, pad=2)
                of_E.set_xlabel("edges", fontsize=7)
            if column == n - 1 and row == 1:
                of_E.set_xlabel("quantised", fontsize=7)
    below = place(0, strip, width, drawn)
    below.set_axis_off()
    if result.arch is not None:
        draw(result.arch, space, below)
    else:
        below.text(0.5, 0.5, f"no architecture: {result.reason}", ha="center", va="center", transform=below.transAxes)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png")
