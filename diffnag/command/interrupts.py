"""Ctrl-C that comes neither at a wrong moment nor in vain.

Python raises what a signal's handler raises wherever the process happens to be. In the midst of a transaction a library may log it as its
own failure. In the callback of a weak reference, of which SQLAlchemy has one for each row that it loads, or in a finaliser, there is
nobody to catch it: Python prints it and goes on. So work on a storage is `uninterrupted`, and elsewhere `none_lost`.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SOON_S = 0.01
PATIENCE_S = 1.0
"""Seconds after which a signal is heard in the midst of what is uninterrupted: a storage may not answer."""


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """A signal's handler that takes it as Ctrl-C, once: whoever is told again, by a scheduler and by the one that started it, is already
    at giving back."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM wait for the end, but not for longer than `PATIENCE_S`, and not if they are told twice.

    Changes nothing in other threads than the main one, which alone hears signals, and nothing of those that have no handler in Python.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: handler for number in (signal.SIGINT, signal.SIGTERM) if callable(handler := signal.getsignal(number))}
    arrived: list[tuple[int, _Again]] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if arrived:
            handlers[signal.Signals(number)](number, frame)
        else:
            arrived.append((number, _Again(number, PATIENCE_S)))

    for number in handlers:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            told, again = arrived[0]
            again.due = False
            signal.raise_signal(told)


@contextmanager
def none_lost(number: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """Within it a `KeyboardInterrupt` that Python would print and forget is raised again, by the signal `number` and its handler."""
    before, heard = sys.unraisablehook, False
    again: _Again | None = None

    def hook(lost: sys.UnraisableHookArgs) -> None:
        nonlocal again
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            before(lost)
            return
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, interrupt)
        if again is None or not again.due:
            again = _Again(number, SOON_S)  # from here it would be lost again

    sys.unraisablehook = hook
    try:
        yield
    except KeyboardInterrupt:
        heard = True
        raise
    finally:
        sys.unraisablehook = before
        if again and again.due:
            again.due = False
            if not heard:
                signal.raise_signal(number)


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Yield a list that fills with the signals to stop that arrive: the caller ends when a step is whole.

    Outside of the main thread, where Python takes no handlers, the list stays empty.
    """
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return
    before = {number: signal.signal(number, lambda number, _: arrived.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Again:
    """Tells the main thread a signal in so many seconds, if it is still `due` then.

    Made where anything may be interrupted, so it takes none of the locks that `threading` takes to start a thread.
    """

    def __init__(self, number: int, seconds: float) -> None:
        self.due = True
        _thread.start_new_thread(self._tell, (number, seconds))

    def _tell(self, number: int, seconds: float) -> None:
        time.sleep(seconds)
        main = threading.main_thread().ident
        if self.due and main is not None:
            self.due = False
            signal.pthread_kill(main, number)
