"""What the attempts of a study amount to: rounds, places and labels. It reads trials of the storage and writes none.

All workers read the trials in the order of their numbers, so they agree on what stands. The nouns are explained in the glossary of
`diffnag.search_loop.study`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffnag.search_loop.study.records import ABANDONED, ARCH, NUMBER, OUTCOME, PLAN, ROUND, read_outcome, read_plan, undamaged
from diffnag.search_loop.trial import Batch, Generated, Proposal, Trial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from diffnag.protocols import SearchSpace


@dataclass(frozen=True)
class Planned:
    """A place: its number, counted from 0, the round that planned it, and the proposal."""

    number: int
    round: int
    proposal: Proposal


@dataclass(frozen=True)
class Round:
    """A planned round: its first place, its number of places, and what it took to choose them."""

    first: int
    size: int
    guidance: str
    nfe: int
    predictor_nfe: int
    labels: int
    """Labels with a value that were known to the planner."""


class Ledger:
    """The state of a study as far as it was read.

    Args:
        space: Its search space.
        maximise: Whether more of the label is better.
        study: What error messages call the study.
    """

    def __init__(self, space: SearchSpace, *, maximise: bool, study: str) -> None:
        self._space, self._maximise, self._study = space, maximise, study
        self.rounds: list[Round] = []
        self.places: list[Planned] = []
        self.texts: list[str] = []
        """The architectures of the places as the plans write them."""
        self.generated: Generated | None = None
        """What was generated last."""
        self.labels: dict[int, Trial] = {}
        self.unlabelled: dict[int, Planned] = {}
        """The places without a label, in their order."""
        self.valued = 0
        """Number of labels with a value."""
        self._history: tuple[Trial, ...] | None = None
        self.open: dict[int, FrozenTrial] = {}
        """The attempt at each place without a label that is waiting or running."""
        self.superseded: list[FrozenTrial] = []
        """Waiting attempts at places that have another."""
        self.next_round: FrozenTrial | None = None
        """The attempt that will get the plan of the next round: running while a worker plans it, waiting if nobody does yet."""
        self.prepared: set[int] = set()
        """Rounds for which there is such an attempt."""
        self.wall_s = 0.0
        """Seconds in the loop when the last label was written."""
        self.code: dict[str, list[str]] = {}
        """Plug-in given by dotted path -> checksums of its source file, in the order of the labels."""
        self._settled: set[int] = set()
        self._all_settled = 0
        """Number of trials, the first ones, that are settled."""

    @property
    def history(self) -> tuple[Trial, ...]:
        """All labels, in the order of their places."""
        if self._history is None:
            self._history = tuple(self.labels[number] for number in sorted(self.labels))
        return self._history

    @property
    def missing(self) -> Iterator[Planned]:
        """Places without label and attempt: a worker died before it made the attempt, or while it evaluated."""
        return (place for place in self.unlabelled.values() if place.number not in self.open)

    @property
    def exhausted(self) -> bool:
        """Whether the last round found nothing left to plan."""
        return bool(self.rounds) and not self.rounds[-1].size

    def unsettled(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The attempts that may still change the state, of all trials in the order of their numbers."""
        while self._all_settled < len(trials) and trials[self._all_settled].number in self._settled:
            self._all_settled += 1
        return [trial for trial in trials[self._all_settled :] if trial.number not in self._settled and ROUND in trial.user_attrs]

    def read(self, trials: Sequence[FrozenTrial]) -> None:
        """Take up what is new in the trials, which are in the order of their numbers; raises `UserError` for a damaged attribute."""
        trials = self.unsettled(trials)
        plans: dict[int, FrozenTrial] = {}
        for trial in trials:
            with undamaged(ROUND, trial.number, study=self._study):
                if not isinstance(trial.user_attrs[ROUND], int):
                    raise ValueError("it is no whole number")
            if PLAN in trial.user_attrs and trial.user_attrs.get(ABANDONED, True):
                plans.setdefault(trial.user_attrs[ROUND], trial)
        while (planned := plans.get(len(self.rounds))) is not None:
            with undamaged(PLAN, planned.number, study=self._study):
                self._add_round(*read_plan(planned.user_attrs[PLAN], self._space), planned.user_attrs[PLAN])
        self.open, self.superseded, self.next_round, self.prepared = {}, [], None, set()
        for trial in trials:
            self._place(trial)

    def _add_round(self, batch: Batch, labels: int, written: Any) -> None:
        number = len(self.rounds)
        self.rounds.append(Round(len(self.places), len(batch.proposals), batch.guidance, batch.nfe, batch.predictor_nfe, labels))
        for proposal, (text, *_) in zip(batch.proposals, written["proposals"], strict=True):
            place = Planned(len(self.places), number, proposal)
            self.places.append(place)
            self.unlabelled[place.number] = place
            self.texts.append(text)
        self.generated = batch.generated or self.generated

    def _place(self, trial: FrozenTrial) -> None:
        from optuna.trial import TrialState

        number, attributes = self._number(trial), trial.user_attrs
        wanted = number is not None and number not in self.labels
        if trial.state.is_finished():
            self._settled.add(trial.number)
            if number is not None and wanted and OUTCOME in attributes:
                with undamaged(OUTCOME, trial.number, study=self._study):
                    self._add_label(self.places[number], trial)
        elif number is not None and wanted and number not in self.open:
            self.open[number] = trial
        elif not {PLAN, NUMBER, ABANDONED} & attributes.keys() and attributes[ROUND] >= len(self.rounds):
            self.prepared.add(attributes[ROUND])
            if attributes[ROUND] == len(self.rounds):
                self.next_round = self.next_round or trial
        elif trial.state == TrialState.WAITING:
            self.superseded.append(trial)

    def _number(self, trial: FrozenTrial) -> int | None:
        """The place of an attempt; None if it has none, or the plan gave the place to another architecture."""
        attributes = trial.user_attrs
        if ABANDONED in attributes:
            return None
        if PLAN not in attributes:
            number, text = attributes.get(NUMBER), attributes.get(ARCH)
        elif attributes[ROUND] < len(self.rounds):
            with undamaged(PLAN, trial.number, study=self._study):
                if not (proposals := attributes[PLAN]["proposals"]):
                    return None
                number, text = self.rounds[attributes[ROUND]].first, proposals[0][0]
        else:
            return None
        with undamaged(NUMBER, trial.number, study=self._study):
            return number if number is not None and number < len(self.texts) and self.texts[number] == text else None

    def _add_label(self, place: Planned, trial: FrozenTrial) -> None:
        outcome = read_outcome(trial.user_attrs[OUTCOME])
        self.labels[place.number] = Trial(
            number=place.number, round=place.round, arch=place.proposal.arch,
            value=outcome.value, error=outcome.error, cost_s=outcome.cost_s,
            predicted_mean=place.proposal.predicted_mean, predicted_std=place.proposal.predicted_std,
            epochs=outcome.epochs, pruned=outcome.pruned, curve=tuple(sorted(trial.intermediate_values.items())),
            labels_known=self.rounds[place.round].labels, values=outcome.values, maximise=self._maximise, asked=outcome.asked,
        )  # fmt: skip
        del self.unlabelled[place.number]
        self.valued += outcome.value is not None
        self._history = None
        self.wall_s = max(self.wall_s, outcome.wall_s)
        for name, checksum in outcome.code.items():
            if checksum not in (seen := self.code.setdefault(name, [])):
                seen.append(checksum)
