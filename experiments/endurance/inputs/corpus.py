"""The corpus of bad inputs, read from the tables in `tables/` and expanded to single calls of a command."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.endurance.inputs.damages import DAMAGES, damaged

FOLDER = Path(__file__).with_name("tables")
LISTS = "lists"
"""Name of the table with lists of values that several commands use."""
KEYS = {"name", "args", "values", "damaged", "says", "exit", "env", "leaves"}


@dataclass(frozen=True)
class BadInput:
    """One call of a command that must end with `exit_code` and one sentence.

    Words of `args` and values of `env` may hold `$OUT`, an empty folder of the case, `$GOOD`, the folder of good inputs, and `$BAD`, that
    of damaged ones.
    """

    command: str
    family: str
    value: str
    """What distinguishes the cases of one family."""
    args: tuple[str, ...]
    env: Mapping[str, str]
    exit_code: int
    says: str
    """A regular expression that the sentence matches."""
    leaves: tuple[str, ...]
    """Names of files that may be there afterwards."""

    @property
    def name(self) -> str:
        return f"{self.command}: {self.family}: {self.value}" if self.value else f"{self.command}: {self.family}"


def corpus() -> tuple[BadInput, ...]:
    """All cases; their names are unique."""
    lists = _read(FOLDER / f"{LISTS}.toml")
    found = tuple(
        case
        for path in sorted(FOLDER.glob("*.toml")) if path.stem != LISTS
        for family in _read(path)["family"]
        for case in _expanded(path.stem, family, lists)
    )  # fmt: skip
    names = [case.name for case in found]
    assert len(set(names)) == len(names), sorted({name for name in names if names.count(name) > 1})
    return found


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)


def _expanded(command: str, family: Mapping[str, Any], lists: Mapping[str, Any]) -> Iterator[BadInput]:
    """The cases of a family: `{}` in `args` and `env` stands for each of its values, `{*}` for the words of a value."""
    assert family.keys() <= KEYS, f"{command}: {family}"
    for value in _values(family, lists):
        yield BadInput(
            command=command.replace(".", " "), family=family["name"], value=value,
            args=tuple(word.replace("{}", value) for word in shlex.split(family["args"].replace("{*}", value))),
            env={key: text.replace("{}", value) for key, text in family.get("env", {}).items()},
            exit_code=family.get("exit", 2), says=family.get("says", ""), leaves=tuple(family.get("leaves", ())),
        )  # fmt: skip


def _values(family: Mapping[str, Any], lists: Mapping[str, Any]) -> Iterator[str]:
    """Values that are written out, those of a list `@name`, and the damaged versions of a good file."""
    if "values" not in family and "damaged" not in family:
        yield ""
    for value in family.get("values", ()):
        if value.startswith("@") and value[1:] in lists:
            yield from lists[value[1:]]
        else:
            yield value
    if "damaged" in family:
        yield from (damaged(family["damaged"], how) for how in DAMAGES)
