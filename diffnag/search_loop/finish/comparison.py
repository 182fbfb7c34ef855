"""The rivals of a search's best architecture on a user's own images: random search at equal cost, and the ResNet-like architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.errors import UserError
from diffnag.oracles.checked import EvaluationFailed, checked_oracle
from diffnag.protocols import HasResNetLike
from diffnag.search_loop.finish.finished import Finished, Score
from diffnag.search_loop.finish.training import Note, Progress, finish_one
from diffnag.search_loop.loop import Search
from diffnag.search_loop.result import SearchResult

if TYPE_CHECKING:
    from diffnag.search_loop.trial import Trial

RANDOM, RESNET = "random", "ResNet-like"
FOLDER = "compare"
"""Folder of the rivals' models in the run's folder."""


@dataclass(frozen=True)
class _Chosen:
    """An architecture to compare with, as a search would have chosen it."""

    arch: str
    labels: int
    value: float | None


def rivals(
    search: Search, result: SearchResult, best: Finished, *, folder: Path, storage: str, on_progress: Progress, on_note: Note
) -> tuple[Finished, ...]:
    """The rivals of `best`, trained by the same plan for the same number of epochs, whatever the time limit.

    A rival that cannot be trained so is left out, and `on_note` says why.
    """
    assert search.images
    found: list[Finished] = []
    for name, choose in _choices(search, result, folder=folder, storage=storage, on_progress=on_progress, on_note=on_note):
        try:
            if (chosen := choose()) is None:
                continue
            if same := next((other for other in (best, *found) if other.arch == chosen.arch), None):
                validation = Score.of_percent(chosen.value, search.images)
                rival = replace(same, name=name, labels=chosen.labels, validation=validation)
            else:
                rival = finish_one(
                    name, chosen.arch, search, folder / FOLDER / f"{name}.pt", labels=chosen.labels, value=chosen.value,
                    epochs=best.epochs, on_progress=on_progress, on_note=on_note,
                )  # fmt: skip
        except UserError as error:
            on_note(f"{name} is left out of the comparison: {error}")
        else:
            found.append(rival)
    return tuple(found)


def _choices(
    search: Search, result: SearchResult, *, folder: Path, storage: str, on_progress: Progress, on_note: Note
) -> Iterator[tuple[str, Callable[[], _Chosen | None]]]:
    """Name of each rival, and a function that finds its architecture; None if it found none."""
    if result.method != RANDOM:
        yield RANDOM, lambda: _random_search(search, result, folder=folder, storage=storage, on_progress=on_progress, on_note=on_note)
    if isinstance(search.space, HasResNetLike):
        yield RESNET, lambda: _resnet_like(search, on_progress=on_progress, on_note=on_note)
    else:
        on_note(f"space {search.space.name!r} names no ResNet-like architecture to compare with")


def _random_search(
    search: Search, result: SearchResult, *, folder: Path, storage: str, on_progress: Progress, on_note: Note
) -> _Chosen | None:
    """The best of as many random evaluations by the same oracle, in the same storage, and within a time limit of the same length."""
    options = replace(
        search.options, method="random", budget=result.labels_target,
        predictor=None, acquisition=None, candidates=None, scale=None, checkpoint=None,
    )  # fmt: skip
    name = f"{folder.resolve().name} compare"
    with Search(options, storage=storage, name=name, oracle=search.oracle, images=search.images) as other:

        def report(trial: Trial) -> None:
            on_progress("random search", trial.number + 1, options.budget)

        drawn = other.run(on_trial=report)
    if drawn.labels_target < result.labels_target:
        on_note(f"random search made {drawn.labels_target} of {result.labels_target} evaluations in the same time")
    if drawn.best is None:
        on_note(f"{RANDOM} is left out of the comparison: every evaluation failed")
        return None
    return _Chosen(drawn.best.arch, drawn.labels_target, drawn.best.value)


def _resnet_like(search: Search, *, on_progress: Progress, on_note: Note) -> _Chosen:
    """The ResNet-like architecture of the space, evaluated once."""
    assert isinstance(search.space, HasResNetLike)
    on_progress("evaluating the ResNet-like architecture", 0, 1)
    arch = search.space.from_str(search.space.resnet_like)
    oracle = checked_oracle(search.oracle.kind, search.oracle)
    value = None
    try:
        value = oracle.query(arch, dataset=search.options.dataset, split="val")
    except EvaluationFailed as failure:
        on_note(f"the evaluation of the ResNet-like architecture failed: {failure}")
    return _Chosen(search.space.resnet_like, 1, value)
