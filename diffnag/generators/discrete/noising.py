"""The kinds of noise of a discrete diffusion: how an entry is noised, how the reverse is drawn, and the variational bound.

Of an entry with the marginal law `m`, a share `abar` of the architectures keeps its category at time t. `marginal` draws the others by
`m`: `q(z_t | x) = abar [z_t = x] + (1 - abar) m(z_t)` (DiGress, Vignac et al. 2023, section 4.1), with the cosine `abar` of Nichol and
Dhariwal (2021). `graph` draws them by laws that depend on the clean entries around. `absorbing` hides them (Austin et al. 2021, section
3.1), so that a reverse step reveals entries in random order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from diffnag.generators.network import IMPOSSIBLE

if TYPE_CHECKING:
    from diffnag.generators.trained import Noise

Predict = Callable[[Tensor, Tensor], Tensor]
"""Noisy numbers `(b, D)` and the share that is kept, `(b,)` or `(1,)` -> log probabilities `(b, D, K)` of the clean entries."""
EARLIEST = 1e-3
"""The least time: there the marginal noise has changed one entry in 400,000."""


class Corrupted(NamedTuple):
    """A training example."""

    z: Tensor
    """`(b, D)`"""
    abar: Tensor
    """`(b,)`"""
    weight: Tensor
    """`(b, D)`: weight of the cross-entropy of each entry."""


class Noising(Protocol):
    """A kind of noise."""

    def alone(self, z: Tensor, abar: Tensor) -> Tensor:
        """Logits `(b, D, K)` of the clean entries, were they independent of each other."""
        ...

    def corrupt(self, x: Tensor, t: Tensor, u: Tensor) -> Corrupted:
        """Noise numbers `x (b, D)` up to times `t (b,)` in (0, 1), by uniform numbers `u (2, b, D)`."""
        ...

    def draw(self, predict: Predict, b: int, steps: int, noise: Noise) -> Tensor:
        """Draw `b` architectures, `(b, D)`."""
        ...

    def move(self, predict: Predict, x: Tensor, steps: int, noise: Noise, level: float) -> Tensor:
        """Noise `x (b, D)` up to the time `level` and denoise it again."""
        ...

    def bound(self, predict: Predict, x: Tensor, steps: int, repeats: int, noise: Noise) -> Tensor:
        """Lower bound `(b,)` of the log probability that `draw` with so many steps gives `x (b, D)`."""
        ...


class Absorbing:
    """Hides entries. Time t means that a share t of the entries that vary is hidden, in random order."""

    def __init__(self, marginals: Tensor, free: Tensor) -> None:
        self._law, self._free = marginals, free
        self.entries, self.hidden = int(free.sum()), marginals.shape[1]

    def alone(self, z: Tensor, abar: Tensor) -> Tensor:
        return self._law.to(z.device).log().clamp_min(IMPOSSIBLE).expand(len(z), -1, -1)

    def corrupt(self, x: Tensor, t: Tensor, u: Tensor) -> Corrupted:
        """The loss at a uniform time is unbiased for the bound of one entry a step."""
        count = (t * self.entries).ceil().clamp(1, self.entries)
        hide = self.order(u[0]) >= self.entries - count[:, None]
        return Corrupted(x.masked_fill(hide, self.hidden), 1 - count / self.entries, hide * (self.entries / count)[:, None])

    def order(self, u: Tensor) -> Tensor:
        """When each entry is revealed, `(b, D)`: 0 to `entries - 1`, in the order of `u (b, D)`; constant entries have -1."""
        free = self._free.to(u.device)
        return u.masked_fill(~free, -1.0).argsort(1).argsort(1) - int((~free).sum())

    def groups(self, steps: int, first: int = 0) -> list[tuple[int, int]]:
        """Places in the order that each step reveals, from `first` on; early steps, where entries depend less on each other, reveal more."""
        left = self.entries - first
        steps = min(steps, left)
        curve = [math.ceil(left * (1 - (1 - step / steps) ** 1.5)) for step in range(steps + 1)]
        ends = [first + min(end, left - steps + step) for step, end in enumerate(curve)]  # at least one is left for each later step
        return list(pairwise(ends))

    def draw(self, predict: Predict, b: int, steps: int, noise: Noise) -> Tensor:
        x = self._law.argmax(1).expand(b, -1)
        return self._reveal(predict, x, self.order(noise.uniform(b, x.shape[1], device=x.device)), self.groups(steps), noise)

    def move(self, predict: Predict, x: Tensor, steps: int, noise: Noise, level: float) -> Tensor:
        order = self.order(noise.uniform(len(x), x.shape[1], device=x.device))
        return self._reveal(predict, x, order, self.groups(steps, min(int(self.entries * (1 - level)), self.entries - 1)), noise)

    def _reveal(self, predict: Predict, x: Tensor, order: Tensor, groups: list[tuple[int, int]], noise: Noise) -> Tensor:
        """Hide what comes in the groups and draw it, group after group."""
        z = x.masked_fill(order >= groups[0][0], self.hidden)
        for first, last in groups:
            drawn = noise.choice(predict(z, self.kept(first, z)).exp())
            z = torch.where((order >= first) & (order < last), drawn, z)
        return z

    def bound(self, predict: Predict, x: Tensor, steps: int, repeats: int, noise: Noise) -> Tensor:
        """`log 1/R sum p(x | order)` over R random orders: the order is a latent variable, and the bound is that of Burda et al. (2016)."""
        rows = x.repeat(repeats, 1)  # a network is slow on few architectures at once
        order = self.order(_uniform(noise, x, repeats).flatten(0, 1))
        nats = x.new_zeros(len(rows), dtype=torch.float64)
        for first, last in self.groups(steps):
            log_p = predict(rows.masked_fill(order >= first, self.hidden), self.kept(first, rows)).gather(2, rows[..., None])[..., 0]
            nats += (log_p * ((order >= first) & (order < last))).double().sum(1)
        return nats.view(repeats, -1).logsumexp(0) - math.log(repeats)

    def kept(self, first: int, z: Tensor) -> Tensor:
        """The share that is not hidden where the entry at place `first` is the next one, `(1,)`."""
        return torch.full((1,), first / self.entries, device=z.device)


class Marginal:
    """Draws entries anew by their marginal law."""

    def __init__(self, marginals: Tensor, free: Tensor) -> None:
        self._law, self._free = marginals, free

    def alone(self, z: Tensor, abar: Tensor) -> Tensor:
        law = self._law.to(z.device)
        itself = (abar / (1 - abar).clamp_min(1e-9))[:, None, None] / law.clamp_min(1e-9)
        return law.log().clamp_min(IMPOSSIBLE) + nn.functional.one_hot(z, law.shape[1]) * itself.log1p()

    def law_of(self, p: Tensor) -> Tensor:
        """What noise draws entries by, `(D, K)` or `(b, D, K)`, where the clean ones have the probabilities `p (b, D, K)`."""
        return self._law.to(p.device)

    def corrupt(self, x: Tensor, t: Tensor, u: Tensor) -> Corrupted:
        abar = self.kept(t.clamp_min(EARLIEST))
        return Corrupted(self._noised(x, abar, u), abar, self._free.to(x.device).float().expand(len(x), -1))

    def draw(self, predict: Predict, b: int, steps: int, noise: Noise) -> Tensor:
        return self._denoise(predict, noise.choice(self._law.expand(b, -1, -1)), self.times(steps, 1.0), noise)

    def move(self, predict: Predict, x: Tensor, steps: int, noise: Noise, level: float) -> Tensor:
        u = _uniform(noise, x, 2)
        z = self._noised(x, self.kept(torch.full((len(x),), level, device=x.device)), u)
        return self._denoise(predict, z, self.times(steps, level), noise)

    def bound(self, predict: Predict, x: Tensor, steps: int, repeats: int, noise: Noise) -> Tensor:
        """`sum_t E KL(q(z_s | z_t, x) || p(z_s | z_t)) - E log p(x | z_1)`, all steps and `repeats` noisy architectures at each."""
        nats = x.new_zeros(len(x), dtype=torch.float64)
        rows = x.repeat(repeats, 1)  # a network is slow on few architectures at once
        certain = nn.functional.one_hot(rows, self._law.shape[1]).float()
        for t, s in pairwise(self.times(steps, 1.0)):
            abar, before = self.kept(t[None]), self.kept(s[None])
            z = self._noised(rows, abar, torch.cat([_uniform(noise, x, 2) for _ in range(repeats)], 1))
            true, guess = (self._before(p, z, abar, before).double() for p in (certain, predict(z, abar).exp()))
            apart = torch.where(true > 0, true * (true / guess.clamp_min(1e-30)).log(), 0.0).sum((1, 2))
            nats -= apart.view(repeats, -1).mean(0)
        return nats

    def times(self, steps: int, start: float) -> Tensor:
        """Descending times `(steps + 1,)` from `start` to 0."""
        return torch.linspace(start, 0, steps + 1)

    @staticmethod
    def kept(t: Tensor) -> Tensor:
        """The share `abar` of entries that are not noise at times `t`."""
        return (math.pi / 2 * t).cos().square()

    def _noised(self, x: Tensor, abar: Tensor, u: Tensor) -> Tensor:
        law = self.law_of(nn.functional.one_hot(x, self._law.shape[1]).float()).cumsum(-1)
        drawn = (law <= u[1][..., None] * law[..., -1:]).sum(2).clamp_max(law.shape[-1] - 1)
        return torch.where(u[0] < abar[:, None], x, drawn)

    def _denoise(self, predict: Predict, z: Tensor, times: Tensor, noise: Noise) -> Tensor:
        for t, s in pairwise(times):
            abar, before = (self.kept(each[None]).to(z.device) for each in (t, s))
            z = noise.choice(self._before(predict(z, abar).exp(), z, abar, before))
        return z

    def _before(self, p: Tensor, z: Tensor, abar: Tensor, before: Tensor) -> Tensor:
        """Law `(b, D, K)` of the entries at an earlier time: `sum_x q(z_s | z_t, x) p(x)`, with `abar`, `before` the shares kept at t and s."""
        law = self.law_of(p)
        itself = nn.functional.one_hot(z, law.shape[-1])
        abar, before = abar[:, None, None], before[:, None, None]
        own = (law * itself).sum(2, keepdim=True)  # (b, D, 1)
        w = p / (abar * itself + (1 - abar) * own).clamp_min(1e-12)
        step = abar / before
        q = (step * itself + (1 - step) * own) * (before * w + (1 - before) * law * w.sum(2, keepdim=True))
        return q / q.sum(2, keepdim=True)


class GraphDependent(Marginal):
    """Draws entries anew by a law that depends on what is around them (Liu et al. 2024, section 3.3).

    The law of an entry is the mean of its marginal law and of its laws given each of the entries around it: an operator has the edges of
    its node around it, an edge the operators of its two nodes. Where the clean entries are probabilities, as in a reverse step, the
    law is the one that is expected of them.

    Args:
        marginals: `(D, K)`
        free: `(D,)` bool
        around: `(D K, D K)`: what category k of entry a adds to the law of entry d.
    """

    def __init__(self, marginals: Tensor, free: Tensor, around: Tensor) -> None:
        super().__init__(marginals, free)
        self._around = around

    def law_of(self, p: Tensor) -> Tensor:
        return (p.flatten(1) @ self._around.to(p.device)).view_as(p)

    def bound(self, predict: Predict, x: Tensor, steps: int, repeats: int, noise: Noise) -> Tensor:
        """The bound of `Marginal`, less `KL(q(z_1 | x) || p(z_1))`: draws begin at the marginal laws."""
        law, start = self.law_of(nn.functional.one_hot(x, self._law.shape[1]).float()).double(), self._law.to(x.device).double()
        apart = torch.where(law > 0, law * (law / start.clamp_min(1e-30)).log(), 0.0).sum((1, 2))
        return super().bound(predict, x, steps, repeats, noise) - apart


def _uniform(noise: Noise, x: Tensor, times: int) -> Tensor:
    """Uniform numbers for each entry of `x (b, D)`, `(times, b, D)`."""
    return torch.stack([noise.uniform(*x.shape, device=x.device) for _ in range(times)])


NOISES: Mapping[str, Callable[..., Noising]] = {"absorbing": Absorbing, "marginal": Marginal, "graph": GraphDependent}
"""Kinds of noise, made of the marginal laws and of what varies; `graph` also takes `around`."""
