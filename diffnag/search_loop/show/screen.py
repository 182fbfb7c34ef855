"""What a search shows while it runs, and at its end."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from diffnag.search_loop.show.measure import Measure
from diffnag.search_loop.trial import Trial, best_first, best_of

if TYPE_CHECKING:
    from diffnag.datasets.images import ImageDataset
    from diffnag.protocols import SearchSpace
    from diffnag.search_loop.finish.finished import Finish, Share
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.result import SearchResult

SHOWN = 5
"""Architectures in the final table."""


class Screen:
    """Progress of one search: a live bar on a terminal, else a line a trial. Use it in a `with` statement."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 150)
        bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*bar, console=self.console) if self.console.is_terminal else None
        self._done, self._budget, self._what = 0, 0, ""
        self._best: float | None = None
        self._measure = Measure("table")

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
        self._measure = Measure.of(search.space, dataset=options.dataset, kind=search.oracle.kind)
        rows = {"predictor": f"{options.predictor}, {_source(search.labels_source)}"} if options.predictor else {}
        rows |= {"space": options.space, "dataset": options.dataset, "oracle": _oracle(search)}
        if search.images:
            rows |= {"dataset": _images(search.images), "network": _networks(search)}
        details = f", acquisition {options.acquisition}, scale {options.scale:g}" if options.scale is not None else ""
        rows |= {"method": options.method + details, "reward": _reward(search, self._measure)}
        rows |= {"budget": f"{options.budget} labels, {options.batch} a round", "out": str(folder)}
        if options.time_limit is not None:
            rows["budget"] += f", within {options.time_limit:g} s with the final training"
        if search.images:
            rows["reward"] = "validation accuracy; the best by it is trained on training and validation images and tested once"
        history = search.study.history
        if history:
            rows["resumed"] = f"{len(history)} labels are there already"
        for key, text in rows.items():
            self._say(f"{key:10}{text}")
        for note in search.images.notes if search.images else ():
            self.note(note)
        self._done, self._budget, self._what = len(history), options.budget, self._measure.name(options.reward)
        best = best_of(history)
        self._best = None if best is None else best.value
        if self._progress:
            self._task = self._progress.add_task("searching", total=options.budget, completed=self._done)

    def trial(self, trial: Trial) -> None:
        """One more label."""
        self._done += 1
        if trial.value is not None and not trial.pruned:
            self._best = trial.value if self._best is None else max(self._best, trial.value)
        best = "none yet" if self._best is None else self._measure.figure(self._best)
        if trial.error is not None:
            self._say(f"trial {trial.number} failed: {trial.error}")
        if self._progress:
            self._progress.update(self._task, completed=self._done, description=f"best {self._what} so far {best}")
        elif trial.value is not None:
            early = f" when stopped after {trial.epochs} epochs" if trial.pruned else ""
            self._say(f"{self._done:>4}/{self._budget}  {self._what} {self._measure.figure(trial.value)}{early}  best {best}")

    def progress(self, what: str, done: int, of: int) -> None:
        """How far the work after the search is."""
        if self._progress:
            self._progress.update(self._task, description=what, completed=done, total=of)
        elif done == of or done % max(of // 4, 1) == 0:
            self._say(f"{what}: {done} of {of}")

    def note(self, text: str) -> None:
        """Something a user should know of a round."""
        self._say(f"note: {text}")

    def end(self, result: SearchResult, space: SearchSpace, *, folder: Path, finish: Finish | None = None) -> None:
        """The table of the best, and what they have cost."""
        table = Table(title=f"best of {result.labels_target} on {Path(result.dataset).name}")
        table.add_column("architecture", overflow="fold")
        tested = result.best is not None and result.best.test is not None
        for column in ("predicted", self._measure.name(result.reward), *([self._measure.name("test")] if tested else [])):
            table.add_column(column, justify="right")  # `predicted` stays empty where nothing predicts
        done = best_first([trial for trial in result.trials if trial.state == "done"])
        for place, trial in enumerate(done[:SHOWN]):
            shown = [trial.predicted_mean, trial.value]
            if tested and result.best:
                shown.append(result.best.test if place == 0 else None)
            table.add_row(escape(space.to_str(trial.arch)), *("" if value is None else self._measure.figure(value) for value in shown))
        self.console.print(table, soft_wrap=False)
        if any(trial.round == 0 and trial.predicted_mean is not None for trial in result.trials):
            self._say("predicted: when it was chosen; before any label of the dataset that is a standardised score")
        if finish:
            self._finish(finish)
        if result.best is None:
            self._say("every evaluation failed; trials.csv tells why")
        states: Counter[str] = Counter(trial.state for trial in result.trials)
        paid = "".join(f", {states[state]} {word}" for state, word in (("pruned", "stopped early"), ("failed", "failed")) if states[state])
        if result.epochs_target is not None:
            paid += f", {result.epochs_target:,} epochs"
        guidance = f", guidance {result.guidance}" if result.predictor != "none" else ""
        self._say(
            f"labels: {result.labels_target} of the target{paid}, {_source(result.labels_source)}; "
            f"{result.nfe} network evaluations, {result.predictor_nfe} of the predictor{guidance}; {result.wall_s:.1f} s"
        )
        more = ", model.pt, confusion.png" if finish else ""
        more += ", model.onnx" if finish and finish.onnx_max_abs_difference is not None else ""
        self._say(f"written to {folder}: result.json, trials.csv, search.png{more}")

    def _finish(self, finish: Finish) -> None:
        """The final model, beside those it is compared with."""
        table = Table(title=f"trained fully on {finish.images.name}, tested once")
        table.add_column("")
        table.add_column("architecture", overflow="fold")
        for column in ("parameters", "multiply-adds", "validation, in the search", "test"):
            table.add_column(column, justify="right")
        for row in (finish.best, *finish.others):
            size = (f"{row.size.params:,}", f"{row.size.flops:,}")
            table.add_row(row.name, escape(row.arch), *size, _share(row.validation), _share(row.test))
        self.console.print(table, soft_wrap=False)
        best = finish.best
        low, high = best.test.interval
        onnx = finish.onnx_max_abs_difference
        self._say(
            f"test accuracy {best.test.value:.4f} (95 % interval {low:.4f} to {high:.4f}, {best.test.images} images), "
            f"{finish.plan.skeleton}, {best.epochs} epochs in {best.seconds:.1f} s"
            + ("" if onnx is None else f"; model.onnx differs from torch by at most {onnx:.1g}")
        )

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False)


