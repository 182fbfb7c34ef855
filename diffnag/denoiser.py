"""The score network: a preconditioned denoiser of operator and adjacency matrices."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from diffnag.arch import Packing
from diffnag.checkpoint import load_checkpoint, save_checkpoint
from diffnag.errors import UserError
from diffnag.files import PRETRAINED
from diffnag.sde import SDE, expand_like, from_json, to_json
from diffnag.transformer import GraphTransformer, attention_mask, noise_embedding

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

KIND = "denoiser"


@dataclass(frozen=True)
class DenoiserConfig:
    """What, beside the space, fixes the shape of the network."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    positional: bool = True


class Denoiser(nn.Module):
    """Estimates the clean architecture, `D(x_t, t) = E[x_0 | x_t]`, and by Tweedie's formula the score.

    Preconditioned as in Karras et al. (2022), table 1, at the noise level `sigma / alpha`, with data of unit second
    moment (entries are -1 and 1). Works on packed `x (b, d)`, see `diffnag.arch.Packing`.
    """

    def __init__(self, space: SearchSpace, sde: SDE, config: DenoiserConfig) -> None:
        super().__init__()
        self.sde = sde
        self.config = config
        self.space_name = space.name
        self.split: str | None = None  # of the training set; known once loaded from a checkpoint
        self.packing = Packing.of(space)
        width = config.width
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.trunk = GraphTransformer(
            nodes=space.nodes, operators=len(space.operators), width=width, layers=config.layers, heads=config.heads,
            allowed=space_attention(space), positional=config.positional,
        )  # fmt: skip
        self.operator_head = nn.Linear(width + len(space.operators), len(space.operators))
        self.edge_source = nn.Linear(width, width // 2)
        self.edge_target = nn.Linear(width, width // 2)
        self.edge_itself = nn.Linear(1, width // 2)
        self.edge_head = nn.Sequential(nn.SiLU(), nn.Linear(width // 2, 1))

    def forward(self, x: Tensor, t: Tensor, mask: Tensor | None = None) -> Tensor:
        """`x (b, d)` at times `t (b,)`, `mask (b, n)` or None -> `D (b, d)`."""
        alpha, sigma = self.sde.marginal(t)
        noise = sigma / alpha
        c_skip, c_out, c_in = 1 / (1 + noise**2), noise / (1 + noise**2).sqrt(), 1 / (1 + noise**2).sqrt()
        y = x / expand_like(alpha, x)
        V, E = self.packing.split(y * expand_like(c_in, x))
        h = self.trunk(V, E, mask, self.time(noise_embedding(noise, self.config.width)))
        i, j = self.packing.upper(x.device)
        pairs = self.edge_source(h)[:, i] + self.edge_target(h)[:, j] + self.edge_itself(E[:, i, j, None])
        F = torch.cat([self.operator_head(torch.cat([h, V], dim=2)).flatten(1), self.edge_head(pairs)[..., 0]], dim=1)
        return expand_like(c_skip, x) * y + expand_like(c_out, x) * F

    def score(self, x: Tensor, t: Tensor, mask: Tensor | None = None) -> Tensor:
        """Gradient of log p_t at `x (b, d)`, `t (b,)`: `(alpha D - x) / sigma^2`."""
        alpha, sigma = (expand_like(value, x) for value in self.sde.marginal(t))
        return (alpha * self(x, t, mask) - x) / sigma**2

    def loss(self, x0: Tensor, t: Tensor, noise: Tensor, mask: Tensor | None = None) -> Tensor:
        """Denoising score matching, unreduced: `x0 (b, d)`, `t (b,)`, `noise (b, d)` standard normal -> `(b,)`.

        The weight makes the network's own output of unit size at every noise level (Karras et al. 2022, eq. 8).
        """
        alpha, sigma = self.sde.marginal(t)
        x = expand_like(alpha, x0) * x0 + expand_like(sigma, x0) * noise
        weight = 1 + (alpha / sigma) ** 2
        return weight * (self(x, t, mask) - x0).square().mean(dim=1)

    def save(self, path: str | Path, meta: dict[str, Any]) -> None:
        """Write weights and everything that rebuilds the network; `meta` is kept beside it."""
        about = {"kind": KIND, "space": self.space_name, "sde": to_json(self.sde), "config": asdict(self.config)}
        save_checkpoint(path, self.state_dict(), {**meta, **about})


def space_attention(space: SearchSpace) -> Tensor:
    """The attention mask `(n, n)` that a space asks for; `ancestors` is refused where its wiring varies."""
    _, fixed = space.constant
    upper = torch.ones(space.nodes, space.nodes).triu(1).bool()
    if space.attention == "ancestors" and not torch.from_numpy(fixed)[upper].all():
        raise ValueError(f"space {space.name}: attention 'ancestors' needs a constant wiring; use 'causal' or 'full'")
    _, E = space.encode(space.random(np.random.default_rng(0)))
    return attention_mask(space.attention, torch.from_numpy(E))


def shipped_denoiser(space_name: str) -> Path:
    """Where the package keeps the score network of a space."""
    return PRETRAINED / space_name / "denoiser.safetensors"


def load_denoiser(space: SearchSpace, path: str | Path | None = None, *, device: torch.device | str = "cpu") -> Denoiser:
    """The denoiser in `path`, or the one shipped for `space`; raises `UserError` if it belongs to another space."""
    if path is None and not (path := shipped_denoiser(space.name)).is_file():
        raise UserError(
            f"no score network is shipped for space {space.name!r}; train one with python -m diffnag.train_score and name it with --checkpoint"
        )
    tensors, meta = load_checkpoint(path, kind=KIND)
    if meta["space"] != space.name:
        raise UserError(f"{path} is a score network of space {meta['space']!r}, not of {space.name!r}")
    denoiser = Denoiser(space, from_json(meta["sde"]), DenoiserConfig(**meta["config"]))
    try:
        denoiser.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path} does not hold the weights that its own description asks for") from error
    denoiser.split = meta["split"]
    return denoiser.to(device).eval().requires_grad_(False)
