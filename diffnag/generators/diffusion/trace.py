"""How one architecture forms from noise: the states and estimates that a sampler passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diffnag.generators.diffusion.sde import denoised

if TYPE_CHECKING:
    from torch import Tensor

    from diffnag.arch import Packing
    from diffnag.generators.diffusion.samplers import RecordCalls
    from diffnag.generators.diffusion.sde import SDE

Matrices = tuple[np.ndarray, np.ndarray]
"""V `(n, f)` and E `(n, n)`."""


@dataclass(frozen=True)
class Moment:
    """One sample at time `t`: its noisy `state` x_t, in units of its standard deviation, and the `estimate` E[x_0 | x_t] in [0, 1].

    The estimate of the last moment is the quantised state, from which the architecture is decoded.
    """

    t: float
    state: Matrices
    estimate: Matrices


@dataclass(frozen=True)
class Trace:
    """The moments of one sample from noise to x_0; `sample` is its index among the samples."""

    sample: int
    moments: tuple[Moment, ...]

    @classmethod
    def of(cls, sample: int, recorded: RecordCalls, x0: Tensor, *, sde: SDE, packing: Packing, rule: str) -> Trace:
        """The calls in `recorded` for row `sample`, guidance included, and the end in `x0 (b, d)`, quantised by `rule`.

        If the sampler evaluated one time twice, the last evaluation counts.
        """

        def matrices(x: Tensor) -> Matrices:
            V, E = packing.split(x[None])
            return V[0].cpu().numpy(), E[0].cpu().numpy()

        seen = {float(t[0]): (x, t, score) for x, t, score in recorded.calls if float(t[0]) > sde.t_min}
        moments = []
        for t, (x, times, score) in sorted(seen.items(), reverse=True):
            alpha, sigma = sde.marginal(times[:1])
            state, estimate = x[sample], denoised(x[sample], score[sample], alpha=alpha, sigma=sigma)
            moments.append(Moment(t, matrices(state / (alpha**2 + sigma**2).sqrt()), matrices((estimate.clamp(-1, 1) + 1) / 2)))
        V, E = packing.quantise(x0[sample : sample + 1], rule)
        return cls(sample, (*moments, Moment(sde.t_min, matrices(x0[sample]), (V[0], E[0]))))

    def steps(self, n: int) -> list[Moment]:
        """`n` evenly spread moments, with the first and the last."""
        return [self.moments[k] for k in np.linspace(0, len(self.moments) - 1, n).round().astype(int)]
