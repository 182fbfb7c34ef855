"""A study on a real PostgreSQL server, which the tests start on this machine's loopback."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diffnag.errors import UserError
from diffnag.search_loop.loop import Search, run_search
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.search_fakes import ToyOracle, value
from tests.worker_processes import labels, logged, options, start_worker, trials, wait_for

DEBIAN = Path("/usr/lib/postgresql")


def _programs() -> Path:
    """The folder with `initdb` and `postgres`."""
    found = shutil.which("initdb")
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0)
    if not found and not versions:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    return Path(found).resolve().parent if found else versions[-1].parent


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an empty database of a server of our own, which runs as an unprivileged user."""
    psycopg = pytest.importorskip("psycopg", reason="no driver here: pip install 'diffnag[postgresql]'")
    programs = _programs()
    as_root = os.geteuid() == 0
    who: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": ()} if as_root else {}
    folder = Path(tempfile.mkdtemp(prefix="diffnag-postgresql-"))
    process = None
    try:
        if as_root:
            shutil.chown(folder, "nobody", "nogroup")
        about = {"cwd": folder, "env": {**os.environ, "HOME": str(folder), "LC_ALL": "C"}, **who}
        made = subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "diffnag", "-A", "trust", "--no-sync"],
            capture_output=True, text=True, check=False, **about,
        )  # fmt: skip
        if made.returncode:
            pytest.skip(f"initdb fails here as {who.get('user', getpass.getuser())}: {made.stderr.strip().splitlines()[-1]}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
        flags = [text for key, setting in settings.items() for text in ("-c", f"{key}={setting}")]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([programs / "postgres", "-D", folder / "data", *flags], stdout=log, stderr=log, **about)
        address = f"postgresql://diffnag@127.0.0.1:{port}/postgres"
        until = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(address).close()
                break
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > until:
                    pytest.skip(f"the PostgreSQL server does not start here: {(folder / 'log').read_text().strip().splitlines()[-1]}")
                time.sleep(0.1)
        yield address
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # a fast shutdown
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def place(server: str, request: pytest.FixtureRequest) -> str:
    """A database for one test."""
    import psycopg

    name = "study_" + "".join(c if c.isalnum() else "_" for c in request.node.name.lower())[:40]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("postgresql:", "postgresql+psycopg:").replace("/postgres", f"/{name}")


@pytest.mark.timeout(120)
def test_four_workers_one_of_which_is_killed(place: str, tmp_path: Path, space: NASBench201) -> None:
    asked, log = options(budget=24), tmp_path / "log"
    workers = [start_worker(place, log, asked, seconds=0.2) for _ in range(4)]  # at once, on an empty database
    wait_for(5, log, workers)
    workers[2].kill()
    for process in workers:
        process.join()
    assert [process.exitcode for process in workers] == [0, 0, -9, 0]
    assert len(labels(place)) == 24, "the budget is spent exactly"
    counts = logged(log)
    begun, ended = ({name.split()[1]: counts[name] for name in counts if name.startswith(what)} for what in ("begin", "end"))
    assert sum(count - 1 for count in begun.values()) <= 1 and len(ended) == 24, "at most what was killed is evaluated again"
    assert sum("abandoned" in trial.user_attrs for trial in trials(place)) < 24, "that two begin the same round is rare"
    assert {trial.state.name for trial in trials(place)} <= {"COMPLETE", "FAIL"}
    result = run_search(asked, storage=place, oracle=ToyOracle())
    assert result.labels_target == 24 and all(trial.value == value(trial.arch) for trial in result.trials)
    assert len({space.canonical(trial.arch) for trial in result.trials}) == 24


def test_one_worker_does_what_it_does_in_memory(place: str) -> None:
    asked = options(method="evolution", budget=12)

    def told(storage: str | None) -> list[Any]:
        return [(t.number, t.round, t.arch, t.value) for t in run_search(asked, storage=storage, oracle=ToyOracle()).trials]

    assert told(place) == told(None)


def test_a_connection_that_breaks(place: str) -> None:
    """The server closes all connections during an evaluation, as it does when it restarts; the search continues."""
    import psycopg

    class Breaks(ToyOracle):
        def query(self, *arguments: Any, **more: Any) -> float:
            if len(self.asked) == 3:
                with psycopg.connect(place.replace("+psycopg", "")) as connection:
                    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                                       "AND pid <> pg_backend_pid()")  # fmt: skip
            return super().query(*arguments, **more)

    assert run_search(options(budget=7), storage=place, oracle=Breaks()).labels_target == 7


def test_a_server_that_is_gone(place: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=r"cannot open storage 'postgresql\+psycopg://me:\*\*\*@127.0.0.1:.*Connection refused") as caught:
        run_search(options(), storage=f"postgresql+psycopg://me:secret@127.0.0.1:{port}/x", oracle=ToyOracle())
    assert "secret" not in str(caught.value)
    with pytest.raises(UserError, match='cannot open storage .*database "nowhere" does not exist'):
        run_search(options(), storage=place.rpartition("/")[0] + "/nowhere", oracle=ToyOracle())


def test_the_driver_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"its driver is not installed; PostgreSQL's comes with pip install 'diffnag\[postgresql\]'"):
        Search(options(), storage="postgresql+psycopg://me@127.0.0.1/x", oracle=ToyOracle())
