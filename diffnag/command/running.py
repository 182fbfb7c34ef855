"""Run a command: exit codes, Ctrl-C, and one sentence for a user's mistake."""

from __future__ import annotations

import atexit
import gc
import io
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from diffnag.command.interrupts import none_lost
from diffnag.errors import UserError, in_a_line, shortened
from diffnag.io.files import NO_ROOM

INTERRUPTED = 130
NO_MEMORY = ("can't allocate memory", "out of memory", "Storage size calculation overflowed", "Failed to allocate memory")
"""What torch says, in errors of several types, where memory is short."""


COLLECT = (50_000, 20, 100)
"""Thresholds of the garbage collector. Imports make objects that stay; with Python's own thresholds, of 700, it looks through them for half a
second of a short command."""


def run_command(main: Callable[[], None]) -> None:
    """Call `main`; a user's mistake or a full disk prints one sentence and exits 2, Ctrl-C exits 130.

    The process that runs `main` as its command ends at once, without the clearing of modules, which takes half a second after torch is imported.
    """
    alone = main.__module__ == "__main__"
    if alone:
        gc.set_threshold(*COLLECT)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold bytes that are no characters
    code = _exit_code(main)
    if alone:
        _leave(code)
    if code:
        sys.exit(code)


def _exit_code(main: Callable[[], None]) -> int:
    try:
        with none_lost():
            main()
        sys.stdout.flush()
    except SystemExit as left:
        if not isinstance(left.code, int):
            raise
        return left.code
    except UserError as error:
        print(f"error: {shortened(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left, as `| head` does
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in NO_MEMORY):
            raise
        print(f"error: there is not enough memory for this ({shortened(in_a_line(error))}); smaller numbers need less", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        print(f"error: cannot write {error.filename or 'the output'}: {error.strerror}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
        return 2
    return 0


def _leave(code: int) -> NoReturn:
    """End this process after the functions that were registered for its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the reader of our output may have left; a stream may be closed
            stream.flush()
    os._exit(code)
