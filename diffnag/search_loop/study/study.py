"""The study of a search as one worker sees it; the glossary of `diffnag.search_loop.study` explains the nouns."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from diffnag.command.interrupts import uninterrupted
from diffnag.errors import UserError
from diffnag.search_loop.study.claims import Claim, Claims
from diffnag.search_loop.study.leases import Worker
from diffnag.search_loop.study.ledger import Ledger, Planned
from diffnag.search_loop.study.records import OUTCOME, SCHEMA, Outcome, refuse_other, written_plan
from diffnag.search_loop.study.storage import answering, close_storage, open_storage, opening, quiet, shown
from diffnag.search_loop.trial import Batch, Known

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, TrialState

    from diffnag.protocols import SearchSpace
    from diffnag.search_loop.trial import Generated, Trial

LABEL_ALONE = MappingProxyType({"label": True})
"""The directions of a search for the best label."""
UNPRUNED = 5
"""Whole evaluations before any is stopped early."""
POLL_S, POLL_GROWTH = (0.01, 0.5), 1.3
"""Seconds between two looks at the storage while there is nothing to do, at first and at most, and how they grow in between. News are
seen some 15 % late: with a faster growth a plan would lie unseen for longer."""


@dataclass(frozen=True)
class Spent:
    """What a search has used so far, over all its runs. Labels are counted by its trials."""

    nfe: int = 0
    predictor_nfe: int = 0
    guidance: str = "none"
    """The last kind that was used."""
    wall_s: float = 0.0


class Study:
    """The study of one search as one worker sees it. Made by `Study.open`, closed by `close`.

    What other workers do is seen after `refresh`.
    """

    def __init__(
        self, study: optuna.Study, opened: optuna.storages.BaseStorage, space: SearchSpace, *, worker: Worker, directions: Mapping[str, bool],
        url: str | None,
    ) -> None:  # fmt: skip
        self._study, self._opened_storage, self._space, self._url = study, opened, space, url
        self._called, self._directions = _called(study.study_name, url), directions
        self._made = study.user_attrs["options"]
        self.claims = Claims(study, space, worker=worker, objectives=tuple(directions), renewed=url is not None, called=self._called)
        self._ledger = Ledger(space, maximise=next(iter(directions.values())), study=self._called)
        self._pause = POLL_S[0]
        self._outbid = False
        """Whether another worker has ever been faster to begin a round."""
        self.refresh()
        self._before_s, self._opened = self._ledger.wall_s, time.perf_counter()

    @classmethod
    @uninterrupted()
    def open(
        cls, *, storage: str | None, name: str, space: SearchSpace, options: Mapping[str, Any], directions: Mapping[str, bool] = LABEL_ALONE
    ) -> Study:
        """Open the study `name` in `storage`, or make it.

        Args:
            storage: A database URL, `journal:FILE` or a file that ends in `.log`; None is memory.
            name: The name of the study.
            space: The search space.
            options: What a study that is there must have been made with.
            directions: Objective -> whether more of it is better; the label comes first.

        Raises:
            UserError: The storage cannot be opened; or the study there was made with other options, by another version, or by
                something else, or is damaged.
        """
        import optuna

        asked = json.loads(json.dumps({"schema": SCHEMA, **options}))
        worker, opened = Worker(known=storage is not None), None
        try:
            opened = open_storage(storage, worker=worker.id)
            with opening(storage or ""), quiet():
                study = optuna.create_study(
                    storage=optuna.storages.get_storage(opened), study_name=name, load_if_exists=True,
                    directions=["maximize" if more else "minimize" for more in directions.values()],
                    sampler=optuna.samplers.RandomSampler(seed=0),  # never drawn from: every trial comes with its parameters
                    # compares with whole evaluations alone, so those that a kill has left unfinished do not count
                    pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED),
                )  # fmt: skip
                begun = bool(study.get_trials(deepcopy=False))
                if "options" not in study.user_attrs and not begun:
                    study.set_user_attr("options", asked)
                made = study.user_attrs.get("options")
            refuse_other(made, asked, study=_called(name, storage))
            return cls(study, opened, space, worker=worker, directions=directions, url=storage)
        except BaseException:
            if opened is not None:
                close_storage(opened)
            worker.close()
            raise

    # -- what is known

    @property
    def history(self) -> tuple[Trial, ...]:
        """All labels so far, in the order of proposing."""
        return self._ledger.history

    @property
    def known(self) -> Known:
        """What a method may know when it proposes."""
        pending = (place.proposal.arch for place in self._ledger.unlabelled.values())
        return Known(self.history, tuple(pending), self._ledger.generated)

    @property
    def generated(self) -> Generated | None:
        """The candidates that were generated last, by whichever worker."""
        return self._ledger.generated

    @property
    def planned(self) -> int:
        """Number of places, those with a label included."""
        return len(self._ledger.places)

    @property
    def exhausted(self) -> bool:
        """Whether the last round found nothing left to plan."""
        return self._ledger.exhausted

    @property
    def others_at_work(self) -> int:
        """Number of attempts that other workers plan or evaluate."""
        from optuna.trial import TrialState

        begun = self._ledger.next_round
        return sum(trial.state == TrialState.RUNNING for trial in (*self._ledger.open.values(), *([begun] if begun else [])))

    @property
    def spent(self) -> Spent:
        """What the search has used, up to now."""
        rounds = self._ledger.rounds
        return Spent(
            nfe=sum(done.nfe for done in rounds), predictor_nfe=sum(done.predictor_nfe for done in rounds),
            guidance=next((done.guidance for done in reversed(rounds) if done.guidance != "none"), "none"),
            wall_s=self.wall_s,
        )  # fmt: skip

    @property
    def wall_s(self) -> float:
        """Seconds in the loop, up to now."""
        return self._before_s + time.perf_counter() - self._opened

    @property
    def code(self) -> dict[str, tuple[str, ...]]:
        """Plug-in given by dotted path -> checksums of its source file, in the order of the labels; several if it has changed."""
        return {name: tuple(checksums) for name, checksums in self._ledger.code.items()}

    @uninterrupted()
    def refresh(self) -> None:
        """Read what all workers have done. Attempts of dead workers are ended: as labels if they have an outcome.

        Waiting attempts at a place that has another, as two workers have made one, are ended as well.
        """
        before = len(self._ledger.places), len(self._ledger.labels)
        trials = self._study.get_trials(deepcopy=False)
        if dead := [trial for trial in self._ledger.unsettled(trials) if self.claims.is_abandoned(trial)]:
            for trial in dead:
                self.claims.bury(self.claims.id(trial))
            trials = self._study.get_trials(deepcopy=False)
        self._ledger.read(trials)
        for trial in self._ledger.superseded:
            self.claims.mark(self.claims.id(trial), planned=False)
        if before != (len(self._ledger.places), len(self._ledger.labels)):
            self._pause = POLL_S[0]

    # -- what is to be done

    @uninterrupted()
    def take(self) -> Claim | None:
        """Claim the first place that nobody evaluates; None if there is none."""
        from optuna.trial import TrialState

        if missing := list(self._ledger.missing):
            for place in missing:
                self._enqueue(place)
            self.refresh()
        for number, trial in sorted(self._ledger.open.items()):
            if trial.state == TrialState.WAITING and self.claims.take(trial_id := self.claims.id(trial)):
                return Claim(trial_id, self._ledger.places[number])
        return None

    @uninterrupted()
    def begin_round(self) -> bool:
        """Whether this worker, and no other, is to plan the next round, by `plan`."""
        from optuna.trial import TrialState

        there = self._ledger.next_round
        if there is not None and there.state == TrialState.RUNNING:
            return False
        refuse_other(self._study.user_attrs.get("options"), self._made, study=self._called)
        if there is None:
            self.claims.begin(len(self._ledger.rounds))
        elif not self.claims.take(self.claims.id(there)):
            self._outbid = True
            return False
        self.refresh()
        if self._ledger.next_round is not None and self.claims.id(self._ledger.next_round) == self.claims.held:
            return True
        self._outbid = True
        self.claims.give_back()
        return False

    @uninterrupted()
    def plan(self, batch: Batch, *, last: bool = False) -> Claim | None:
        """Write the plan of the round, in one step, and claim its first place; None if it has none, or came too late.

        Unless it is the `last` plan, or no other worker was seen, an attempt that will begin the next round is made first. So the
        other workers need not all make one when they see the plan.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        assert self.claims.held is not None
        trial_id, first, following = self.claims.held, len(self._ledger.places), len(self._ledger.rounds) + 1
        proposals = batch.proposals
        if proposals and not last and following not in self._ledger.prepared and (self._outbid or self.others_at_work > 1):
            self.claims.prepare(following)
        try:
            plan = written_plan(batch, self._space, labels=self._ledger.valued)
            self.claims.write_plan(plan, proposals[0].arch if proposals else None)
        except UpdateFinishedTrialError:  # it took so long that another worker has taken the round over
            self.claims.give_back()
            return None
        if not proposals:
            self.claims.give_back()
            self.refresh()
            return None
        if len(proposals) > 1:
            self.refresh()
            for place in self._ledger.places[first + 1 :]:
                self._enqueue(place)
        return Claim(trial_id, Planned(first, following - 1, proposals[0]))

    @uninterrupted()
    def report(self, claim: Claim, *, epochs: int, value: float, free: Mapping[str, float] | None = None) -> bool:
        """Write a value seen on the way; returns whether to stop there, as it is worse than the median of whole evaluations.

        With values `free` of other objectives it is compared only with those that are at least as good in each of them: a cheap
        architecture with a poor label may belong to the front.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        with self.answering():  # it is called during an evaluation, which may fail for other reasons
            try:
                trial = self.claims.report(claim.trial_id, epochs=epochs, value=value)
            except UpdateFinishedTrialError:
                return False  # another worker has taken it over, and `tell` returns so
            return bool(self._study.pruner.prune(cast("optuna.Study", _ByLabel(self._study, self._directions, free or {})), trial))

    @uninterrupted()
    def tell(self, claim: Claim, outcome: Outcome, *, code: Mapping[str, str] | None = None) -> bool:
        """Write an outcome; returns False if another worker has the place, as this one seemed dead.

        `code` maps plug-ins given by dotted path to the checksums of their source files.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        in_time = True
        try:
            self.claims.tell(claim.trial_id, replace(outcome, wall_s=self.wall_s, code=code or {}))
        except UpdateFinishedTrialError:
            in_time = False
        self.claims.release()
        return in_time

    def wait(self) -> None:
        """Let some time pass, the more the longer nothing happens."""
        time.sleep(self._pause)
        self._pause = min(POLL_GROWTH * self._pause, POLL_S[1])

    def answering(self) -> AbstractContextManager[None]:
        """A context in which the failure of the storage is a `UserError`."""
        return answering(self._url)

    @uninterrupted()
    def close(self) -> None:
        """Give back what is held, and close the storage's connections."""
        self.claims.close()
        with suppress(UserError), self.answering():
            self.claims.give_back()
        close_storage(self._opened_storage)
        self.claims.worker.close(forgotten=not self.claims.leaves_something)

    def _enqueue(self, place: Planned) -> None:
        self.claims.enqueue(place, self._ledger.texts[place.number])


class _ByLabel:
    """A study as a pruner sees it: Optuna's pruners refuse several objectives, and only the label is watched on its way.

    It has those trials that are at least as good as `free` in each of these objectives.
    """

    def __init__(self, study: optuna.Study, directions: Mapping[str, bool], free: Mapping[str, float]) -> None:
        self._study, self._directions, self._free = study, directions, free
        self.direction = study.directions[0]

    def get_trials(self, deepcopy: bool = True, states: Sequence[TrialState] | None = None) -> list[FrozenTrial]:
        """See Optuna."""
        return [trial for trial in self._study.get_trials(deepcopy, tuple(states) if states else None) if self._comparable(trial)]

    def _comparable(self, trial: FrozenTrial) -> bool:
        values = trial.user_attrs.get(OUTCOME, {}).get("values", {}) if self._free else {}
        signs = {name: 1.0 if self._directions[name] else -1.0 for name in self._free}
        return all(name in values and sign * values[name] >= sign * self._free[name] for name, sign in signs.items())


def _called(name: str, storage: str | None) -> str:
    """What messages call a study."""
    return f"study {name!r} in {shown(storage)}"
