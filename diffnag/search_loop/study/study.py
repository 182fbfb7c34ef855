"""The memory of a search: its trials in an Optuna storage, on which any number of workers may work.

Whoever plans a round of the `ledger` creates the trial of its first place to begin with. That is one step in every storage and
has a number, so of those who begin the same round all know who was first. The plan is then written onto this trial at once,
and the other places get waiting trials; a storage gives each to one of the workers that want it. So no place is evaluated
twice, and none beyond the budget is planned. A trial whose worker has died (see `leases`) is marked and its place gets another;
an evaluation that was told is never lost. One worker alone plans only when all labels are there: what it does is a function of
them, and it goes on after a kill exactly as it would have without.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from diffnag.command.interrupts import uninterrupted
from diffnag.errors import UserError
from diffnag.search_loop.study.leases import Renewal, Watch, Worker, leases
from diffnag.search_loop.study.ledger import ABANDONED, ARCH, NUMBER, OUTCOME, PLAN, ROUND, Ledger, Planned
from diffnag.search_loop.study.storage import answering, close_storage, open_storage, opening, quiet, shown
from diffnag.search_loop.trial import Batch, Generated, Trial

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import FrozenTrial

    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

LAYOUT = 3
"""Of what is written to a storage; studies of another are refused."""
UNPRUNED = 5
"""Whole evaluations before any is stopped early."""
POLL_S, POLL_GROWTH = (0.01, 0.5), 1.3
"""Seconds between two looks at the storage while there is nothing to do: at first, and at most; and how they grow in between. What
has happened is seen some 15 % late: the faster they grew, the longer a plan would lie about before it is seen."""


@dataclass(frozen=True)
class Spent:
    """What a search has used so far, over all its runs; labels are counted by its trials."""

    nfe: int = 0
    predictor_nfe: int = 0
    guidance: str = "none"
    """The last kind that was used."""
    wall_s: float = 0.0


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

    What the others do is seen after `refresh`.
    """

    def __init__(
        self, study: optuna.Study, opened: optuna.storages.BaseStorage, space: SearchSpace, *, worker: Worker, url: str | None
    ) -> None:
        self._study, self._opened_storage, self._space, self._worker, self._url = study, opened, space, worker, url
        self._storage = storage = study._storage  # with Optuna's cache of finished trials, where it has one
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._made = study.user_attrs["options"]
        self._distributions = _distributions(space)
        self._watch = Watch()
        self._renewal = None if url is None else Renewal(lambda trial, count: storage.set_trial_user_attr(trial, worker.lease, count))
        self._held: int | None = None
        self._unsure = False  # whether an interrupt may have come between taking a trial and knowing so
        self._ledger = Ledger(space)
        self._pause = POLL_S[0]
        self.refresh()
        self._before_s, self._opened = self._ledger.wall_s, time.perf_counter()

    @classmethod
    @uninterrupted()
    def open(cls, *, storage: str | None, name: str, space: SearchSpace, options: Mapping[str, Any]) -> Study:
        """The study `name` in `storage` (None: in memory), made if need be; `options` are what it was made with.

        `storage` is a database URL, `journal:FILE` or a file that ends in `.log`. Raises `UserError` where it cannot
        be opened, or where the study there was made with other options, by another version or by something else.
        """
        import optuna

        asked = json.loads(json.dumps({"layout": LAYOUT, **options}))
        worker, opened = Worker(known=storage is not None), None
        try:
            opened = open_storage(storage, worker=worker.id)
            with opening(storage or ""), quiet():
                study = optuna.create_study(
                    storage=optuna.storages.get_storage(opened), study_name=name, direction="maximize", load_if_exists=True,
                    sampler=optuna.samplers.RandomSampler(seed=0),  # never drawn from: every trial comes with its parameters
                    # compares with whole evaluations alone, so those a kill has left half done do not count
                    pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED),
                )  # fmt: skip
                begun = bool(study.get_trials(deepcopy=False))
                if "options" not in study.user_attrs and not begun:
                    study.set_user_attr("options", asked)
            _check(study.user_attrs.get("options"), asked, told=f"study {name!r} in {shown(storage)}")
            return cls(study, opened, space, worker=worker, url=storage)
        except BaseException:
            if opened is not None:
                close_storage(opened)
            worker.close()
            raise

    # -- what is known

    @property
    def history(self) -> tuple[Trial, ...]:
        """All labels so far, in the order of proposing."""
        labels = self._ledger.labels
        return tuple(labels[number] for number in sorted(labels))

    @property
    def pending(self) -> tuple[Arch, ...]:
        """What is planned and has no label yet."""
        return tuple(place.proposal.arch for place in self._ledger.places if place.number not in self._ledger.labels)

    @property
    def generated(self) -> Generated | None:
        """What the last round that has told of some has generated, for all workers."""
        return self._ledger.generated

    @property
    def planned(self) -> int:
        """How many places have a plan, those with a label included."""
        return len(self._ledger.places)

    @property
    def exhausted(self) -> bool:
        """Whether the last round found nothing left to plan."""
        return self._ledger.exhausted

    @property
    def others_at_work(self) -> int:
        """Trials that other workers plan or evaluate."""
        from optuna.trial import TrialState

        begun = self._ledger.next_round
        return sum(trial.state == TrialState.RUNNING for trial in (*self._ledger.open.values(), *([begun] if begun else [])))

    @property
    def spent(self) -> Spent:
        rounds = self._ledger.rounds
        return Spent(
            nfe=sum(done.nfe for done in rounds), predictor_nfe=sum(done.predictor_nfe for done in rounds),
            guidance=next((done.guidance for done in reversed(rounds) if done.guidance != "none"), "none"),
            wall_s=self._before_s + time.perf_counter() - self._opened,
        )  # fmt: skip

    @uninterrupted()
    def refresh(self) -> None:
        """See what all workers have done; what dead ones have left is marked, or finished where they had an outcome.

        So is a trial that waits for nothing, as two workers have made one for the same place.
        """
        before = len(self._ledger.places), len(self._ledger.labels)
        trials = self._study.get_trials(deepcopy=False)
        if dead := [trial for trial in self._ledger.unsettled(trials) if self._is_abandoned(trial)]:
            for trial in dead:
                self._bury(self._id(trial))
            trials = self._study.get_trials(deepcopy=False)
        self._ledger.read(trials)
        for trial in self._ledger.superseded:
            self._mark(self._id(trial), planned=False)
        if before != (len(self._ledger.places), len(self._ledger.labels)):
            self._pause = POLL_S[0]

    # -- what is to be done

    @uninterrupted()
    def take(self) -> Claim | None:
        """The first planned place that nobody evaluates, which is this worker's from now on; None where there is none."""
        from optuna.trial import TrialState

        if missing := list(self._ledger.missing):
            for place in missing:
                self._enqueue(place)
            self.refresh()
        for number, trial in sorted(self._ledger.open.items()):
            if trial.state == TrialState.WAITING and self._won(self._id(trial)):
                return Claim(self._id(trial), self._ledger.places[number])
        return None

    @uninterrupted()
    def begin_round(self) -> bool:
        """Whether it is on this worker to plan the next round, by `plan`; no other does so meanwhile."""
        from optuna.trial import TrialState, create_trial

        there = self._ledger.next_round
        if there is not None and there.state == TrialState.RUNNING:
            return False
        _check(self._study.user_attrs.get("options"), self._made, told=f"study {self._study.study_name!r} in {shown(self._url)}")
        if there is None:
            template = create_trial(state=TrialState.RUNNING, user_attrs={ROUND: len(self._ledger.rounds), self._worker.lease: 0})
            self._unsure = True
            self._hold(self._storage.create_new_trial(self._study_id, template))
        elif not self._won(self._id(there)):
            return False
        self.refresh()
        if self._ledger.next_round is not None and self._id(self._ledger.next_round) == self._held:
            return True
        self._let_go()
        return False

    @uninterrupted()
    def plan(self, batch: Batch, *, last: bool = False) -> Claim | None:
        """Write the round down, in one step; the first of its places is this worker's. None where there is none, or no more.

        Unless it is the `last`, and where others are at work, a trial for the next round is put down first: so they need not
        all make one when they see the plan.
        """
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState, create_trial

        assert self._held is not None
        proposals = [(self._space.to_str(p.arch), p.predicted_mean, p.predicted_std) for p in batch.proposals]
        plan = {
            "proposals": proposals, "nfe": batch.nfe, "predictor_nfe": batch.predictor_nfe, "guidance": batch.guidance,
            "generated": self._written(batch.generated),
        }  # fmt: skip
        trial_id, first = self._held, len(self._ledger.places)
        following = len(self._ledger.rounds) + 1
        if proposals and not last and following not in self._ledger.prepared and self.others_at_work > 1:
            self._storage.create_new_trial(self._study_id, create_trial(state=TrialState.WAITING, user_attrs={ROUND: following}))
        try:
            self._storage.set_trial_user_attr(trial_id, PLAN, plan)
            if proposals:
                self._describe(trial_id, batch.proposals[0].arch)
        except UpdateFinishedTrialError:  # it took so long that another worker has taken the round over
            self._let_go()
            return None
        if not proposals:
            self._let_go()
            self.refresh()
            return None
        if len(proposals) > 1:
            self.refresh()
            for place in self._ledger.places[first + 1 :]:
                self._enqueue(place)
        return Claim(trial_id, Planned(first, following - 1, batch.proposals[0]))

    @uninterrupted()
    def report(self, claim: Claim, *, epochs: int, value: float) -> bool:
        """Write down a value seen on the way; whether to stop there, as it is below the median of whole evaluations."""
        from optuna.exceptions import UpdateFinishedTrialError

        with self.answering():  # as the evaluation goes on within whatever may fail
            try:
                self._storage.set_trial_intermediate_value(claim.trial_id, epochs, value)
            except UpdateFinishedTrialError:
                return False  # taken over: `tell` says so
            return self._study.pruner.prune(self._study, self._storage.get_trial(claim.trial_id))

    @uninterrupted()
    def tell(self, claim: Claim, outcome: Outcome) -> bool:
        """Write down what came of it; False where another worker has the place, as this one seemed dead."""
        from optuna.exceptions import UpdateFinishedTrialError

        told = {**asdict(outcome), "wall_s": self.spent.wall_s}
        try:
            self._storage.set_trial_user_attr(claim.trial_id, OUTCOME, told)
            self._finish(claim.trial_id, told)
        except UpdateFinishedTrialError:
            self._release()
            return False
        self._release()
        return True

    def wait(self) -> None:
        """Let some time pass, the more the longer nothing happens."""
        time.sleep(self._pause)
        self._pause = min(POLL_GROWTH * self._pause, POLL_S[1])

    def answering(self) -> AbstractContextManager[None]:
        """Within it a storage that fails is a `UserError`."""
        return answering(self._url)

    @uninterrupted()
    def close(self) -> None:
        """Give back what is held, and let go of the storage's connections."""
        if self._renewal:
            self._renewal.close()
        with suppress(UserError), self.answering():
            self._let_go()
        close_storage(self._opened_storage)
        self._worker.close(forgotten=self._held is None and not self._unsure)

    # -- how

    def _written(self, generated: Generated | None) -> dict[str, Any] | None:
        if generated is None:
            return None
        return {"labels": generated.labels, "guidance": generated.guidance, "archs": [self._space.to_str(arch) for arch in generated.archs]}

    def _id(self, trial: FrozenTrial) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        from optuna.trial import TrialState

        others = trial.state == TrialState.RUNNING and self._id(trial) != self._held
        return others and self._watch.abandoned(trial.number, leases(trial.user_attrs))

    def _enqueue(self, place: Planned) -> None:
        from optuna.trial import TrialState, create_trial

        parameters = self._space.to_parameters(place.proposal.arch)
        attributes = {ROUND: place.round, NUMBER: place.number, ARCH: self._ledger.texts[place.number]}
        waiting = create_trial(
            state=TrialState.WAITING, params=parameters, distributions=dict(self._distributions), user_attrs=attributes
        )  # fmt: skip
        self._storage.create_new_trial(self._study_id, waiting)

    def _describe(self, trial_id: int, arch: Arch) -> None:
        """Give a trial that was made before its architecture was known the parameters of it."""
        for name, choice in self._space.to_parameters(arch).items():
            distribution = self._distributions[name]
            self._storage.set_trial_param(trial_id, name, distribution.to_internal_repr(choice), distribution)

    def _won(self, trial_id: int) -> bool:
        """Take a waiting trial; one worker alone can. Those who bid in vain withdraw."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        self._unsure = True
        try:
            self._storage.set_trial_user_attr(trial_id, self._worker.lease, 0)
            if self._storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                self._hold(trial_id)
                return True
            self._storage.set_trial_user_attr(trial_id, self._worker.lease, None)
        except UpdateFinishedTrialError:
            pass
        self._unsure = False
        return False

    def _hold(self, trial_id: int) -> None:
        self._held, self._unsure = trial_id, False
        if self._renewal:
            self._renewal.hold(trial_id)

    def _release(self) -> None:
        if self._renewal:
            self._renewal.release()
        self._held = None

    def _let_go(self) -> None:
        """Of what is held, which stays without an outcome."""
        if self._held is not None:
            self._bury(self._held)
        self._release()

    def _bury(self, trial_id: int) -> None:
        """End a trial that nobody works on any more. It is read anew: its worker may have written until it died."""
        from optuna.exceptions import UpdateFinishedTrialError

        attributes = self._storage.get_trial(trial_id).user_attrs
        if OUTCOME in attributes:
            with suppress(UpdateFinishedTrialError):
                self._finish(trial_id, attributes[OUTCOME])
        else:
            self._mark(trial_id, planned=PLAN in attributes)

    def _mark(self, trial_id: int, *, planned: bool) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with suppress(UpdateFinishedTrialError):  # another worker has done so
            self._storage.set_trial_user_attr(trial_id, ABANDONED, planned)
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def _finish(self, trial_id: int, outcome: Mapping[str, Any]) -> None:
        from optuna.trial import TrialState

        failed = outcome["error"] is not None
        state = TrialState.FAIL if failed else TrialState.PRUNED if outcome["pruned"] else TrialState.COMPLETE
        self._storage.set_trial_state_values(trial_id, state, None if failed else [outcome["value"]])


def _distributions(space: SearchSpace) -> dict[str, CategoricalDistribution]:
    from optuna.distributions import CategoricalDistribution

    return {name: CategoricalDistribution(choices) for name, choices in space.parameters.items()}


def _check(made: Mapping[str, Any] | None, asked: Mapping[str, Any], *, told: str) -> None:
    """Refuse a study that was made with other options than those asked for."""
    if made is None:
        raise UserError(f"{told} was not made by diffnag.search; give another --study")
    if made.get("layout") != LAYOUT:
        raise UserError(f"{told} was made by another version of diffnag, which writes studies otherwise; give another --out or --study")
    if other := [key for key in {**made, **asked} if made.get(key) != asked.get(key)]:
        differing = "; ".join(f"{key} {made.get(key)!r}, not {asked.get(key)!r}" for key in other)
        raise UserError(
            f"{told} was made with {differing}: it goes on with the options it was made with (the budget may grow); "
            f"give another --out for others"
        )
