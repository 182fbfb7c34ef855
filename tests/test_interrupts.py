"""Ctrl-C at a bad moment: during a step, or where Python would print and forget it."""

from __future__ import annotations

import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffnag.command import interrupts
from diffnag.command.interrupts import interrupt, none_lost, uninterrupted
from diffnag.search_loop.loop import Search
from diffnag.search_loop.study.records import Outcome
from tests.search_fakes import ToyOracle
from tests.worker_processes import labels, options, trials


class Row:
    """Stands for a row of SQLAlchemy: an object with a weak reference and its callback."""


def drop_one_at_which_arrives(number: signal.Signals) -> None:
    """A row is deleted, and the signal arrives during the callback."""
    row = Row()
    reference = weakref.ref(row, lambda _: signal.raise_signal(number))
    del row
    assert reference() is None


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts, also where the tests run in the background: there a shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal that is handled as Ctrl-C; workers handle SIGTERM in the same way."""
    before = signal.getsignal(signal.SIGTERM)
    if request.param == signal.SIGTERM:
        signal.signal(signal.SIGTERM, interrupt)
    yield request.param
    signal.signal(signal.SIGTERM, before)


def test_without_it_the_interrupt_is_lost(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda seen: lost.append(seen.exc_type))
    drop_one_at_which_arrives(number)
    assert lost == [KeyboardInterrupt]


def test_an_interrupt_is_not_lost(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    hook = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), none_lost(number):
        drop_one_at_which_arrives(number)
        time.sleep(60)  # at work
    assert sys.unraisablehook is hook
    assert capfd.readouterr().err == ""


def test_it_is_raised_once_however_often_it_is_lost() -> None:
    with pytest.raises(KeyboardInterrupt), none_lost():
        for _ in range(5):
            drop_one_at_which_arrives(signal.SIGINT)
        time.sleep(60)
    time.sleep(0.1)  # nothing is left over


def test_what_is_lost_at_the_very_end_is_raised_there(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), none_lost(number):
        drop_one_at_which_arrives(number)


def test_others_are_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))
    with none_lost():
        row = Row()
        reference = weakref.ref(row, lambda _: 1 / 0)
        del row
    assert reference() is None and seen == [ZeroDivisionError]


def test_what_is_uninterrupted_comes_to_its_end_first(number: signal.Signals) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(number)
        with uninterrupted():
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]


def test_what_fails_meanwhile_is_not_hidden(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt) as interrupted, uninterrupted():
        signal.raise_signal(number)
        raise ValueError("the storage does not answer")
    assert isinstance(interrupted.value.__context__, ValueError)


def test_who_is_told_twice_does_not_wait() -> None:
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it was not heard")


def test_patience_has_an_end(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "PATIENCE_S", 0.05)
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(number)
        time.sleep(60)
        raise AssertionError("it was not heard")


def test_handlers_are_as_before(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with uninterrupted():
        assert signal.getsignal(number) is not before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_what_has_no_handler_is_left_alone() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_change_no_handler() -> None:
    seen = []

    def work() -> None:
        with uninterrupted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


def test_an_interrupted_study_has_told_its_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"sqlite:///{tmp_path}/study.db"
    with Search(options(budget=5), storage=place, oracle=ToyOracle()) as search:
        finish = search.study.claims.finish

        def interrupted(trial_id: int, outcome: Outcome) -> None:
            signal.raise_signal(signal.SIGINT)
            finish(trial_id, outcome)

        monkeypatch.setattr(search.study.claims, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search.work()
    assert len(labels(place)) == 1 and {trial.state.name for trial in trials(place)} == {"COMPLETE"}
