"""A study on a real PostgreSQL server, which the tests start on this machine's loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from diffnag.errors import UserError
from diffnag.search_loop.loop import Search, run_search
from diffnag.search_spaces.nasbench201.space import NASBench201
from experiments.endurance.postgresql import NoServer, new_database, running_server
from tests.search_fakes import ToyOracle, value
from tests.worker_processes import labels, logged, options, start_worker, trials, wait_for


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an empty database of a server of our own, which runs as an unprivileged user."""
    pytest.importorskip("psycopg", reason="no driver here: pip install 'diffnag[postgresql]'")
    with ExitStack() as stack:
        try:
            address = stack.enter_context(running_server())
        except NoServer as reason:
            pytest.skip(str(reason))
        yield address


@pytest.fixture
def place(server: str, request: pytest.FixtureRequest) -> str:
    """A database for one test."""
    return new_database(server, "study_" + "".join(c if c.isalnum() else "_" for c in request.node.name.lower())[:40])


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

    def found(storage: str | None) -> list[Any]:
        return [(t.number, t.round, t.arch, t.value) for t in run_search(asked, storage=storage, oracle=ToyOracle()).trials]

    assert found(place) == found(None)


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
