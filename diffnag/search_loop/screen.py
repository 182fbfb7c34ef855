"""What a search shows while it runs, and at its end."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from diffnag.search_loop.report import accuracy
from diffnag.search_loop.trial import Trial

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace
    from diffnag.search_loop.loop import Search, SearchResult

SHOWN = 5
"""Architectures in the final table."""
PROTOCOLS = {
    "val": "validation accuracy; the best by it is asked for its test accuracy once, at the end",
    "test": "test accuracy (protocol T)",
}


class Screen:
    """Progress of one search: a live bar on a terminal, else a line a trial. Use it in a `with` statement."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 150)
        bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*bar, console=self.console) if self.console.is_terminal else None
        self._done, self._budget, self._what = 0, 0, ""
        self._best: float | None = None

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress:
            self._progress.stop()

    @property
    def done(self) -> str:
        """How far the search is: `12 of 30 labels`."""
        return f"{self._done} of {self._budget} labels"

    def begin(self, search: Search, *, folder: Path) -> None:
        """Say what is searched, with which oracle and predictor; go on from the trials already there."""
        options = search.options
        rows = {"predictor": f"{options.predictor}, {_source(search.labels_source)}"} if options.predictor else {}
        rows |= {"space": options.space, "dataset": options.dataset, "oracle": _oracle(search)}
        details = f", acquisition {options.acquisition}, scale {options.scale:g}" if options.scale is not None else ""
        rows |= {"method": options.method + details, "reward": PROTOCOLS[options.reward]}
        rows |= {"budget": f"{options.budget} labels, {options.batch} a round", "out": str(folder)}
        history = search.study.history
        if history:
            rows["resumed"] = f"{len(history)} labels are there already"
        for key, text in rows.items():
            self._say(f"{key:10}{text}")
        self._done, self._budget, self._what = len(history), options.budget, accuracy(search.oracle.kind, options.reward)
        self._best = max((trial.value for trial in history if trial.value is not None), default=None)
        if self._progress:
            self._task = self._progress.add_task("searching", total=options.budget, completed=self._done)

    def trial(self, trial: Trial) -> None:
        """One more label."""
        self._done += 1
        if trial.value is not None:
            self._best = trial.value if self._best is None else max(self._best, trial.value)
        best = "none yet" if self._best is None else f"{self._best:.2f}"
        if trial.error is not None:
            self._say(f"trial {trial.number} failed: {trial.error}")
        if self._progress:
            self._progress.update(self._task, completed=self._done, description=f"best {self._what} so far {best}")
        elif trial.value is not None:
            self._say(f"{self._done:>4}/{self._budget}  {self._what} {trial.value:.2f}  best {best}")

    def note(self, text: str) -> None:
        """Something a user should know of a round."""
        self._say(f"note: {text}")

    def end(self, result: SearchResult, space: SearchSpace, *, folder: Path) -> None:
        """The table of the best, and what they have cost."""
        table = Table(title=f"best of {result.labels_target} on {result.dataset}")
        table.add_column("architecture", overflow="fold")
        kind = result.oracle["kind"]
        for column in ("predicted", accuracy(kind, result.reward), accuracy(kind, "test")):
            table.add_column(column, justify="right")  # `predicted` stays empty where nothing predicts
        done = [trial for trial in result.trials if trial.value is not None]
        for place, trial in enumerate(sorted(done, key=lambda trial: -(trial.value or 0.0))[:SHOWN]):
            test = result.best.test if place == 0 and result.best else None
            table.add_row(escape(space.to_str(trial.arch)), *(_percent(x) for x in (trial.predicted_mean, trial.value, test)))
        self.console.print(table, soft_wrap=False)
        if result.labels_source:
            self._say("predicted: when it was chosen; before any label of the dataset that is a standardised score, not an accuracy")
        if result.best is None:
            self._say("every evaluation failed; trials.csv tells why")
        guidance = f", guidance {result.guidance}" if result.predictor != "none" else ""
        self._say(
            f"labels: {result.labels_target} of the target, {_source(result.labels_source)}; "
            f"{result.nfe} network evaluations, {result.predictor_nfe} of the predictor{guidance}; {result.wall_s:.1f} s"
        )
        self._say(f"written to {folder}: result.json, trials.csv, search.png")

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False)


def _oracle(search: Search) -> str:
    """Kind and provenance, of figures that are told by dataset and split those of this search."""
    oracle, options = search.oracle, search.options
    about = {key: value for key, value in oracle.provenance().items() if key != "kind"}
    here = f"/{options.dataset}/{options.reward}"
    told = ", ".join(f"{key} {_short(value)}" for key, value in about.items() if "/" not in key or here in key)
    text = f"{oracle.kind} ({told})" if told else oracle.kind
    return f"{text}: every accuracy below is a surrogate's, none is measured" if oracle.kind == "surrogate" else text


def _short(value: str | float) -> str:
    """Checksums by their first 12 digits, fractions by their first 3."""
    if isinstance(value, str):
        return value[:12] if re.fullmatch("[0-9a-f]{32,}", value) else value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _source(labels: object) -> str:
    assert isinstance(labels, dict)
    told = ", ".join(f"{count:,} from {origin}" for origin, count in labels.items())
    return f"{sum(labels.values()):,} source labels" + (f" ({told})" if told else "")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
