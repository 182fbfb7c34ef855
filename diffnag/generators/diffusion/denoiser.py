"""The score network: a preconditioned denoiser of operator and adjacency matrices."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from diffnag.generators.diffusion.levels import training_times
from diffnag.generators.diffusion.options import Config
from diffnag.generators.diffusion.sde import SDE, SEGMENTS, LearnedSDE, expand_like, from_json, to_json
from diffnag.generators.edge_groups import EdgeGroups
from diffnag.generators.linear import Linear
from diffnag.generators.network import GraphNetwork, load_network, space_attention
from diffnag.generators.transformer import GraphTransformer, noise_embedding

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

SQUARES_DECAY = 0.98
"""Share that a step keeps of the running mean squares of a learned process."""
LARGEST = 10.0
"""Bound of the log odds that the joint head reads."""
SMALLEST = -40.0
"""Logarithm of a probability that is as good as none; far below lie denormal numbers, which are slow."""
LANES = 16
"""Numbers in the largest vector register of a CPU."""


class Denoiser(GraphNetwork):
    """Estimates the clean architecture, `D(x_t, t) = E[x_0 | x_t]`, and by Tweedie's formula the score.

    The network is preconditioned for what x_0 is: a row of V is a vertex of a simplex, an entry of E one of two values. Let
    y = x_t / alpha and s = sigma / alpha. If all entries were independent and uniform, Bayes' rule would give
    `E[V | x_t] = softmax(2 y / s^2)` and `E[E | x_t] = sigmoid(2 y / s^2)`, scaled to [-1, 1]. The network adds a term to these
    logits: it learns only how entries depend on each other, and D never leaves the cube. The input is scaled as in Karras et al.
    (2022), table 1. States are packed, `x (b, d)`; see `diffnag.arch.Packing`.

    An operator is predicted from the token of its node, an edge from the tokens of its two nodes. With `config.joint` the tokens also
    hold the estimate of each entry alone, and a head that sees all nodes and the estimate so far corrects it in a few rounds. Where
    little noise is left, the estimates are what is decided already, and the head can count it. NAS-Bench-101 needs this: there one
    edge too many makes an architecture invalid. With `config.log_odds` the head reads estimates as log odds, in which the evidence of
    several entries adds up. Operators and edges give such evidence for the depth of a stage of MobileNetV3.

    With `config.edge_groups` some edges are categorical as well: of the edges of a group only some patterns occur, as of those that
    lead to a state of DARTS. Bayes' rule and the estimate then go over the patterns. `groups` come from a checkpoint; None reads
    them off the space.
    """

    family: ClassVar[str] = "sde"
    config_type: ClassVar[type] = Config
    needs: ClassVar[Mapping[str, type]] = {"sde": dict}
    squares: Tensor
    """Mean square of the diffusion loss at each level, `(SEGMENTS,)`; there for a learned process."""
    patterns: Tensor
    offset: Tensor
    grouped: Tensor

    def __init__(self, space: SearchSpace, sde: SDE, config: Config, groups: EdgeGroups | None = None) -> None:
        super().__init__(space, config)
        self._given = sde
        if isinstance(sde, LearnedSDE):
            self.register_buffer("squares", torch.ones(SEGMENTS))
        width = config.width
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        n, f = space.nodes, len(space.operators)
        self.trunk = GraphTransformer(
            nodes=n, operators=2 * f + 2 * n if config.joint else f, width=width, layers=config.layers, heads=config.heads,
            allowed=space_attention(space), positional=config.positional,
        )  # fmt: skip
        self.make_heads(width)
        self.joint_head = _JointHead(n * width, config.joint, self.packing.size) if config.joint else None
        if config.edge_groups:
            for name, value in (groups or EdgeGroups.of(space))._asdict().items():
                self.register_buffer(name, value)

    @property
    def sde(self) -> SDE:
        """The forward process; a learned one is that of the losses so far."""
        return LearnedSDE.of_squares(self.squares) if isinstance(self._given, LearnedSDE) else self._given

    @property
    def evaluated(self) -> nn.Module:
        """The transformer: logits are asked for as well as estimates."""
        return self.trunk

    def forward(self, x: Tensor, t: Tensor, mask: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """`x (b, d)` at times `t (b,)`, or one for all, `(1,)`, `mask (b, n)` or None -> `D (b, d)`; a condition is for networks that have one."""
        return self.in_cube(self.logits(x, t, mask, condition))

    def logits(self, x: Tensor, t: Tensor, mask: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Logits `(b, d)`: those of an operator row up to a constant, and those of each edge."""
        alpha, sigma = self.sde.marginal(t)
        noise = sigma / alpha
        y = x / expand_like(alpha, x)
        V, E = self.packing.split(y / expand_like((1 + noise**2).sqrt(), x))
        alone = 2 * y / expand_like(noise, x) ** 2  # logits of Bayes' rule
        tokens = V
        if self.joint_head is not None:
            decided_V, decided_E = self.packing.split(self._head_input(alone))
            tokens = torch.cat([V, decided_V, decided_E, decided_E.transpose(1, 2)], dim=2)
        h = self.trunk(tokens, E, mask, self.context(self.time(noise_embedding(noise, self.config.width)), condition))
        logits = self.entry_logits(h, V, E, all_edges=self.training or self.joint_head is not None) + alone  # the joint head has seen them
        if self.joint_head is not None:
            context = self.joint_head.nodes(h.flatten(1))
            for _ in range(self.config.rounds):
                logits = logits + self.joint_head(context, self._head_input(logits))
        return logits

    def _head_input(self, logits: Tensor) -> Tensor:
        """Input `(b, d)` of the joint head from logits: the estimate of each entry, or a fifth of its log odds."""
        if not self.config.log_odds:
            return self.in_cube(logits)
        cut = self.packing.nodes * self.packing.operators
        rows = _log_softmax(logits[:, :cut].unflatten(1, (self.packing.nodes, self.packing.operators)))
        others = torch.log1p(-rows.clamp_min(SMALLEST).exp().clamp_max(1 - 1e-6))
        return torch.cat([(rows - others).flatten(1), self.groups.log_odds(logits[:, cut:])], dim=1).clamp(-LARGEST, LARGEST) / 5

    @cached_property
    def training_times(self) -> Tensor:
        """Times `(1001,)` that training draws from, on the CPU."""
        return torch.linspace(1, 0, 1001) if self.config.sde == "learned" else training_times(self.sde, self.config.focus)

    @property
    def groups(self) -> EdgeGroups:
        """Edges that are categorical together; none without `config.edge_groups`."""
        if not self.config.edge_groups:
            return EdgeGroups.none(len(self.wiring))
        return EdgeGroups(self.patterns, self.offset, self.grouped)

    def in_cube(self, logits: Tensor) -> Tensor:
        """The estimate that logits `(b, d)` stand for: a simplex for each operator row, an interval for each edge, in [-1, 1]."""
        cut = self.packing.nodes * self.packing.operators
        rows = logits[:, :cut].unflatten(1, (self.packing.nodes, self.packing.operators))
        rows = (rows - rows.amax(dim=2, keepdim=True)).clamp_min(SMALLEST)
        edges = self.groups.probabilities(logits[:, cut:].clamp(-40, 40))
        return 2 * torch.cat([rows.softmax(dim=2).flatten(1), edges], dim=1) - 1

    def score(self, x: Tensor, t: Tensor, mask: Tensor | None = None) -> Tensor:
        """Gradient of log p_t at `x (b, d)`, `t (b,)`."""
        return self.score_of(self(x, t, mask), x, t)

    def score_of(self, estimate: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The score `(alpha D - x) / sigma^2` that an estimate `D (b, d)` of the clean architecture stands for."""
        alpha, sigma = (expand_like(value, x) for value in self.sde.marginal(t))
        return (alpha * estimate - x) / sigma**2

    def loss(self, x0: Tensor, t: Tensor, noise: Tensor, mask: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Denoising score matching, unreduced: `x0 (b, d)`, `t (b,)`, `noise (b, d)` standard normal -> `(b,)`.

        Weighted by 1 + (alpha / sigma)^2, as in Karras et al. (2022), eq. 8, for data of unit second moment.
        """
        alpha, sigma = self.sde.marginal(t)
        weight = 1 + (alpha / sigma) ** 2
        return weight * (self(self.sde.diffuse(x0, t, noise), t, mask, condition) - x0).square().mean(dim=1)

    def cross_entropy(self, x0: Tensor, t: Tensor, noise: Tensor, mask: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Cross-entropy of operators and edges `(b,)`, with the weights and the minimum of `loss` (Dieleman et al., 2022).

        It still separates the unlikely from the impossible where squares have no slope left.
        """
        alpha, sigma = self.sde.marginal(t)
        return (1 + (alpha / sigma) ** 2) * self.surprise(self.sde.diffuse(x0, t, noise), t, x0, mask, condition) / x0.shape[1]

    def diffusion_loss(self, x0: Tensor, t: Tensor, noise: Tensor, mask: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """The loss of the variational bound (Kingma et al. 2021, eq. 17), `(b,)` in nats, of a learned process at times `t (b,)`.

        In training, it also moves the running mean squares that decide the levels of the process: the closed form of what their paper
        learns by the gradient of the variance.
        """
        sde = self.sde
        assert isinstance(sde, LearnedSDE)
        level = sde.noise_to_signal(t)
        found = (self(sde.diffuse(x0, t, noise), t, mask, condition) - x0).square().sum(dim=1) / level**2
        if self.training:
            low, high = LearnedSDE().knots[0], LearnedSDE().knots[-1]
            segment = ((level.log() - low) / (high - low) * SEGMENTS).long().clamp(0, SEGMENTS - 1)
            one = nn.functional.one_hot(segment, SEGMENTS).to(x0.dtype)
            total = torch.stack([one.T @ found.detach().square(), one.sum(0)])
            if torch.distributed.is_initialized():
                torch.distributed.all_reduce(total)
            seen = total[1] > 0
            self.squares[seen] = torch.lerp(self.squares[seen], total[0, seen] / total[1, seen], 1 - SQUARES_DECAY)
        return sde.rate(t) * found

    def surprise(self, x: Tensor, t: Tensor, x0: Tensor, mask: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """`-log p(A | x_t)` in nats, `(b,)`, for the architecture `x0 (b, d)` in {-1, 1}, each entry or group of edges by itself."""
        logits = self.logits(x, t, mask, condition)
        cut = self.packing.nodes * self.packing.operators
        rows = logits[:, :cut].unflatten(1, (self.packing.nodes, self.packing.operators)).log_softmax(dim=2).flatten(1)
        true = (x0 + 1) / 2
        return self.groups.cross_entropy(logits[:, cut:], true[:, cut:]) - (rows * true[:, :cut]).sum(dim=1)

    def decided(self, logits: Tensor) -> Tensor:
        """The likeliest operator of each node and the likeliest edges, or patterns of edges, `(b, d)` in {-1, 1}; what is constant stays."""
        rows, edges = self.within_space(logits)
        V = rows.argmax(2, keepdim=True) == torch.arange(self.packing.operators, device=rows.device)
        return 2.0 * torch.cat([V.flatten(1), self.groups.likeliest(edges)], dim=1) - 1

    def described(self) -> Mapping[str, Any]:
        """The forward process."""
        return {**super().described(), "sde": to_json(self.sde)}

    @classmethod
    def rebuilt(cls, space: SearchSpace, config: Config, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The network of a file, before its weights are set; groups of edges come from the file."""
        groups = EdgeGroups(*(tensors[name] for name in EdgeGroups._fields)) if config.edge_groups else None
        return cls(space, from_json(meta["sde"]), config, groups)


def _log_softmax(rows: Tensor) -> Tensor:
    """`rows (b, n, f)`, normalised over f; the values do not depend on the way.

    On a CPU rows that are shorter than a vector register are ten times slower than columns, in which torch adds up the same numbers in
    the same order. What is left behind the last whole register of a column is computed by another function, so that columns have to end there.
    """
    b, n, f = rows.shape
    if rows.device.type != "cpu" or torch.is_grad_enabled() or f >= LANES or b * n % LANES:
        return rows.log_softmax(dim=2)
    return rows.permute(2, 0, 1).contiguous().log_softmax(dim=0).permute(1, 2, 0)


class _JointHead(nn.Module):
    """Correction of every logit from all nodes and the estimate so far; zero before training."""

    def __init__(self, inputs: int, hidden: int, entries: int) -> None:
        super().__init__()
        self.nodes = Linear(inputs, hidden)
        self.estimate = Linear(entries, hidden, bias=False)
        self.inner = Linear(hidden, hidden)
        self.last = Linear(hidden, entries)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, context: Tensor, estimate: Tensor) -> Tensor:
        """Correction `(b, d)` from `context (b, hidden)`, which `nodes` makes of all nodes, and `estimate (b, d)`."""
        z = nn.functional.silu(context + self.estimate(estimate))
        return self.last(z + nn.functional.silu(self.inner(z)))


def load_denoiser(space: SearchSpace, path: str | Path | None = None, *, device: torch.device | str = "cpu") -> Denoiser:
    """The score network in `path`, by default the one shipped for `space`; see `load_network` for the errors."""
    return load_network(Denoiser, space, path, device=device)
