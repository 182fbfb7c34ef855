"""What the networks of all families share: each belongs to one space, reads tokens of nodes, and lives in one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from diffnag.arch import Packing
from diffnag.command.options import check_numbers
from diffnag.errors import UserError
from diffnag.generators.linear import Linear
from diffnag.generators.transformer import attention_mask
from diffnag.io.checkpoint import check_description, config_from, load_checkpoint, rebuilding, save_checkpoint, weights_checksum
from diffnag.io.files import PRETRAINED
from diffnag.spaces.fingerprint import check_fingerprint, space_fingerprint

if TYPE_CHECKING:
    from diffnag.arch import ArchBatch
    from diffnag.protocols import SearchSpace

KIND = "generator"
IMPOSSIBLE = -40.0
"""Logit of an entry that no architecture of the space has: its probability is below the rounding of the others."""


class GraphNetwork(nn.Module):
    """A network over the operator and adjacency matrices of one space.

    Args:
        space: The search space.
        config: The family's frozen `Config`; stored beside the weights.
    """

    family: ClassVar[str]
    config_type: ClassVar[type]
    needs: ClassVar[Mapping[str, type]] = {}
    """What a file has to describe beside what all networks do: key -> type."""
    possible: Tensor
    """`(n, f)` bool: operators that a node of some architecture has."""
    varying: Tensor
    """`(m,)` bool, m = n (n - 1) / 2: edges that some architectures have and others have not."""
    wiring: Tensor
    """`(m,)`: 1 for each edge of one architecture, so that it says which of the other edges are always there."""

    def __init__(self, space: SearchSpace, config: Any) -> None:
        super().__init__()
        self.config = config
        self.space_name = space.name
        self.split = ""
        """Name of the split that it was trained on; known once it is loaded from a file."""
        self.origin: Mapping[str, str] = {}
        """Checksum of its file and the command that made it; known once it is loaded."""
        self.packing = Packing.of(space)
        self._fingerprint = space_fingerprint(space)
        same_V, same_E = (torch.from_numpy(part) for part in space.constant)
        V, E = (torch.from_numpy(part) for part in space.encode(space.random(np.random.default_rng(0))))
        i, j = self.packing.upper(E.device)
        for name, value in (("possible", ~same_V | (V > 0)), ("varying", ~same_E[i, j]), ("wiring", E[i, j])):
            self.register_buffer(name, value, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    @property
    def evaluated(self) -> nn.Module:
        """The part that an evaluation of the network calls once, with a row for each sample: by that evaluations are counted."""
        return self

    def context(self, level: Tensor, condition: Tensor | None) -> Tensor:
        """What every block is modulated by, `(b, width)` or `(1, width)`: the noise level; families with conditions join theirs to it."""
        del condition
        return level

    def make_heads(self, width: int) -> None:
        """Add the heads that `entry_logits` needs, for tokens of `width`."""
        f = self.packing.operators
        self.operator_head = Linear(width + f, f)
        self.edge_source = Linear(width, width // 2)
        self.edge_target = Linear(width, width // 2)
        self.edge_itself = Linear(1, width // 2)
        self.edge_head = nn.Sequential(nn.SiLU(), Linear(width // 2, 1))

    def entry_logits(self, h: Tensor, V: Tensor, E: Tensor, *, all_edges: bool) -> Tensor:
        """Logits `(b, d)`, packed: an operator from the token of its node, an edge from the tokens of its two nodes.

        `h (b, n, width)` are the tokens, `V (b, n, f)` and `E (b, n, n)` the matrices that they were made of. Without `all_edges`
        those that are constant in the space are not computed, and have +40 or -40.
        """
        i, j = self.packing.upper(h.device)
        if not all_edges:
            i, j = i[self.varying], j[self.varying]
        pairs = self.edge_source(h).index_select(1, i)
        pairs += self.edge_target(h).index_select(1, j)  # in place: nothing else here is as large
        pairs += self.edge_itself(E[:, i, j, None])
        edges = self.edge_head(pairs)[..., 0]
        if not all_edges:
            edges = self.certain_edges.repeat(len(h), 1).masked_scatter_(self.varying, edges)
        return torch.cat([self.operator_head(torch.cat([h, V], dim=2)).flatten(1), edges], dim=1)

    @property
    def certain_edges(self) -> Tensor:
        """Logits `(m,)` of edges by which each is there or not as `wiring` says."""
        return -IMPOSSIBLE * (2 * self.wiring - 1)

    def within_space(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Packed logits `(b, d)` -> those of operators `(b, n, f)` and edges `(b, m)`; what is constant in the space is decided."""
        cut = self.packing.nodes * self.packing.operators
        rows = logits[:, :cut].unflatten(1, (self.packing.nodes, self.packing.operators))
        return rows.masked_fill(~self.possible, IMPOSSIBLE), torch.where(self.varying, logits[:, cut:], self.certain_edges)

    def codes(self, batch: ArchBatch) -> tuple[Tensor, Tensor]:
        """Architectures as numbers: the operator of each node `(b, n)` and 0 or 1 for each edge `(b, m)`, int64."""
        i, j = self.packing.upper(batch.E.device)
        return batch.V.argmax(2), batch.E[:, i, j].long()

    def likeliest(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Packed logits `(b, d)` -> the likeliest operator of each node `(b, n)` and each edge `(b, m)`, bool, within the space."""
        rows, edges = self.within_space(logits)
        return rows.argmax(2), edges > 0

    def are(self, batch: ArchBatch, operators: Tensor, edges: Tensor) -> Tensor:
        """Whether operators `(b, n)` and edges `(b, m)`, bool, are those of a batch, `(b,)`."""
        there = self.codes(batch)
        return (operators == there[0]).all(1) & (edges == there[1].bool()).all(1)

    def matrices(self, operators: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `codes`: `V (b, n, f)` and `E (b, n, n)`, float in {0, 1}."""
        V = nn.functional.one_hot(operators, self.packing.operators).float()
        i, j = self.packing.upper(edges.device)
        E = V.new_zeros(len(V), self.packing.nodes, self.packing.nodes)
        E[:, i, j] = edges.float()
        return V, E

    def described(self) -> Mapping[str, Any]:
        """What, beside space and config, rebuilds the network: stored with the weights, and given to `rebuilt`."""
        return {}

    @classmethod
    def rebuilt(cls, space: SearchSpace, config: Any, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The network of a file, before its weights are set."""
        del meta, tensors
        return cls(space, config)

    def save(self, path: str | Path, meta: Mapping[str, Any]) -> None:
        """Write the weights and everything that rebuilds the network; `meta` is kept beside it."""
        about = {
            "kind": KIND, "family": self.family, "space": self.space_name, "space_fingerprint": self._fingerprint,
            "config": asdict(self.config), **self.described(),
        }  # fmt: skip
        save_checkpoint(path, self.state_dict(), {**meta, **about})


class Residual(nn.Module):
    """A residual MLP of one hidden layer; it begins as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.LayerNorm(width), Linear(width, width), nn.SiLU())
        self.outer = Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, h: Tensor) -> Tensor:
        """`h (b, width)` -> `(b, width)`."""
        return h + self.outer(self.inner(h))


