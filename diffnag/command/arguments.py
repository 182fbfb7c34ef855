"""Types of arguments that several commands use."""

from __future__ import annotations

import argparse
from collections.abc import Callable


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


def at_most(parse: Callable[[str], float], most: float) -> Callable[[str], float]:
    """Argparse type: a number that `parse` accepts, up to `most`."""

    def read(text: str) -> float:
        if (value := parse(text)) > most:
            raise argparse.ArgumentTypeError(f"{text!r} is above {most:g}")
        return value

    return read


def read_as(given: str, written: str) -> str:
    """A remark for a command's output if its space writes the `given` architecture in another way, as after pruning dead ends; else empty."""
    return "" if given == written else f" (the architecture was read as {written})"
