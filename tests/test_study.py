"""The storage of a search: resuming, sharing, and everything that may be wrong with it."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import optuna
import pytest

from diffnag.errors import UserError
from diffnag.guidance.checked import load_predictor
from diffnag.search_loop.loop import Search, run_search
from diffnag.search_loop.result import SearchResult
from diffnag.search_loop.study import storage as storages
from diffnag.search_loop.study.study import Study
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.loading import load_space
from tests.search_fakes import FlakyOracle, KilledOracle, RandomGenerator, ToyOracle, value
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


@pytest.mark.parametrize("content", [b"notes of mine", b"notes\nof mine\n", b'{"op_code', b"\n", bytes(range(256)), b"[]"])
@pytest.mark.parametrize("place", ["{}", "journal:{}"])
def test_a_users_file_is_left_as_it_is(content: bytes, place: str, tmp_path: Path) -> None:
    (file := tmp_path / "notes.log").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot open storage '.*notes.log', .* no journal of Optuna, and is left as it is$"):
        search(options(), storage=place.format(file))
    assert file.read_bytes() == content and [each.name for each in tmp_path.iterdir()] == ["notes.log"]


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    (tmp_path / "study.log").touch()
    assert search(options(budget=2), storage=f"{tmp_path}/study.log").labels_target == 2


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.log")
    (tmp_path / "folder.log").mkdir()
    for place in ("pipe.log", "folder.log"):
        for scheme in ("", "journal:", "sqlite:///"):
            with pytest.raises(UserError, match=r"cannot open storage .*what is there is no regular file"):
                search(options(), storage=f"{scheme}{tmp_path}/{place}")
    with pytest.raises(UserError, match=r"cannot open storage 'journal:/dev/null', .*what is there is no regular file"):
        search(options(), storage="journal:/dev/null")


def test_a_database_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    import sqlite3

    file = tmp_path / "mail.db"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE messages (id INTEGER)")
    database.close()
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"cannot open storage .*: the database that is there is none of Optuna, and is left as it is"):
        search(options(), storage=f"sqlite:///{file}")
    assert file.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == ["mail.db"]


@pytest.mark.parametrize("name", ["what?x=1", "50% {SCHEMA_VERSION}", "a b#c&d", "Ünï/dö"])
def test_the_url_of_any_path(name: str, tmp_path: Path) -> None:
    (folder := tmp_path / name).mkdir(parents=True)
    place = storages.sqlite_url(folder / "study.db")
    assert search(options(budget=2), storage=place).labels_target == 2
    assert (folder / "study.db").is_file() and {*tmp_path.rglob("*.db")} == {folder / "study.db"}


def test_ordinary_paths_are_written_as_they_are(tmp_path: Path) -> None:
    assert storages.sqlite_url(tmp_path / "a-b_c.d" / "study.db") == f"sqlite:///{tmp_path}/a-b_c.d/study.db"


@pytest.mark.parametrize("name", ["", " "])
def test_a_storage_without_a_name(name: str) -> None:
    with pytest.raises(UserError, match="the name of the storage is empty; expected is sqlite:///FILE, journal:FILE or postgresql"):
        search(options(), storage=name)


DAMAGES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "options are a list": ("options", lambda value: [1, 2]),
    "options are a text": ("options", lambda value: "seed 0"),
    "the plan is a number": ("plan", lambda value: 7),
    "the plan has no proposals": ("plan", lambda value: {key: value[key] for key in value if key != "proposals"}),
    "a proposal is no architecture": ("plan", lambda value: {**value, "proposals": [["|x|", None, None]]}),
    "a proposal is a number": ("plan", lambda value: {**value, "proposals": [3]}),
    "a prediction is a text": ("plan", lambda value: {**value, "proposals": [[value["proposals"][0][0], "good", None]]}),
    "evaluations are a text": ("plan", lambda value: {**value, "nfe": "many"}),
    "what is generated is a list": ("plan", lambda value: {**value, "generated": [1]}),
    "what is generated has no architectures": ("plan", lambda value: {**value, "generated": {"labels": 0, "guidance": "none"}}),
    "the outcome is empty": ("outcome", lambda value: {}),
    "the outcome is null": ("outcome", lambda value: None),
    "the value is a text": ("outcome", lambda value: {**value, "value": "91.5"}),
    "neither value nor error": ("outcome", lambda value: {**value, "value": None}),
    "the time is a list": ("outcome", lambda value: {**value, "wall_s": []}),
    "values are a number": ("outcome", lambda value: {**value, "values": 3}),
    "epochs are negative": ("outcome", lambda value: {**value, "epochs": -1}),
    "the round is a text": ("round", lambda value: "first"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_attributes_are_one_sentence(damage: str, tmp_path: Path) -> None:
    place, (key, change) = f"sqlite:///{tmp_path}/study.db", DAMAGES[damage]
    search(options(budget=2, batch=1), storage=place)
    table = "study_user_attributes" if key == "options" else "trial_user_attributes"
    rewrite(tmp_path / "study.db", table, key, lambda text: json.dumps(change(json.loads(text))))
    with pytest.raises(UserError, match=r"^study 'search' in sqlite:.* is damaged: .*; give another --study$") as caught:
        search(options(budget=4, batch=1), storage=place)
    assert f"attribute {key!r}" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["options", "plan", "outcome", "round"])
def test_attributes_that_are_not_json(key: str, tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/study.db"
    search(options(budget=2, batch=1), storage=place)
    table = "study_user_attributes" if key == "options" else "trial_user_attributes"
    rewrite(tmp_path / "study.db", table, key, lambda text: text[:-2] + "{")
    with pytest.raises(UserError, match=r"^cannot open storage 'sqlite:.*\(char \d+\)|^storage .* is damaged") as caught:
        search(options(budget=4, batch=1), storage=place)
    assert "\n" not in str(caught.value)


def rewrite(file: Path, table: str, key: str, change: Callable[[str], str]) -> None:
    """Change the first attribute called `key` in the database itself."""
    import sqlite3

    with sqlite3.connect(file) as database:
        number, text = database.execute(f"SELECT rowid, value_json FROM {table} WHERE key = ?", (key,)).fetchone()
        database.execute(f"UPDATE {table} SET value_json = ? WHERE rowid = ?", (change(text), number))
    database.close()


# -- what made the labels


PLUGIN = """
from tests.search_fakes import ToyOracle