N = TypeVar("N", bound=GraphNetwork)


def shipped_network(space_name: str, family: str) -> Path:
    """The place where the package keeps the network of a family for a space."""
    return PRETRAINED / space_name / f"{family}.safetensors"


def load_network(network: type[N], space: SearchSpace, path: str | Path | None = None, *, device: torch.device | str = "cpu") -> N:
    """The network in `path`, by default the one shipped for `space`, frozen.

    Raises `UserError` where there is none, or it belongs to another space or family.
    """
    shipped = shipped_network(space.name, network.family)
    path = shipped if path is None else Path(path)
    if path == shipped and not path.is_file():
        raise UserError(
            f"no network of family {network.family!r} is shipped for space {space.name!r}; "
            "train one with python -m diffnag.train_score and name it with --checkpoint"
        )
    tensors, meta = load_checkpoint(path, kind=KIND, needs={
        "family": str, "space": str, "space_fingerprint": str, "config": dict, "split": str,
    })  # fmt: skip
    if meta["family"] != network.family:
        raise UserError(f"{path} is a generator of family {meta['family']!r}, not of {network.family!r}")
    if meta["space"] != space.name:
        raise UserError(f"{path} is a network of space {meta['space']!r}, not of {space.name!r}")
    check_description(path, meta, network.needs)
    check_fingerprint(space, meta["space_fingerprint"], what=str(path))
    with rebuilding(path):
        config: Any = config_from(network.config_type, meta["config"])
        check_numbers(config)
        made = network.rebuilt(space, config, meta, tensors)
        made.load_state_dict(tensors)
    made.split = meta["split"]
    made.origin = {"checkpoint": weights_checksum(path), "command": str(meta.get("command", ""))}
    return made.to(device).eval().requires_grad_(False)


def space_attention(space: SearchSpace) -> Tensor:
    """The attention mask `(n, n)` that a space asks for; `ancestors` is refused where its wiring varies."""
    _, fixed = space.constant
    upper = torch.ones(space.nodes, space.nodes).triu(1).bool()
    if space.attention == "ancestors" and not torch.from_numpy(fixed)[upper].all():
        raise ValueError(f"space {space.name}: attention 'ancestors' needs a constant wiring; use 'causal' or 'full'")
    _, E = space.encode(space.random(np.random.default_rng(0)))
    return attention_mask(space.attention, torch.from_numpy(E))


def check_width(width: int, heads: int) -> None:
    """Raise `UserError` for a width that the heads do not divide."""
    if width % (2 * heads):
        raise UserError(f"--width {width} is not a multiple of twice --heads {heads}")
