"""Many workers on one study: claims, leases, and workers that die, are slow, or come too late."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diffnag.search_loop.loop import Search, run_search
from diffnag.search_loop.result import SearchResult
from diffnag.search_loop.study import leases
from diffnag.search_loop.study.claims import Claim
from diffnag.search_loop.study.ledger import Planned
from diffnag.search_loop.study.records import Outcome
from diffnag.search_loop.study.study import Study
from diffnag.search_loop.trial import Batch, Generated, Proposal
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.search_fakes import LoggedOracle, ToyOracle, value
from tests.worker_processes import labels, logged, options, start_worker, trials, wait_for

STORAGES = {"sqlite": "sqlite:///{}/study.db", "journal": "journal:{}/study.log"}
Open = Callable[[], Study]


@pytest.fixture(params=STORAGES.values(), ids=STORAGES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp_path)


@pytest.fixture
def worker(place: str, space: NASBench201) -> Iterator[Open]:
    """Make one more worker of the same study."""
    made: list[Study] = []

    def make() -> Study:
        made.append(Study.open(storage=place, name="search", space=space, options={"seed": 0}))
        return made[-1]

    yield make
    for study in made:
        study.close()


def batch(space: NASBench201, *operations: int) -> Batch:
    return Batch(tuple(Proposal(space.of_operations((operation,) * 6)) for operation in operations), "none", 20, 0)


def die(study: Study) -> None:
    """End a worker as a kill does: the lock of its process is released, and nothing else happens."""
    study.claims.worker.close(forgotten=False)
    study.claims.give_back = lambda: None  # type: ignore[method-assign]
    study.claims.close()


def on_another_machine(study: Study) -> None:
    """Delete the lock of a worker, as if it ran on another machine."""
    leases._file_of(study.claims.worker.id).unlink()


def begun(study: Study, space: NASBench201, *operations: int) -> Claim:
    """Plan a round of these cells; the claim of its first place."""
    assert study.begin_round()
    claim = study.plan(batch(space, *operations))
    assert claim
    study.refresh()
    return claim


# -- claims


def test_each_place_is_given_to_one_worker(worker: Open, space: NASBench201) -> None:
    one, other, third = worker(), worker(), worker()
    assert one.begin_round()
    other.refresh()
    assert not other.begin_round() and other.others_at_work == 1 and other.take() is None
    first = one.plan(batch(space, 1, 2, 3))
    one.refresh()
    other.refresh()
    third.refresh()
    claims = [first, other.take(), third.take(), one.take()]
    assert [claim and claim.planned.number for claim in claims] == [0, 1, 2, None]
    assert not other.begin_round() if other.planned < 3 else other.known.pending == third.known.pending == one.known.pending
    for study, claim in zip((one, other, third), claims, strict=False):
        assert claim and study.tell(claim, Outcome(float(claim.planned.number), None, 0.1))
    for study in (one, other, third):
        study.refresh()
        assert [trial.value for trial in study.history] == [0.0, 1.0, 2.0] and study.known.pending == () and study.others_at_work == 0


def test_a_waiting_trial_that_two_want_goes_to_one(worker: Open, space: NASBench201) -> None:
    one, other = worker(), worker()
    begun(one, space, 1, 2)
    other.refresh()  # both have seen place 1 waiting
    won = [one.take(), other.take()]
    assert [claim is None for claim in won] == [False, True]
    other.refresh()
    assert other.take() is None and other.others_at_work == 2


def test_a_round_that_two_begin_at_once_is_the_firsts(worker: Open, space: NASBench201, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = worker(), worker()
    assert one.begin_round()
    assert not other.begin_round(), "its look at the storage was older, but its trial is the second"
    assert one.plan(batch(space, 1)) is not None
    states = [trial.state.name for trial in one._study.get_trials()]
    assert states == ["RUNNING", "FAIL"]


def test_who_was_outbid_puts_the_next_round_down_for_the_others(worker: Open, space: NASBench201) -> None:
    one, other = worker(), worker()
    claim = begun(one, space, 1)
    assert not other.begin_round(), "its look at the storage was older"
    assert one.tell(claim, Outcome(1.0, None, 0.0))
    other.refresh()
    assert other.begin_round() and other.plan(batch(space, 2))
    states = [trial.state.name for trial in one._study.get_trials()]
    assert states == ["COMPLETE", "FAIL", "RUNNING", "WAITING"], "nobody else is at work, but somebody was"


def test_the_next_round_waits_for_whoever_comes_first(worker: Open, space: NASBench201) -> None:
    one, other, third = worker(), worker(), worker()
    begun(one, space, 1, 2)
    for study in (other, third):
        study.refresh()
    assert other.take()
    third.refresh()
    claim = begun(third, space, 3)  # two are at work, so the next round's trial is put down with this
    for study in (one, other):
        study.refresh()
    assert other.begin_round() and not one.begin_round(), "both have seen it waiting"
    assert other.plan(batch(space, 4), last=True)
    assert third.tell(claim, Outcome(1.0, None, 0.0))
    assert [trial.state.name for trial in one._study.get_trials()] == ["RUNNING", "RUNNING", "COMPLETE", "RUNNING"]


def test_a_round_put_down_twice_is_the_earlier_ones(worker: Open, space: NASBench201) -> None:
    one, other = worker(), worker()
    for _ in range(2):
        one.claims.prepare(0)
    other.refresh()
    assert not other._ledger.superseded and begun(other, space, 1).planned.number == 0
    one.refresh()
    assert one.take() is None and [trial.state.name for trial in one._study.get_trials()] == ["RUNNING", "FAIL"]


def test_a_place_that_two_have_put_down_is_evaluated_once_and_leaves_nothing(
    worker: Open, space: NASBench201, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner, quick = worker(), worker()
    enqueue = planner.claims.enqueue

    def late(place: Planned, text: str) -> None:
        quick.refresh()
        claim = quick.take()
        assert claim and claim.planned == place and quick.tell(claim, Outcome(2.0, None, 0.0))
        enqueue(place, text)

    monkeypatch.setattr(planner.claims, "enqueue", late)
    assert planner.tell(begun(planner, space, 1, 2), Outcome(1.0, None, 0.0))
    planner.refresh()
    assert [trial.value for trial in planner.history] == [1.0, 2.0]
    assert sorted(trial.state.name for trial in planner._study.get_trials()) == ["COMPLETE", "COMPLETE", "FAIL"]


def test_pending_is_what_has_no_label(worker: Open, space: NASBench201) -> None:
    one = worker()
    claim = begun(one, space, 1, 2)
    assert one.known.pending == tuple(p.arch for p in batch(space, 1, 2).proposals)
    one.tell(claim, Outcome(1.0, None, 0.0))
    one.refresh()
    assert one.known.pending == (batch(space, 2).proposals[0].arch,) and one.planned == 2


def test_what_was_generated_is_there_for_all_until_more_is(worker: Open, space: NASBench201) -> None:
    one, other = worker(), worker()
    for paid, operations in ((0, (2, 3)), (10, (4,))):
        archs = tuple(space.of_operations((operation,) * 6) for operation in operations)
        generated = Generated(paid, archs, "gradient")
        assert one.begin_round()
        claim = one.plan(replace(batch(space, 0), generated=generated))
        assert claim and one.tell(claim, Outcome(1.0, None, 0.0))
        for study in (one, other, worker()):
            study.refresh()
            assert study.generated == generated
        begun(one, space, 1)
        other.refresh()
        assert other.generated == generated, "a round that generates nothing takes nothing away"


# -- the dead


def test_a_dead_planners_round_is_planned_by_another(worker: Open, space: NASBench201) -> None:
    dead, living = worker(), worker()
    assert dead.begin_round()
    living.refresh()
    assert not living.begin_round()
    die(dead)
    living.refresh()
    assert begun(living, space, 1).planned.number == 0


def test_a_dead_workers_place_and_the_rest_of_its_plan_come_back(worker: Open, space: NASBench201, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, living = worker(), worker()
    monkeypatch.setattr(dead.claims, "enqueue", lambda place, text: None)  # it dies before the other places have trials
    begun(dead, space, 1, 2, 3)
    die(dead)
    living.refresh()
    numbers = []
    while claim := living.take():
        numbers.append(claim.planned.number)
        assert living.tell(claim, Outcome(1.0, None, 0.0))
    assert numbers == [0, 1, 2]
    living.refresh()
    assert len(living.history) == 3 and living.spent.nfe == 20


def test_an_outcome_that_was_written_is_a_label(worker: Open, space: NASBench201, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, living = worker(), worker()
    claim = begun(dead, space, 1)
    monkeypatch.setattr(dead.claims, "finish", lambda trial, outcome: die(dead))
    dead.tell(claim, Outcome(3.0, None, 0.0))
    living.refresh()
    assert [trial.value for trial in living.history] == [3.0] and living.take() is None


def test_files_of_workers_that_end_meanwhile_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may end after its file was listed and before it is read."""
    monkeypatch.setattr(leases, "_file_of", lambda worker: tmp_path / f"{worker}.lock")
    (tmp_path / "ended.lock").symlink_to(tmp_path / "is no more")
    (old := tmp_path / "dead.lock").touch()
    os.utime(old, (0, 0))
    worker = leases.Worker(known=True)
    assert (tmp_path / f"{worker.id}.lock").exists() and not leases.is_dead(worker.id) and not old.exists()
    worker.close()


