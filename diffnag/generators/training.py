"""Training of a generator's network, whatever its family: one step, the state of an interrupted training, the loop.

Each step draws one global batch from (seed, step), of which every process takes its share. Neither an interruption nor the number of
processes changes what is learned, the latter up to the rounding of a sum.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from diffnag.arch import ArchBatch
from diffnag.command.interrupts import noted_signals
from diffnag.command.progress import Progress
from diffnag.errors import UserError
from diffnag.generators.metrics import generation_metrics
from diffnag.generators.options import Training
from diffnag.io.device import resolve_device
from diffnag.io.files import check_weights_place
from diffnag.io.interrupted import Spent, load_state, reading, save_state, state_beside
from diffnag.protocols import CrossesExamples, HasFigures, LearnsConditions
from diffnag.spaces.loading import load_space
from diffnag.spaces.split import CanonicalSplit

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace, TrainableFamily

EMA_DECAY = 0.998
SAVE_EVERY_S = 20.0
CHECKED_EVERY = 25
"""Steps between two looks at the loss."""
ITSELF = 0.3
"""Share of the crossings that are of an architecture with itself."""
SHOWN = ("validity", "uniqueness", "novelty")


@dataclass(frozen=True)
class Place:
    """This process among those that train together, and its device."""

    rank: int
    world: int
    device: torch.device


@dataclass(frozen=True)
class Crossing:
    """Batches in which some architectures are made of two that train: from few examples a network would learn each by heart."""

    space: SearchSpace
    archs: Sequence[Arch]
    share: float

    @classmethod
    def of(cls, space: SearchSpace, archs: Sequence[Arch], options: Training, *, conditional: bool) -> Crossing | None:
        """What the options ask for, None where that is nothing; `UserError` where the space or the family cannot."""
        if not options.crossed:
            return None
        if not isinstance(space, CrossesExamples):
            raise UserError(f"--crossed is for spaces that cross architectures, and {space.name!r} does not; leave it out")
        if conditional:
            raise UserError("--crossed is for families without conditions: those of a crossed architecture are not known; leave it out")
        return cls(space, archs, options.crossed)

    def __call__(self, batch: ArchBatch, rows: Sequence[int], rng: np.random.Generator) -> ArchBatch:
        """The batch of these rows of the training set, each of them crossed with probability `share`: with itself or with a random one."""
        assert isinstance(self.space, CrossesExamples)
        crossed = np.flatnonzero(rng.random(len(rows)) < self.share)
        if not len(crossed):
            return batch
        made = []
        for row in (rows[place] for place in crossed.tolist()):
            other = row if rng.random() < ITSELF else int(rng.integers(len(self.archs)))
            made.append(self.space.crossed(self.archs[row], self.archs[other], rng))
        return batch.replaced(torch.from_numpy(crossed), ArchBatch.of(made, self.space, device=batch.V.device))


class TrainingRun:
    """Network, average, optimiser and step: everything that a resumed training needs."""

    def __init__(
        self, family: TrainableFamily, net: nn.Module, options: Training, config: Any, condition: Tensor | None = None,
        crossing: Crossing | None = None,
    ) -> None:  # fmt: skip
        self.family, self.net, self.options, self.config, self.step = family, net, options, config, 0
        self.condition = condition  # (m, c) of the training set, for families that learn conditions
        self.crossing = crossing
        self.spent = Spent()
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.average = AveragedModel(net, avg_fn=_ema)

    def averaged(self) -> nn.Module:
        """The network with the average of its weights."""
        return self.average.module

    def advance(self, data: ArchBatch, *, rank: int = 0, world: int = 1) -> Tensor:
        """Take one optimiser step on this process's share of a global batch out of `data`; returns the share's loss."""
        b = self.options.batch_size
        generator = torch.Generator().manual_seed((self.options.seed * 1_000_003 + self.step) % 2**63)
        rows = torch.randint(len(data), (b,), generator=generator)
        batch, condition = data[rows], None if self.condition is None else self.condition[rows.to(self.condition.device)]
        if self.crossing:
            batch = self.crossing(batch, rows.tolist(), np.random.default_rng((self.options.seed, self.step)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * self._rate()
        loss = self.family.loss(self.net, batch, condition, generator=generator, share=slice(rank, None, world)).sum() / b
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
        """Share of the peak rate: warm-up over a twentieth of the steps, then a cosine to zero."""
        warmup = max(self.options.steps // 20, 1)
        if self.step < warmup:
            return (self.step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (self.step - warmup) / max(self.options.steps - warmup, 1)))

    def _decided_by(self) -> dict[str, Any]:
        """The options that a resumed training must share with the one that was begun."""
        return {**asdict(self.options), **asdict(self.config)}

    def save(self, path: Path) -> None:
        """Write the state of an unfinished training."""
        save_state(path, {
            "step": self.step, "net": self.net.state_dict(), "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict(),
            "spent": self.spent.to_json(),
        }, options=self._decided_by())  # fmt: skip

    def load(self, path: Path) -> None:
        """Read such a state; raises `UserError` if it is damaged, or was begun with other options."""
        state = load_state(path, options=self._decided_by())
        with reading(path):
            self.net.load_state_dict(state["net"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = int(state["step"])
            self.spent.go_on(state["spent"])


def train(
    family: TrainableFamily, options: Training, config: Any, *, out: Path, resume: bool = False, device: str = "auto", command: str | None = None
) -> Mapping[str, Any]:
    """Train a network of `family`, write `out` and return its metadata. `out` + `.state` holds an unfinished training.

    Raises `UserError` for options that do not fit together and for a training that diverges.
    """
    space, split = load_space(options.space), CanonicalSplit.named(options.split)
    check_weights_place(out)
    place = _place(device)
    net = family.build(space, config, seed=options.seed).to(place.device)
    if getattr(net, "split", split.name) not in ("", split.name):
        raise UserError(f"the network begins as one that was trained on split {net.split!r}, not on {split.name!r}; train that one on it first")
    data, archs = training_set(space, split)
    condition = family.conditions_of(net, archs, space).to(place.device) if isinstance(family, LearnsConditions) else None
    crossing = Crossing.of(space, archs, options, conditional=condition is not None)
    run, data = TrainingRun(family, net, options, config, condition, crossing), data.to(place.device)
    state = state_beside(out, resume=resume)
    if resume:
        run.load(state)
    _steps(run, data, place, state, space, split)
    figures = quality(run, space, split, n=1024) | own_figures(run, space, data)
    meta = {
        "training": {key: value for key, value in asdict(options).items() if key not in ("space", "split")},
        "split": split.name,
        "training_architectures": len(data),
        "figures_1024_samples": figures,
        "train_seconds": round(run.spent.seconds, 1),
        "train_core_seconds": round(run.spent.core_seconds, 1),
        "command": command or shlex.join(["python", "-m", "diffnag.train_score", *sys.argv[1:]]),
    }
    if place.rank == 0:
        family.save(out, run.averaged(), meta)
        state.unlink(missing_ok=True)
        print(f"wrote {out}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures.items()))
    if place.world > 1:
        torch.distributed.destroy_process_group()
    return meta


def _steps(run: TrainingRun, data: ArchBatch, place: Place, state: Path, space: SearchSpace, split: CanonicalSplit) -> None:
    """All steps that are left; the state is saved as they go on, and where a signal ends them."""
    steps, saved, text = run.options.steps, time.monotonic(), ""
    with Progress(show=place.rank == 0) as progress, noted_signals() as signalled:
        progress("step", run.step, steps)
        while run.step < steps:
            loss = run.advance(data, rank=place.rank, world=place.world)
            last = run.step == steps
            if last or run.step % CHECKED_EVERY == 0:  # an accelerator is waited for here
                if not math.isfinite(loss.item()):
                    raise UserError(f"the training diverged at step {run.step}: the loss is {loss.item()}; try a smaller --learning-rate")
                progress("step", run.step, steps, f"loss {loss.item():.4f}  {text}".rstrip())
            if place.rank == 0 and not last:
                if run.step % max(steps // 8, 1) == 0:
                    figures = quality(run, space, split, n=256)
                    text = "  ".join(f"{key} {figures[key]:.3f}" for key in SHOWN if key in figures)
                if signalled or time.monotonic() - saved > SAVE_EVERY_S:
                    run.save(state)
                    saved = time.monotonic()
            if signalled and not last:
                raise KeyboardInterrupt(f"stopped at step {run.step} of {steps}; the same command with --resume goes on")


def training_set(space: SearchSpace, split: CanonicalSplit) -> tuple[ArchBatch, list[Arch]]:
    """The training side of `space`, as matrices and as values; `UserError` where it is empty, or where architectures leave nodes unused."""
    archs = split.training_archs(space)
    if not archs:
        raise UserError(f"split {split.name} leaves no architecture of {space.name} to train on")
    batch = ArchBatch.of(archs, space)
    if not batch.mask.all():
        raise UserError(f"space {space.name} leaves nodes unused; give it an operator 'absent' instead")
    return batch, archs


def quality(run: TrainingRun, space: SearchSpace, split: CanonicalSplit, *, n: int) -> dict[str, float]:
    """Metrics of `n` samples of the averaged network, except for those that are not defined."""
    net = run.averaged()
    was_training = net.training
    net.eval()
    archs = run.family.generator(space, net, split=split.name).sample(n, seed=0).archs
    net.train(was_training)
    return {key: value for key, value in generation_metrics(archs, n, space, split).items() if isinstance(value, float)}


def own_figures(run: TrainingRun, space: SearchSpace, data: ArchBatch, *, n: int = 2048) -> dict[str, float]:
    """What the generator of the averaged network reports of `n` of its training architectures, where it reports anything."""
    generator = run.family.generator(space, run.averaged().eval())
    if not isinstance(generator, HasFigures):
        return {}
    rows = torch.randint(len(data), (n,), generator=torch.Generator().manual_seed(0))
    return dict(generator.figures(data[rows]))


def _place(device: str) -> Place:
    """Rank, number of processes and device; joins the group where `torchrun` started this process."""
    where = resolve_device(device)
    world = os.environ.get("WORLD_SIZE", "1")
    if world == "1":
        return Place(0, 1, where)
    if missing := [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise UserError(f"$WORLD_SIZE is {world}, but ${missing[0]} is not set: start several processes by torchrun, or unset $WORLD_SIZE")
    if not world.isdecimal():
        raise UserError(f"$WORLD_SIZE is {world!r}; torchrun sets it to the number of processes")
    if where.type != "cpu":
        where = torch.device(where.type, int(os.environ["LOCAL_RANK"]))
        torch.accelerator.set_device_index(where.index)
    torch.distributed.init_process_group("nccl" if where.type == "cuda" else "gloo")
    return Place(torch.distributed.get_rank(), int(world), where)


def _ema(average: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
    """Exponential moving average that forgets its first, untrained weights: the decay rises to `EMA_DECAY`."""
    return average.lerp(now, 1 - min(EMA_DECAY, (1 + float(count)) / (10 + float(count))))


def _sum_gradients(net: nn.Module) -> None:
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    torch.distributed.all_reduce(flat)
    for grad, summed in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(summed.view_as(grad))
