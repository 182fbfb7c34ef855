"""Ctrl-C at a safe moment, and never lost.

Python raises the exception of a signal's handler at whatever place the program has reached. Inside a transaction a library may log it as
a failure of its own. Inside the callback of a weak reference (SQLAlchemy has one for each row that it loads) or a finaliser no code can
catch it: Python prints it and continues. So work on a storage is `uninterrupted`, and all other work runs in `none_lost`.
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
"""Seconds after which a signal is handled even inside `uninterrupted`, since a storage may not answer."""


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Handle a signal as Ctrl-C, once. A scheduler and the process that started this one may both send it; the second is ignored, because
    the first has already begun to end the work."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the end of the block, but at most for `PATIENCE_S`. A second signal is not delayed.

    Only the main thread handles signals: in other threads the block changes nothing. Signals without a handler in Python stay as they are.
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
            first, again = arrived[0]
            again.due = False
            signal.raise_signal(first)


@contextmanager
def none_lost(number: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """Raise a `KeyboardInterrupt` again that Python would print and forget, by sending the signal `number` to this process."""
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
            again = _Again(number, SOON_S)  # raised from here it would be lost again

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
    """Send a signal to the main thread after some seconds, if it is still `due` then.

    The interrupted code may hold any lock, so this takes none of the locks with which `threading` starts a thread.
    """

    def __init__(self, number: int, seconds: float) -> None:
        self.due = True
        _thread.start_new_thread(self._send, (number, seconds))

    def _send(self, number: int, seconds: float) -> None:
        time.sleep(seconds)
        main = threading.main_thread().ident
        if self.due and main is not None:
            self.due = False
            signal.pthread_kill(main, number)
