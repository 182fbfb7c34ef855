"""What every command line shares: exit codes, devices, argument types."""

from __future__ import annotations

import argparse
import atexit
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from diffnag.errors import UserError
from diffnag.interrupts import none_lost

if TYPE_CHECKING:
    import torch

INTERRUPTED = 130


def run(main: Callable[[], None]) -> None:
    """Call `main`; a user's mistake prints one sentence and exits 2, Ctrl-C exits 130."""
    try:
        with none_lost():
            main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        if main.__module__ == "__main__":
            _leave(INTERRUPTED)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left, as `| head` does
        sys.exit(0)


def _leave(code: int) -> NoReturn:
    """End this process without taking its modules down one by one, which with torch and its like takes seconds."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._run_exitfuncs()
    with suppress(OSError):  # the reader of our output may have left, too
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def positive_int(text: str) -> int:
    """Argparse type: a whole number of at least 1, written `1000` or `1e3`."""
    try:
        value = float(text)
    except ValueError:
        value = 0.5
    if not 1 <= value < 2**63 or value != int(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(value)


def seed(text: str) -> int:
    """Argparse type: a whole number from 0 to 2**63 - 1."""
    if not (text.isascii() and text.isdigit() and int(text) < 2**63):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2**63 - 1")
    return int(text)


def duration(text: str) -> float:
    """Argparse type: a time in seconds, written `90`, `90s`, `1.5m` or `2h`."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1.0)
    try:
        value = float(number) * unit
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time above 0, such as 90, 90s, 10m or 2h")
    return value


def finite_float(text: str) -> float:
    """Argparse type: a finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number of at least 0")
    return value


def read_as(given: str, written: str) -> str:
    """What a command adds of an architecture that it was `given` and its space writes otherwise, as where dead ends are pruned."""
    return "" if given == written else f" (the architecture was read as {written})"


def resolve_device(name: str) -> torch.device:
    """`auto` takes an accelerator where there is one; anything else is a torch device name."""
    import torch

    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return found if found is not None else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} is not available here; try --device auto or cpu") from error
    return device
