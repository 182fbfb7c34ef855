"""The compact table file, the places where tables are searched, the checks of readers, and the table oracle."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffnag.errors import DataNotFound, UserError
from diffnag.io.tables import BenchmarkTable, check_accuracies, imported_file, load_table, locate, read_benchmark
from diffnag.oracles.table import TableOracle
from diffnag.search_loop.oracle import find_oracle
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.search_spaces.nasbench201.table import KEYS, SPLITS

SPACE = NASBench201()
ARCHS = list(SPACE.enumerate())[:4]


def a_table(version: str = "v1_1") -> BenchmarkTable:
    """Value 10 + k.j for key k, architecture j."""
    values = {key: np.array(10 + k + np.arange(len(ARCHS)) / 10, dtype=np.float32) for k, key in enumerate(KEYS)}
    return BenchmarkTable(
        space="nasbench201", archs=tuple(map(SPACE.to_str, ARCHS)), values=values,
        seconds={"cifar10/12": np.array([1, 2, 3, 4], dtype=np.float32)}, version=version, sha256="0" * 64,
    )


def write_csv(path: Path, *, shift: float = 0.0, rows: int = len(ARCHS)) -> None:
    head = ["index", "arch_str", *(key.replace("/", "_") for key in KEYS)]
    lines = [[str(j), SPACE.to_str(ARCHS[j]), *(f"{10 + k + j / 10 + shift}" for k in range(len(KEYS)))] for j in range(rows)]
    text = "".join(",".join(line) + "\n" for line in [head, *lines])
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFNAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `$DIFFNAG_DATA`."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("DIFFNAG_DATA", str(folder))
    return folder


def oracle() -> TableOracle:
    made = TableOracle()
    made.setup(space=SPACE)
    return made


class TestCompactFile:
    def test_what_is_saved_is_loaded(self, tmp_path: Path) -> None:
        table = a_table()
        table.save(tmp_path / "t.npz")
        again = BenchmarkTable.load(tmp_path / "t.npz")
        assert (again.space, again.archs, again.version, again.sha256) == (table.space, table.archs, table.version, table.sha256)
        assert again.complete
        for kept, was in ((again.values, table.values), (again.seconds, table.seconds)):
            assert list(kept) == list(was)
            assert all(kept[key].dtype == np.float32 and (kept[key] == was[key]).all() for key in was)

    def test_no_seconds(self, tmp_path: Path) -> None:
        replace(a_table(), seconds={}).save(tmp_path / "t.npz")
        assert BenchmarkTable.load(tmp_path / "t.npz").seconds == {}

    def test_damaged_files_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "t.npz"
        a_table().save(path)
        whole = path.read_bytes()
        for content in (b"", b"text", whole[: len(whole) // 2], whole[:100] + b"\0" * 50 + whole[150:]):
            path.write_bytes(content)
            with pytest.raises(UserError, match="no readable table file"):
                BenchmarkTable.load(path)
        np.savez(path, other=np.zeros(3))
        with pytest.raises(UserError, match="no readable table file"):
            BenchmarkTable.load(path)
        with pytest.raises(UserError, match="no readable table file"):
            BenchmarkTable.load(tmp_path / "absent.npz")

    def test_pickled_arrays_are_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "t.npz", head=np.array([{}], dtype=object))
        with pytest.raises(UserError, match="no readable table file"):
            BenchmarkTable.load(tmp_path / "t.npz")

    def test_another_format_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("diffnag.io.tables.FORMAT", 7)
        a_table().save(tmp_path / "t.npz")
        monkeypatch.undo()
        with pytest.raises(UserError, match="table format 7"):
            BenchmarkTable.load(tmp_path / "t.npz")


class TestPlaces:
    def test_nowhere(self) -> None:
        assert locate(SPACE, SPACE.name) is None
        with pytest.raises(DataNotFound, match=r"diffnag\.data import nasbench201 --from FILE"):
            oracle()

    def test_imported(self) -> None:
        a_table().save(imported_file("nasbench201"))
        assert oracle().provenance()["version"] == "v1_1"

    @pytest.mark.parametrize("name", ["nas_bench_201.csv.gz", "nasbench201.npz"])
    def test_data_folder_comes_before_the_cache(self, data: Path, name: str) -> None:
        a_table().save(imported_file("nasbench201"))
        if name.endswith(".npz"):
            a_table("v1_0").save(data / name)
        else:
            write_csv(data / name)
        assert oracle().provenance()["version"] != "v1_1"
        (data / name).unlink()
        assert oracle().provenance()["version"] == "v1_1"

    def test_a_csv_is_read_once_and_again_when_it_changed(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = data / SPACE.table_file
        write_csv(source)
        reads: list[Path] = []
        read = NASBench201.read_table

        def counted(self: NASBench201, path: Path, *, trust_pickle: bool) -> BenchmarkTable:
            reads.append(path)
            return read(self, path, trust_pickle=trust_pickle)

        monkeypatch.setattr(NASBench201, "read_table", counted)
        values = [oracle().query(ARCHS[0], dataset="cifar10", split="val") for _ in range(3)]
        assert values == [10, 10, 10] and reads == [source]
        write_csv(source, shift=0.5)
        assert oracle().query(ARCHS[0], dataset="cifar10", split="val") == 10.5
        os.utime(source, ns=(0, 0))
        assert oracle().query(ARCHS[0], dataset="cifar10", split="val") == 10.5
        assert len(reads) == 3

    def test_the_cache_serves_only_while_the_data_folder_names_its_source(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_csv(data / SPACE.table_file)
        load_table(SPACE)
        (tmp_path / "elsewhere").mkdir()
        for folder in (None, tmp_path / "elsewhere"):
            monkeypatch.setenv("DIFFNAG_DATA", str(folder)) if folder else monkeypatch.delenv("DIFFNAG_DATA")
            with pytest.raises(DataNotFound, match="the nasbench201 table is not here"):
                load_table(SPACE)
            assert find_oracle("auto", SPACE).kind == "surrogate"

    def test_a_damaged_cached_table_is_read_anew(self, data: Path, cache: Path) -> None:
        write_csv(data / SPACE.table_file)
        oracle()
        (kept,) = (cache / "tables").iterdir()
        for content in (b"", kept.read_bytes()[:300], kept.read_bytes()[:100] + b"\0" * 50 + kept.read_bytes()[150:]):
            kept.write_bytes(content)
            assert oracle().query(ARCHS[1], dataset="cifar10", split="val") == pytest.approx(10.1)
            assert BenchmarkTable.load(kept).archs == a_table().archs

    def test_a_cache_that_cannot_be_written_is_no_error(self, data: Path, cache: Path) -> None:
        write_csv(data / SPACE.table_file)
        cache.write_text("a file where the folder would be")
        assert oracle().query(ARCHS[1], dataset="cifar10", split="val") == pytest.approx(10.1)

    def test_a_table_of_another_space(self) -> None:
        replace(a_table(), space="other").save(imported_file("nasbench201"))
        with pytest.raises(UserError, match="table of space 'other', not of 'nasbench201'"):
            oracle()

    def test_a_space_without_tables(self) -> None:
        class Bare:
            name = "bare"

        with pytest.raises(DataNotFound, match="space 'bare' has no benchmark table"):
            TableOracle().setup(space=Bare())  # type: ignore[arg-type]

    def test_a_data_folder_that_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DIFFNAG_DATA", str(tmp_path / "absent"))
        with pytest.raises(UserError, match="not a folder"):
            oracle()


class TestCompleteness:
    def test_a_part_says_so_and_auto_does_not_prefer_it(self, data: Path) -> None:
        write_csv(data / SPACE.table_file)
        for _ in range(2):  # as read, and from the cache
            assert not load_table(SPACE).complete
        assert find_oracle("auto", SPACE).kind == "surrogate" and find_oracle("table", SPACE).kind == "table"

    def test_all_of_a_space(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(NASBench201, "enumerate", lambda self: iter(ARCHS))
        write_csv(data / SPACE.table_file)
        assert load_table(SPACE).complete and find_oracle("auto", SPACE).kind == "table"
        monkeypatch.setattr(NASBench201, "enumerate", lambda self: None)
        assert not read_benchmark(SPACE, data / SPACE.table_file, trust_pickle=False).complete

    def test_without_a_surrogate_the_sentence_names_the_table(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_csv(data / SPACE.table_file)
        monkeypatch.setattr("diffnag.oracles.surrogate.PRETRAINED", data)
        with pytest.raises(DataNotFound, match="has a part of the architectures only; --oracle table uses it; nor is a surrogate shipped"):
            find_oracle("auto", SPACE)


class TestAccuracies:
    def test_percents_pass(self, tmp_path: Path) -> None:
        check_accuracies(tmp_path, {"a": np.array([0, 0.5, np.nan, 100]), "b": np.array([np.nan]), "c": np.array([])})

    @pytest.mark.parametrize(("column", "said"), [([0.2, 1.0], "which look like fractions"), ([-1, 50], "not within"), ([50, np.inf], "not within")])
    def test_others_are_refused(self, column: list[float], said: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=said):
            check_accuracies(tmp_path, {"a": np.array([50.0]), "b": np.array(column)})


class TestOracle:
    @pytest.fixture
    def oracle(self) -> TableOracle:
        a_table().save(imported_file("nasbench201"))
        return oracle()

    def test_answers(self, oracle: TableOracle) -> None:
        for k, key in enumerate(KEYS):
            dataset, split, epochs = key.split("/")
            for j, arch in enumerate(ARCHS):
                value = oracle.query(arch, dataset=dataset, split=split, epochs=int(epochs))
                assert value == pytest.approx(10 + k + j / 10) and type(value) is float
        for name in SPLITS:
            dataset, split = name.split("/")
            longest = oracle.query(ARCHS[0], dataset=dataset, split=split, epochs=200)
            assert oracle.query(ARCHS[0], dataset=dataset, split=split) == longest

    def test_says_what_there_is(self, oracle: TableOracle) -> None:
        assert oracle.available == dict.fromkeys(("cifar10", "cifar100", "ImageNet16-120"), ("val", "test"))
        assert oracle.provenance() == {"table": "nasbench201", "version": "v1_1", "sha256": "0" * 64, "architectures": 4}
        assert oracle.kind == "table"

    def test_columns_of_another_form(self) -> None:
        replace(a_table(), values={"cifar10-val": np.zeros(4, np.float32)}).save(imported_file("nasbench201"))
        with pytest.raises(UserError, match="the table has a column 'cifar10-val'; accepted are names dataset/split/epochs"):
            oracle()

    def test_unknown_names(self, oracle: TableOracle) -> None:
        arch = ARCHS[0]
        with pytest.raises(UserError, match="unknown dataset 'mnist'; there are: cifar10, cifar100, ImageNet16-120"):
            oracle.query(arch, dataset="mnist", split="val")
        with pytest.raises(UserError, match="unknown split 'train'; there are: val, test"):
            oracle.query(arch, dataset="cifar10", split="train")
        with pytest.raises(UserError, match="no results of 90 epochs; there are: 12, 200"):
            oracle.query(arch, dataset="cifar10", split="val", epochs=90)
        absent = SPACE.of_operations((4,) * 6)
        with pytest.raises(UserError, match="is not among the 4 architectures"):
            oracle.query(absent, dataset="cifar10", split="val")


class TestReference:
    def test_published_optima(self, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
        table = load_table(SPACE)
        optima = [round(float(table.values[f"{name}/200"].max()), 2) for name in SPLITS]
        assert optima == [91.61, 94.37, 73.49, 73.51, 46.77, 47.31]
        assert len(table.archs) == 15_625 and table.version == "v1_0"
        assert {SPACE.from_str(text) for text in table.archs} == set(SPACE.enumerate())
        assert [*table.seconds] == ["cifar10/12"] and (table.seconds["cifar10/12"] > 0).all()

    def test_loads_in_50_ms(self, data_folder: Path, data: Path) -> None:
        shutil.copy(data_folder / SPACE.table_file, data)
        oracle()
        elapsed = []
        for _ in range(5):
            start = time.perf_counter()
            oracle()
            elapsed.append(time.perf_counter() - start)
        assert min(elapsed) < 0.05
