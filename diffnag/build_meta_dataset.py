"""Train many architectures on many small tasks and write down what came of it: `python -m diffnag.build_meta_dataset`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffnag.command import arguments
from diffnag.command.progress import Progress
from diffnag.command.running import run_command
from diffnag.errors import UserError
from diffnag.io.device import resolve_device

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.drawn_tasks import TaskImages, TaskSpec
    from diffnag.datasets.meta_dataset import Effort, Measurement
    from diffnag.protocols import SearchSpace

Job = tuple[int, str, int]
"""Task, architecture, seed."""
PATIENCE = 10_000
"""Draws without a new architecture after which a space may have no more."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m diffnag.build_meta_dataset", description=__doc__.partition(":")[0] + ".",
        epilog="The same command goes on with a file that is there; more --tasks, --archs-per-task or --seeds add to it.",
    )  # fmt: skip
    add = p.add_argument
    add("--images", required=True, help="sources of the tasks, with commas, such as tiny_imagenet16,cifar100_16: files "
        "$DIFFNAG_DATA/images/<source>.npz, or digits, of scikit-learn, or letters, drawn with fonts")  # fmt: skip
    add("--tasks", type=arguments.positive_int, required=True)
    add("--archs-per-task", type=arguments.positive_int, required=True)
    add("--out", type=Path, required=True, metavar="FILE", help="JSON lines, appended to as networks are trained")
    add("--space", default="nasbench201", help="search space (default: %(default)s)")
    add("--held-out", action="store_true", help="tasks of the classes and sources that nothing is trained on (for tests)")
    add("--seeds", type=arguments.positive_int, default=1, help="trainings of each network (default: %(default)s)")
    add("--crossed", action="store_true", help="the same architectures on every task, a quarter of them with twice the seeds")
    add("--seed", type=arguments.seed, default=0, help="default: %(default)s")
    add("--workers", type=arguments.positive_int, default=os.cpu_count(), help="processes of one thread each (default: one a core)")
    add("--device", default="auto", help="default: %(default)s")
    return p


def main() -> None:
    args = parser().parse_args()
    import numpy as np

    from diffnag.datasets.drawn_tasks import allowed_classes, draw_task
    from diffnag.datasets.meta_dataset import Effort, append
    from diffnag.io.files import check_writable
    from diffnag.protocols import TrainsSmall
    from diffnag.spaces.loading import load_space

    space, effort = load_space(args.space), Effort()
    sources = [name.strip() for name in args.images.split(",") if name.strip()]
    if not sources:
        raise UserError("--images names no source; accepted are names with commas between them, such as digits,letters")
    for source in sources:
        allowed_classes(source, held_out=args.held_out)
    check_writable(args.out)
    if not isinstance(space, TrainsSmall):
        raise UserError(f"space {args.space!r} has no build_small, the reduced skeleton that is trained here")
    device = str(resolve_device(args.device))
    jobs = list(_jobs(args, space))
    done = _begin(args, sources, effort)
    tasks: list[TaskSpec] = []
    for number in range(args.tasks):
        spec = draw_task(sources[number % len(sources)], np.random.default_rng([args.seed, number]), held_out=args.held_out)
        if number not in done.tasks:
            append(args.out, [spec], task=number)
        tasks.append(spec)
    paid = {(m.task, m.arch, m.seed) for m in done.measurements}
    jobs = [job for job in jobs if job not in paid]
    print(f"{len(paid)} networks are trained, {len(jobs)} to go, on {args.workers} workers ({device})", file=sys.stderr)
    seconds = 0.0
    try:
        with Progress() as progress:
            progress("network", 0, len(jobs))
            for done, measurement in enumerate(_trained(jobs, tasks, space=args.space, effort=effort, device=device, workers=args.workers), start=1):
                append(args.out, [measurement])
                seconds += measurement.seconds
                progress("network", done, len(jobs), f"{seconds / done:.1f} core-seconds each")
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"stopped; what is trained is in {args.out}, the same command goes on") from interrupt
    print(f"{args.out}: {len(paid) + len(jobs)} networks on {len(tasks)} tasks, {args.out.stat().st_size / 1e6:.2f} MB")


def _begin(args: argparse.Namespace, sources: list[str], effort: Effort) -> Any:
    """Begin the file, or open the one that is there if it was made the same way."""
    from dataclasses import asdict

    from diffnag.datasets.meta_dataset import append, is_begun, read

    about = {
        "space": args.space, "images": sources, "held_out": args.held_out, "crossed": args.crossed, "seed": args.seed,
        "effort": asdict(effort),
    }  # fmt: skip
    if is_begun(args.out):
        made = {key: value for key, value in read(args.out).about.items() if key != "command"}
        if made != about:
            other = ", ".join(key for key in {**about, **made} if made.get(key) != about.get(key))
            raise UserError(f"{args.out} was made with another {other}: give the same, or another --out")
    else:
        command = shlex.join(["python", "-m", "diffnag.build_meta_dataset", *sys.argv[1:]])
        append(args.out, [{**about, "command": command}])
    return read(args.out)


def _jobs(args: argparse.Namespace, space: SearchSpace) -> Iterator[Job]:
    """What is to be trained, task by task: the same list for the same options, its beginning for fewer."""
    import numpy as np

    for task in range(args.tasks):
        rng = np.random.default_rng([args.seed, 1] if args.crossed else [args.seed, 1, task])
        for k, arch in zip(range(args.archs_per_task), _distinct(space, rng), strict=False):
            seeds = 2 * args.seeds if args.crossed and k % 4 == 0 else args.seeds
            yield from ((task, space.to_str(arch), seed) for seed in range(seeds))


def _distinct(space: SearchSpace, rng: Any) -> Iterator[Arch]:
    """Random architectures that compute different things; raises `UserError` when the space has no more of them."""
    seen: set[str] = set()
    repeats, all_there_are = 0, None
    while True:
        arch = space.random(rng)
        if (key := space.canonical(arch)) not in seen:
            seen.add(key)
            repeats = 0
            yield arch
        elif (repeats := repeats + 1) >= PATIENCE:
            repeats = 0
            all_there_are = all_there_are or len({space.canonical(arch) for arch in space.enumerate() or ()})
            if len(seen) >= all_there_are:  # a space that cannot be enumerated is taken as drawn out, too
                raise UserError(f"space {space.name!r} has {len(seen):,} architectures that compute different things; --archs-per-task asks for more")


def _trained(
    jobs: list[Job], tasks: list[TaskSpec], *, space: str, effort: Effort, device: str, workers: int
) -> Iterator[Measurement]:
    """Measurements as they are done; few jobs are handed out ahead, so that an interrupt ends soon."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    waiting = iter(jobs)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        running: set[Future[Measurement]] = set()
        try:
            while True:
                for job in waiting:
                    running.add(pool.submit(_measure, job, tasks[job[0]], space, effort, device))
                    if len(running) >= 2 * workers:
                        break
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        except BaseException:
            workers_left = list(pool._processes.values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in workers_left:
                process.terminate()
            raise


def _one_thread() -> None:
    import signal

    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def _measure(job: Job, spec: TaskSpec, space_name: str, effort: Effort, device: str) -> Measurement:
    from diffnag.networks.short_training import measure
    from diffnag.spaces.loading import load_space

    task, text, seed = job
    return measure(text, _images(spec), load_space(space_name), task=task, seed=seed, effort=effort, device=device)


@lru_cache(maxsize=2)  # the next job is of the same task
def _images(spec: TaskSpec) -> TaskImages:
    from diffnag.datasets.drawn_tasks import task_images

    return task_images(spec)


if __name__ == "__main__":
    run_command(main)
