"""Where studies are kept: SQLite, a journal file, a database server, or memory; opened so that many processes can write.

The rest relies on this: to take a waiting trial, and to finish one, is one step that a single process wins. Optuna's PostgreSQL and
journal storages provide that. Its SQLite storage reads first and writes then, which `sqlite` mends.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from diffnag.errors import UserError

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal:"
OWN = "study.journal"
"""Name of the journal in the folder of a search."""
EXPECTED = "sqlite:///FILE, journal:FILE or postgresql+psycopg://USER@HOST/DATABASE"
ENTRY = b'{"op_code":'
"""How every entry of Optuna's journal begins."""
BUSY_S = 20.0
"""Seconds that one write waits for others before the storage counts as locked."""
CONNECT_S = 10
"""Seconds after which a server counts as unreachable."""


def open_storage(storage: str | None, *, worker: str) -> optuna.storages.BaseStorage:
    """Open the storage; None is memory. Raises `UserError` if it cannot be opened, or if a file there is something else."""
    import optuna

    if storage is None:
        return optuna.storages.InMemoryStorage()
    if not storage.strip():
        raise UserError(f"the name of the storage is empty; expected is {EXPECTED}")
    with opening(storage):
        if storage.startswith(JOURNAL) or (storage.endswith(".log") and "://" not in storage):
            from diffnag.search_loop.study.journal import JournalFile

            path = storage.removeprefix(JOURNAL)
            _refuse_other_file(path)
            return optuna.storages.JournalStorage(JournalFile(path, worker=worker))
        until = time.monotonic() + BUSY_S
        while True:
            try:
                return _open_database(storage)
            except Exception as failure:
                if time.monotonic() > until or not _others_make_it(failure):
                    raise
                time.sleep(0.1)


def own_storage(folder: Path) -> str:
    """The storage of a folder's own study: a journal, which opens and writes faster than SQLite.

    SQLite it is where the folder has such a study already, or can have no symbolic link, by which workers lock a journal.
    """
    database, lock = folder / "study.db", folder / f".link-{os.getpid()}"
    if not os.path.lexists(database):
        with suppress(OSError, NotImplementedError):
            lock.symlink_to("nowhere")
            lock.unlink()
            return f"{JOURNAL}{folder / OWN}"
    return sqlite_url(database)


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, whatever characters its path has."""
    from sqlalchemy.engine import URL, make_url

    plain, quoted = f"sqlite:///{path}", URL.create("sqlite", database=str(path)).render_as_string()
    for url in (plain, quoted):
        if make_url(url).database == str(path) and not make_url(url).query:
            return url
    return f"sqlite:///file:{quote(str(path))}?uri=true"  # SQLAlchemy before 2.1 quotes no path


def _open_database(storage: str) -> optuna.storages.BaseStorage:
    import optuna

    url = storage.replace("{", "{{").replace("}", "}}")  # Optuna takes the URL for a template
    if not storage.startswith("sqlite:"):
        # a database without an encoding, as the locale C makes it, would answer in bytes
        asked = {"connect_timeout": CONNECT_S, "client_encoding": "utf8"} if storage.startswith("postgresql") else {}
        return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True, "connect_args": asked})
    _refuse_other_database(storage)
    settings = {"pool_events": [(_write_ahead, "connect")], "connect_args": {"timeout": BUSY_S}}
    from diffnag.search_loop.study.sqlite import SQLiteStorage

    return SQLiteStorage(url, engine_kwargs=settings)


def _refuse_other_file(path: str) -> None:
    """Raise `ValueError` if there is something else than a journal: Optuna would append to it."""
    file = Path(path)
    if not file.exists():
        return
    if not file.is_file():
        raise ValueError("what is there is no regular file")
    with file.open("rb") as opened:
        begin = opened.read(len(ENTRY))
    if begin and begin != ENTRY:
        raise ValueError("the file that is there is no journal of Optuna, and is left as it is")


def _refuse_other_database(storage: str) -> None:
    """Raise `ValueError` if there is something else than a database of Optuna: it would add its tables."""
    from optuna.storages._rdb.models import BaseModel
    from sqlalchemy.engine import make_url

    url = make_url(storage)
    path = url.database
    if not path or path == ":memory:":
        raise ValueError("it names no file, and what is in memory is lost when the search ends")
    if path.startswith("file:") or not Path(path).exists():
        return
    if not Path(path).is_file():
        raise ValueError("what is there is no regular file")
    with closing(sqlite3.connect(f"file:{quote(str(Path(path).absolute()))}?mode=ro", uri=True, timeout=BUSY_S)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    ours = {*BaseModel.metadata.tables, "alembic_version"}
    if "version_info" not in tables and not tables <= ours:
        raise ValueError("the database that is there is none of Optuna, and is left as it is")


def _write_ahead(connection: Any, _: Any) -> None:
    """Use a write-ahead log: a commit of SQLite waits for the disk several times without it, and is as safe with it."""
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        connection.execute("PRAGMA journal_mode=WAL")  # fails at once if another process does the same
    connection.execute("PRAGMA synchronous=NORMAL")


def _others_make_it(failure: Exception) -> bool:
    """Whether other workers make the database at the same moment, so that a second look will find it."""
    from sqlalchemy.exc import IntegrityError

    causes = [str(cause) for cause in (failure, failure.__cause__) if isinstance(cause, _database_error())]
    clash = any(text in cause for cause in causes for text in ("already exists", "database is locked"))
    return clash or any(isinstance(cause, IntegrityError) for cause in (failure, failure.__cause__))


def close_storage(storage: optuna.storages.BaseStorage) -> None:
    """Close its connections."""
    import optuna

    storage.remove_session()
    if isinstance(storage, optuna.storages.RDBStorage):
        storage.engine.dispose()


def shown(storage: str | None) -> str:
    """The storage as it may be printed and written: without the password."""
    return "memory" if storage is None else re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", storage)


@contextmanager
def opening(storage: str) -> Iterator[None]:
    """Turn whatever keeps a storage from opening into one sentence."""
    from optuna.exceptions import OptunaError

    broken = (AssertionError, KeyError, RuntimeError, TypeError, ValueError)  # what a file that is no journal, or another version's, raises
    try:
        yield
    except (_database_error(), OptunaError, OSError, ImportError, sqlite3.Error, *broken) as error:
        raise UserError(f"cannot open storage {shown(storage)!r}, expected is {EXPECTED}: {_reason(error)}") from error


@contextmanager
def answering(storage: str | None) -> Iterator[None]:
    """Turn the failure of a storage during the work into one sentence."""
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except json.JSONDecodeError as error:
        raise UserError(f"storage {shown(storage)!r} is damaged: what it has cannot be read ({error}); give another --study") from error
    except (_database_error(), StorageInternalError) as error:
        said = f"storage {shown(storage)!r} does not answer: {_reason(error)}"
        raise UserError(f"{said}; what was written to it is kept, and the same command goes on when it is back") from error


def _database_error() -> type[Exception]:
    """What a database raises; looked up when something is raised, since the import is slow, and a journal needs none."""
    from sqlalchemy.exc import SQLAlchemyError

    return SQLAlchemyError


def _reason(error: BaseException) -> str:
    """The first line of the cause; Optuna's own message for a failed database says nothing."""
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
    """Silence Optuna, which reports everything that it does."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
