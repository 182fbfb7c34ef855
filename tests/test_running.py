"""How a command ends, in a process of its own: its exit code, its output, and what was registered for its end."""

import subprocess
import sys

import pytest

COMMAND = """
import atexit, gc, sys
from diffnag.command.running import COLLECT, run_command
from diffnag.errors import UserError

def main():
    assert gc.get_threshold() == COLLECT
    atexit.register(print, "registered")
    print("said", end=" ")
    {what}

run_command(main)
print("went on")
"""
ENDS = {
    "pass": (0, ""),
    "sys.exit(3)": (3, ""),
    "sys.exit()": (0, ""),
    'sys.exit("why")': (1, "why\n"),
    'raise UserError("no such thing")': (2, "error: no such thing\n"),
    "raise KeyboardInterrupt": (130, "interrupted\n"),
    'raise OSError(28, "No space left", "file")': (2, "error: cannot write file: No space left\n"),
}


@pytest.mark.parametrize(("what", "end"), ENDS.items())
def test_a_command_ends_with_its_code_and_all_its_output(what, end):
    done = subprocess.run([sys.executable, "-c", COMMAND.format(what=what)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == end
    assert done.stdout == "said registered\n"


def test_an_error_of_ours_keeps_its_traceback():
    done = subprocess.run([sys.executable, "-c", COMMAND.format(what="1 / 0")], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr and done.stdout == "said registered\n"
