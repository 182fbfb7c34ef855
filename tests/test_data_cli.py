"""`python -m diffnag.data`: import of a CSV and of the official pickle, and files that are refused."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nas_201_api import ArchResults, NASBench201API, ResultsCount

from diffnag import data
from diffnag.command.running import run_command
from diffnag.errors import UserError
from diffnag.io.tables import imported_file, load_table
from diffnag.oracles.table import TableOracle
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.search_spaces.nasbench201.table import KEYS, SPLITS, read

SPACE = NASBench201()
ARCHS = [SPACE.random(np.random.default_rng(seed)) for seed in range(5)]
STRINGS = [SPACE.to_str(arch) for arch in ARCHS]
IMAGES = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
}
"""Run -> the sets of images on which the official file measures it."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFNAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(monkeypatch: pytest.MonkeyPatch, *args: str | Path) -> int:
    """The exit code of `python -m diffnag.data ARGS`."""
    monkeypatch.setattr(sys, "argv", ["diffnag.data", *map(str, args)])
    try:
        run_command(data.main)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def trial(run: str, seed: int, *, epochs: int, rng: np.random.Generator, old: bool) -> ResultsCount:
    """One training with random values after every epoch, in the form of v1_1; `old` is the form of v1_0, without times."""

    def figures(keys: Iterable[Any]) -> dict[Any, float]:
        return {key: rng.uniform(10, 90) for key in keys}

    every = range(epochs)
    result = ResultsCount(run, None, figures(every), figures(every), 0.1, 15.6, {"arch_str": ""}, seed, epochs, [0.01])
    if old:
        for images in IMAGES[run]:
            result.update_OLD_eval(images, {epochs - 1: rng.uniform(10, 90)}, {epochs - 1: 1.0})
        return result
    result.update_train_info(figures(every), figures(every), figures(every), figures(every))
    keys = [f"{images}@{epoch}" for images in IMAGES[run] for epoch in every]
    result.update_eval(figures(keys), figures(keys), figures(keys))
    return result


def official(*, seeds: Sequence[int] = (777, 888, 999), old: bool = False) -> dict[str, Any]:
    """The contents of the official file for `ARCHS`: one seed of 12 epochs, `seeds` of 200."""
    rng = np.random.default_rng(0)
    infos = {}
    for index, text in enumerate(STRINGS):
        recipes = {}
        for name, epochs, trained in (("less", 12, seeds[:1]), ("full", 200, seeds)):
            results = ArchResults(index, text)
            for run in IMAGES:
                for seed in trained:
                    results.update(run, seed, trial(run, seed, epochs=epochs, rng=rng, old=old))
            recipes[name] = results.state_dict()
        infos[index] = recipes
    return {"meta_archs": STRINGS, "total_archs": len(STRINGS), "arch2infos": infos, "evaluated_indexes": set(infos)}


@pytest.fixture
def pth(tmp_path: Path) -> Path:
    path = tmp_path / "NAS-Bench-201-v1_1-096897.pth"
    torch.save(official(), path)
    return path


