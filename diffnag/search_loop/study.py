"""The memory of a search: its trials in an Optuna storage, on which any number of workers may work.

A study is a list of rounds; a round is a plan, which gives the next places among the labels an architecture each. Every trial
of the storage is an attempt at one place. Whoever plans a round creates the trial of its first place to begin with; that is
one step in every storage and has a number, so of those that begin the same round all know who was first. The plan is then
written onto this trial at once, and the other places get waiting trials, which free workers take; a storage gives a trial to
one of them. So no place is evaluated twice, and none beyond the budget is planned. A trial whose worker has died (see
`leases`) is marked and its place gets another; an evaluation that was told is never lost. One worker alone plans only when all
labels are there: what it does is a function of them, and it goes on after a kill exactly as it would have without.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffnag.errors import UserError
from diffnag.search_loop.leases import Renewal, Watch, Worker, leases
from diffnag.search_loop.storage import answering, close_storage, open_storage, opening, quiet, shown
from diffnag.search_loop.trial import Batch, Proposal, Trial

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, TrialState

    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

LAYOUT = 2
"""Of what is written to a storage; studies of another are refused."""
UNPRUNED = 5
"""Whole evaluations before any is stopped early."""
POLL_S = (0.01, 0.5)
"""Seconds between two looks at the storage while there is nothing to do: at first, and at most."""
ABANDONED = "abandoned"
"""Attribute of a trial that is no label, as its worker has died, ended or come too late; True where it had written a plan."""


@dataclass(frozen=True)
class Spent:
    """What a search has used so far, over all its runs; labels are counted by its trials."""

    nfe: int = 0
    predictor_nfe: int = 0
    guidance: str = "none"
    """The last kind that was used."""
    wall_s: float = 0.0


@dataclass(frozen=True)
class Planned:
    """A proposal with its place among the labels, counted from 0."""

    number: int
    round: int
    proposal: Proposal


@dataclass(frozen=True)
class Claim:
    """A trial of the storage that this worker, and no other, is to evaluate."""

    trial_id: int
    planned: Planned


@dataclass(frozen=True)
class Outcome:
    """What came of an evaluation: a value, or the error that stands in its place."""

    value: float | None
    error: str | None
    cost_s: float
    epochs: int | None = None
    pruned: bool = False


class Study:
    """The trials of one search as one worker sees them. Made by `Study.open`, closed by `close`.

    What others do is seen after `refresh`.
    """

    def __init__(self, study: optuna.Study, space: SearchSpace, *, storage: str | None, worker: Worker) -> None:
        self._study, self._space, self._url, self._worker = study, space, storage, worker
        self._storage = study._storage
        self._study_id = study._study_id
        self._watch = Watch()
        self._renewal = Renewal(lambda trial, count: self._storage.set_trial_user_attr(trial, worker.lease, count))
        self._held: int | None = None
        self._labels: dict[int, Trial] = {}
        self._pause = POLL_S[0]
        self._opened, self._before_s = time.perf_counter(), 0.0
        self.refresh()
        self._before_s = max(self._told_s, default=0.0)
