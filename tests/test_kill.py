"""Searches that are killed at random moments: nothing that was finished is lost or repeated, and the study stays intact."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import pytest

from diffnag.search_loop.loop import run_search
from diffnag.search_loop.study.study import Study
from diffnag.search_loop.trial import Batch, Proposal
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.search_fakes import StagedOracle, ToyOracle, value
from tests.worker_processes import labels, logged, options, start_worker, trials

KILLS, BUDGET = 20, 100
EVALUATION, LIVES = 0.05, 0.15
"""Seconds of one evaluation, and the longest life of a worker after its first: 20 lives are too short for the budget on any machine."""
WRITES = 24
"""More than the writes of a round of two evaluations."""
STORAGES = {"sqlite": "sqlite:///{}/study.db", "journal": "journal:{}/study.log"}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
def test_killed_at_random_moments(storage: str, tmp_path: Path, space: NASBench201) -> None:
    place, log, moments = storage.format(tmp_path), tmp_path / "log", random.Random(0)
    asked = options(budget=BUDGET, method="evolution")
    known: dict[str, float] = {}
    for _ in range(KILLS):
        before = logged(log)
        worker = start_worker(place, log, asked, seconds=EVALUATION)
        begin = time.monotonic()
        while worker.is_alive() and logged(log) == before and time.monotonic() - begin < 60:
            time.sleep(0.001)  # it has opened the storage and begins its first evaluation
        worker.join(moments.uniform(0, LIVES))
        assert worker.is_alive()
        worker.kill()
        worker.join()
        found = labels(place)
        assert found.items() >= known.items(), "a finished evaluation is lost"
        after = logged(log)
        for text in known:
            key = space.canonical(space.from_str(text))
            assert after[f"begin {key}"] == before[f"begin {key}"], "a finished evaluation is repeated"
        known = found
    assert 0 < len(known) < BUDGET
    result = run_search(asked, storage=place, oracle=ToyOracle())
    assert result.labels_target == len(labels(place)) == BUDGET
    assert len({space.canonical(trial.arch) for trial in result.trials}) == BUDGET
    assert all(trial.value == value(trial.arch) for trial in result.trials)
    unbroken = run_search(asked, oracle=ToyOracle())
    assert [(trial.number, trial.round, trial.arch) for trial in result.trials] == [(t.number, t.round, t.arch) for t in unbroken.trials]
    for trial in trials(place):
        assert trial.state.name == ("FAIL" if "abandoned" in trial.user_attrs else "COMPLETE")
    assert sum("abandoned" in trial.user_attrs for trial in trials(place)) <= KILLS


@pytest.mark.timeout(120)
@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
def test_killed_in_each_write(storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker dies before the first, the second, ... write of a round, and the next one continues at once."""
    import optuna

    asked = options(budget=4, batch=2)
    unbroken = run_search(asked, oracle=StagedOracle())
    kind = optuna.storages.RDBStorage if storage.startswith("sqlite") else optuna.storages.JournalStorage
    writes = ("create_new_study", "set_study_user_attr", "create_new_trial", "_create_new_trial", "set_trial_user_attr",
              "set_trial_state_values", "set_trial_intermediate_value", "_set_trial_param", "set_trial_param")  # fmt: skip
    for at in range(0, WRITES, 3 if storage.startswith("sqlite") else 1):  # a database takes its time to be made
        place = storage.format(tmp_path) + str(at)
        left = at

        class Died(BaseException):
            pass

        with monkeypatch.context() as patch:

            def dying(name: str, patch: pytest.MonkeyPatch = patch, died: type[BaseException] = Died) -> None:
                write = getattr(kind, name, None)
                if write is None:
                    return

                def wrapped(*args: object, **more: object) -> object:
                    nonlocal left
                    if left <= 0:
                        raise died
                    left -= 1
                    return write(*args, **more)

                patch.setattr(kind, name, wrapped)

            for name in writes:
                dying(name)
            # a dead worker gives nothing back
            patch.setattr("diffnag.search_loop.study.claims.Claims.give_back", lambda self: None)
            with pytest.raises(Died):
                run_search(asked, storage=place, oracle=StagedOracle())
        again = run_search(asked, storage=place, oracle=StagedOracle())
        assert [(trial.arch, trial.value, trial.state) for trial in again.trials] == [(t.arch, t.value, t.state) for t in unbroken.trials], at


@pytest.mark.timeout(120)
@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
def test_a_waiting_trial_is_taken_by_one_process(storage: str, tmp_path: Path, space: NASBench201) -> None:
    """Everything relies on this; Optuna's own SQLite storage does not provide it."""
    place, waiting = storage.format(tmp_path), 30

    def take_all(study: Study) -> int:
        won = 0
        ready.wait()
        while study.take():
            won += 1
        study.close()
        return won

    first = Study.open(storage=place, name="search", space=space, options={})
    assert first.begin_round()
    cells = random.Random(0).sample(list(space.enumerate()), waiting + 1)
    assert first.plan(Batch(tuple(map(Proposal, cells))))
    context = multiprocessing.get_context("fork")
    ready, counts = context.Barrier(4), context.Queue()

    def work() -> None:
        counts.put(take_all(Study.open(storage=place, name="search", space=space, options={})))

    workers = [context.Process(target=work, daemon=True) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert sum(counts.get() for _ in workers) == waiting
    for worker in workers:
        worker.join()
    first.close()
