"""Storages that fail: `python -m experiments.endurance storages`.

Each trial of a search ends in one sentence or goes through; afterwards the same command goes on, and finds every label that was there.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from experiments.endurance.bad_inputs import sentence
from experiments.endurance.forked import Ended, known_training_set, preload, run_forked, run_search_command, train_command
from experiments.endurance.killing.logged import LOG, SECONDS, known_oracle
from experiments.endurance.killing.stored import attempts, check_whole
from experiments.endurance.postgresql import NoServer, new_database, running_server

BUDGET = 12
SIZES = (100, 1_000, 3_000, 10_000, 30_000, 60_000, 100_000, 150_000, 200_000)
"""Bytes after which a file cannot grow."""
GONE_S = 30.0
DAY_S = 86_400.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    parser.add_argument("--only", default="", metavar="REGEX", help="the trials whose name has this regular expression")


def main(args: argparse.Namespace) -> int:
    """Run all trials; returns how many fell."""
    preload()
    known_oracle()
    fallen = 0
    trials: Mapping[str, Callable[[Path], Iterator[str]]] = {
        "disk full": _disk_full, "disk full, training": _disk_full_training, "read-only folder": _read_only, "clock jumps": _clock_jumps,
        "locked for 30 s": _locked, "journal gone": _journal_gone, "server gone": _server_gone, "two versions": _two_versions,
    }  # fmt: skip
    for name, trial in trials.items():
        if not re.search(args.only, name):
            continue
        with tempfile.TemporaryDirectory(prefix="endurance-") as folder:
            faults = list(trial(Path(folder)))
        fallen += bool(faults)
        print(f"{name}: {'; '.join(faults) or 'well'}", flush=True)
    return fallen


def _search(folder: Path, storage: str, *, before: Callable[[], object] = lambda: None, budget: int = BUDGET, seconds: float = 0.0) -> Ended:
    args = [
        "--space", "nasbench201", "--dataset", "cifar10", "--oracle", "experiments.endurance.killing.logged:LoggedTable", "--method", "evolution",
        "--budget", str(budget), "--out", str(folder / "run"), "--storage", storage, "--study", "search",
    ]  # fmt: skip

    def call() -> None:
        before()
        run_search_command(args)

    env = {LOG: str(folder / "log"), SECONDS: str(seconds), "DIFFNAG_CACHE": str(folder / "cache")}
    return run_forked(call, folder=folder, env=env, seconds=240)


def _goes_on(folder: Path, storage: str, known: Mapping[int, str | None], *, said: Ended | None, budget: int = BUDGET) -> Iterator[str]:
    """What is wrong with a search that failed, and with the same search afterwards."""
    if said is not None and said.exit_code != 0 and (said.exit_code != 2 or "Traceback" in said.stderr or not sentence(said)):
        yield f"ended with {said.exit_code}: {said.stderr.strip()[-600:]}"
    again = _search(folder, storage, budget=budget)
    if again.exit_code:
        yield f"does not go on: {again.exit_code}, {again.stderr.strip()[-600:]}"
        return
    check_whole(storage)
    after = {number: attempt.outcome for number, attempt in attempts(storage).items()}
    if lost := [number for number, outcome in known.items() if outcome is not None and after.get(number) != outcome]:
        yield f"lost {lost}"
    labels = [attempt for attempt in attempts(storage).values() if attempt.state == "COMPLETE"]
    if len(labels) != budget or len({attempt.arch for attempt in labels}) != budget:
        yield f"{len(labels)} labels"


def _outcomes(storage: str) -> dict[int, str | None]:
    return {number: attempt.outcome for number, attempt in attempts(storage).items()}


def _both(folder: Path) -> Iterator[tuple[Path, str]]:
    for name, storage in (("sqlite", "sqlite:///{}/study.db"), ("journal", "journal:{}/study.log")):
        (place := folder / name).mkdir()
        yield place, storage.format(place)


def _disk_full(folder: Path) -> Iterator[str]:
    """No file may grow beyond a size; the search is tried with one size after the other, then without a limit."""
    for place, storage in _both(folder):
        for size in SIZES:
            ended = _search(place, storage, before=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size)))
            if ended.exit_code not in (0, 2) or "Traceback" in ended.stderr or (ended.exit_code == 2 and not sentence(ended)):
                yield f"{place.name}, {size} bytes: {ended.exit_code}, {ended.stderr.strip()[-600:]}"
        yield from _goes_on(place, storage, _outcomes(storage), said=None)


def _disk_full_training(folder: Path) -> Iterator[str]:
    args = ["--generator", "sde", "--space", "transnasbench101-macro", "--steps", "40", "--batch-size", "8", "--width", "8", "--layers", "1",
            "--heads", "1", "--out", str(folder / "n.safetensors")]  # fmt: skip
    known_training_set("transnasbench101-macro", "canonical-sha256-0.5")
    for size in (*SIZES, 0):
        def call(size: int = size) -> None:
            if size:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            train_command([*args, *(["--resume"] if (folder / "n.safetensors.state").exists() else [])])

        ended = run_forked(call, folder=folder, env={}, seconds=120)
        if (folder / "n.safetensors").exists():
            return
        if ended.exit_code != 2 or "Traceback" in ended.stderr or not sentence(ended):
            yield f"{size} bytes: {ended.exit_code}, {ended.stderr.strip()[-600:]}"
    yield f"no network in the end: {ended.stderr.strip()[-300:]}"


def _read_only(folder: Path) -> Iterator[str]:
    """A folder in which this user may not write, found so at the beginning or while the search runs."""
    folder.chmod(0o755)

    def as_nobody() -> None:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)

    for place, storage in _both(folder):
        place.chmod(0o555)
        ended = _search(place, storage, before=as_nobody)
        if ended.exit_code != 2 or not sentence(ended) or "Traceback" in ended.stderr:
            yield f"{place.name}: {ended.exit_code}, {ended.stderr.strip()[-600:]}"
        place.chmod(0o755)
        _search(place, storage, budget=3)
        known = _outcomes(storage)
        for path in (place, place / "run", *place.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        ended = _search(place, storage, before=as_nobody)
        for path in (place, place / "run", *place.rglob("*")):
            path.chmod(0o755)
        yield from _goes_on(place, storage, known, said=ended)


def _clock_jumps(folder: Path) -> Iterator[str]:
    """The clock of the system jumps by a day, back and forth, at each look."""
    def jumping() -> None:
        real, looks = time.time, iter(range(10**9))
        time.time = lambda: real() + DAY_S * (-1) ** next(looks)

    for place, storage in _both(folder):
        ended = _search(place, storage, before=jumping)
        if ended.exit_code:
            yield f"{place.name}: {ended.exit_code}, {ended.stderr.strip()[-600:]}"
        yield from _goes_on(place, storage, _outcomes(storage), said=ended)


@contextmanager
def _later(seconds: float, call: Callable[[], object]) -> Iterator[None]:
    """Call a function in a thread of this process after so many seconds, while the block runs; then wait for it."""
    thread = threading.Timer(seconds, call)
    thread.start()
    yield
    thread.join()


def _locked(folder: Path) -> Iterator[str]:
    """Another process holds the lock of the database for 30 s."""
    storage = f"sqlite:///{folder}/study.db"
    _search(folder, storage, budget=2)

    def hold() -> None:
        with sqlite3.connect(folder / "study.db", isolation_level=None) as database:
            database.execute("BEGIN EXCLUSIVE")
            time.sleep(GONE_S)
            database.execute("ROLLBACK")
        database.close()

    known = _outcomes(storage)
    with _later(1.5, hold):
        ended = _search(folder, storage, budget=60, seconds=0.1)
    yield from _goes_on(folder, storage, known, said=ended, budget=60)


def _journal_gone(folder: Path) -> Iterator[str]:
    """The journal is away for a while, as a network share that is not mounted."""
    storage = f"journal:{folder}/share/study.log"
    (folder / "share").mkdir()
    _search(folder, storage, budget=2)
    known = _outcomes(storage)

    def away() -> None:
        (folder / "share").rename(folder / "away")
        time.sleep(GONE_S)
        shutil.rmtree(folder / "share", ignore_errors=True)
        (folder / "away").rename(folder / "share")

    with _later(1.5, away):
        ended = _search(folder, storage, budget=60, seconds=0.1)
    yield from _goes_on(folder, storage, known, said=ended, budget=60)


def _server_gone(folder: Path) -> Iterator[str]:
    """The database server stops answering for 30 s."""
    try:
        with running_server() as address:
            storage = new_database(address, "gone")
            _search(folder, storage, budget=2)
            known = _outcomes(storage)
            servers = _children("postgres")

            def stop() -> None:
                for process in servers:
                    os.kill(process, signal.SIGSTOP)
                time.sleep(GONE_S)
                for process in servers:
                    os.kill(process, signal.SIGCONT)

            with _later(1.5, stop):
                ended = _search(folder, storage, budget=60, seconds=0.1)
            yield from _goes_on(folder, storage, known, said=ended, budget=60)
    except (ImportError, NoServer) as reason:
        print(f"without PostgreSQL: {reason}", flush=True)


def _children(name: str) -> list[int]:
    """Processes of that name which this one has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            process, _, rest = path.read_text().partition(" (")
        except OSError:
            continue
        if rest.startswith(name) and int(rest.rpartition(") ")[2].split()[1]) == os.getpid():
            found.append(int(process))
    return found


def _two_versions(folder: Path) -> Iterator[str]:
    """A later version of the package, which writes studies in another way, comes to a study of this one."""
    def later() -> None:
        from diffnag.search_loop.study import records, study

        records.SCHEMA = 99
        if hasattr(study, "SCHEMA"):
            study.SCHEMA = 99

    for place, storage in _both(folder):
        _search(place, storage, budget=4)
        known = _outcomes(storage)
        ended = _search(place, storage, before=later)
        if ended.exit_code != 2 or "another version" not in sentence(ended):
            yield f"{place.name}: {ended.exit_code}, {ended.stderr.strip()[-600:]}"
        if _outcomes(storage) != known:
            yield f"{place.name}: changed by the other version"
        yield from _goes_on(place, storage, known, said=None)