def _reward(search: Search, measure: Measure) -> str:
    options = search.options
    name = measure.name(options.reward)
    if options.reward == "test":
        return f"{name} (protocol T)"
    tested = "test" in search.oracle.available[options.dataset]
    return f"{name}; the best by it is asked for its {measure.name('test')} once, at the end" if tested else name


def _oracle(search: Search) -> str:
    """Kind and provenance, of figures that are told by dataset and split those of this search."""
    oracle, options = search.oracle, search.options
    if search.images:
        return f"{oracle.kind} on these images (sha256 {_short(search.images.sha256)}), judged on those of validation"
    about = {key: value for key, value in oracle.provenance().items() if key != "kind"}
    here = f"/{options.dataset}/{options.reward}"
    told = ", ".join(f"{key} {_short(value)}" for key, value in about.items() if "/" not in key or here in key)
    text = f"{oracle.kind} ({told})" if told else oracle.kind
    return f"{text}: every accuracy below is a surrogate's, none is measured" if oracle.kind == "surrogate" else text


def _images(images: ImageDataset) -> str:
    parts = [(len(part.y), name) for part, name in ((images.train, "training"), (images.val, "validation"), (images.test, "test"))]
    told = ", ".join(f"{count:,} {name}" for count, name in parts)
    colours = "grey" if images.channels == 1 else "colour"
    return f"{images.name}: {len(images.classes)} classes; {told} images, {colours}, {images.size} x {images.size}"


def _networks(search: Search) -> str:
    plans = {"evaluated": getattr(search.oracle, "plan", None), "finally": search.final_plan}
    return "; ".join(f"{what}: {plan.skeleton}, {plan.recipe.epochs} epochs" for what, plan in plans.items() if plan)


def _share(share: Share | None) -> str:
    if share is None:
        return ""
    low, high = share.interval
    return f"{100 * share.value:.2f} ({100 * low:.1f} to {100 * high:.1f})"


def _short(value: str | float) -> str:
    """Checksums by their first 12 digits, fractions by their first 3."""
    if isinstance(value, str):
        return value[:12] if re.fullmatch("[0-9a-f]{32,}", value) else value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _source(labels: object) -> str:
    assert isinstance(labels, dict)
    told = ", ".join(f"{count:,} from {origin}" for origin, count in labels.items())
    return f"{sum(labels.values()):,} source labels" + (f" ({told})" if told else "")
