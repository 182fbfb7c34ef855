"""`python -m diffnag.search`: find an architecture for a dataset with few evaluations."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from diffnag.command import arguments
from diffnag.command.running import run_command
from diffnag.errors import UserError
from diffnag.io.files import make_folder

LOCK = ".lock"


def main() -> None:
    """Parse the command line, search, write the results."""
    args = _parser().parse_args()

    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.options import SearchOptions
    from diffnag.search_loop.show.files import write_options, write_result
    from diffnag.search_loop.show.reference import reference_of
    from diffnag.search_loop.show.screen import Screen
    from diffnag.search_loop.study.storage import shown
    from diffnag.search_loop.workers import Helpers, threads_each, use_threads

    runs = ("out", "storage", "study", "workers", "compare")
    options = SearchOptions(**{key: value for key, value in vars(args).items() if key not in runs}).resolved()
    folder = args.out or Path("runs") / _name(options.space, _dataset_name(options.dataset), options.predictor or options.method, options.seed)
    _make(folder)
    storage = args.storage or f"sqlite:///{folder.resolve() / 'study.db'}"
    name = args.study or folder.resolve().name
    workers = min(args.workers, options.budget)
    threads = threads_each(workers) if workers > 1 else None
    with _stoppable(), Search(options, storage=storage, name=name) as search, Screen() as screen:
        if args.compare and search.images is None:
            raise UserError(f"--compare is for one's own images, and {options.dataset!r} names none; leave it out")
        write_options(folder, search, storage=storage)
        screen.begin(search, folder=folder)
        if threads is not None:
            screen.note(f"{workers} workers of {threads} {'thread' if threads == 1 else 'threads'} each")
            use_threads(threads)
        try:
            helping = workers - 1 if len(search.study.history) < options.budget else 0
            with Helpers(helping, options, storage=storage, name=name, threads=threads or 1) as helpers:
                search.work(on_trial=screen.trial, on_note=screen.note)
                helpers.wait(at_work=search.study.others_at_work > 0, on_note=screen.note)
            result = search.result(on_note=screen.note)
            with _alone_in(folder, on_note=screen.note):
                finished = None
                if search.images is not None:
                    from diffnag.search_loop.finish.finishing import finish

                    write_result(folder, result, search.space, on_note=screen.note)  # the search is paid for, whatever becomes of the rest
                    finished = finish(
                        search, result, folder=folder, storage=storage, compare=args.compare,
                        on_progress=screen.progress, on_note=screen.note,
                    )  # fmt: skip
                more = finished.to_json() if finished else None
                write_result(folder, result, search.space, more=more, reference=reference_of(search), on_note=screen.note)
        except KeyboardInterrupt as interrupt:
            where = folder if args.storage is None else f"{shown(storage)}, study {name}"
            raise KeyboardInterrupt(f"stopped; {screen.done} are saved in {where}, the same command goes on") from interrupt
        screen.end(result, search.space, folder=folder, finish=finished)
    if result.best is None:
        sys.exit(1)  # so that a script does not go on with nothing


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m diffnag.search",
        description="Find an architecture for a dataset: generate candidates with guidance by a predictor, evaluate the "
        "most promising, learn from the results, repeat. The same command resumes a search that was stopped.",
    )
    add = parser.add_argument
    add("--dataset", required=True, metavar="NAME|PATH", help="what the architecture is for: a benchmark's dataset such as "
        "cifar10; or one's own images: a folder with one sub-folder a class, an .npz file with x_train and y_train, or digits "
        "(of scikit-learn). With images, architectures are really trained, and the best ends as model.pt and model.onnx")  # fmt: skip
    add("--predictor", help="meta, another registered predictor, or package.module:Class (method diffnag only)")
    add("--space", default="nasbench201", help="search space (default: %(default)s)")
    add("--oracle", default="auto", help="table, surrogate, training, a training-free score (naswot, synflow, zen), "
        "package.module:Class, or auto: training for one's own images, else the table if it is here, else the surrogate")  # fmt: skip
    add("--reward", default="val", help="val (the best is tested once at the end) or test (default: %(default)s)")
    add("--budget", type=arguments.positive_int, default=30, help="evaluations, all included (default: %(default)s)")
    add("--batch", type=arguments.positive_int, default=1, help="evaluations planned at once, for all workers (default: %(default)s)")
    add("--method", default="diffnag", help="diffnag, random, evolution, local-search, bananas, tpe or gp-enumerate (default: %(default)s)")
    add("--acquisition", help="ei, ucb, pi or ts (default: ucb)")
    add("--candidates", type=arguments.positive_int, help="architectures generated a round (default: 128)")
    add("--scale", type=arguments.finite_float, help="strength of the guidance (default: 6)")
    add("--checkpoint", type=Path, help="score network (default: the shipped one)")
    add("--max-params", type=arguments.positive_int, help="most parameters of an architecture, such as 5e5")
    add("--max-flops", type=arguments.positive_int, help="most multiply-adds of an architecture, such as 5e7")
    add("--time-limit", type=arguments.duration, metavar="10m", help="seconds, or with s, m or h: of search and final training "
        "together, but one evaluation at least; one's own images are evaluated more thoroughly in more time (default: none; 30 "
        "evaluations of about 4 s and a final training of about 45 s, of one core each)")  # fmt: skip
    add("--image-size", type=arguments.positive_int, help="pixels a side, of one's own images (default: chosen from the images)")
    add("--epochs", type=arguments.positive_int, help="of a whole evaluation on one's own images; the final training has 3 times as "
        "many (default: chosen from the images and the time)")  # fmt: skip
    add("--compare", action="store_true", help="with one's own images: also random search with as many evaluations and the "
        "space's ResNet-like architecture, trained and tested in the same way; takes as long again, beyond the time limit")  # fmt: skip
    add("--seed", type=arguments.seed, default=0, help="default: %(default)s")
    add("--device", default="auto", help="default: %(default)s")
    add("--out", type=Path, help="folder (default: runs/<space>-<dataset>-<predictor>-<seed>; a baseline's method as predictor)")
    add("--storage", metavar="URL", help="sqlite:///FILE, journal:FILE or postgresql+psycopg://USER@HOST/DATABASE: the same "
        "command on any number of machines works on one study there (default: sqlite, study.db in --out)")  # fmt: skip
    add("--study", metavar="NAME", help="of the study in the storage (default: the name of the folder --out)")
    add("--workers", type=arguments.positive_int, default=1, metavar="N", help="processes on this machine that share the search and the "
        "cores (default: %(default)s)")  # fmt: skip
    return parser


def _dataset_name(dataset: str) -> str:
    """Of images the name of the file or folder, wherever it lies."""
    path = Path(dataset).expanduser()
    return path.resolve().name.removesuffix(".npz") if path.exists() else dataset


def _name(*parts: str | int) -> str:
    """A folder name; a dotted path `package.module:Class` has characters that none should have."""
    return "-".join("".join(c if c.isalnum() or c in "-_." else "." for c in str(part)) for part in parts)


def _make(folder: Path) -> None:
    try:
        make_folder(folder)
        os.close(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666))
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from error


@contextmanager
def _alone_in(folder: Path, *, on_note: Callable[[str], object]) -> Iterator[None]:
    """Of the workers that share a folder one at a time trains the best and writes the results."""
    handle = os.open(folder / LOCK, os.O_RDWR)
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
    """A cluster's scheduler ends a job as Ctrl-C does: what is evaluated goes back to the queue at once."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    run_command(main)