class TestOfficialFile:
    @pytest.mark.parametrize("zipped", [True, False])
    def test_gives_what_the_official_api_gives(self, tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        contents = official()
        path = tmp_path / "NAS-Bench-201-v1_1-096897.pth"
        torch.save(contents, path, _use_new_zipfile_serialization=zipped)  # the official file is of 2020, not zipped
        api = NASBench201API(contents, verbose=False)
        assert run(monkeypatch, "import", "nasbench201", "--from", path, "--trust-pickle") == 0
        table = load_table(SPACE)
        assert table.archs == tuple(STRINGS) and set(table.values) == set(KEYS)
        for index in range(len(STRINGS)):
            for epochs in (12, 200):
                for dataset in ("cifar100", "ImageNet16-120"):
                    info = api.get_more_info(index, dataset, hp=str(epochs), is_random=False)
                    assert table.values[f"{dataset}/val/{epochs}"][index] == np.float32(info["valid-accuracy"])
                    assert table.values[f"{dataset}/test/{epochs}"][index] == np.float32(info["test-accuracy"])
                info = api.get_more_info(index, "cifar10-valid", hp=str(epochs), is_random=False)
                assert table.values[f"cifar10/val/{epochs}"][index] == np.float32(info["valid-accuracy"])
                info = api.get_more_info(index, "cifar10", hp=str(epochs), is_random=False)
                assert table.values[f"cifar10/test/{epochs}"][index] == np.float32(info["test-accuracy"])
                if epochs == 12:
                    assert table.seconds["cifar10/12"][index] == np.float32(info["train-all-time"])

    def test_mean_over_seeds_of_the_last_epoch(self, pth: Path) -> None:
        full = official()["arch2infos"][2]["full"]["all_results"]
        trials = [full["cifar10-valid", seed]["eval_acc1es"]["x-valid@199"] for seed in (777, 888, 999)]
        table = read(pth, SPACE, trust_pickle=True)
        assert table.values["cifar10/val/200"][2] == np.float32(sum(trials) / 3)

    def test_version_and_checksum(self, pth: Path) -> None:
        table = read(pth, SPACE, trust_pickle=True)
        assert table.version == "v1_1"
        assert table.sha256 == hashlib.sha256(pth.read_bytes()).hexdigest()

    def test_of_version_1_0(self, tmp_path: Path) -> None:
        path = tmp_path / "NAS-Bench-201-v1_0-e61699.pth"
        contents = official(old=True)
        torch.save(contents, path)
        table = read(path, SPACE, trust_pickle=True)
        assert table.version == "v1_0" and table.seconds == {}
        less = contents["arch2infos"][0]["less"]["all_results"]["cifar100", 777]
        assert table.values["cifar100/test/12"][0] == np.float32(less["eval_acc1es"]["x-test@11"])

    def test_needs_trust(self, pth: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(monkeypatch, "import", "nasbench201", "--from", pth) == 2
        message = capsys.readouterr().err
        assert "run any code" in message and "--trust-pickle" in message and message.count("\n") == 1

    def test_needs_the_package(self, pth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "nas_201_api", None)
        with pytest.raises(UserError, match=r"pip install diffnag\[nasbench201\]"):
            read(pth, SPACE, trust_pickle=True)

    def test_of_another_kind(self, tmp_path: Path) -> None:
        path = tmp_path / "other.pth"
        for foreign in ({"state": 1}, [1, 2]):
            torch.save(foreign, path)
            with pytest.raises(UserError, match="no readable NAS-Bench-201 file"):
                read(path, SPACE, trust_pickle=True)
        contents = official()
        del contents["arch2infos"][0]["full"]["dataset_seed"]["cifar100"]
        torch.save(contents, path)
        with pytest.raises(UserError, match="no readable NAS-Bench-201 file.*cifar100"):
            read(path, SPACE, trust_pickle=True)
        path.write_bytes(b"torn")
        with pytest.raises(UserError, match="no readable NAS-Bench-201 file"):
            read(path, SPACE, trust_pickle=True)


def csv_text(*, archs: Sequence[str] = STRINGS, value: str = "50", drop: str | None = None) -> str:
    columns = ["arch_str", *(column for key in KEYS if (column := key.replace("/", "_")) != drop)]
    rows = [[text, *[value] * (len(columns) - 1)] for text in archs]
    return "".join(",".join(row) + "\n" for row in [columns, *rows])


class TestCSV:
    @pytest.mark.parametrize("name", ["part.csv", "part.csv.gz"])
    def test_import_of_a_part(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / name
        path.write_bytes(gzip.compress(csv_text().encode()) if name.endswith(".gz") else csv_text().encode())
        assert run(monkeypatch, "import", "nasbench201", "--from", path) == 0
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        printed = capsys.readouterr().out
        assert f"5 architectures (a part of the space), version unknown, sha256 {checksum}" in printed
        assert str(imported_file("nasbench201")) in printed
        oracle = TableOracle()
        oracle.setup(space=SPACE)
        assert oracle.query(ARCHS[0], dataset="cifar100", split="test", epochs=12) == 50

    def test_version_in_the_name(self, tmp_path: Path) -> None:
        path = tmp_path / "nb201_v1_1.csv"
        path.write_text(csv_text())
        assert read(path, SPACE, trust_pickle=False).version == "v1_1"

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "lacks the column arch_str"),
            (csv_text(drop="cifar100_val_12"), "lacks the column cifar100_val_12"),
            (csv_text(archs=[]), "no architecture"),
            (csv_text(archs=[STRINGS[0]] * 2), "an architecture twice"),
            (csv_text(archs=["|conv~0|"]), "no NAS-Bench-201 string"),
            (csv_text(value="good"), "no readable NAS-Bench-201 table"),
            (csv_text(value=""), "no readable NAS-Bench-201 table"),
            (csv_text(value="nan"), "lacks accuracies of some architectures"),
            (csv_text(value="0.5"), "accuracies of at most 0.5 % in cifar10/val/200, which look like fractions; expected is 0 to 100 %"),
            (csv_text(value="123"), "not within 0 and 100"),
            (csv_text()[:-20], "no readable NAS-Bench-201 table"),
            ("\x1f\x8btorn", "no readable NAS-Bench-201 table"),
        ],
    )
    def test_what_is_refused(
        self, tmp_path: Path, text: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "t.csv"
        path.write_bytes(text.encode("latin-1"))
        assert run(monkeypatch, "import", "nasbench201", "--from", path) == 2
        message = capsys.readouterr().err
        assert reason in message and message.count("\n") == 1
        assert not imported_file("nasbench201").exists()

    def test_reference(self, data_folder: Path) -> None:
        """Rows of the table equal those of the file; columns are found by name."""
        table = read(data_folder / "nas_bench_201.csv.gz", SPACE, trust_pickle=False)
        lines = gzip.decompress((data_folder / "nas_bench_201.csv.gz").read_bytes()).decode().split("\n")
        head = lines[0].split(",")
        for row in (0, 1, 7_777, 15_624):
            cells = dict(zip(head, lines[row + 1].split(","), strict=True))
            assert table.archs[row] == cells["arch_str"]
            for name in SPLITS:
                for epochs in (12, 200):
                    column = f"{name}/{epochs}".replace("/", "_")
                    assert table.values[f"{name}/{epochs}"][row] == np.float32(cells[column])
            assert table.seconds["cifar10/12"][row] == np.float32(cells["cifar10_train_time_12_s"])


class TestCommandLine:
    def test_list(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(monkeypatch, "list") == 0
        assert "nasbench201: the nasbench201 table is not here" in capsys.readouterr().out
        path = tmp_path / "nb201_v1_0.csv"
        path.write_text(csv_text())
        run(monkeypatch, "import", "nasbench201", "--from", path)
        capsys.readouterr()
        assert run(monkeypatch, "list") == 0
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        line = f"nasbench201: {imported_file('nasbench201')}, 5 architectures (a part of the space), version v1_0, sha256 {checksum}"
        assert line in capsys.readouterr().out.splitlines()

    def test_bad_names(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(monkeypatch, "import", "nasbench201", "--from", tmp_path / "absent.csv") == 2
        assert "there is no file" in capsys.readouterr().err
        assert run(monkeypatch, "import", "nasbench999", "--from", tmp_path / "absent.csv") == 2
        assert "unknown space 'nasbench999'" in capsys.readouterr().err

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
    def test_an_output_that_cannot_be_written(self) -> None:
        with open("/dev/full", "w") as full:
            done = subprocess.run([sys.executable, "-m", "diffnag.data", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr) == (2, "error: cannot write the output: No space left on device\n")

    def test_help_does_not_load_torch(self) -> None:
        code = "import sys, diffnag.data; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
