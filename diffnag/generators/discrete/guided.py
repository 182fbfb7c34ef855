"""Guidance of a discrete diffusion by a predictor of clean architectures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from diffnag.arch import ArchBatch
from diffnag.generators.base import anything
from diffnag.generators.discrete.noising import Absorbing, Predict
from diffnag.generators.trained import Matrices, Noise
from diffnag.spaces.decoding import decode_all
from diffnag.spaces.draws import random_archs

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.generators.discrete.network import DiscreteNetwork
    from diffnag.guidance.tilt import Tilt
    from diffnag.protocols import SearchSpace

RISING, FINAL = 5, 3
"""Sweeps over all entries while the scale rises, and once it has been reached."""
TRIED = 16
"""Random architectures of which entries are changed alone."""
LEAST = 1e-5
"""A category less probable than this is no candidate."""


def denoised_guided(law: Predict, network: DiscreteNetwork, tilt: Tilt) -> Predict:
    """Add the gradient of the tilt at the predicted clean architecture to its logits: `p(x) exp(<grad S z(p), x>)`, entry by entry.

    That is the regressor guidance of DiGress (Vignac et al. 2023, section 4.3), with a predictor of clean architectures that reads
    relaxed ones. It is exact to first order in the tilt.
    """
    n, f = network.packing.nodes, network.packing.operators

    def predict(z: Tensor, abar: Tensor) -> Tensor:
        log_p = law(z, abar)
        with torch.enable_grad():
            p = log_p.exp().requires_grad_()
            relaxed = torch.cat([p[:, :n, :f].flatten(1), network.expected_edges(p[:, n:])], dim=1)
            (grad,) = torch.autograd.grad(tilt.relaxed(2 * relaxed - 1).sum(), p)
        return (log_p + grad).log_softmax(dim=2)

    return predict


def changes_alone(network: DiscreteNetwork, space: SearchSpace) -> bool:
    """Whether each entry that varies can be changed alone in some random architecture.

    Where edges follow from operators, or have to be of a certain number, changes of single entries do not lead everywhere.
    """
    left = {int(entry) for entry in network.free.nonzero()}
    for arch in random_archs(space, TRIED, seed=0):
        x = network.numbers(ArchBatch.of([arch], space, device=network.device))
        entry, category = ((network.marginals > 0) & (nn.functional.one_hot(x[0], network.categories) == 0)).nonzero(as_tuple=True)
        changed = x.repeat(len(entry), 1)
        changed[torch.arange(len(entry), device=x.device), entry] = category
        decoded = decode_all(space, *Matrices.of(*network.matrices_of(changed)))
        left -= {int(place) for place, item in zip(entry, decoded, strict=True) if item.arch is not None}
        if not left:
            return True
    return False


class EntrySweeps:
    """Moves architectures to the tilted law, entry by entry.

    Of one entry after the other all categories are candidates: each with its probability given all other entries, times
    `exp(S z)` of the architecture that it makes. These are Gibbs steps for the law `p(A) exp(S z(A))`, and exact as far as the
    network's conditional laws belong to one law. The scale rises from 0, so that modes are reached before they are apart.
    """

    def __init__(
        self, law: Predict, network: DiscreteNetwork, space: SearchSpace, tilt: Tilt, wanted: Callable[[Arch], bool]
    ) -> None:
        self._law, self._network, self._space, self._tilt, self._wanted = law, network, space, tilt, wanted
        if not isinstance(network.noising, Absorbing):
            raise TypeError("only a network for absorbing noise knows the law of an entry given all others")
        self._noising = network.noising
        self._known: dict[bytes, float] = {}

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Move draws `x (b, D)` of the untilted law."""
        if self._wanted is not anything:
            x = self._begin_wanted(x, noise)
        for share in [*np.linspace(0, 1, RISING + 1)[1:], *[1.0] * FINAL]:
            order = self._noising.order(noise.uniform(len(x), x.shape[1], device=x.device))
            for place in range(self._noising.entries):
                x = self._step(x, (order == place).int().argmax(1), float(share), noise)
        return x

    def _begin_wanted(self, x: Tensor, noise: Noise) -> Tensor:
        """Replace what is not wanted by what is, where there is any: from there a sweep stays within it."""
        there = ~torch.isneginf(self._log_tilt(x)).to(x.device)
        if not there.any():
            return x
        drawn = noise.choice(there.float().expand(len(x), -1))
        return torch.where(there[:, None], x, x[drawn])

    def _step(self, x: Tensor, entry: Tensor, share: float, noise: Noise) -> Tensor:
        """Draw the entry `entry (b,)` of each architecture anew."""
        network, rows = self._network, torch.arange(len(x), device=x.device)
        z = x.clone()
        z[rows, entry] = network.categories
        log_p = self._law(z, self._noising.kept(self._noising.entries - 1, x))[rows, entry]  # (b, K)
        row, category = (log_p > np.log(LEAST)).nonzero(as_tuple=True)
        candidates = x[row]
        candidates[torch.arange(len(row), device=x.device), entry[row]] = category
        tilted = torch.full_like(log_p, -torch.inf)
        tilted[row, category] = log_p[row, category] + share * self._log_tilt(candidates).to(log_p)
        hopeless = torch.isneginf(tilted).all(1, keepdim=True)
        z[rows, entry] = noise.choice(torch.where(hopeless, log_p, tilted).softmax(1))
        return z

    def _log_tilt(self, x: Tensor) -> Tensor:
        """`S z` of architectures as numbers `(m, D)`; -inf where they are invalid or not wanted. Each is asked for once."""
        keys = [row.tobytes() for row in x.cpu().numpy().astype(np.uint8)]
        new = {key: k for k, key in enumerate(keys) if key not in self._known}
        if new:
            matrices = Matrices.of(*self._network.matrices_of(x[list(new.values())]))
            decoded = [item.arch for item in decode_all(self._space, *matrices)]
            allowed = {key: arch for key, arch in zip(new, decoded, strict=True) if arch is not None and self._wanted(arch)}
            values = self._tilt.scale * self._tilt.z(list(allowed.values()))
            self._known |= dict.fromkeys(new, -np.inf) | dict(zip(allowed, values.tolist(), strict=True))
        return torch.tensor([self._known[key] for key in keys])
