"""The network of the family `coordinates`: the lift from graphs to points, and an equivariant denoiser that reads edges off points."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffnag.generators.coordinates.options import Config
from diffnag.generators.network import GraphNetwork
from diffnag.generators.transformer import noise_embedding

if TYPE_CHECKING:
    from diffnag.arch import ArchBatch
    from diffnag.protocols import SearchSpace

LEVELS = (0.1, 10.0)
"""Standard deviations of the noise, from everything decided to nothing known; points and features have a spread of about 1."""
FARTHEST = 3
"""Path lengths are cut off here: what lies farther apart does not tell edges from pairs without one."""


class Estimate(NamedTuple):
    """What is estimated of a noisy state."""

    points: Tensor
    """Clean points `(b, n, k)`."""
    operators: Tensor
    """Logits `(b, n, f)`."""
    edges: Tensor
    """Logits `(b, m)`."""


class CoordinateNetwork(GraphNetwork):
    """An E(k)-equivariant denoiser of points and operators (Satorras et al. 2021; Hoogeboom et al. 2022).

    A state `(b, n, k + f)` holds the point of each node and its operator row, in [-1, 1], both noised, `x = x_0 + sigma eps`. The place of
    a node in the order is a feature that is not noised. Points are preconditioned as in Karras et al. (2022), table 1; to the logits of
    operators those of Bayes' rule are added, as in the family `sde`. Edges are read off the last messages between the nodes.
    """

    family: ClassVar[str] = "coordinates"
    config_type: ClassVar[type] = Config

    def __init__(self, space: SearchSpace, config: Config) -> None:
        super().__init__(space, config)
        n, f, width = self.packing.nodes, self.packing.operators, config.width
        self.channels = config.dimensions + f
        self.node = nn.Linear(f, width)
        self.place = nn.Parameter(torch.randn(n, width) / math.sqrt(width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(EquivariantLayer(n, width, config.joint) for _ in range(config.layers))
        self.chosen = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, f))
        self.joined = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))

    @staticmethod
    def level(share: Tensor) -> Tensor:
        """The noise level at a share in [0, 1] of the way, equidistant in its logarithm."""
        low, high = map(math.log, LEVELS)
        return torch.exp(low + (high - low) * share)

    def lift(self, batch: ArchBatch) -> Tensor:
        """The clean state `(b, n, k + f)` of a batch: points whose squared distances are path lengths, as far as k dimensions allow.

        Classical scaling (Torgerson 1952) of the undirected path lengths; centred. The basis is arbitrary, as the network is equivariant.
        """
        values, vectors = torch.linalg.eigh(gram(batch.E).cpu())
        k = self.config.dimensions
        kept = min(k, values.shape[1])
        points = vectors[:, :, -kept:] * values[:, None, -kept:].clamp_min(0).sqrt()
        scale = math.sqrt(k)  # the squared length of a point is about 1 in all
        return torch.cat([scale * F.pad(points, (0, k - kept)).to(batch.V.device), 2 * batch.V - 1], dim=2)

    def estimate(self, state: Tensor, level: Tensor) -> Estimate:
        """`state (b, n, k + f)` at noise `level (b,)`."""
        sigma = level[:, None, None]
        points, rows = state.split([self.config.dimensions, self.packing.operators], dim=2)
        points = points - points.mean(1, keepdim=True)
        shrink = (1 + sigma**2).rsqrt()
        h = self.node(rows * shrink) + self.place + self.time(noise_embedding(level, self.config.width))[:, None]
        begin = x = points * shrink
        for layer in self.layers:
            h, x, messages = layer(h, x)
        i, j = self.packing.upper(state.device)
        operators, edges = self.within_space(torch.cat([
            (self.chosen(h) + 2 * rows / sigma**2).flatten(1), self.joined(messages[:, i, j] + messages[:, j, i])[..., 0],
        ], dim=1))  # fmt: skip
        moved = x - begin
        return Estimate(shrink**2 * points + sigma * shrink * (moved - moved.mean(1, keepdim=True)), operators, edges)

    def forward(self, state: Tensor, level: Tensor) -> Tensor:
        """The clean state `(b, n, k + f)` expected behind a noisy one."""
        found = self.estimate(state, level)
        return torch.cat([found.points, 2 * found.operators.softmax(2) - 1], dim=2)

    def loss(self, batch: ArchBatch, level: Tensor, noise: Tensor) -> Tensor:
        """Squared error of the points, weighted as in Karras et al. (2022), and cross-entropies of operators and edges, `(b,)`."""
        clean = self.lift(batch)
        found = self.estimate(clean + level[:, None, None] * noise, level)
        operators, edges = self.codes(batch)
        wrong = (found.points - clean[..., : self.config.dimensions]).square().mean((1, 2)) * (1 + level**-2)
        missed = F.cross_entropy(found.operators.transpose(1, 2), operators, reduction="none").mean(1)
        unread = F.binary_cross_entropy_with_logits(found.edges, edges.float(), reduction="none").mean(1)
        return wrong + missed + unread


def gram(E: Tensor) -> Tensor:
    """Adjacency `(b, n, n)`, upper triangular -> the centred matrix of inner products `(b, n, n)` whose squared distances are path lengths."""
    n = E.shape[1]
    itself = torch.eye(n, device=E.device)
    step = E + E.transpose(1, 2) + itself
    reached, lengths = itself.expand_as(E), FARTHEST * (1 - itself).expand_as(E)
    for length in range(1, FARTHEST):
        new = ((reached @ step) > 0).float()
        lengths = torch.where((new > 0) & (reached == 0), float(length), lengths)
        reached = new
    centre = itself - 1 / n
    return -0.5 * centre @ lengths @ centre


class EquivariantLayer(nn.Module):
    """Messages between all nodes, which move points along their differences (Satorras et al. 2021, eqs. 3 to 6).

    With `joint` hidden units the features of all nodes, and all pairs, correct each other at once: messages between pairs count badly.
    """

    def __init__(self, nodes: int, width: int, joint: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.sent, self.received = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.distance = nn.Linear(1, width, bias=False)
        self.message = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.pull = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1, bias=False))
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.together = JointUpdate(nodes, width, joint) if joint else None

    def forward(self, h: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features `h (b, n, width)`, points `x (b, n, k)` -> both, moved, and the messages `(b, n, n, width)`."""
        apart = x[:, :, None] - x[:, None]
        squared = apart.square().sum(3, keepdim=True)
        read = self.norm(h)
        messages = self.message(self.sent(read)[:, None] + self.received(read)[:, :, None] + self.distance(squared))
        if self.together is not None:
            moved, corrections = self.together(read, messages)
            h, messages = h + moved, messages + corrections
        pulls = apart / (1 + (squared + 1e-8).sqrt()) * self.pull(messages)  # the root has no slope at 0
        h = h + self.update(torch.cat([read, messages.mean(2)], dim=2))
        return h, x + pulls.mean(2), messages


class JointUpdate(nn.Module):
    """Corrections of all features and all pairs at once, from the features and one number of each pair of nodes; zero before training."""

    def __init__(self, nodes: int, width: int, hidden: int) -> None:
        super().__init__()
        pairs = nodes * (nodes - 1) // 2
        self.pair = nn.Linear(width, 1)
        self.inner = nn.Linear(nodes * width + pairs, hidden)
        self.last = nn.Linear(hidden, nodes * width + pairs)
        self.widen = nn.Linear(1, width, bias=False)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, read: Tensor, messages: Tensor) -> tuple[Tensor, Tensor]:
        """Features `read (b, n, width)` and `messages (b, n, n, width)` -> what is added to both."""
        b, n, width = read.shape
        i, j = torch.triu_indices(n, n, 1, device=read.device)
        pairs = self.pair(messages[:, i, j] + messages[:, j, i])[..., 0]
        z = F.silu(self.inner(torch.cat([read.flatten(1), pairs], dim=1)))
        learned, corrected = self.last(z).split([n * width, len(i)], dim=1)
        both = read.new_zeros(b, n, n)
        both[:, i, j] = both[:, j, i] = corrected
        return learned.view_as(read), self.widen(both[..., None])