def test_a_lease_that_stands_still_is_a_dead_workers(worker: Open, space: NASBench201, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "PATIENCE", 0.3)
    dead, living = worker(), worker()
    claim = begun(dead, space, 1)
    on_another_machine(dead)
    living.refresh()
    assert living.take() is None
    time.sleep(0.4)
    living.refresh()
    again = living.take()
    assert again and again.planned == claim.planned and again.trial_id != claim.trial_id
    assert not dead.report(claim, epochs=1, value=1.0) and not dead.tell(claim, Outcome(1.0, None, 0.0)), "it comes too late"
    assert living.tell(again, Outcome(2.0, None, 0.0))
    dead.refresh()
    assert [trial.value for trial in dead.history] == [2.0]


def test_a_lease_is_renewed_while_the_evaluation_runs(worker: Open, space: NASBench201, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "PATIENCE", 1.0)
    monkeypatch.setattr(leases, "RENEWED", 0.05)
    busy, other = worker(), worker()
    claim = begun(busy, space, 1)
    on_another_machine(busy)
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        other.refresh()
        assert other.others_at_work == 1
        time.sleep(0.05)
    assert busy.tell(claim, Outcome(1.0, None, 0.0))


def test_a_planner_that_comes_too_late_plans_nothing(worker: Open, space: NASBench201, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "PATIENCE", 0.1)
    late, other = worker(), worker()
    assert late.begin_round()
    on_another_machine(late)
    other.refresh()
    time.sleep(0.2)
    other.refresh()
    begun(other, space, 1)
    assert late.plan(batch(space, 2, 3)) is None
    late.refresh()
    assert late.planned == 1 and late.known.pending == other.known.pending


