"""The memory of a search: its trials in an Optuna storage, written so that a kill loses no finished evaluation.

A round is stored as one plan before its first evaluation; a search that resumes finishes the plan, so it goes on
exactly as the unbroken one would have.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffnag.errors import UserError
from diffnag.search_loop.trial import Batch, Proposal, Trial

if TYPE_CHECKING:
    import optuna

    from diffnag.protocols import SearchSpace

JOURNAL = "journal:"
UNPRUNED = 5
"""Whole evaluations before any is stopped early."""


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
    """A proposal with its place among the labels."""

    number: int
    round: int
    proposal: Proposal


@dataclass(frozen=True)
class Outcome:
    """What came of an evaluation: a value, or the error that stands in its place."""

    value: float | None
    error: str | None
    cost_s: float
    epochs: int | None = None
    pruned: bool = False


class Study:
    """The trials of one search; one process at a time works on it. Made by `Study.open`, closed by `close`."""

    def __init__(self, study: optuna.Study, storage: optuna.storages.BaseStorage, space: SearchSpace) -> None:
        self._study, self._storage, self._space = study, storage, space
        self._close_abandoned()
        labels = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and "abandoned" not in t.user_attrs]
        self._trials = {trial.number: trial for trial in map(self._read, labels)}
        self._plan: dict[str, Any] = study.user_attrs.get("plan", {"round": -1, "proposals": []})
        self._before_s = max((t.user_attrs["outcome"]["wall_s"] for t in labels), default=0.0)
        self._opened = time.perf_counter()

    @classmethod
    def open(cls, *, storage: str | None, name: str, space: SearchSpace, options: Mapping[str, Any]) -> Study:
        """The study `name` in `storage` (None: in memory), made if need be; `options` are what it was made with.

        `storage` is a database URL, `journal:FILE` or a file that ends in `.log`. Raises `UserError` where it cannot
        be opened, or where the study there was made with other options.
        """
        import optuna

        asked = json.loads(json.dumps(options))
        with quiet(), _refused(storage) if storage else nullcontext():
            opened = _open_storage(storage)
            study = optuna.create_study(
                storage=opened, study_name=name, direction="maximize", load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(seed=0),  # never drawn from: every trial comes with its parameters
                # compares with whole evaluations alone, so those a kill has left half done do not count
                pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED),
            )  # fmt: skip
            made = study.user_attrs.get("options")
            if made is None:
                study.set_user_attr("options", made := asked)
        if made != asked:
            _close(opened)
            other = [key for key in {**made, **asked} if made.get(key) != asked.get(key)]
            told = "; ".join(f"{key} {made.get(key)!r}, not {asked.get(key)!r}" for key in other)
            raise UserError(
                f"study {name!r} in {shown(storage)} was made with {told}: it goes on with the options it was made with "
                f"(the budget may grow); give another --out for others"
            )
        return cls(study, opened, space)

    @property
    def history(self) -> tuple[Trial, ...]:
        """All labels so far, in the order of proposing."""
        return tuple(self._trials[number] for number in sorted(self._trials))

    @property
    def spent(self) -> Spent:
        counts = {key: self._plan[key] for key in ("nfe", "predictor_nfe", "guidance") if key in self._plan}
        return Spent(**counts, wall_s=self._before_s + time.perf_counter() - self._opened)

    @property
    def planned(self) -> list[Planned]:
        """What of the current round is still to be evaluated."""
        return [
            Planned(number, self._plan["round"], Proposal(self._space.from_str(text), mean, std))
            for number, text, mean, std in self._plan["proposals"]
            if number not in self._trials
        ]

    def plan(self, batch: Batch) -> None:
        """Begin the next round; in one write, so that a kill leaves the whole round or none of it."""
        before = self.spent
        self._plan = {
            "round": self._plan["round"] + 1,
            "proposals": [
                (len(self._trials) + i, self._space.to_str(p.arch), p.predicted_mean, p.predicted_std)
                for i, p in enumerate(batch.proposals)
            ],
            "nfe": before.nfe + batch.nfe,
            "predictor_nfe": before.predictor_nfe + batch.predictor_nfe,
            "guidance": batch.guidance if batch.guidance != "none" else before.guidance,
        }
        self._study.set_user_attr("plan", self._plan)

    def start(self, planned: Planned) -> optuna.Trial:
        """Write down that the evaluation of `planned` begins."""
        from optuna.distributions import CategoricalDistribution

        proposal = planned.proposal
        attributes = {
            "number": planned.number, "round": planned.round, "arch": self._space.to_str(proposal.arch),
            "predicted_mean": proposal.predicted_mean, "predicted_std": proposal.predicted_std,
        }  # fmt: skip
        self._study.enqueue_trial(self._space.to_parameters(proposal.arch), user_attrs=attributes)
        return self._study.ask({name: CategoricalDistribution(choices) for name, choices in self._space.parameters.items()})

    def report(self, started: optuna.Trial, *, epochs: int, value: float) -> bool:
        """Write down a value seen on the way; whether to stop there, as it is below the median of whole evaluations."""
        started.report(value, step=epochs)
        return started.should_prune()

    def tell(self, started: optuna.Trial, outcome: Outcome) -> Trial:
        """Write down what came of it."""
        from optuna.trial import TrialState

        state = TrialState.FAIL if outcome.error is not None else TrialState.PRUNED if outcome.pruned else TrialState.COMPLETE
        told = {"error": outcome.error, "cost_s": outcome.cost_s, "wall_s": self.spent.wall_s, "epochs": outcome.epochs}
        started.set_user_attr("outcome", told)
        value = outcome.value if state == TrialState.COMPLETE else None  # a pruned one keeps the last that was reported
        trial = self._read(self._study.tell(started, value, state=state))
        self._trials[trial.number] = trial
        return trial

    def close(self) -> None:
        """Let go of the storage's connections."""
        _close(self._storage)

    def _read(self, trial: optuna.trial.FrozenTrial) -> Trial:
        from optuna.trial import TrialState

        attributes, outcome = trial.user_attrs, trial.user_attrs["outcome"]
        return Trial(
            number=attributes["number"], round=attributes["round"], arch=self._space.from_str(attributes["arch"]),
            value=trial.value, error=outcome["error"], cost_s=outcome["cost_s"],
            predicted_mean=attributes["predicted_mean"], predicted_std=attributes["predicted_std"],
            epochs=outcome.get("epochs"), pruned=trial.state == TrialState.PRUNED, curve=tuple(sorted(trial.intermediate_values.items())),
        )  # fmt: skip

    def _close_abandoned(self) -> None:
        """Close what a dead process has left: no label was paid for it, and the plan has it evaluated again."""
        from optuna.trial import TrialState

        while self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.ask()
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
            self._storage.set_trial_user_attr(trial_id, "abandoned", True)
            self._study.tell(trial.number, state=TrialState.FAIL)


