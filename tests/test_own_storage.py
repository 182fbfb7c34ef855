"""The study in the folder of a search: a journal, what it writes to the disk at once, and when it is SQLite instead."""

from __future__ import annotations

import os
from pathlib import Path

import optuna
import pytest

from diffnag.search_loop.study.journal import JournalFile
from diffnag.search_loop.study.storage import own_storage, sqlite_url
from tests.toy_search import options, outcome, search


def test_a_new_folder_has_a_journal_and_nothing_else(tmp_path: Path) -> None:
    assert own_storage(tmp_path) == f"journal:{tmp_path}/study.journal"
    assert not [*tmp_path.iterdir()]


def test_a_study_in_sqlite_goes_on(tmp_path: Path) -> None:
    begun = search(options(budget=5), storage=sqlite_url(tmp_path / "study.db"))
    more = search(options(budget=8), storage=own_storage(tmp_path))
    assert outcome(more)[:5] == outcome(begun) and not (tmp_path / "study.journal").exists()


def test_a_folder_without_links_has_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refused)
    assert own_storage(tmp_path) == sqlite_url(tmp_path / "study.db")


def test_both_kinds_of_storage_give_the_same_search(tmp_path: Path) -> None:
    by_journal, by_sqlite = search(options(), storage=own_storage(tmp_path)), search(options(), storage=sqlite_url(tmp_path / "study.db"))
    assert outcome(by_journal) == outcome(by_sqlite)


def test_a_trial_that_ends_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: waited.append(os.fstat(handle).st_size))
    file = tmp_path / "study.journal"
    storage = optuna.storages.JournalStorage(JournalFile(str(file), worker="one"))
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    trial.set_user_attr("arch", "a")
    before = len(waited)
    trial.set_user_attr("arch", "b")
    assert len(waited) == before, "an attribute alone does not"
    study.tell(trial, 1.0)
    assert len(waited) == before + 1 and waited[-1] == file.stat().st_size