class Oracle(ToyOracle):
    def query(self, arch, *, dataset, split, epochs=None):
        return super().query(arch, dataset=dataset, split=split) - {less}
"""


def test_code_of_a_plug_in_that_has_changed_is_reported_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, file = f"sqlite:///{tmp_path}/study.db", tmp_path / "changing_plugin.py"
    monkeypatch.syspath_prepend(tmp_path)

    def searched(budget: int, less: int) -> tuple[SearchResult, list[str]]:
        file.write_text(PLUGIN.format(less=less))
        monkeypatch.delitem(sys.modules, "changing_plugin", raising=False)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        importlib.invalidate_caches()
        notes: list[str] = []
        with Search(random_draws(oracle="changing_plugin:Oracle", budget=budget), storage=place) as ready:
            return ready.run(on_note=notes.append), notes

    first, notes = searched(3, 0)
    again, more = searched(4, 0)
    assert notes == more == [] and first.code == again.code and len(first.code["changing_plugin:Oracle"]) == 1
    changed, notes = searched(6, 1)
    assert notes == ["the code of plug-in 'changing_plugin:Oracle' has changed since the last label; result.json lists the checksums of both"]
    before, after = changed.code["changing_plugin:Oracle"]
    assert (before,) == first.code["changing_plugin:Oracle"] and after == sha256(file.read_bytes()).hexdigest()
    assert changed.to_json()["code"] == {"changing_plugin:Oracle": (before, after)} and "code" not in search(options(budget=1)).to_json()
    assert [trial.value for trial in changed.trials] == [value(trial.arch) - (i > 3) for i, trial in enumerate(changed.trials)]


def test_a_study_of_another_space_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"sqlite:///{tmp_path}/study.db"
    search(options(budget=2), storage=place)
    monkeypatch.setattr(NASBench201, "operators", NASBench201.operators[::-1])
    with pytest.raises(UserError, match="was made with space fingerprint '"):
        search(options(budget=4), storage=place)


def test_objects_for_another_space_or_dataset_are_refused() -> None:
    space, other = NASBench201(), load_space("nasbench101")
    oracle, asked = ToyOracle(), options("diffnag")
    elsewhere = load_predictor("random-forest", space=other, dataset="cifar10", seed=0)
    later = load_predictor("random-forest", space=space, dataset="cifar100", seed=0)
    fine = load_predictor("random-forest", space=space, dataset="cifar10", seed=0)
    for predictor, message in (
        (elsewhere, "predictor 'random-forest' was set up in space 'nasbench101', not in 'nasbench201'; load it again"),
        (later, "predictor 'random-forest' was set up for dataset 'cifar100', not for 'cifar10'; load it again"),
    ):
        with pytest.raises(UserError, match=message):
            run_search(asked, oracle=oracle, generator=RandomGenerator(space), predictor=predictor)
    with pytest.raises(UserError, match="the generator is for space 'nasbench101', not for 'nasbench201'; load it again"):
        run_search(asked, oracle=oracle, generator=RandomGenerator(other), predictor=fine)
    with pytest.raises(UserError, match="method 'random' makes no use of a generator and a predictor; leave it out"):
        run_search(options(), oracle=oracle, generator=RandomGenerator(space), predictor=fine)
    assert oracle.asked == []


def test_a_user_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers run as a number that no list of users has: `getpass` then raises."""
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert search(options(budget=2), storage=f"sqlite:///{tmp_path}/study.db").labels_target == 2
