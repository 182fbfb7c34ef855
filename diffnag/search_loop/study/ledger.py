"""What the trials of a storage amount to: rounds, places and labels. It reads trials and writes none.

A study is a list of rounds; the plan of a round gives the next places among the labels an architecture each. Every trial of the
storage is an attempt at one place. All workers read the trials in the order of their numbers, so they agree on what stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffnag.search_loop.trial import Generated, Proposal, Trial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from diffnag.protocols import SearchSpace

# Attributes of a trial. `round` is there from the start. One that was made to begin a round gets its `plan` and is the attempt
# at the first place of it, the earliest of them if there are more; the others have `number` and `arch`. `outcome` is there
# shortly before the trial is finished.
ROUND, PLAN, NUMBER, ARCH, OUTCOME = "round", "plan", "number", "arch", "outcome"
ABANDONED = "abandoned"
"""Of a trial that is no label, as its worker has died, ended or come too late; the value tells whether its plan stands."""


@dataclass(frozen=True)
class Planned:
    """A proposal with its place among the labels, counted from 0."""

    number: int
    round: int
    proposal: Proposal


@dataclass(frozen=True)
class Round:
    """What was planned at once: the number of its first place, and what it took to choose."""

    first: int
    size: int
    guidance: str
    nfe: int
    predictor_nfe: int


class Ledger:
    """The state of a study as far as it was read."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.rounds: list[Round] = []
        self.places: list[Planned] = []
        self.texts: list[str] = []
        """The architectures of the places, as the plans have them."""
        self.generated: Generated | None = None
        """By the last round that has told of some."""
        self.labels: dict[int, Trial] = {}
        self.open: dict[int, FrozenTrial] = {}
        """Of each place without a label the trial that is there for it, waiting or running."""
        self.superseded: list[FrozenTrial] = []
        """Waiting trials of places that have another."""
        self.next_round: FrozenTrial | None = None
        """The trial that is to get the next round's plan: running where a worker plans, waiting for one to take it, or none yet."""
        self.prepared: set[int] = set()
        """Rounds for which there is such a trial."""
        self.wall_s = 0.0
        """Seconds in the loop when the last label was told."""
        self._settled: set[int] = set()

    @property
    def missing(self) -> Iterator[Planned]:
        """Places for which there is no trial, as a worker died before it had made it or while it evaluated."""
        return (place for place in self.places if place.number not in self.labels and place.number not in self.open)

    @property
    def exhausted(self) -> bool:
        """Whether the last round found nothing left to plan."""
        return bool(self.rounds) and not self.rounds[-1].size

    def unsettled(self, trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Those of this package of which not everything was read."""
        return [trial for trial in trials if trial.number not in self._settled and ROUND in trial.user_attrs]

    def read(self, trials: Iterable[FrozenTrial]) -> None:
        """Take up what is new in the trials, given in the order of their numbers."""
        trials = self.unsettled(trials)
        plans: dict[int, Mapping[str, Any]] = {}
        for trial in trials:
            if PLAN in trial.user_attrs and trial.user_attrs.get(ABANDONED, True):
                plans.setdefault(trial.user_attrs[ROUND], trial.user_attrs[PLAN])
        while (plan := plans.get(len(self.rounds))) is not None:
            self._add_round(plan)
        self.open, self.superseded, self.next_round, self.prepared = {}, [], None, set()
        for trial in trials:
            self._place(trial)

    def _add_round(self, plan: Mapping[str, Any]) -> None:
        about = {key: plan[key] for key in ("guidance", "nfe", "predictor_nfe")}
        number = len(self.rounds)
        self.rounds.append(Round(first=len(self.places), size=len(plan["proposals"]), **about))
        for text, mean, std in plan["proposals"]:
            self.places.append(Planned(len(self.places), number, Proposal(self._space.from_str(text), mean, std)))
            self.texts.append(text)
        if made := plan["generated"]:
            archs = tuple(map(self._space.from_str, made["archs"]))
            self.generated = Generated(labels=made["labels"], archs=archs, guidance=made["guidance"])

    def _place(self, trial: FrozenTrial) -> None:
        from optuna.trial import TrialState

        number, attributes = self._number(trial), trial.user_attrs
        wanted = number is not None and number not in self.labels
        if trial.state.is_finished():
            self._settled.add(trial.number)
            if number is not None and wanted and OUTCOME in attributes:
                self.labels[number] = self._label(self.places[number], trial)
                self.wall_s = max(self.wall_s, attributes[OUTCOME]["wall_s"])
        elif number is not None and wanted and number not in self.open:
            self.open[number] = trial
        elif not {PLAN, NUMBER, ABANDONED} & attributes.keys() and attributes[ROUND] >= len(self.rounds):
            self.prepared.add(attributes[ROUND])
            if attributes[ROUND] == len(self.rounds):
                self.next_round = self.next_round or trial
        elif trial.state == TrialState.WAITING:
            self.superseded.append(trial)

    def _number(self, trial: FrozenTrial) -> int | None:
        """Of the place that a trial is an attempt at; None where it is none, or the plan gave the place to something else."""
        attributes = trial.user_attrs
        if ABANDONED in attributes:
            return None
        if PLAN not in attributes:
            number, text = attributes.get(NUMBER), attributes.get(ARCH)
        elif attributes[ROUND] < len(self.rounds) and attributes[PLAN]["proposals"]:
            number, text = self.rounds[attributes[ROUND]].first, attributes[PLAN]["proposals"][0][0]
        else:
            return None
        return number if number is not None and number < len(self.texts) and self.texts[number] == text else None

    def _label(self, place: Planned, trial: FrozenTrial) -> Trial:
        outcome = trial.user_attrs[OUTCOME]
        return Trial(
            number=place.number, round=place.round, arch=place.proposal.arch,
            value=outcome["value"], error=outcome["error"], cost_s=outcome["cost_s"],
            predicted_mean=place.proposal.predicted_mean, predicted_std=place.proposal.predicted_std,
            epochs=outcome["epochs"], pruned=outcome["pruned"], curve=tuple(sorted(trial.intermediate_values.items())),
        )  # fmt: skip
