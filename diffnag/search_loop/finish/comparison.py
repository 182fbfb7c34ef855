"""The rivals of a search's best architecture on a user's own images: random search, the ResNet-like architecture, and plain trainings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.errors import UserError
from diffnag.oracles.checked import EvaluationFailed, checked_oracle
from diffnag.protocols import HasResNetLike, Inherits
from diffnag.search_loop.finish.finished import Finished, Score
from diffnag.search_loop.finish.plain import FINE_TUNING, PLAIN_RESNET, PlainTraining
from diffnag.search_loop.finish.training import Note, Progress, finish_one
from diffnag.search_loop.loop import Search
from diffnag.search_loop.result import SearchResult

if TYPE_CHECKING:
    from diffnag.search_loop.trial import Trial

RANDOM, RESNET = "random", "ResNet-like"
FOLDER = "compare"
"""Folder of the rivals' models in the run's folder."""


@dataclass(frozen=True)
class Rivals:
    """What the best architecture of a search is compared with.

    Random search and the ResNet-like architecture of the space are trained by the same plan for the same number of epochs as `best`,
    whatever the time limit. Plain trainings, which search nothing, have the time of the whole search.
    """

    search: Search
    result: SearchResult
    best: Finished
    folder: Path
    storage: str
    on_progress: Progress
    on_note: Note
    _found: list[Finished] = field(default_factory=list, init=False, repr=False)

    def finished(self) -> tuple[Finished, ...]:
        """The rivals, trained and judged; one that cannot be trained so is left out, and `on_note` says why."""
        for name, made in self._rivals():
            try:
                self._found.extend(filter(None, [made()]))
            except UserError as error:
                self.on_note(f"{name} is left out of the comparison: {error}")
        return tuple(self._found)

    def _rivals(self) -> Iterator[tuple[str, Callable[[], Finished | None]]]:
        """Name of each rival, and a function that makes it; None if it found no architecture."""
        options = self.search.options
        seconds = options.time_limit or self.result.wall_s + self.best.seconds
        plain = PlainTraining(self.search, self.folder / FOLDER, seconds, self.on_progress)
        if self.result.method != RANDOM:
            yield RANDOM, self._random_search
        if isinstance(self.search.space, HasResNetLike):
            yield RESNET, self._resnet_like
        if isinstance(self.search.space, Inherits):
            yield FINE_TUNING, plain.fine_tuned
        yield PLAIN_RESNET, plain.resnet

    def _random_search(self) -> Finished | None:
        """The best of as many random evaluations by the same oracle, in the same storage, and within a time limit of the same length."""
        search, labels = self.search, self.result.labels_target
        options = replace(
            search.options, method="random", budget=labels, predictor=None, acquisition=None, candidates=None, scale=None, checkpoint=None,
        )  # fmt: skip
        name = f"{self.folder.resolve().name} compare"
        with Search(options, storage=self.storage, name=name, oracle=search.oracle, images=search.images) as other:

            def report(trial: Trial) -> None:
                self.on_progress("random search", trial.number + 1, options.budget)

            drawn = other.run(on_trial=report)
        if drawn.labels_target < labels:
            self.on_note(f"random search made {drawn.labels_target} of {labels} evaluations in the same time")
        if drawn.best is None:
            self.on_note(f"{RANDOM} is left out of the comparison: every evaluation failed")
            return None
        return self._trained(RANDOM, drawn.best.arch, labels=drawn.labels_target, value=drawn.best.value)

    def _resnet_like(self) -> Finished:
        """The ResNet-like architecture of the space, evaluated once."""
        space, value = self.search.space, None
        assert isinstance(space, HasResNetLike)
        self.on_progress("evaluating the ResNet-like architecture", 0, 1)
        oracle = checked_oracle(self.search.oracle.kind, self.search.oracle)
        try:
            value = oracle.query(space.from_str(space.resnet_like), dataset=self.search.options.dataset, split="val")
        except EvaluationFailed as failure:
            self.on_note(f"the evaluation of the ResNet-like architecture failed: {failure}")
        return self._trained(RESNET, space.resnet_like, labels=1, value=value)

    def _trained(self, name: str, arch: str, *, labels: int, value: float | None) -> Finished:
        """The network of an architecture that was chosen with so many `labels`, trained as the best one was; not twice the same."""
        assert self.search.images
        if same := next((other for other in (self.best, *self._found) if other.arch == arch), None):
            return replace(same, name=name, labels=labels, validation=Score.of_percent(value, self.search.images))
        return finish_one(
            name, arch, self.search, self.folder / FOLDER / f"{name}.pt", labels=labels, value=value, epochs=self.best.epochs,
            on_progress=self.on_progress, on_note=self.on_note,
        )  # fmt: skip
