"""Where a study is kept: SQLite, a journal file, a database server, or memory; opened so that many processes can write.

What the rest relies on is that taking a waiting trial, and finishing one, is one step that a single process wins. Optuna's
PostgreSQL and journal storages see to that; with SQLite it reads first and writes then, which `sqlite` mends.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from diffnag.errors import UserError

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal:"
EXPECTED = "sqlite:///FILE, journal:FILE or postgresql+psycopg://USER@HOST/DATABASE"
BUSY_S = 20.0
"""Seconds that one write waits for others before the storage counts as locked."""
CONNECT_S = 10
"""Seconds after which a server counts as unreachable."""


def open_storage(storage: str | None, *, worker: str) -> optuna.storages.BaseStorage:
    """The storage; None is memory. Raises `UserError` where it cannot be opened."""
    import optuna

    if storage is None:
        return optuna.storages.InMemoryStorage()
    with opening(storage):
        if storage.startswith(JOURNAL) or storage.endswith(".log"):
            from diffnag.search_loop.study.journal import JournalFile

            return optuna.storages.JournalStorage(JournalFile(storage.removeprefix(JOURNAL), worker=worker))
        until = time.monotonic() + BUSY_S
        while True:
            try:
                return _open_database(storage)
            except Exception as failure:
                if time.monotonic() > until or not _others_make_it(failure):
                    raise
                time.sleep(0.1)


def _open_database(storage: str) -> optuna.storages.BaseStorage:
    import optuna

    if not storage.startswith("sqlite:"):
        # a database without an encoding, as the locale C makes it, would answer in bytes
        asked = {"connect_timeout": CONNECT_S, "client_encoding": "utf8"} if storage.startswith("postgresql") else {}
        return optuna.storages.RDBStorage(storage, engine_kwargs={"pool_pre_ping": True, "connect_args": asked})
    settings = {"pool_events": [(_write_ahead, "connect")], "connect_args": {"timeout": BUSY_S}}
    from diffnag.search_loop.study.sqlite import SQLiteStorage

    return SQLiteStorage(storage, engine_kwargs=settings)


def _write_ahead(connection: Any, _: Any) -> None:
    """A commit of SQLite as such waits for the disk several times; with a write-ahead log it is as safe and quick."""
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        connection.execute("PRAGMA journal_mode=WAL")  # a process that does so fails at once where another does, too
    connection.execute("PRAGMA synchronous=NORMAL")


def _others_make_it(failure: Exception) -> bool:
    """Whether other workers make the database in the same moment, so that a second look finds it there."""
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError

    told = [str(cause) for cause in (failure, failure.__cause__) if isinstance(cause, SQLAlchemyError)]
    clash = any(text in cause for cause in told for text in ("already exists", "database is locked"))
    return clash or any(isinstance(cause, IntegrityError) for cause in (failure, failure.__cause__))


def close_storage(storage: optuna.storages.BaseStorage) -> None:
    """Let go of its connections."""
    import optuna

    storage.remove_session()
    if isinstance(storage, optuna.storages.RDBStorage):
        storage.engine.dispose()


def shown(storage: str | None) -> str:
    """The storage as it may be printed and written: without the password."""
    return "memory" if storage is None else re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", storage)


@contextmanager
def opening(storage: str) -> Iterator[None]:
    """Whatever keeps a storage from opening, in one sentence."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    broken = (AssertionError, KeyError, RuntimeError, TypeError, ValueError)  # so a file that is no journal, or another version's, ends
    try:
        yield
    except (SQLAlchemyError, OptunaError, OSError, ImportError, *broken) as error:
        raise UserError(f"cannot open storage {shown(storage)!r}, expected is {EXPECTED}: {_reason(error)}") from error


@contextmanager
def answering(storage: str | None) -> Iterator[None]:
    """A storage that fails in the midst of the work, in one sentence."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        told = f"storage {shown(storage)!r} does not answer: {_reason(error)}"
        raise UserError(f"{told}; what was told to it is kept, and the same command goes on when it is back") from error


def _reason(error: BaseException) -> str:
    """The first line of what lies beneath; Optuna's own words for a failed database tell nothing."""
    from optuna.exceptions import StorageInternalError

    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ImportError):
        return "its driver is not installed; PostgreSQL's comes with pip install 'diffnag[postgresql]'"
    if isinstance(error, AssertionError | KeyError | TypeError):
        return "what is there is no study of this Optuna"
    return str(error).partition("\n")[0] or type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna says what it does; nobody asked."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
