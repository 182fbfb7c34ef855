"""How one worker takes an attempt, holds it by a lease, and finishes it or gives it back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffnag.search_loop.study.leases import Renewal, Watch, Worker, leases
from diffnag.search_loop.study.ledger import Planned
from diffnag.search_loop.study.records import ABANDONED, ARCH, NUMBER, OUTCOME, PLAN, ROUND, Outcome, read_outcome, undamaged, written_outcome

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import FrozenTrial

    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace


@dataclass(frozen=True)
class Claim:
    """A place that this worker, and no other, is to evaluate, and the id of its attempt in the storage."""

    trial_id: int
    planned: Planned


class Claims:
    """The attempts of one study as one worker writes them.

    Args:
        study: The Optuna study.
        space: Its search space, by which attempts get their parameters.
        worker: This worker.
        objectives: Names of the objectives, in the order of the study's directions.
        renewed: Whether a thread renews the lease on what is held: not in memory, where nobody else looks.
        called: What error messages call the study.
    """

    def __init__(
        self, study: optuna.Study, space: SearchSpace, *, worker: Worker, objectives: tuple[str, ...], renewed: bool, called: str
    ) -> None:
        self._storage = study._storage  # with Optuna's cache of finished trials, if it has one
        self._study_id = self._storage.get_study_id_from_name(study.study_name)
        self._space, self.worker, self._objectives, self._called = space, worker, objectives, called
        self._distributions = _distributions(space)
        self._watch = Watch()
        self._renewal = Renewal(lambda trial, count: self._storage.set_trial_user_attr(trial, worker.lease, count)) if renewed else None
        self.held: int | None = None
        """Id of the attempt that this worker evaluates, or of the round that it plans."""
        self._unsure = False  # whether an interrupt may have come between taking an attempt and noting so

    def id(self, trial: FrozenTrial) -> int:
        """The id of a trial in the storage."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)

    # -- making attempts

    def begin(self, number: int) -> None:
        """Make the attempt that begins round `number`, and hold it."""
        from optuna.trial import TrialState, create_trial

        self._unsure = True
        self._hold(self._create(create_trial(state=TrialState.RUNNING, user_attrs={ROUND: number, self.worker.lease: 0})))

    def prepare(self, number: int) -> None:
        """Make a waiting attempt that will begin round `number`."""
        from optuna.trial import TrialState, create_trial

        self._create(create_trial(state=TrialState.WAITING, user_attrs={ROUND: number}))

    def enqueue(self, place: Planned, text: str) -> None:
        """Make a waiting attempt at a place, whose architecture the plan writes as `text`."""
        from optuna.trial import TrialState, create_trial

        attributes = {ROUND: place.round, NUMBER: place.number, ARCH: text}
        parameters = self._space.to_parameters(place.proposal.arch)
        self._create(
            create_trial(state=TrialState.WAITING, params=parameters, distributions=dict(self._distributions), user_attrs=attributes)
        )

    def write_plan(self, plan: Mapping[str, Any], first: Arch | None) -> None:
        """Write a plan onto the attempt that is held, which thereby belongs to the architecture `first`.

        Raises Optuna's `UpdateFinishedTrialError` if another worker has taken the round over.
        """
        assert self.held is not None
        self._storage.set_trial_user_attr(self.held, PLAN, plan)
        for name, choice in (self._space.to_parameters(first) if first else {}).items():
            distribution = self._distributions[name]
            self._storage.set_trial_param(self.held, name, distribution.to_internal_repr(choice), distribution)

    # -- taking and holding

    def take(self, trial_id: int) -> bool:
        """Take a waiting attempt and hold it; False if another worker was first. Workers that bid in vain withdraw."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        self._unsure = True
        try:
            self._storage.set_trial_user_attr(trial_id, self.worker.lease, 0)
            if self._storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                self._hold(trial_id)
                return True
            self._storage.set_trial_user_attr(trial_id, self.worker.lease, None)
        except UpdateFinishedTrialError:
            pass
        self._unsure = False
        return False

    def is_abandoned(self, trial: FrozenTrial) -> bool:
        """Whether an attempt runs whose worker has died."""
        from optuna.trial import TrialState

        others = trial.state == TrialState.RUNNING and self.id(trial) != self.held
        return others and self._watch.abandoned(trial.number, leases(trial.user_attrs))

    def release(self) -> None:
        """Hold nothing any more."""
        if self._renewal:
            self._renewal.release()
        self.held = None

    def give_back(self) -> None:
        """End the attempt that is held without an outcome: its place will get another."""
        if self.held is not None:
            self.bury(self.held)
        self.release()

    def close(self) -> None:
        """End the renewal of leases."""
        if self._renewal:
            self._renewal.close()

    @property
    def leaves_something(self) -> bool:
        """Whether an attempt may be left that other workers must find abandoned."""
        return self.held is not None or self._unsure

    # -- ending attempts

    def report(self, trial_id: int, *, epochs: int, value: float) -> FrozenTrial:
        """Write a value seen on the way, and return the trial."""
        self._storage.set_trial_intermediate_value(trial_id, epochs, value)
        return self._storage.get_trial(trial_id)

    def tell(self, trial_id: int, outcome: Outcome) -> None:
        """Write an outcome, then finish the attempt. Raises Optuna's `UpdateFinishedTrialError` if another worker has taken it over."""
        self._storage.set_trial_user_attr(trial_id, OUTCOME, written_outcome(outcome))
        self.finish(trial_id, outcome)

    def finish(self, trial_id: int, outcome: Outcome) -> None:
        """Finish an attempt whose outcome is written.

        With several objectives Optuna counts only those that have a value for each, and keeps none of what was stopped early.
        """
        from optuna.trial import TrialState

        several = len(self._objectives) > 1
        state, values = TrialState.FAIL, None
        if outcome.value is not None and outcome.pruned:
            state, values = TrialState.PRUNED, None if several else [outcome.value]
        elif outcome.value is not None and not several:
            state, values = TrialState.COMPLETE, [outcome.value]
        elif outcome.values.keys() >= set(self._objectives):
            state, values = TrialState.COMPLETE, [outcome.values[name] for name in self._objectives]
        self._storage.set_trial_state_values(trial_id, state, values)

    def bury(self, trial_id: int) -> None:
        """End an attempt on which nobody works any more. It is read again: its worker may have written until it died."""
        from optuna.exceptions import UpdateFinishedTrialError

        trial = self._storage.get_trial(trial_id)
        if OUTCOME not in trial.user_attrs:
            self.mark(trial_id, planned=PLAN in trial.user_attrs)
            return
        with undamaged(OUTCOME, trial.number, study=self._called):
            outcome = read_outcome(trial.user_attrs[OUTCOME])
        with suppress(UpdateFinishedTrialError):
            self.finish(trial_id, outcome)

    def mark(self, trial_id: int, *, planned: bool) -> None:
        """Mark an attempt as abandoned; `planned` says whether the plan on it stands."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with suppress(UpdateFinishedTrialError):  # another worker has done so
            self._storage.set_trial_user_attr(trial_id, ABANDONED, planned)
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    # -- how

    def _create(self, template: FrozenTrial) -> int:
        return self._storage.create_new_trial(self._study_id, template)

    def _hold(self, trial_id: int) -> None:
        self.held, self._unsure = trial_id, False
        if self._renewal:
            self._renewal.hold(trial_id)


def _distributions(space: SearchSpace) -> dict[str, CategoricalDistribution]:
    from optuna.distributions import CategoricalDistribution

    return {name: CategoricalDistribution(choices) for name, choices in space.parameters.items()}
