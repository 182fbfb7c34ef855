"""`python -m diffnag.search` by several processes: on one machine, in one folder, interrupted, killed and refused."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from diffnag.command.running import run_command
from diffnag.search import main
from diffnag.search_loop.loop import run_search
from diffnag.search_loop.workers import Helpers
from tests.search_fakes import ToyOracle
from tests.worker_processes import labels, options, trials

ROOT = Path(__file__).parents[1]
TOY = ("--dataset", "cifar10", "--oracle", "tests.search_fakes:ToyOracle", "--method", "random", "--study", "search")


def start(*arguments: str | Path, seconds: float, cwd: Path = ROOT) -> subprocess.Popen[str]:
    """Start a search in a session of its own; each evaluation takes `seconds`."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "diffnag.search", *map(str, arguments)],
        env={**os.environ, "TOY_ORACLE_SECONDS": str(seconds)}, cwd=cwd, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it, and hands that on
    )  # fmt: skip


def until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"{text!r} was never said: {process.communicate()[1]}")


def all_gone(session: int) -> bool:
    """Whether all processes of the session end soon; the resource tracker of multiprocessing lives a little longer than the search."""
    for _ in range(600):
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A search of three processes that is at work."""
    process = start(*TOY, "--workers", "3", "--budget", "500", "--out", tmp_path / "run", seconds=0.2)
    until(process, " 4/500")
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_share_a_search(tmp_path: Path) -> None:
    with start(*TOY, "--workers", "3", "--budget", "12", "--out", tmp_path / "run", seconds=0.2) as process:
        said, errors = process.communicate()
    assert process.returncode == 0 and errors == "", errors
    assert "note: 3 workers of 1 thread each" in said and "12/12" in said
    assert len({row["arch"] for row in rows(tmp_path / "run")}) == 12
    assert json.loads((tmp_path / "run" / "result.json").read_text())["labels_target"] == 12
    assert all_gone(process.pid)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_commands_in_one_folder_share_a_search(tmp_path: Path) -> None:
    command = (*TOY, "--budget", "12", "--out", tmp_path / "run")
    both = [start(*command, seconds=0.3) for _ in range(2)]
    for process in both:
        said, errors = process.communicate()
        assert process.returncode == 0 and errors == "", errors
        assert "12 labels of the target" in said
    assert len({row["arch"] for row in rows(tmp_path / "run")}) == len(rows(tmp_path / "run")) == 12
    assert sum(trial.state.name == "COMPLETE" for trial in trials(f"journal:{tmp_path}/run/study.journal")) == 12


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_who_stops_one_stops_all_and_every_trial_goes_back(by: signal.Signals, crew: subprocess.Popen[str], tmp_path: Path) -> None:
    os.killpg(crew.pid, by)  # as a terminal and a scheduler do: all processes at once
    _, errors = crew.communicate()
    assert crew.returncode == 130 and all_gone(crew.pid)
    assert "labels are saved in" in errors and "the same command goes on" in errors and len(errors.splitlines()) == 1
    left = trials(f"journal:{tmp_path}/run/study.journal")
    assert "RUNNING" not in {trial.state.name for trial in left}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_workers_that_have_just_been_started_say_nothing_when_stopped(by: signal.Signals, tmp_path: Path) -> None:
    process = start(*TOY, "--workers", "3", "--budget", "500", "--out", tmp_path / "run", seconds=0.2)
    until(process, "3 workers")
    time.sleep(0.3)  # they are at their imports
    os.killpg(process.pid, by)
    _, errors = process.communicate()
    assert process.returncode == 130 and len(errors.splitlines()) == 1, errors
    assert all_gone(process.pid)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_that_has_finished_is_ended_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    leaving = tmp_path / "leaving"
    monkeypatch.setenv("TOY_ORACLE_LEAVES", str(leaving))
    asked = options(budget=3, oracle="tests.search_fakes:SlowToLeave")
    with Helpers(1, asked, storage=f"sqlite:///{tmp_path}/study.db", name="search", threads=1):
        for _ in range(600):
            if leaving.exists():
                break
            time.sleep(0.1)
    assert leaving.exists() and len(labels(f"sqlite:///{tmp_path}/study.db")) == 3
    assert capfd.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_end_with_a_killed_parent(crew: subprocess.Popen[str]) -> None:
    crew.kill()
    crew.wait()
    assert all_gone(crew.pid)


def test_a_worker_without_the_plug_in_is_refused_and_the_study_untouched(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/study.db"
    run_search(options(budget=3), storage=place, oracle=ToyOracle())
    before = (tmp_path / "study.db").read_bytes()
    elsewhere = (*TOY, "--oracle", "plugins_of_another_machine:ToyOracle")
    with start(*elsewhere, "--storage", place, "--budget", "5", "--out", "run", seconds=0, cwd=tmp_path) as process:
        _, errors = process.communicate()
    assert process.returncode == 2 and errors.count("\n") == 1
    assert "'plugins_of_another_machine:ToyOracle'" in errors and "No module named 'plugins_of_another_machine'" in errors
    assert (tmp_path / "study.db").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workers", "0"), "'0' is not a whole number from 1 to 1,024"),
        (("--storage", "sqlite:////no/such/folder/x.db"), "cannot open storage 'sqlite:////no/such/folder/x.db', expected is sqlite:///FILE"),
        (("--storage", "nonsense"), "cannot open storage 'nonsense', expected is sqlite:///FILE, journal:FILE or postgresql+psycopg://"),
    ],
)
def test_bad_input(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["search", *TOY, "--out", str(tmp_path / "run"), *arguments])
    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == 2 and message in capsys.readouterr().err