def test_who_ends_gives_back_at_once(place: str, space: NASBench201) -> None:
    ended, other = (Study.open(storage=place, name="search", space=space, options={}) for _ in range(2))
    begun(ended, space, 1)
    ended.close()
    other.refresh()
    assert other.take() is not None
    other.close()


def test_a_dead_writers_journal_is_free_at_once_and_its_half_line_is_cut_off(tmp_path: Path, space: NASBench201) -> None:
    place, path = f"journal:{tmp_path}/study.log", tmp_path / "study.log"
    dead, living = (Study.open(storage=place, name="search", space=space, options={}) for _ in range(2))
    begun(dead, space, 1, 2)
    (tmp_path / "study.log.lock").symlink_to(dead.claims.worker.id)
    with path.open("ab") as file:
        file.write(b'{"op_code":8,"worker_id":"')
    die(dead)
    living.refresh()
    claim = living.take()
    assert claim and living.tell(claim, Outcome(1.0, None, 0.0))
    living.close()
    assert path.read_bytes().count(b'{"op_code":8,"worker_id":""') == 0
    again = Study.open(storage=place, name="search", space=space, options={})
    assert [trial.value for trial in again.history] == [1.0]
    again.close()


# -- whole searches


@pytest.mark.timeout(120)
def test_four_workers_evaluate_nothing_twice_and_spend_the_budget_exactly(place: str, tmp_path: Path, space: NASBench201) -> None:
    results: list[SearchResult] = []
    asked, log = options(budget=40, batch=3), tmp_path / "log"

    def work() -> None:
        with Search(asked, storage=place, oracle=LoggedOracle(log, seconds=0.02)) as search:
            ready.wait()
            results.append(search.run())

    ready = threading.Barrier(4)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and len({result.trials for result in results}) == 1, "each sees the same end"
    assert len(labels(place)) == results[0].labels_target == 40
    assert set(logged(log).values()) == {1} and len(logged(log)) == 80
    assert [trial.number for trial in results[0].trials] == list(range(40))
    assert all(trial.value == value(trial.arch) for trial in results[0].trials)
    assert {trial.state.name for trial in trials(place)} <= {"COMPLETE", "FAIL"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_worker_costs_nothing_but_its_evaluation(place: str, tmp_path: Path) -> None:
    asked, log = options(budget=30), tmp_path / "log"
    workers = [start_worker(place, log, asked, seconds=0.2) for _ in range(4)]
    wait_for(6, log, workers)
    workers[1].kill()
    for process in workers:
        process.join()
    assert [process.exitcode for process in workers] == [0, -9, 0, 0]
    assert len(labels(place)) == 30
    counts = logged(log)
    assert sum(counts[name] for name in counts if name.startswith("end")) in (30, 31), "one may have been killed between value and label"
    assert sum(counts[name] for name in counts if name.startswith("begin")) <= 31


def test_one_worker_alone_does_what_it_did(place: str) -> None:
    def found(result: SearchResult) -> list[Any]:
        return [(trial.number, trial.round, trial.arch, trial.value) for trial in result.trials]

    for method in ("evolution", "local-search"):
        asked = options(method=method, budget=20)
        in_memory = run_search(asked, oracle=ToyOracle())
        assert found(run_search(asked, storage=place, name=method, oracle=ToyOracle())) == found(in_memory)
