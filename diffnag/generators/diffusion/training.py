"""Training a score network: what decides the weights, one step, and the state of a training that is interrupted.

Each step draws one global batch from (seed, step), of which every process takes its share.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from diffnag.arch import ArchBatch
from diffnag.errors import UserError
from diffnag.generators.diffusion.denoiser import DenoiserConfig
from diffnag.generators.diffusion.generator import Generator
from diffnag.generators.diffusion.samplers import stratified_times, time_grid
from diffnag.generators.metrics import generation_metrics
from diffnag.io.files import written_whole

if TYPE_CHECKING:
    from diffnag.generators.diffusion.denoiser import Denoiser
    from diffnag.generators.diffusion.sde import SDE
    from diffnag.protocols import SearchSpace
    from diffnag.spaces.split import CanonicalSplit

EMA_DECAY = 0.998
FOCUS = (0.8, 0.55)
"""Noise sigma / alpha around which most entries (-1 or 1) are decided, and the spread of its logarithm."""


@dataclass(frozen=True)
class Options:
    """Everything that decides the weights; a resumed run must have the same."""

    space: str
    sde: str
    split: str
    steps: int
    batch_size: int
    learning_rate: float
    width: int
    layers: int
    heads: int
    seed: int
    joint: int = 0
    focus: float = 0.0
    rounds: int = 4
    log_odds: bool = False
    cross_entropy: bool = False
    edge_groups: bool = False

    def network(self) -> DenoiserConfig:
        """The shape of the network."""
        return DenoiserConfig(
            width=self.width, layers=self.layers, heads=self.heads, joint=self.joint, rounds=self.rounds, log_odds=self.log_odds,
            edge_groups=self.edge_groups,
        )  # fmt: skip


class ScoreTraining:
    """Network, average, optimiser and step: all that a resumed training needs."""

    def __init__(self, net: Denoiser, options: Options) -> None:
        self.net, self.options, self.step = net, options, 0
        self.seconds = self.core_seconds = 0.0  # of the parts of an interrupted training before this one
        self.grid = training_times(net.sde, options.focus)
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.average = AveragedModel(net, avg_fn=_ema)

    def averaged(self) -> Denoiser:
        """The network with the average of its weights."""
        return self.average.module  # type: ignore[return-value]

    def advance(self, x0: Tensor, *, rank: int = 0, world: int = 1) -> Tensor:
        """One optimiser step on this process's share of the global batch out of `x0 (m, d)`; returns the share's loss."""
        b = self.options.batch_size
        generator = torch.Generator().manual_seed((self.options.seed * 1_000_003 + self.step) % 2**63)
        pick = torch.randint(len(x0), (b,), generator=generator)
        t = stratified_times(self.grid, b, generator=generator)
        noise = torch.randn(b, x0.shape[1], generator=generator)
        mine = slice(rank, None, world)
        share = [tensor[mine].to(x0.device) for tensor in (pick, t, noise)]

        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * self._rate()
        measure = self.net.cross_entropy if self.options.cross_entropy else self.net.loss
        loss = measure(x0[share[0]], share[1], share[2]).sum() / b
        self.optimizer.zero_grad()
        loss.backward()
        if world > 1:
            _sum_gradients(self.net)
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(self.net)
        self.step += 1
        return loss.detach() * world

    def _rate(self) -> float:
        """Warm-up over a twentieth of the steps, then cosine to zero, as a share of the peak."""
        warmup = max(self.options.steps // 20, 1)
        if self.step < warmup:
            return (self.step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (self.step - warmup) / max(self.options.steps - warmup, 1)))

    def save(self, path: Path, *, seconds: float, core_seconds: float) -> None:
        with written_whole(path) as temporary:
            torch.save({
                "options": asdict(self.options), "step": self.step, "net": self.net.state_dict(),
                "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict(),
                "seconds": self.seconds + seconds, "core_seconds": self.core_seconds + core_seconds,
            }, temporary)  # fmt: skip

    def load(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"--resume: there is no interrupted training {path}")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            theirs = dict(state["options"])
            spent = float(state["seconds"]), float(state["core_seconds"])
        except Exception as error:  # a damaged file fails in as many ways as it has bytes
            raise UserError(f"--resume: {path} is no readable training state") from error
        if differing := [key for key, value in asdict(self.options).items() if theirs.get(key) != value]:
            said = ", ".join(f"{key} {theirs.get(key)} (now {getattr(self.options, key)})" for key in differing)
            raise UserError(f"--resume: {path} was begun with other options: {said}")
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, (self.seconds, self.core_seconds) = state["step"], spent


def training_times(sde: SDE, focus: float) -> Tensor:
    """1,001 times, descending: a share `focus` log-normal in noise (`FOCUS`), the others equidistant in log noise as in sampling."""
    grid = time_grid(sde, 1000)
    if not focus:
        return grid
    centre, spread = FOCUS
    levels = sde.noise_to_signal(grid).log()
    density = torch.exp(-(((levels - math.log(centre)) / spread) ** 2) / 2)
    reached = ((1 - focus) / len(grid) + focus * density / density.sum()).cumsum(0)
    return torch.from_numpy(np.interp(np.linspace(0, 1, len(grid)), reached.numpy(), grid.numpy()).astype(np.float32))


def training_set(net: Denoiser, space: SearchSpace, split: CanonicalSplit) -> Tensor:
    """The training side of `space` as packed `x_0 (m, d)`; `UserError` where nothing is there to train on."""
    archs = split.training_archs(space)
    if not archs:
        raise UserError(f"split {split.name} leaves no architecture of {space.name} to train on")
    batch = ArchBatch.of(archs, space)
    if not batch.mask.all():
        raise UserError(f"space {space.name} leaves nodes unused; give it an operator 'absent' instead")
    return net.packing.pack(batch.V, batch.E)


def quality(net: Denoiser, space: SearchSpace, split: CanonicalSplit, *, n: int) -> dict[str, float]:
    """Metrics of `n` samples, of those that can be told."""
    was_training = net.training
    net.eval()
    archs = Generator(space, net).generate(n, seed=0).archs
    net.train(was_training)
    return {key: value for key, value in generation_metrics(archs, n, space, split).items() if isinstance(value, float)}


def _ema(average: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
    """Exponential moving average that forgets its first, untrained weights: the decay rises to `EMA_DECAY`."""
    return average.lerp(now, 1 - min(EMA_DECAY, (1 + float(count)) / (10 + float(count))))


def _sum_gradients(net: nn.Module) -> None:
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    torch.distributed.all_reduce(flat)
    for grad, summed in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(summed.view_as(grad))
