"""The SQLite storage of Optuna, made safe for many processes that take and finish trials."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Connection, event


class SQLiteStorage(RDBStorage):
    """Locks the database from reading a trial's state until the change of it.

    SQLite has no `SELECT ... FOR UPDATE`, which Optuna uses elsewhere: two processes would both find a trial waiting and both take
    it. Everything else reads without a lock; otherwise every process would wait for the reading of every other.
    """

    def __init__(self, url: str, *, engine_kwargs: dict[str, Any]) -> None:
        super().__init__(url, engine_kwargs=engine_kwargs)
        self._now = threading.local()
        event.listen(self.engine, "begin", self._begin)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """See `RDBStorage`."""
        self._now.holds = True
        try:
            return super().set_trial_state_values(trial_id, state, values)
        finally:
            self._now.holds = False

    def _begin(self, connection: Connection) -> None:
        if getattr(self._now, "holds", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
