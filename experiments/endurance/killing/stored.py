"""What a storage holds at a moment, read without Optuna where that is possible: no table is made, no lock is taken."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

JOURNAL, SQLITE = "journal:", "sqlite:///"
_ATTRIBUTES = "SELECT t.number, t.state, a.key, a.value_json FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id"
_VALUES = "SELECT t.number, t.state, v.value FROM trials t JOIN trial_values v ON v.trial_id = t.trial_id"


@dataclass
class Attempt:
    """One trial of the Optuna study."""

    state: str = ""
    value: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def arch(self) -> str:
        """Its architecture, or nothing before its plan is written."""
        if "arch" in self.attributes:
            return str(self.attributes["arch"])
        proposals = (self.attributes.get("plan") or {}).get("proposals") or [[""]]
        return str(proposals[0][0])

    @property
    def outcome(self) -> str | None:
        """What its evaluation gave, as written."""
        found = self.attributes.get("outcome")
        return None if found is None else json.dumps(found, sort_keys=True)


class Corrupt(Exception):
    """A file that cannot be read; says why."""


def attempts(storage: str) -> Mapping[int, Attempt]:
    """Every trial in the storage by its number; none before there is a study."""
    if storage.startswith(JOURNAL):
        return _of_journal(Path(storage.removeprefix(JOURNAL)))
    if storage.startswith(SQLITE):
        path = Path(storage.removeprefix(SQLITE))
        if not path.exists() or path.stat().st_size == 0:
            return {}
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as database:
            try:
                return _joined(database.execute(_ATTRIBUTES).fetchall(), database.execute(_VALUES).fetchall())
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return {}
                raise
    import psycopg

    with psycopg.connect(storage.replace("+psycopg", ""), client_encoding="utf8") as connection:
        try:
            return _joined(connection.execute(_ATTRIBUTES).fetchall(), connection.execute(_VALUES).fetchall())
        except psycopg.errors.UndefinedTable:
            return {}


def check_whole(storage: str) -> None:
    """Raise `Corrupt` unless the file of a storage is whole; nobody may write to it."""
    if storage.startswith(SQLITE):
        path = Path(storage.removeprefix(SQLITE))
        if path.exists():
            with closing(sqlite3.connect(path, timeout=60)) as database:
                found = database.execute("PRAGMA integrity_check").fetchone()
            if found != ("ok",):
                raise Corrupt(f"{path.name}: {found}")
    elif storage.startswith(JOURNAL):
        path = Path(storage.removeprefix(JOURNAL))
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # a last line without an end is cut off by the next writer
        for number, line in enumerate(lines, start=1):
            try:
                json.loads(line)
            except ValueError as error:
                raise Corrupt(f"{path.name}, line {number} of {len(lines)}: {line[:200]!r}") from error


def _joined(attributes: Iterable[tuple[int, str, str, str]], values: Iterable[tuple[int, str, float]]) -> dict[int, Attempt]:
    found: dict[int, Attempt] = {}
    for number, state, key, text in attributes:
        attempt = found.setdefault(number, Attempt())
        attempt.state, attempt.attributes[key] = state, json.loads(text)
    for number, state, value in values:
        attempt = found.setdefault(number, Attempt())
        attempt.state, attempt.value = state, value
    return found


def _of_journal(path: Path) -> dict[int, Attempt]:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if not path.exists() or not path.stat().st_size:
        return {}
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    studies = storage.get_all_studies()
    return {
        trial.number: Attempt(trial.state.name, trial.value if trial.state.name == "COMPLETE" else None, trial.user_attrs)
        for study in studies for trial in storage.get_all_trials(study._study_id)
    }  # fmt: skip