def _open_storage(storage: str | None) -> optuna.storages.BaseStorage:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if storage is None:
        return optuna.storages.InMemoryStorage()
    if storage.startswith(JOURNAL) or storage.endswith(".log"):
        return optuna.storages.JournalStorage(JournalFileBackend(storage.removeprefix(JOURNAL)))
    sqlite = storage.startswith("sqlite:")
    return optuna.storages.RDBStorage(storage, engine_kwargs={"pool_events": [(_write_ahead, "connect")]} if sqlite else None)


def shown(storage: str | None) -> str:
    """The storage as it may be printed and written: without the password."""
    return "memory" if storage is None else re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", storage)


def _close(storage: optuna.storages.BaseStorage) -> None:
    import optuna

    storage.remove_session()
    if isinstance(storage, optuna.storages.RDBStorage):
        storage.engine.dispose()


def _write_ahead(connection: Any, _: Any) -> None:
    """A commit of SQLite as such waits for the disk several times; with a write-ahead log it is as safe and quick."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna without its lines on what it makes."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def _refused(storage: str | None) -> Iterator[None]:
    """Whatever keeps a storage from opening, in one sentence."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, OptunaError, OSError, ImportError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"cannot open storage {shown(storage)!r}, expected is sqlite:///FILE, journal:FILE or postgresql+psycopg://...: {reason}"
        ) from error
