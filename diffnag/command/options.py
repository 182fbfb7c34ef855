"""Options described once: the fields of a frozen dataclass become the arguments of a command line. Imports nothing heavy.

    @dataclass(frozen=True)
    class Options:
        steps: int = option(1500, help="optimiser steps", most=10**7)
        resume: bool = option(False, help="go on with an interrupted training")

    add_options(parser, Options)                        # --steps, --resume
    options = options_from(parser.parse_args(), Options)

The type of a field says how its text is read: `int` (also written `1e3`), `float`, `str`, `Path`; `bool` is a flag; a `tuple` is an
argument that may be repeated. A field without a default is required. Fields that are not made by `option` are no arguments.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Callable, Collection, Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, TypeVar

from diffnag.errors import UserError

T = TypeVar("T")

_KEY = "option"
"""Key of `_Option` in the metadata of a field."""


@dataclass(frozen=True)
class _Option:
    """What the command line says of a field, and which numbers it accepts."""

    help: str
    metavar: str | None
    parse: Callable[[str], Any] | None
    least: float
    most: float


def option(
    default: Any = MISSING,
    *,
    help: str,
    metavar: str | None = None,
    parse: Callable[[str], Any] | None = None,
    least: float | None = None,
    most: float = math.inf,
) -> Any:
    """A field of a dataclass that is an argument as well.

    Args:
        default: Stands in the help text, unless it is None or False.
        help: One or two sentences for `--help`.
        metavar: What stands for the value in `--help`.
        parse: An argparse type, where the type of the field does not say enough.
        least: The smallest number accepted, by default 1 for `int` and 0 for `float`.
        most: The largest number accepted.
    """
    about = _Option(help, metavar, parse, math.nan if least is None else least, most)
    return dataclasses.field(default=default, metadata={_KEY: about})


def add_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup, cls: type, *, without: Collection[str] = ()) -> None:
    """Add an argument to `parser` for every option of the dataclass `cls`, except for the fields `without`."""
    for field, kind, about in _options(cls):
        if field.name in without:
            continue
        text = about.help.replace("%", "%%")
        if field.default is not MISSING and field.default is not None and field.default is not False and field.default != ():
            text += f" (default: {field.default})".replace("%", "%%")
        argument: dict[str, Any] = {"help": text, "default": argparse.SUPPRESS}
        if kind is bool:
            argument["action"] = "store_true"
        else:
            argument |= {"metavar": about.metavar, "type": about.parse or _reader(kind, about), "required": field.default is MISSING}
        if typing.get_origin(kind) is tuple:
            argument["action"] = "append"
        parser.add_argument(_flag(field.name), **argument)


def options_from(args: argparse.Namespace, cls: type[T]) -> T:
    """The dataclass `cls` with the arguments that were given; its own defaults stand for the others."""
    return cls(**given(args, cls))


def given(args: argparse.Namespace, cls: type) -> dict[str, Any]:
    """The options of `cls` that were given on the command line, by the name of their field."""
    found = {field.name: getattr(args, field.name) for field, _, _ in _options(cls) if hasattr(args, field.name)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def check_numbers(options: Any) -> None:
    """Raise `UserError` for the first number of a dataclass that its option does not accept; None is always accepted."""
    for field, kind, about in _options(type(options)):
        value = getattr(options, field.name)
        if kind in (int, float) and value is not None:
            least = _least(kind, about)
            wrong_type = isinstance(value, bool) or not isinstance(value, numbers.Real) or (kind is int and value % 1 != 0)
            if wrong_type or not (least <= value <= about.most and math.isfinite(value)):
                raise UserError(f"{_flag(field.name)[2:]} is {value!r}; accepted is {_range(kind, least, about.most)}")


def _options(cls: type) -> Iterator[tuple[dataclasses.Field[Any], Any, _Option]]:
    """Each field made by `option`, its type without `| None`, and what was said of it."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if (about := field.metadata.get(_KEY)) is not None:
            kind = hints[field.name]
            if isinstance(kind, types.UnionType):
                (kind,) = (part for part in typing.get_args(kind) if part is not types.NoneType)
            yield field, kind, about


def _reader(kind: Any, about: _Option) -> Callable[[str], Any]:
    """The argparse type for values of the type `kind`."""
    if typing.get_origin(kind) is tuple:
        (kind, _) = typing.get_args(kind)
    if kind in (str, Path):
        return typing.cast("Callable[[str], Any]", kind)
    if kind not in (int, float):
        raise TypeError(f"an option of type {kind!r} needs `parse`")
    least = _least(kind, about)

    def read(text: str) -> int | float:
        try:
            value = int(text) if text.isdecimal() else float(text)  # large whole numbers are exact
        except ValueError:
            value = math.nan
        if not (least <= value <= about.most and math.isfinite(value) and (kind is float or value == int(value))):
            raise argparse.ArgumentTypeError(f"{text!r} is not {_range(kind, least, about.most)}")
        return kind(value)

    return read


def _least(kind: Any, about: _Option) -> float:
    return about.least if not math.isnan(about.least) else 1 if kind is int else 0


def _range(kind: Any, least: float, most: float) -> str:
    """`a whole number of at least 1`, or `a number from 0 to 1`."""
    word = "a whole number" if kind is int else "a finite number"
    return f"{word} of at least {least:,}" if math.isinf(most) else f"{word} from {least:,} to {most:,}"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
