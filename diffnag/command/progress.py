"""Progress of a long command: bars on a terminal, a plain line now and then in a log file."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

SILENCE_S = 30.0
"""Without a terminal, a line is printed whenever another tenth of the work is done, and after so many seconds without one."""


class Progress:
    """Show how far a command is, on stderr; one bar for each stage.

        with Progress() as progress:
            for epoch in range(epochs):
                ...
                progress("epoch", epoch + 1, epochs, f"loss {loss:.4f}")

    The time left is estimated from the calls. The first call of a stage marks its beginning: a resumed training calls
    `progress("step", done, steps)` before it continues. `show=False` shows nothing; all processes but the first use it.
    """

    def __init__(self, *, show: bool = True) -> None:
        self._show = show
        self._bars: RichProgress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._stages: dict[str, _Stage] = {}

    def __enter__(self) -> Self:
        if self._show and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            self._bars = _bars()
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int, text: str = "") -> None:
        """Report that `done` of `total` steps of `stage` are done; `text` stands beside them, such as the loss."""
        if not self._show:
            return
        if self._bars is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total, completed=done, text=text)
            self._bars.update(self._tasks[stage], completed=done, total=total, text=text)
            return
        if stage not in self._stages:
            self._stages[stage] = _Stage.beginning(done, total, marked=not text)
        if line := self._stages[stage].line(stage, done, total, text):
            print(line, file=sys.stderr, flush=True)


@dataclass
class _Stage:
    """State of a stage that is shown by lines: its beginning and its last line."""

    begin: float
    done_before: int
    last: float
    tenth: int
    """Finished tenths of the work at the last line."""

    @classmethod
    def beginning(cls, done: int, total: int, *, marked: bool) -> Self:
        now = time.monotonic()
        return cls(now, done, now, 10 * done // max(total, 1) if marked else -1)

    def line(self, stage: str, done: int, total: int, text: str) -> str | None:
        """The next line, or None if it is too early for one."""
        now, tenth = time.monotonic(), 10 * done // max(total, 1)
        if tenth <= self.tenth and now - self.last < SILENCE_S:
            return None
        self.last, self.tenth = now, tenth
        parts = [f"{stage} {done}/{total}", text]
        if self.done_before < done < total:
            parts.append(f"{_in_words((now - self.begin) / (done - self.done_before) * (total - done))} left")
        return "  ".join(part for part in parts if part)


def _in_words(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def _bars() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    stage, text = (TextColumn(f"{{task.{field}}}", markup=False) for field in ("description", "fields[text]"))
    return RichProgress(stage, BarColumn(), MofNCompleteColumn(), text, TimeRemainingColumn(), console=Console(stderr=True))
