"""The progress of long commands: bars on a terminal, few lines elsewhere."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from diffnag.command import progress as module
from diffnag.command.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the time that the progress sees."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def later(seconds: float) -> None:
        now[0] += seconds

    return later


def test_a_line_for_each_tenth_with_the_time_left(clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress("epoch", 0, 100)
        for epoch in range(1, 101):
            clock(2)
            progress("epoch", epoch, 100, f"loss {epoch / 100:.2f}")
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert not shown.out and len(lines) == 10
    assert lines[0] == "epoch 10/100  loss 0.10  3 min left" and lines[5] == "epoch 60/100  loss 0.60  80 s left"
    assert lines[-1] == "epoch 100/100  loss 1.00"


def test_a_line_after_a_silence_and_at_once(clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for done in range(1, 8):
            progress("network", done, 1000, f"cost {done}")
            clock(15)
    assert capsys.readouterr().err.splitlines() == [
        "network 1/1000  cost 1", "network 3/1000  cost 3  4.2 h left", "network 5/1000  cost 5  4.1 h left", "network 7/1000  cost 7  4.1 h left",
    ]  # fmt: skip


def test_what_was_done_before_costs_no_time(clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress("step", 900, 1000)
        assert not capsys.readouterr().err
        clock(31)
        progress("step", 950, 1000, "loss 1")
    assert capsys.readouterr().err == "step 950/1000  loss 1  31 s left\n"


def test_each_stage_has_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for stage in ("clean", "noisy"):
            progress(stage, 2, 2, "loss 0")
    assert capsys.readouterr().err == "clean 2/2  loss 0\nnoisy 2/2  loss 0\n"


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Progress() as progress:
        progress("epoch", 1, 2, "[loss] 0.5")
        progress("epoch", 2, 2, "[loss] 0.25")
    last = terminal.getvalue().rpartition("epoch")[2]
    assert "2/2" in last and "[loss] 0.25" in last and "━" in last


def test_nothing_is_shown_where_another_process_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(show=False) as progress:
        progress("epoch", 1, 1, "loss 0")
    assert capsys.readouterr().err == ""
