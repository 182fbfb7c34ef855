"""Workers in processes of their own. They are forks of the test's process, so they start at once."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from diffnag.search_loop.loop import Search
from diffnag.search_loop.options import SearchOptions
from diffnag.search_loop.study.storage import close_storage, open_storage
from tests.search_fakes import LoggedOracle


def options(**changes: Any) -> SearchOptions:
    """Options of a search for the best of the toy oracle, by default with random draws."""
    return SearchOptions(**{"dataset": "cifar10", "method": "random", "budget": 40, **changes})


def start_worker(place: str, log: Path, asked: SearchOptions, *, seconds: float = 0.0) -> Any:
    """A process that works on the study in `place` until nothing is left to do."""
    process = multiprocessing.get_context("fork").Process(target=_work, args=(place, log, asked, seconds), daemon=True)
    process.start()
    return process


def wait_for(evaluations: int, log: Path, workers: Sequence[Any]) -> None:
    """Wait until the workers have made so many evaluations; all of them must be alive until then."""
    while sum(name.startswith("end") for name in logged(log)) < evaluations:
        assert all(worker.is_alive() for worker in workers), "a worker has failed; its error is above"
        time.sleep(0.01)


def _work(place: str, log: Path, asked: SearchOptions, seconds: float) -> None:
    with Search(asked, storage=place, oracle=LoggedOracle(log, seconds=seconds)) as search:
        search.work()


def trials(place: str) -> list[optuna.trial.FrozenTrial]:
    """All trials of the study, as Optuna itself reads them; none if there is no study yet."""
    opened = open_storage(place, worker="reader")
    try:
        names = [study.study_name for study in opened.get_all_studies()]
        return optuna.load_study(study_name="search", storage=opened).get_trials() if names else []
    finally:
        close_storage(opened)


def labels(place: str) -> dict[str, float]:
    """Values of the finished evaluations by architecture."""
    found = {}
    for trial in trials(place):
        if trial.state == optuna.trial.TrialState.COMPLETE:
            assert trial.value is not None
            text = trial.user_attrs["arch"] if "arch" in trial.user_attrs else trial.user_attrs["plan"]["proposals"][0][0]
            assert text not in found, "an architecture has two labels"
            found[text] = trial.value
    return found


def logged(log: Path) -> Counter[str]:
    """Number of times that each `begin KEY` and `end KEY` was written, in the order of the first."""
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()
