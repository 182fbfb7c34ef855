"""Numbers with units as limits write them: `18ms`, `5e5`, `500k`, `2MB`."""

from __future__ import annotations

import math
import re

from diffnag.errors import UserError

PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
"""Decimal prefixes."""
UNITS = {
    "ms": {"us": 1e-3, "ms": 1.0, "s": 1e3},
    "MB": {"B": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3},
    "%": {"%": 1.0},
}
"""Unit of an objective -> the units accepted for it, and how many of its own each of them is. Other units take the prefixes."""
_NUMBER = re.compile(r"([-+]?[\d.]+(?:[eE][-+]?\d+)?)([^\d.].*)?")


def read_quantity(text: str, unit: str, *, of: str, example: str) -> float:
    """The number that `text` means, in `unit`; a number alone is in that unit.

    Raises `UserError` for anything but a finite number with an accepted unit; `of` names where the text stands.
    """
    factors = accepted_units(unit)
    found = _NUMBER.fullmatch(text)
    try:
        number = float(found[1]) * (factors | {"": 1.0})[found[2] or ""] if found else math.nan
    except (ValueError, KeyError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{of} needs a finite number, alone or with one of {', '.join(filter(None, factors))} behind it, such as {example}")
    return number


def accepted_units(unit: str) -> dict[str, float]:
    """The units in which values of an objective counted in `unit` may be given, and how many of `unit` each is."""
    return UNITS.get(unit) or {prefix + unit: factor for prefix, factor in PREFIXES.items()}


def shown(number: float) -> str:
    """A number as messages write it: whole ones with commas."""
    return f"{int(number):,}" if math.isfinite(number) and number == int(number) else f"{number:g}"


def with_unit(number: float, unit: str) -> str:
    """A number and its unit: `18.2 ms`, `93.4 %`, `412,000`."""
    whole = not math.isfinite(number) or number == int(number)
    figures = shown(number) if whole else f"{number:.4g}" if abs(number) < 1e4 else f"{number:,.0f}"
    return f"{figures} {unit}".rstrip()
