"""Run a command: exit codes, Ctrl-C, and one sentence for a user's mistake."""

from __future__ import annotations

import atexit
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


def run_command(main: Callable[[], None]) -> None:
    """Call `main`; a user's mistake or a full disk prints one sentence and exits 2, Ctrl-C exits 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold bytes that are no characters
    try:
        with none_lost():
            main()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {shortened(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        if main.__module__ == "__main__":
            _leave(INTERRUPTED)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left, as `| head` does
        sys.exit(0)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in NO_MEMORY):
            raise
        print(f"error: there is not enough memory for this ({shortened(in_a_line(error))}); smaller numbers need less", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        print(f"error: cannot write {error.filename or 'the output'}: {error.strerror}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
        sys.exit(2)


def _leave(code: int) -> NoReturn:
    """End this process without clearing its modules one by one, which takes seconds after torch is imported."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._run_exitfuncs()
    with suppress(OSError):  # the reader of our output may have left as well
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
