"""Classes of plug-ins by name: `meta` (an entry point), `latency:pixel3` (one with an argument) or `package.module:Class` (a dotted path)."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from diffnag.errors import UserError, type_and_line, unknown

if TYPE_CHECKING:
    from diffnag.protocols import Oracle, Predictor

GROUPS = {
    "space": "diffnag.search_spaces",
    "predictor": "diffnag.predictors",
    "oracle": "diffnag.oracles",
    "generator": "diffnag.generators",
    "objective": "diffnag.objectives",
    "method": "diffnag.methods",
}


WITH_ARGUMENT = ".of"
"""Behind a group: the group of plug-ins that are made from an argument alone, such as `own-model:my_module:make`. Lists of names lack them."""


def names(kind: str) -> list[str]:
    """The registered names of a kind, one of `GROUPS`, without those that need an argument.

    Raises `UserError` if the installation is older than the code.
    """
    if not (found := sorted(point.name for point in registered().select(group=GROUPS[kind]))):
        raise UserError(f"no {kind} is registered: diffnag was installed before this version of its code; install it again (pip install -e .)")
    return found


def split_argument(kind: str, name: str) -> tuple[str, str | None]:
    """`latency:pixel3` as `latency` and `pixel3`, if `latency` is a registered name of the kind; else the whole name and None."""
    first, colon, argument = name.partition(":")
    return (first, argument) if colon and _points(kind, first) else (name, None)


def _points(kind: str, name: str) -> list[EntryPoint]:
    """The entry points of a name: one, or none."""
    return [point for group in (GROUPS[kind], GROUPS[kind] + WITH_ARGUMENT) for point in registered().select(group=group, name=name)]


@cache
def registered() -> EntryPoints:
    """All entry points that are installed, read once in a process."""
    return cast("EntryPoints", entry_points())


def is_dotted(kind: str, name: str) -> bool:
    """Whether a name is a dotted path `package.module:Class`."""
    return ":" in split_argument(kind, name)[0]


def load_class(kind: str, name: str) -> type[Any]:
    """The class behind a registered name, with or without an argument, or behind a dotted path `package.module:Class`.

    Raises `UserError` with the registered names, or with the part of the path that failed.
    """
    name, _ = split_argument(kind, name)
    if ":" not in name:
        for point in _points(kind, name):
            try:
                return cast("type[Any]", point.load())
            except (Exception, SystemExit) as error:  # a module may fail in any way, and may not end the process either
                raise UserError(f"{kind} {name!r}: importing {point.value!r} failed: {type_and_line(error)}") from error
        raise unknown(kind, name, [*names(kind), "or a dotted path package.module:Class"])
    found = load_attribute(kind, name)
    if not isinstance(found, type):
        module_name, _, class_name = name.partition(":")
        classes = [key for key, value in vars(sys.modules[module_name]).items() if isinstance(value, type) and value.__module__ == module_name]
        raise UserError(f"{kind} {name!r}: {module_name} has no class {class_name!r}; it has: {', '.join(classes) or 'none'}")
    return found


def load_attribute(kind: str, name: str) -> Any:
    """What a module has under a dotted path `package.module:name`, or None; `kind` says what it is for.

    Raises `UserError` if the module cannot be imported.
    """
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())  # a console script does not see the user's folder, `python -m` does
    try:
        return getattr(importlib.import_module(module_name), attribute, None)
    except (Exception, SystemExit) as error:
        raise UserError(f"{kind} {name!r}: importing {module_name!r} failed: {type_and_line(error)}") from error


def make(kind: str, name: str, members: tuple[str, ...]) -> Any:
    """Make the plug-in behind a name: without arguments, or by the class method `of` from the argument behind a colon.

    Raises `UserError` where its class lacks one of `members`, or for an argument too many or too few.
    """
    cls = load_class(kind, name)
    registered, argument = split_argument(kind, name)
    if not hasattr(cls, "of"):
        refuse_without([member for member in members if not hasattr(cls, member)], kind, name, members)
        if argument is not None:
            raise UserError(f"{kind} {name!r} takes no argument; accepted is {registered}")
        try:
            return cls()
        except (Exception, SystemExit) as error:
            raise UserError(f"{kind} {name!r} cannot be made without arguments: {type_and_line(error)}") from error
    if argument is None:
        raise UserError(f"{kind} {name!r} needs an argument, as {registered}:ARGUMENT")
    with named_errors(kind, name, "of", cls):
        made = cls.of(argument)
    refuse_without([member for member in members if not hasattr(made, member)], kind, name, members)
    return made


def refuse_without(missing: Sequence[str], kind: str, name: str, members: Sequence[str]) -> None:
    """Raise `UserError` that names the `missing` members of a plug-in, where there are any."""
    if missing:
        raise UserError(f"{kind} {name!r} lacks {', '.join(missing)}; every {kind} must offer {', '.join(members)}")


@contextmanager
def named_errors(kind: str, name: str, method: str, cls: type) -> Iterator[None]:
    """Turn what a plug-in of someone else raises into a `UserError` of one sentence that names it; a `UserError` passes.

    Errors of this package's own classes pass as well: they are defects, and their traceback is wanted.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if cls.__module__.startswith("diffnag."):
            raise
        raise UserError(f"{kind} {name!r}: {method} raised {type_and_line(error)}") from error


def source_checksum(cls: type) -> str | None:
    """SHA-256 of the file in which a class is defined; None if it has no file."""
    try:
        path = inspect.getsourcefile(cls)
        return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (TypeError, OSError):
        return None


def make_predictor(name: str) -> Predictor:
    """Make the predictor behind a registered name or dotted path; `setup` is still to be called."""
    return cast("Predictor", make("predictor", name, ("fit", "predict")))


def make_oracle(name: str) -> Oracle:
    """Make the oracle behind a registered name or dotted path; `setup` is still to be called."""
    return cast("Oracle", make("oracle", name, ("kind", "setup", "available", "query", "provenance")))
