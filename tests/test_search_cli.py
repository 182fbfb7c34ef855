"""`python -m diffnag.search`: its files, its output, and what it does when it is stopped."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from diffnag.command.running import run_command
from diffnag.plugins import names
from diffnag.search import main
from diffnag.search_loop.options import ACQUISITIONS
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.search_fakes import Nearest, ToyOracle, value

TOY = ("--dataset", "cifar10", "--oracle", "tests.search_fakes:ToyOracle", "--method", "evolution")
ROOT = Path(__file__).parents[1]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run the command line in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["search", *map(str, arguments)])
    try:
        run_command(main)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def start(*arguments: str | Path, seconds: float = 0.0) -> subprocess.Popen[str]:
    """Start the command in a process of its own; each evaluation takes `seconds`."""
    environment = {**os.environ, "TOY_ORACLE_SECONDS": str(seconds)}
    command = [sys.executable, "-W", "error", "-m", "diffnag.search", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it, and hands that on
    )  # fmt: skip


def trials(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return [{key: text for key, text in row.items() if key != "cost_s"} for row in csv.DictReader(file)]


def words(text: str) -> str:
    """The words of an output, without its line breaks."""
    return " ".join(text.split())


def test_files_and_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert call(monkeypatch, *TOY, "--budget", "12", "--out", out) == 0
    said = capsys.readouterr().out
    labels = [line.split()[0] for line in said.splitlines() if not line.startswith(" ")]
    assert labels[:7] == ["space", "dataset", "oracle", "method", "reward", "budget", "out"] and labels[-4:] == ["best", "cost", "results", "next"]
    assert "12/12" in said and "12 labels of the target, 0 source labels" in words(said)
    assert f"results {out}: report.html, result.json, trials.csv, search.png next" in words(said)
    assert max(map(len, said.splitlines())) <= 100
    options, result = (json.loads((out / name).read_text()) for name in ("options.json", "result.json"))
    assert (options["budget"], options["method"], options["oracle"]) == (12, "evolution", "tests.search_fakes:ToyOracle")
    assert options["packages"].keys() >= {"torch", "optuna"} and options["diffnag"]
    assert result["labels_target"] == len(result["incumbent_curve"]) == len(trials(out)) == 12
    assert max(float(row["value"]) for row in trials(out)) == result["best"]["value"] == result["best"]["test"] + 1
    assert imread(out / "search.png").shape[:2] == (576, 1560)


def test_a_surrogates_figures_are_called_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ToyOracle, "kind", "surrogate")
    taus = {"sha256": "0" * 64, "tau/cifar10/val": 0.9311, "tau/cifar100/val": 0.9222}
    monkeypatch.setattr(ToyOracle, "provenance", lambda self: taus)
    assert call(monkeypatch, *TOY, "--budget", "3", "--out", tmp_path) == 0
    said = words(capsys.readouterr().out)
    assert "surrogate (sha256 000000000000, tau 0.931): every accuracy below is a surrogate's, none is measured" in said
    assert said.count("surrogate validation accuracy") == 1 + 3 + 1 and "surrogate test accuracy" in said


def test_scores_of_untrained_networks_are_no_accuracies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--space", "mobilenetv3", "--dataset", "imagenet", "--oracle", "naswot", "--method", "random", "--budget", "3")
    assert call(monkeypatch, *asked, "--out", tmp_path) == 0
    said = words(capsys.readouterr().out)
    assert "proxy (proxy naswot, seed 0): a training-free score of the untrained network, no accuracy" in said
    assert said.count("proxy score") == 1 + 3 + 1 and "%" not in said and "its test" not in said
    assert "accuracy " not in said.replace("no accuracy ", "")
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["best"]["test"] is None and (result["oracle"]["kind"], result["oracle"]["proxy"]) == ("proxy", "naswot")


def test_the_same_command_reports_again_and_other_options_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (*TOY, "--budget", "6", "--out", tmp_path / "run")
    assert call(monkeypatch, *command) == 0
    before = trials(tmp_path / "run")
    capsys.readouterr()
    assert call(monkeypatch, *command) == 0
    assert "6 labels are there already" in capsys.readouterr().out and trials(tmp_path / "run") == before
    assert call(monkeypatch, *command, "--seed", "1") == 2
    assert "was made with seed 0, not 1" in capsys.readouterr().err
    assert call(monkeypatch, *command, "--budget", "9") == 0
    assert trials(tmp_path / "run")[:6] == before


def test_the_default_folder_names_the_search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *TOY, "--budget", "1", "--seed", "4") == 0
    assert (tmp_path / "runs" / "nasbench201-cifar10-evolution-4" / "result.json").is_file()


def test_guided_by_a_plug_in_predictor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy = ("--dataset", "cifar10", "--oracle", "tests.search_fakes:ToyOracle", "--budget", "10", "--out", tmp_path)
    guided = (*toy, "--predictor", "tests.search_fakes:Nearest", "--scale", "1.5")
    assert call(monkeypatch, *guided, "--generator", "uniform") == 0
    assert "predictor tests.search_fakes:Nearest, 0 source labels" in capsys.readouterr().out
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["predictor"], result["guidance"]) == ("tests.search_fakes:Nearest", "particles")
    used = json.loads((tmp_path / "options.json").read_text())
    assert (used["acquisition"], used["generator"], used["checkpoint"]) == ("ucb", "uniform", None)
    assert call(monkeypatch, *guided, "--generator", "mutation") == 2
    assert "was made with generator 'uniform', not 'mutation'" in capsys.readouterr().err


def test_a_predictor_that_breaks_ends_the_run_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Nearest, "predict", lambda self, archs: self.y)
    toy = ("--dataset", "cifar10", "--oracle", "tests.search_fakes:ToyOracle", "--generator", "uniform", "--budget", "10", "--out", tmp_path)
    assert call(monkeypatch, *toy, "--predictor", "tests.search_fakes:Nearest") == 2
    assert "Nearest" in capsys.readouterr().err
    assert (tmp_path / "study.journal").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset", "svhn"), "unknown dataset 'svhn'; there are: cifar10, no-test"),
        (("--method", "annealing"), "unknown method"),
        (("--oracle", "benchmark"), "unknown oracle 'benchmark'; there are: "),
        (("--predictor", "meta"), "makes no use of --predictor"),
        (("--method", "diffnag", "--predictor", "fortune"), "unknown predictor 'fortune'; there are: "),
        (("--method", "diffnag", "--predictor", "tests.search_fakes:Made"), "lacks fit, predict"),
        (("--max-params", "10"), "no architecture of nasbench201 meets params<=10 (the least is 73,306) on cifar10"),
        (("--budget", "0"), "'0' is not a whole number from 1 to 1,000,000"),
        (("--batch", "-2"), "'-2' is not a whole number from 1 to 10,000"),
        (("--method", "diffnag", "--predictor", "gp", "--candidates", "1e12"), "'1e12' is not a whole number from 1 to 100,000"),
        (("--budget", "1e15"), "'1e15' is not a whole number from 1 to 1,000,000"),
        (("--epochs", "1e9"), "'1e9' is not a whole number from 1 to 10,000"),
        (("--scale", "inf"), "'inf' is not a finite number from 0 to 1,000,000"),
        (("--seed", "-1"), "'-1' is not a whole number from 0 to 9,223,372,036,854,775,807"),
        (("--limit", "params"), "limit 'params' is not understood; accepted are an objective, <= or >=, and a number, such as 'params<=5e5'"),
        (("--limit", "params<=5ms"), "limit 'params<=5ms' needs a finite number, alone or with one of k, M, G behind it"),
        (("--limit", "width<=5"), "unknown objective 'width'; there are: depth, flops, "),
        (("--limit", "latency<=5"), "objective 'latency' needs an argument, as latency:ARGUMENT"),
        (("--limit", "params>=1M", "--max-params", "1e5"), "meets params<=100,000 (the least is 73,306) and params>=1,000,000"),
        (("--storage", ""), "the name of the storage is empty; expected is sqlite:///FILE, journal:FILE or postgresql+psycopg://"),
        (("--out", "/dev/null"), "cannot write /dev/null: Not a directory"),
        (("--out", "/dev/null/run"), "cannot write /dev/null/run"),
        (("--space", "mobilenetv3", "--oracle", "auto"), "space 'mobilenetv3' has no benchmark table; nor is a surrogate shipped"),
        (("--space", "mobilenetv3", "--oracle", "table"), "space 'mobilenetv3' has no benchmark table"),
        (("--space", "mobilenetv3", "--oracle", "surrogate"), "no surrogate is shipped for space 'mobilenetv3'; there are: "),
        (("--space", "torch.nn:Module"), "space 'torch.nn:Module' lacks name, nodes, "),
    ],
)
def test_bad_input(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *TOY, "--out", tmp_path / "run", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "trials.csv").exists()


def test_help_names_all_choices_and_loads_nothing_heavy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--help") == 0
    said = capsys.readouterr().out
    assert all(name in said for name in (*names("method"), *ACQUISITIONS, "surrogate"))
    heavy = "{'torch', 'numpy', 'optuna', 'matplotlib', 'rich'}"
    code = f"import sys, diffnag.search; diffnag.search._parser(); sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_folder_may_have_any_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "what?x=1 {of} 50%"
    assert call(monkeypatch, *TOY, "--budget", "2", "--out", out) == 0
    assert {path.name for path in out.iterdir()} >= {"study.journal", "trials.csv"} and [*tmp_path.iterdir()] == [out]


def test_limits_are_met_and_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ("--limit", "params<=300k", "--limit", "flops>=20M", "--max-params", "4e5")
    assert call(monkeypatch, *TOY, "--budget", "6", *limits, "--out", tmp_path) == 0
    assert "limits params<=400,000, params<=300,000, flops>=20,000,000" in words(capsys.readouterr().out)
    space = NASBench201()
    for row in trials(tmp_path):
        size = space.size(space.from_str(row["arch"]), num_classes=10, image_size=32)
        assert size.params <= 300_000 and size.flops >= 20_000_000
    assert json.loads((tmp_path / "options.json").read_text())["limit"] == ["params<=300k", "flops>=20M"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_and_interrupt_lose_nothing(tmp_path: Path) -> None:
    with start(*TOY, "--budget", "14", "--out", tmp_path / "unbroken") as unbroken:
        unbroken.communicate()
    broken = (*TOY, "--budget", "14", "--out", tmp_path / "broken")
    with start(*broken, seconds=0.2) as killed:
        _read_until(killed, " 4/14")
        killed.kill()
    with start(*broken, seconds=0.2) as interrupted:
        _read_until(interrupted, " 8/14")
        interrupted.send_signal(signal.SIGINT)
        _, said = interrupted.communicate()
    assert interrupted.returncode == 130
    assert "are saved in" in said and "the same command goes on" in said
    with start(*broken) as resumed:
        said, errors = resumed.communicate()
    assert resumed.returncode == 0, errors
    assert "labels are there already" in said
    assert trials(tmp_path / "broken") == trials(tmp_path / "unbroken")


def _read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"{text!r} was never said: {process.communicate()[1]}")


def test_toy_values_are_accuracies(space: NASBench201) -> None:
    assert min(map(value, space.enumerate())) > 0 and max(map(value, space.enumerate())) < 100


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_table_oracle_for_real(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data_folder: Path) -> None:
    shutil.copy(data_folder / "nas_bench_201.csv.gz", tmp_path)
    monkeypatch.setenv("DIFFNAG_DATA", str(tmp_path))
    arguments: tuple[Any, ...] = ("--dataset", "cifar10", "--method", "local-search", "--budget", "40", "--out", tmp_path / "run")
    assert call(monkeypatch, *arguments) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["oracle"]["kind"] == "table" and 85 < result["best"]["value"] <= 91.61
