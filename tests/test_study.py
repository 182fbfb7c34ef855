"""The storage of a search: resuming, sharing, and everything that may be wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from diffnag.errors import UserError
from diffnag.search_loop.study import storage as storages
from diffnag.search_loop.study.study import Study
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.search_fakes import FlakyOracle, KilledOracle, ToyOracle
from tests.toy_search import options, outcome, search
from tests.worker_processes import options as random_draws
from tests.worker_processes import trials

STORAGES = {"sqlite": "sqlite:///{}/study.db", "journal": "journal:{}/study.log"}


@pytest.fixture(params=STORAGES.values(), ids=STORAGES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp_path)


@pytest.mark.parametrize("method", ["evolution", "local-search", "diffnag"])
def test_a_killed_search_goes_on_as_the_unbroken_one(method: str, place: str) -> None:
    unbroken = search(options(method))
    for at in (8, 3):  # in the middle of a round, twice
        with pytest.raises(KeyboardInterrupt):
            search(options(method), oracle=KilledOracle(at), storage=place)
    oracle = ToyOracle()
    resumed = search(options(method), oracle=oracle, storage=place)
    assert outcome(resumed) == outcome(unbroken)
    assert len(oracle.asked) == 17 - 7 - 2 + 1  # nothing finished is paid for again; one more for the test value
    assert (resumed.nfe, resumed.predictor_nfe, resumed.guidance) == (unbroken.nfe, unbroken.predictor_nfe, unbroken.guidance)
    again = search(options(method), oracle=KilledOracle(99), storage=place)
    assert outcome(again) == outcome(unbroken)


def test_the_storage_is_an_ordinary_optuna_study(tmp_path: Path, space: NASBench201) -> None:
    place = f"sqlite:///{tmp_path}/study.db"
    with pytest.raises(KeyboardInterrupt):
        search(options(), oracle=KilledOracle(4), storage=place)
    result = search(options(), storage=place)
    study = optuna.load_study(study_name="search", storage=optuna.storages.RDBStorage(place))
    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") == 17 and states.count("FAIL") == 1 and len(states) == 18
    assert [t.number for t in study.trials if "abandoned" in t.user_attrs] == [3]
    assert result.best and study.best_value == result.best.value
    assert space.to_str(space.from_parameters(study.best_params)) == result.best.arch


def test_the_budget_may_grow_and_nothing_else_change(tmp_path: Path) -> None:
    place = f"journal:{tmp_path}/study.log"
    short = search(options("evolution", budget=10), storage=place)
    longer = search(options("evolution", budget=20), storage=place)
    assert outcome(longer)[:10] == outcome(short) and outcome(longer) == outcome(search(options("evolution", budget=20)))
    assert longer.wall_s > short.wall_s
    with pytest.raises(UserError, match=r"was made with batch 5, not 4; seed 0, not 1:"):
        search(options("evolution", batch=4, seed=1), storage=place)
    with pytest.raises(UserError, match=r"was made with method 'evolution', not 'random':"):
        search(options("random"), storage=place)
    oracle = ToyOracle()
    oracle.provenance = lambda: {"version": "2"}  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"was made with oracle version '1', not '2':"):
        search(options("evolution"), oracle=oracle, storage=place)


def test_a_spent_budget_reports_again(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/study.db"
    first, oracle = search(options(), storage=place), ToyOracle()
    second = search(options(budget=3), oracle=oracle, storage=place)
    assert outcome(second) == outcome(first) and [split for _, split in oracle.asked] == ["test"]


def test_two_studies_in_one_storage(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/study.db"
    assert outcome(search(options(seed=1), storage=place, name="b")) != outcome(search(options(), storage=place, name="a"))


@pytest.mark.parametrize("storage", ["sqlite:////no/such/folder/x.db", "journal:/no/such/folder/x", "nonsense"])
def test_storage_that_cannot_be_opened(storage: str) -> None:
    with pytest.raises(UserError, match="cannot open storage"):
        search(options(), storage=storage)


def test_a_password_is_not_shown() -> None:
    with pytest.raises(UserError, match=r"postgresql\+psycopg://me:\*\*\*@host/db") as caught:
        search(options(), storage="postgresql+psycopg://me:secret@host/db")
    assert "secret" not in str(caught.value)


# -- bad input


def test_an_oracle_that_fails_leaves_the_study_whole(place: str) -> None:
    class Infinite(FlakyOracle):
        def query(self, *arguments: Any, **more: Any) -> float:
            found = super().query(*arguments, **more)
            return float("inf") if len(self.asked) % 7 == 0 else found

    result = search(random_draws(budget=14), storage=place, oracle=Infinite())
    assert result.labels_target == 14 and result.trials[6].error == "the oracle returned inf"
    assert [t.state.name for t in trials(place)] == ["COMPLETE" if trial.error is None else "FAIL" for trial in result.trials]
    assert search(random_draws(budget=14), storage=place, oracle=ToyOracle()).trials == result.trials


def test_a_user_error_of_the_oracle_ends_the_search_and_gives_the_trial_back(place: str) -> None:
    class Refuses(ToyOracle):
        def query(self, *arguments: Any, **more: Any) -> float:
            if len(self.asked) == 3:
                raise UserError("the disk is full")
            return super().query(*arguments, **more)

    with pytest.raises(UserError, match="the disk is full"):
        search(random_draws(budget=6), storage=place, oracle=Refuses())
    assert search(random_draws(budget=6), storage=place, oracle=ToyOracle()).labels_target == 6


def test_two_sets_of_options_on_one_study(place: str, space: NASBench201, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Study.open(storage=place, name="search", space=space, options={"seed": 0})
    with pytest.raises(UserError, match=r"was made with seed 0, not 1: it goes on only with the options it was made with"):
        Study.open(storage=place, name="search", space=space, options={"seed": 1})
    one._study.set_user_attr("options", {**one._made, "seed": 1})  # of one that began in the very same moment
    with pytest.raises(UserError, match=r"was made with seed 1, not 0"):
        one.begin_round()
    one.close()


def test_a_study_of_another_version_or_of_something_else(place: str, space: NASBench201) -> None:
    opened = storages.open_storage(place, worker="test")
    studies = [optuna.create_study(storage=opened, study_name=name, direction="maximize") for name in ("old", "foreign")]
    studies[0].set_user_attr("options", {"seed": 0})
    studies[1].ask()
    storages.close_storage(opened)
    with pytest.raises(UserError, match="'old' in .* was made by another version of diffnag"):
        Study.open(storage=place, name="old", space=space, options={"seed": 0})
    with pytest.raises(UserError, match=r"'foreign' in .* was not made by diffnag.search; give another --study"):
        Study.open(storage=place, name="foreign", space=space, options={"seed": 0})


def test_a_locked_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    monkeypatch.setattr(storages, "BUSY_S", 0.1)
    place = f"sqlite:///{tmp_path}/study.db"
    search(random_draws(budget=3), storage=place, oracle=ToyOracle())
    other = sqlite3.connect(tmp_path / "study.db")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UserError, match=r"cannot open storage '.*study.db', .*: \(sqlite3.OperationalError\) database is locked$"):
        search(random_draws(budget=3), storage=place, oracle=ToyOracle())
    other.close()

    class Locks(ToyOracle):
        """Another program locks the database in the midst of the search."""

        def query(self, *arguments: Any, **more: Any) -> float:
            if len(self.asked) == 2:
                self.other = sqlite3.connect(tmp_path / "study.db")
                self.other.execute("BEGIN EXCLUSIVE")
            return super().query(*arguments, **more)

    oracle = Locks()
    with pytest.raises(UserError, match=r"storage '.*study.db' does not answer: \(sqlite3.OperationalError\) database is locked; .* goes on"):
        search(random_draws(budget=9), storage=place, oracle=oracle)
    oracle.other.close()
    assert search(random_draws(budget=9), storage=place, oracle=ToyOracle()).labels_target == 9


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("study.db", b"this is no database, and it is long enough to be read as one" * 20, "file is not a database"),
        ("study.log", b'{"trial": 1}\n', "no journal of Optuna, and is left as it is"),
        ("study.log", b'{"op_code":99,"worker_id":"x"}\n', "what is there is no study of this Optuna"),
        ("study.log", b"hello\nworld\n", "no journal of Optuna, and is left as it is"),
        ("study.log", b"one line without an end", "no journal of Optuna, and is left as it is"),
    ],
)
def test_files_that_are_something_else(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    place = f"sqlite:///{tmp_path}/{name}" if name.endswith("db") else f"journal:{tmp_path}/{name}"
    with pytest.raises(UserError, match=f"cannot open storage .*{reason}"):
        search(random_draws(), storage=place, oracle=ToyOracle())
    assert (tmp_path / name).read_bytes() == content


def test_a_database_of_another_optuna(tmp_path: Path) -> None:
    import sqlite3

    place = f"sqlite:///{tmp_path}/study.db"
    search(random_draws(budget=1), storage=place, oracle=ToyOracle())
    database = sqlite3.connect(tmp_path / "study.db")
    database.execute("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
    database.commit()
    database.close()
    with pytest.raises(UserError, match="cannot open storage .*no longer compatible with the table schema"):
        search(random_draws(budget=1), storage=place, oracle=ToyOracle())
