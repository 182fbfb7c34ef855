"""Train a score network on the unlabelled architectures of a space: `python -m diffnag.train_score`.

Runs on one process or, started by `torchrun`, on several: each step draws one global batch from (seed, step) and every
process takes its share, so neither an interruption nor the number of processes changes what is learned (the latter up
to the rounding of a sum).
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffnag.command import arguments
from diffnag.command.running import run_command
from diffnag.errors import UserError
from diffnag.io.device import resolve_device

if TYPE_CHECKING:
    import torch

    from diffnag.generators.diffusion.training import Options

SAVE_EVERY_S = 20.0


def parser() -> argparse.ArgumentParser:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    p = argparse.ArgumentParser("python -m diffnag.train_score", description=__doc__.split("\n")[0], formatter_class=formatter)
    p.add_argument("--space", default="nasbench201", help="search space, a name or package.module:Class")
    p.add_argument("--sde", default="ve", help="forward diffusion: ve, vp or sub-vp")
    p.add_argument("--split", default="canonical-sha256-0.5", help="which canonical classes train")
    p.add_argument("--out", type=Path, required=True, help="where the weights go (.safetensors)")
    p.add_argument("--resume", action="store_true", help="go on with the interrupted training of --out")
    p.add_argument("--steps", type=arguments.positive_int, default=1500, help="optimiser steps")
    p.add_argument("--batch-size", type=arguments.positive_int, default=512, help="architectures a step, over all processes")
    p.add_argument("--learning-rate", type=arguments.finite_float, default=3e-3, help="peak of the schedule, for AdamW")
    p.add_argument("--width", type=arguments.positive_int, default=64, help="size of a token")
    p.add_argument("--layers", type=arguments.positive_int, default=2, help="transformer blocks")
    p.add_argument("--heads", type=arguments.positive_int, default=2, help="attention heads")
    p.add_argument("--joint", type=arguments.positive_int, default=0, help="hidden units of a head that sees all nodes at once; 0: none, as suits "
        "a space whose entries are free of each other")  # fmt: skip
    p.add_argument("--rounds", type=arguments.positive_int, default=4, help="how often the joint head corrects its own estimate")
    p.add_argument("--log-odds", action="store_true", help="tell the joint head log odds in place of estimates: suits a space in which many "
        "entries say the same")  # fmt: skip
    p.add_argument("--edge-groups", action="store_true", help="estimate edges together that demand or exclude each other: suits a space in "
        "which few patterns of edges occur, as those that lead to one state")  # fmt: skip
    p.add_argument("--cross-entropy", action="store_true", help="learn by cross-entropy in place of squared errors: suits a space in which one "
        "false entry makes an architecture invalid")  # fmt: skip
    p.add_argument("--focus", type=_share, default=0.0, help="share of the training noise that lies where most entries are decided, "
        "around 0.8; the rest is spread as sampling visits it")  # fmt: skip
    p.add_argument("--seed", type=arguments.seed, default=0)
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    return p


def _share(text: str) -> float:
    """Argparse type: a number from 0 to 1."""
    value = arguments.finite_float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def main() -> None:
    args = parser().parse_args()
    from diffnag.generators.diffusion.training import Options

    options = Options(**{key: value for key, value in vars(args).items() if key not in ("out", "resume", "device")})
    if options.width % (2 * options.heads):
        raise UserError(f"--width {options.width} is not a multiple of twice --heads {options.heads}")
    train(options, out=args.out, resume=args.resume, device=args.device)


def train(options: Options, *, out: Path, resume: bool = False, device: str = "auto") -> dict[str, Any]:
    """Train, write `out`, and return its metadata. `out` + `.state` holds an unfinished training."""
    import torch

    from diffnag.generators.diffusion.denoiser import Denoiser
    from diffnag.generators.diffusion.sde import make_sde
    from diffnag.generators.diffusion.training import ScoreTraining, quality, training_set
    from diffnag.io.files import check_writable
    from diffnag.spaces.loading import load_space
    from diffnag.spaces.split import CanonicalSplit

    space, split = load_space(options.space), CanonicalSplit.named(options.split)
    check_writable(out)
    rank, world, where = _processes(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)  # layers initialise from the global generator
        net = Denoiser(space, make_sde(options.sde), options.network()).to(where)
    x0 = training_set(net, space, split).to(where)
    run = ScoreTraining(net, options)
    state = out.with_name(out.name + ".state")
    if resume:
        run.load(state)
    elif state.exists():
        raise UserError(f"{state} holds an interrupted training: pass --resume to go on with it, or delete it")

    begin, processor = time.monotonic(), time.process_time()
    saved = begin
    with _progress(options.steps, run.step, show=rank == 0) as report, _signals() as signalled:
        while run.step < options.steps:
            loss = run.advance(x0, rank=rank, world=world)
            last = run.step == options.steps
            if last or run.step % 25 == 0:
                report(run.step, loss.item(), None)
            if rank == 0 and not last:
                if run.step % max(options.steps // 8, 1) == 0:
                    report(run.step, loss.item(), quality(run.averaged(), space, split, n=256))
                if signalled or time.monotonic() - saved > SAVE_EVERY_S:
                    run.save(state, seconds=time.monotonic() - begin, core_seconds=time.process_time() - processor)
                    saved = time.monotonic()
            if signalled and not last:
                raise KeyboardInterrupt(f"stopped at step {run.step} of {options.steps}; the same command with --resume goes on")
    figures = quality(run.averaged(), space, split, n=1024)
    meta = {
        **{f"trained_{key}": value for key, value in asdict(options).items() if key not in ("space", "sde", "split")},
        "split": split.name,
        "training_architectures": len(x0),
        "figures_1024_samples_dpmpp_20": figures,
        "train_seconds": round(run.seconds + time.monotonic() - begin, 1),
        "train_core_seconds": round(run.core_seconds + time.process_time() - processor, 1),
        "command": shlex.join(["python", "-m", "diffnag.train_score", *sys.argv[1:]]),
    }
    if rank == 0:
        run.averaged().save(out, meta)
        state.unlink(missing_ok=True)
        print(f"wrote {out}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures.items()))
    if world > 1:
        torch.distributed.destroy_process_group()
    return meta


def _processes(device: str) -> tuple[int, int, torch.device]:
    """Rank, number of processes and device; joins the group where `torchrun` started us."""
    import torch

    where = resolve_device(device)
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return 0, 1, where
    if where.type != "cpu":
        where = torch.device(where.type, int(os.environ["LOCAL_RANK"]))
        torch.accelerator.set_device_index(where.index)
    torch.distributed.init_process_group("nccl" if where.type == "cuda" else "gloo")
    return torch.distributed.get_rank(), world, where


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that fills with the signals to stop that arrive: a step once begun is finished, so that what is saved is whole."""
    import signal
    import threading

    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # where Python takes no handlers
        yield arrived
        return
    before = {number: signal.signal(number, lambda number, _: arrived.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(steps: int, done: int, *, show: bool) -> Iterator[Callable[[int, float, dict[str, float] | None], None]]:
    """A bar that takes `(step, loss, metrics or None)`; where there is no terminal, a line whenever there are metrics."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("step {task.completed}/{task.total}"), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        task = progress.add_task("", total=steps, completed=done)
        said = ""

        def report(step: int, loss: float, metrics: dict[str, float] | None) -> None:
            nonlocal said
            if metrics is not None:
                said = "  ".join(f"{key} {metrics[key]:.3f}" for key in ("validity", "uniqueness", "novelty") if key in metrics)
                if show and not progress.console.is_terminal:
                    print(f"step {step}/{steps}  loss {loss:.4f}  {said}", file=sys.stderr, flush=True)
            progress.update(task, completed=step, description=f"loss {loss:.4f}  {said}")

        yield report


if __name__ == "__main__":
    run_command(main)
