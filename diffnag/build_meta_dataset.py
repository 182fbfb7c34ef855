"""Train many architectures on many small tasks and store the measurements: `python -m diffnag.build_meta_dataset`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffnag.command.options import add_options, option, options_from
from diffnag.command.progress import Progress
from diffnag.command.running import run_command
from diffnag.errors import UserError
from diffnag.io.device import resolve_device

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.drawn_tasks import TaskImages, TaskSpec
    from diffnag.datasets.meta_dataset import Effort, Measurement, MetaDataset
    from diffnag.protocols import SearchSpace

Job = tuple[int, tuple[str, ...], int]
"""Task, architectures, seed: one architecture, or all of the task that inherit the weights of one adapted network."""
PRETRAINED_SIDE = 32
"""Pixels a side of the tasks for pretrained networks."""
PATIENCE = 10_000
"""Draws without a new architecture after which the space may have no more."""


@dataclass(frozen=True)
class Options:
    """Arguments of the command."""

    images: str = option(help="sources of the tasks, with commas between them, such as tiny_imagenet16,cifar100_16: files "
                         "$DIFFNAG_DATA/images/<source>.npz, or digits (from scikit-learn), or letters (drawn with fonts)")  # fmt: skip
    tasks: int = option(most=10**6, help="number of tasks")
    archs_per_task: int = option(most=10**6, help="architectures that are trained on each task")
    out: Path = option(metavar="FILE", help="file of JSON lines; a line is added for each network as soon as it is trained")
    space: str = option("nasbench201", help="search space")
    held_out: bool = option(False, help="tasks of the classes and sources that nothing is trained on, for tests")
    seeds: int = option(1, most=1000, help="trainings of each network")
    crossed: bool = option(False, help="the same architectures on every task, a quarter of them with twice the seeds")
    seed: int = option(0, least=0, most=2**63 - 1, help="seed of the tasks and of the architectures")
    workers: int | None = option(None, most=4096, help="processes of one thread each, by default one per core")
    image_passes: int | None = option(None, most=10**9, metavar="N", help="images that a network sees in its training, counted each time: "
                                      "by default 16000, and 1000 where architectures inherit pretrained weights")  # fmt: skip
    device: str = option("auto", help="auto, cpu, cuda, ...")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m diffnag.build_meta_dataset", description=__doc__.partition(":")[0] + ".",
        epilog="If the file exists, the same command continues it; more --tasks, --archs-per-task or --seeds add to it.",
    )  # fmt: skip
    add_options(p, Options)
    return p


def main() -> None:
    """Parse the command line, draw tasks and architectures, and train those that the file does not have yet."""
    options = options_from(parser().parse_args(), Options)
    import numpy as np

    from diffnag.datasets.drawn_tasks import SIDE, allowed_classes, draw_task
    from diffnag.datasets.meta_dataset import Effort, append
    from diffnag.io.files import check_writable
    from diffnag.networks.short_adaptation import AdaptationEffort
    from diffnag.protocols import Inherits, TrainsSmall
    from diffnag.spaces.loading import load_space

    space = load_space(options.space)
    inherits = isinstance(space, Inherits)
    effort = AdaptationEffort() if inherits else Effort()
    if options.image_passes is not None:
        effort = replace(effort, image_passes=options.image_passes)
    sources = [name.strip() for name in options.images.split(",") if name.strip()]
    if not sources:
        raise UserError("--images names no source; accepted are names with commas between them, such as digits,letters")
    for source in sources:
        allowed_classes(source, held_out=options.held_out)
    check_writable(options.out)
    if not inherits and not isinstance(space, TrainsSmall):
        raise UserError(f"space {options.space!r} has no build_small, the reduced skeleton that is trained here, and no pretrained weights")
    device = str(resolve_device(options.device))
    jobs = list(_jobs(options, space))
    done = _begin(options, sources, effort)
    tasks: list[TaskSpec] = []
    side = PRETRAINED_SIDE if inherits else SIDE
    for number in range(options.tasks):
        rng = np.random.default_rng([options.seed, number])
        spec = draw_task(sources[number % len(sources)], rng, held_out=options.held_out, side=side)
        if number not in done.tasks:
            append(options.out, [spec], task=number)
        tasks.append(spec)
    trained = {(m.task, m.arch, m.seed) for m in done.measurements}
    jobs = [(task, left, seed) for task, archs, seed in jobs if (left := tuple(arch for arch in archs if (task, arch, seed) not in trained))]
    count = sum(len(archs) for _, archs, _ in jobs)
    workers = options.workers or os.cpu_count() or 1
    print(f"{len(trained)} networks are trained, {count} are left, on {workers} workers ({device})", file=sys.stderr)
    try:
        _measure_all(jobs, tasks, out=options.out, space=options.space, effort=effort, device=device, workers=workers)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"stopped; the measurements so far are in {options.out}, the same command continues it") from interrupt
    print(f"{options.out}: {len(trained) + count} networks on {len(tasks)} tasks, {options.out.stat().st_size / 1e6:.2f} MB")


def _begin(options: Options, sources: list[str], effort: Effort) -> MetaDataset:
    """Begin the file, or open it if it exists and was made in the same way; returns its contents."""
    from dataclasses import asdict

    from diffnag.datasets.meta_dataset import append, is_begun, read

    about = {
        "space": options.space, "images": sources, "held_out": options.held_out, "crossed": options.crossed, "seed": options.seed,
        "effort": asdict(effort),
    }  # fmt: skip
    if is_begun(options.out):
        made = {key: value for key, value in read(options.out).about.items() if key != "command"}
        if made != about:
            other = ", ".join(key for key in {**about, **made} if made.get(key) != about.get(key))
            raise UserError(f"{options.out} was made with another {other}: give the same, or another --out")
    else:
        command = shlex.join(["python", "-m", "diffnag.build_meta_dataset", *sys.argv[1:]])
        append(options.out, [{**about, "command": command}])
    return read(options.out)


def _jobs(options: Options, space: SearchSpace) -> Iterator[Job]:
    """All trainings, task by task. Smaller numbers of architectures or seeds give a part of the same list."""
    import numpy as np

    from diffnag.protocols import Inherits

    for task in range(options.tasks):
        rng = np.random.default_rng([options.seed, 1] if options.crossed else [options.seed, 1, task])
        drawn = islice(_distinct(space, rng), options.archs_per_task)
        if isinstance(space, Inherits):
            archs = tuple(map(space.to_str, drawn))
            yield from ((task, archs, seed) for seed in range(options.seeds))
            continue
        for k, arch in enumerate(drawn):
            seeds = 2 * options.seeds if options.crossed and k % 4 == 0 else options.seeds
            yield from ((task, (space.to_str(arch),), seed) for seed in range(seeds))


def _distinct(space: SearchSpace, rng: Any) -> Iterator[Arch]:
    """Random architectures that compute different things; raises `UserError` when the space has no more of them.

    Parts of a pretrained network are drawn by `random_part`; the whole network comes first, at each resolution.
    """
    from diffnag.protocols import Inherits
    from diffnag.spaces.draws import random_part
    from diffnag.spaces.inputs import whole_networks

    seen: set[str] = set()
    repeats, classes = 0, None
    wholes = iter(whole_networks(space))
    while True:
        arch = next(wholes, None) or (random_part(space, rng) if isinstance(space, Inherits) else space.random(rng))
        if (key := space.canonical(arch)) not in seen:
            seen.add(key)
            repeats = 0
            yield arch
        elif (repeats := repeats + 1) >= PATIENCE:
            repeats = 0
            classes = classes or len({space.canonical(arch) for arch in space.enumerate() or ()})
            if len(seen) >= classes:  # a space that cannot be enumerated counts as used up, too
                raise UserError(f"space {space.name!r} has {len(seen):,} architectures that compute different things; --archs-per-task asks for more")


def _measure_all(
    jobs: list[Job], tasks: list[TaskSpec], *, out: Path, space: str, effort: Effort, device: str, workers: int
) -> None:
    """Train the networks and add a line to the file for each as soon as it is trained."""
    from diffnag.datasets.meta_dataset import append

    seconds = 0.0
    with Progress() as progress:
        done, count = 0, sum(len(archs) for _, archs, _ in jobs)
        progress("network", done, count)
        for measurements in _trained(jobs, tasks, space=space, effort=effort, device=device, workers=workers):
            append(out, measurements)
            done += len(measurements)
            seconds += sum(measurement.seconds for measurement in measurements)
            progress("network", done, count, f"{seconds / done:.1f} core-seconds each")


def _trained(
    jobs: list[Job], tasks: list[TaskSpec], *, space: str, effort: Effort, device: str, workers: int
) -> Iterator[list[Measurement]]:
    """Measurements of each job in the order in which they are done. Few jobs wait in the pool, so that an interrupt ends soon."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    waiting = iter(jobs)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        running: set[Future[list[Measurement]]] = set()
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
    """Prepare a worker process."""
    import signal

    import torch

    from diffnag.io.memory import keep_freed_memory

    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def _measure(job: Job, spec: TaskSpec, space_name: str, effort: Effort, device: str) -> list[Measurement]:
    """Train the network of one job, or adapt the pretrained one, in a worker process."""
    from diffnag.networks.short_adaptation import AdaptationEffort, measure_parts
    from diffnag.networks.short_training import measure
    from diffnag.protocols import Inherits
    from diffnag.spaces.loading import load_space

    task, archs, seed = job
    space, images = load_space(space_name), _images(spec)
    if isinstance(space, Inherits):
        assert isinstance(effort, AdaptationEffort)
        return measure_parts(archs, images, space, task=task, seed=seed, effort=effort, device=device)
    return [measure(arch, images, space, task=task, seed=seed, effort=effort, device=device) for arch in archs]


@lru_cache(maxsize=2)  # the next job is of the same task
def _images(spec: TaskSpec) -> TaskImages:
    from diffnag.datasets.drawn_tasks import task_images

    return task_images(spec)


if __name__ == "__main__":
    run_command(main)
