"""The corpus of bad inputs: what it covers, how it is judged, and a sample of it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from experiments.endurance.bad_inputs import faults, left_behind, sample
from experiments.endurance.forked import ENDLESS, Ended, run_forked
from experiments.endurance.inputs.corpus import corpus

COMMANDS = 19
"""Commands and their sub-commands."""


def test_the_corpus_is_large() -> None:
    """At least 40 cases a command and 1,200 in all; a sample of them is the same whatever else there is."""
    cases = corpus()
    counts = Counter(case.command for case in cases)
    assert len(cases) >= 1_200 and len(counts) == COMMANDS
    assert all(count >= 40 for command, count in counts.items()), counts
    some = sample(cases, 40)
    assert sample(cases[::2], 40) == [case for case in cases[::2] if case in some]


def test_every_fault_is_seen() -> None:
    case = next(case for case in corpus() if case.exit_code == 2 and not case.says)
    good = Ended(2, "", "usage: x\nerror: it is wrong; accepted is right\n", 0.1)
    assert not list(faults(case, good, []))
    for wrong, fault in (
        (dataclasses.replace(good, exit_code=1), "exit code 1"),
        (dataclasses.replace(good, exit_code=ENDLESS), "did not end"),
        (dataclasses.replace(good, stderr="Traceback (most recent call last):\nKeyError: 3"), "traceback"),
        (dataclasses.replace(good, stderr="x.py:3: UserWarning: odd\nerror: wrong"), "warning"),
        (dataclasses.replace(good, stderr=""), "no sentence"),
        (dataclasses.replace(good, stderr="error: one\nerror: two"), "no sentence"),
        (dataclasses.replace(good, stderr=f"error: {'a' * 3000}"), "a sentence of 3000"),
    ):
        assert any(fault in found for found in faults(case, wrong, []))
    assert list(faults(dataclasses.replace(case, says="the reason"), good, [])) == ["does not say 'the reason'"]
    assert list(faults(case, good, ["run", "run/.lock"])) == ["left run, run/.lock"]


def test_a_fork_is_what_a_command_is(tmp_path: Path) -> None:
    """It has its own folder, output and exit code, and ends with what it has started."""

    def leaves() -> None:
        print(Path.cwd(), os.environ["OF_THE_FORK"])
        print("oh", file=sys.stderr)
        Path("made").touch()
        sys.exit(3)

    ended = run_forked(leaves, folder=tmp_path, env={"OF_THE_FORK": "x"}, seconds=20)
    assert (ended.exit_code, ended.stdout, ended.stderr) == (3, f"{tmp_path} x\n", "oh\n") and left_behind(tmp_path) == ["made"]
    assert "ZeroDivisionError" in run_forked(lambda: 1 / 0, folder=tmp_path, env={}, seconds=20).stderr
    assert run_forked(lambda: subprocess.run(["sleep", "60"]), folder=tmp_path, env={}, seconds=0.2).exit_code == ENDLESS


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("chosen", [("--sample", "60"), ("--only", "pickled|planted", "--sample", "3")], ids=["sample", "pickles"])
def test_a_sample_of_the_corpus(chosen: tuple[str, ...]) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "experiments.endurance", "bad-inputs", *chosen],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert ", 0 fell" in found.stdout
