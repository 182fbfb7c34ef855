"""`python -m diffnag.search`: find an architecture for a dataset with few evaluations."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.command.options import add_options, option, options_from
from diffnag.command.running import run_command
from diffnag.errors import UserError
from diffnag.io.files import make_folder
from diffnag.search_loop.options import AUTO, SearchOptions

if TYPE_CHECKING:
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.show.screen import Screen

LOCK = ".lock"


@dataclass(frozen=True)
class RunOptions:
    """Where and how a search runs, which does not change what it finds."""

    compare: bool = option(
        False, help="with your own images: also random search with as many labels, the ResNet-like architecture of the space, and what you "
        "would do without a search in the same time: fine-tune the whole pretrained network, and train a plain residual network; takes about "
        "three times as long again, beyond the time limit",
    )  # fmt: skip
    out: Path | None = option(
        None, metavar="FOLDER", help="folder of the results (default: runs/<space>-<dataset>-<predictor>-<seed>; without a predictor, "
        "the method)",
    )  # fmt: skip
    storage: str | None = option(
        None, metavar="URL", help="sqlite:///FILE, journal:FILE or postgresql+psycopg://USER@HOST/DATABASE: the same command on any number "
        "of machines works on one study there (default: study.journal in --out, or study.db if there is one)",
    )  # fmt: skip
    study: str | None = option(None, metavar="NAME", help="name of the study in the storage (default: the name of the folder --out)")
    workers: int = option(1, most=1_024, metavar="N", help="number of processes on this machine that share the search and the cores")


def main() -> None:
    """Parse the command line, search, write the results."""
    args = _parser().parse_args()

    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.oracle import is_own_images
    from diffnag.search_loop.show.screen import Screen
    from diffnag.search_loop.study.storage import own_storage, shown
    from diffnag.search_loop.workers import threads_each
    from diffnag.spaces.loading import load_space

    run, given = options_from(args, RunOptions), options_from(args, SearchOptions)
    chosen, note = given.chosen_by_dataset() if given.space == AUTO and given.model is None else ({}, None)
    options = replace(given, **chosen).resolved()
    if run.study is not None and not run.study.strip():
        raise UserError("--study is empty; accepted is a name, or leave it out")
    folder = run.out or Path("runs") / _name(options.space, _dataset_name(options.dataset), options.predictor or options.method, options.seed)
    real = Path(os.path.realpath(folder))  # a link that leads nowhere is found when the folder is made
    name = run.study or real.name
    workers = min(run.workers, options.budget)
    threads = threads_each(workers) if workers > 1 else None
    if run.compare and not is_own_images(options, load_space(options.space)):
        raise UserError(f"--compare is for your own images, and {options.dataset!r} is none; leave it out")
    with _stoppable(), _made(folder):
        storage = own_storage(real) if run.storage is None else run.storage
        with Search(options, storage=storage, name=name) as search, Screen() as screen:
            try:
                found = _searched(
                    search, screen, folder, storage=storage, name=name, workers=workers, threads=threads, compare=run.compare, note=note
                )
            except KeyboardInterrupt as interrupt:
                where = folder if run.storage is None else f"{shown(storage)}, study {name}"
                raise KeyboardInterrupt(f"stopped; {screen.done} are saved in {where}, the same command goes on") from interrupt
    if not found:
        sys.exit(1)  # so that a script does not go on without a result


def _searched(
    search: Search, screen: Screen, folder: Path, *, storage: str, name: str, workers: int, threads: int | None, compare: bool, note: str | None
) -> bool:
    """Search, finish and write the results; returns whether there is a best architecture. `note` is for the user."""
    from diffnag.drawing.attempt import try_to_draw
    from diffnag.search_loop.report.page import REPORT, write_report
    from diffnag.search_loop.show.files import write_options, write_result
    from diffnag.search_loop.show.reference import reference_of
    from diffnag.search_loop.workers import Helpers, use_threads

    options = search.options
    write_options(folder, search, storage=storage)
    screen.begin(search, folder=folder)
    if note:
        screen.note(note)
    if threads is not None:
        screen.note(f"{workers} workers of {threads} {'thread' if threads == 1 else 'threads'} each")
        use_threads(threads)
    helping = 0 if search.is_over else workers - 1
    with Helpers(helping, options, storage=storage, name=name, threads=threads or 1) as helpers:
        search.prepare(on_progress=screen.progress)
        search.work(on_trial=screen.trial, on_note=screen.note)
        helpers.wait(at_work=search.study.others_at_work > 0, on_note=screen.note)
    result = search.result(on_note=screen.note)
    with _alone_in(folder, on_note=screen.note):
        finished = None
        if search.images is not None:
            from diffnag.search_loop.finish.finishing import finish

            write_result(folder, result, search.space, on_note=screen.note)  # the search is paid for, whatever becomes of the rest
            finished = finish(
                search, result, folder=folder, storage=storage, compare=compare, on_progress=screen.progress, on_note=screen.note
            )
        more = finished.to_json() if finished else None
        write_result(folder, result, search.space, more=more, reference=reference_of(search), on_note=screen.note)
        try_to_draw(folder / REPORT, lambda path: write_report(path.parent, own_space=options.space), on_note=screen.note)
    screen.end(result, search.space, folder=folder, finish=finished)
    return result.best is not None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m diffnag.search",
        description="Find an architecture for a dataset: generate candidates with guidance by a predictor, evaluate the "
        "most promising, learn from the results, repeat. The same command resumes a search that was stopped.",
    )
    add_options(parser, SearchOptions)
    add_options(parser, RunOptions)
    return parser


def _dataset_name(dataset: str) -> str:
    """The name of a dataset; of images, the name of the file or folder, wherever it lies."""
    path = Path(dataset).expanduser()
    return path.resolve().name.removesuffix(".npz") if path.exists() else dataset


def _name(*parts: str | int) -> str:
    """The name of a folder. A dotted path `package.module:Class` has characters that a folder's name should not have."""
    return "-".join("".join(c if c.isalnum() or c in "-_." else "." for c in str(part)) for part in parts)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder, with its parents; a mistake of the user that shows before anything is in it takes away again what was made."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        make_folder(folder)
        os.close(_lock(folder))
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from error
    try:
        yield
    except UserError:
        with suppress(OSError):
            if new and [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                for path in new:
                    path.rmdir()
        raise


def _lock(folder: Path) -> int:
    return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)


@contextmanager
def _alone_in(folder: Path, *, on_note: Callable[[str], object]) -> Iterator[None]:
    """Hold the lock of a folder: of the workers that share it, one at a time trains the best and writes the results."""
    handle = _lock(folder)
    try:
        with suppress(ImportError):  # Windows has no such lock
            import fcntl

            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                on_note(f"another worker writes the results to {folder}; waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Take SIGTERM, by which a cluster's scheduler ends a job, as Ctrl-C: what is evaluated goes back to the queue at once."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    run_command(main)
