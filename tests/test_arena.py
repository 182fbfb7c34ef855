"""The arena: saved searches, rows and paired tests in closed form, and continuation of a stopped command."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from diffnag.errors import UserError
from experiments import arena
from experiments.shared import arena_plots, arena_results, arena_search
from experiments.shared.arena_results import Entry
from experiments.shared.arena_search import METHODS, Contender

ROOT = Path(__file__).parents[1]
MADE_BY = {"command": "python -m experiments.arena", "commit": "0" * 40}


def entry(method: str, *runs: tuple[list[list[float]], int | None], protocol: str = "T", budget: int = 30) -> Entry:
    identity = {"benchmark": "nasbench201/cifar10", "protocol": protocol, "budget": budget, "batch": 1, "optimum": 9.0}
    return Entry(method, identity, {
        seed: {"steps": steps, "hit": hit, "labels": budget, "labels_source": 0, "seconds": 3.0, "made_by": MADE_BY}
        for seed, (steps, hit) in enumerate(runs)
    })  # fmt: skip


@pytest.fixture
def reference(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))


# -- one search


def test_a_search_saves_the_labels_that_brought_a_new_best(reference: None) -> None:
    run = arena_search.run(METHODS["random"], benchmark="nasbench201/cifar10", protocol="V", seed=0, budget=40)
    labels, values, tested = map(np.array, zip(*run["steps"], strict=True))
    assert labels[0] == 1 and (np.diff(labels) > 0).all() and (np.diff(values) > 0).all() and labels[-1] <= 40 == run["labels"]
    assert values[-1] > 90 and tested[-1] > 92 and run["labels_source"] == 0
    again = arena_search.run(METHODS["random"], benchmark="nasbench201/cifar10", protocol="V", seed=0, budget=40)
    assert {**again, "seconds": 0} == {**run, "seconds": 0}


@pytest.mark.parametrize("protocol", ["T", "V"])
def test_a_search_ends_at_the_optimum(protocol: str, reference: None) -> None:
    contender = Contender("gp-enumerate", {"batch": 5})
    run = arena_search.run(contender, benchmark="nasbench201/cifar10", protocol=protocol, seed=0, budget=150)
    assert run["hit"] == run["labels"] == run["steps"][-1][0] < 150
    identity = arena_search.identity(contender, benchmark="nasbench201/cifar10", protocol=protocol, budget=150)
    assert run["steps"][-1][1] == identity["optimum"] == {"T": 94.3733, "V": 91.6067}[protocol]


# -- rows and tests


def test_curves_rows_and_labels_to_the_optimum() -> None:
    found = entry("random", ([[1, 5.0], [3, 7.0]], None), ([[2, 6.0], [26, 9.0]], 26))
    curves = found.curves()
    assert curves[0].tolist() == [5, 5, *[7] * 28] and np.isnan(curves[1, 0]) and curves[1, 1:].tolist() == [6] * 24 + [9] * 5
    row = found.row()
    assert row["mean_best_at"] == {"25": 6.5} and row["stderr_at"] == {"25": 0.5} and row["seconds_per_label"] == 0.1
    assert (row["seeds"], row["hit_rate"], row["median_labels_to_optimum"]) == (2, 0.5, None)
    assert row["made_by"] == [{**MADE_BY, "seeds": "0:2"}]
    assert list(entry("random", ([[1, 5.0]], None), budget=12).row()["mean_best_at"]) == ["12"]
    assert entry("random", ([[1, 9.0]], 1), ([[5, 9.0]], 5), ([[1, 8.0]], None)).row()["median_labels_to_optimum"] == 5


def test_a_lesser_member_of_the_best_class_is_not_the_optimum() -> None:
    row = entry("random", ([[1, 5.0], [4, 8.0]], 4), ([[1, 9.0]], 1), ([], None)).row()
    assert (row["hit_rate"], row["median_labels_to_optimum"]) == (1 / 3, None)
    assert (row["class_hit_rate"], row["median_labels_to_class"]) == (2 / 3, 4)


def test_rows_of_protocol_v_have_the_test_value_of_the_best() -> None:
    found = entry("random", ([[1, 5.0, 4.0], [3, 7.0, 3.0]], None), ([[1, 6.0, None]], None), protocol="V")
    assert found.row()["mean_test_at"] == {"25": None} and found.curves(2)[0, :4].tolist() == [4, 4, 3, 3]
    assert entry("random", ([[1, 5.0, 4.0]], None), protocol="V").row()["mean_test_at"] == {"25": 4.0}


def test_paired_tests() -> None:
    """Six wins of six: the two-sided p of the signed-rank statistic's normal approximation is that of z = 10.5 / sqrt(22.75)."""
    better = entry("diffnag", *[([[1, 8.0 + 0.01 * seed]], 4) for seed in range(6)])
    worse = entry("random", *[([[1, 7.0 - 0.01 * seed]], None) for seed in range(6)], ([[1, 1.0]], None))
    (test,) = arena_results.paired_tests([better, worse])
    assert (test["method"], test["against"], test["seeds"]) == ("diffnag", "random", 6)
    assert test["difference_at"] == {"25": pytest.approx(1.05)} and test["p_at"]["25"] == pytest.approx(0.0277, abs=2e-4)
    (same,) = arena_results.paired_tests([better, Entry("random", better.identity, better.runs)])
    assert same["p_at"] == {"25": 1.0} and same["p_labels_to_optimum"] == 1.0
    assert arena_results.paired_tests([worse]) == []


def test_a_table_and_a_picture(tmp_path: Path) -> None:
    entries = [entry("diffnag", ([[1, 5.0], [3, 7.0]], None), ([[2, 9.0]], 2)), entry("random", ([[1, 4.0]], None), ([[1, 3.0]], None))]
    text = arena_results.page([one.row() for one in entries], arena_results.paired_tests(entries), pictures=["t.png"])
    assert text.startswith("# The arena\n") and "](t.png)" in text
    assert "| random | 2 | 3.50 (0.50) | 0 % |  | 0 % | 0.100 | " in text and "| diffnag | 2 | 8.00 (1.00) | 50 % |" in text
    lengths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(lengths) == 1
    assert arena_plots.draw(entries, "V", tmp_path / "v.png") is None
    assert arena_plots.draw(entries, "T", tmp_path / "t.png") and (tmp_path / "t.png").stat().st_size > 5000


def test_variations_are_drawn_beside_the_reference(tmp_path: Path) -> None:
    names = ("reference", "acquisition ei", "acquisition pi", "surrogate mlp")
    entries = [entry(name, ([[1, 5.0], [3, 7.0]], None), ([[2, 9.0]], 2)) for name in names]
    panels = arena_plots.by_part(entries)
    assert [[one.method for one in shown] for shown in panels.values()] == [[*names[:3]], ["reference", "surrogate mlp"]]
    assert [title.rsplit(": ")[1] for title in panels] == ["acquisition", "surrogate"]
    assert arena_plots.draw(entries[:1], "T", tmp_path / "alone.png") and arena_plots.draw(entries[1:], "T", tmp_path / "without.png")
    assert arena_plots.draw(entries, "T", tmp_path / "t.png") and (tmp_path / "t.png").stat().st_size > 5000


def test_a_picture_says_what_its_curves_are(tmp_path: Path, figures: list[Figure]) -> None:
    entries = [entry("diffnag", *[([[1, 5.0]], None)] * 3), entry("random", ([[1, 4.0]], None), protocol="T")]
    arena_plots.draw(entries, "T", tmp_path / "t.png")
    (figure,) = figures
    assert "Mean over 1 to 3 seeds; band: 95 % confidence interval" in figure.get_supxlabel().replace("\n", " ")
    assert figure.get_supylabel() == "regret on test: best of the table - best found"
    (axes,) = figure.axes
    assert axes.get_ylabel() == "percentage points" and axes.get_title() == "nasbench201/cifar10\n1 to 3 seeds"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["diffnag", "random"]
    assert arena_plots.unit_of("transnasbench101-micro/room_layout") == "negative loss"


# -- files


def test_files_are_read_back_and_refused_if_their_identity_differs(tmp_path: Path) -> None:
    made = entry("random", ([[1, 5.0]], None))
    arena_results.save(tmp_path, made)
    assert arena_results.load(tmp_path, method="random", identity=made.identity) == made == arena_results.load_all(tmp_path)[0]
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    arena_results.save(tmp_path, made)
    assert path.read_bytes() == before
    other = {**made.identity, "batch": 5}
    with pytest.raises(UserError, match=r"random-T.json.gz was made with batch 1, not 5: give another --out, or --anew"):
        arena_results.load(tmp_path, method="random", identity=other)
    assert arena_results.load(tmp_path, method="random", identity=other, anew=True).runs == {}
    path.write_bytes(before[:20])
    with pytest.raises(UserError, match="is not a readable file of searches"):
        arena_results.load_all(tmp_path)


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    monkeypatch.setattr(sys, "argv", ["arena", *map(str, arguments)])
    with pytest.raises((SystemExit, UserError)) as error:
        arena.main()
    return capsys.readouterr().err + str(error.value)


def test_bad_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reference: None, tmp_path: Path) -> None:
    for arguments, expected in (
        (["--methods", "x"], "unknown method 'x'; there are: diffnag, random"),
        (["--benchmarks", "nasbench201"], "unknown benchmark 'nasbench201'; there are: nasbench201/cifar10"),
        (["--seeds", "5:5"], "'5:5' is not a range of seeds such as 0:100"),
        (["--seeds", "x"], "'x' is not a range of seeds"),
        (["--budget", "0"], "'0' is not a whole number of at least 1"),
        (["--protocol", "X"], "invalid choice: 'X'"),
        (["--out", tmp_path / "table.csv"], "a name that ends in .json is accepted"),
        (["--out", "/proc/no/such.json"], "cannot write /proc/no/such.json"),
        (["--ablations", "--methods", "tpe"], "unknown method 'tpe'; there are: reference, acquisition ei"),
    ):
        assert expected in call(monkeypatch, capsys, *arguments)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_continues_where_it_stopped(reference: None, tmp_path: Path) -> None:
    out = tmp_path / "arena.json"
    command = [sys.executable, "-m", "experiments.arena", "--methods", "random", "gp-enumerate", "--protocol", "T", "--budget", "12"]
    command += ["--benchmarks", "nasbench101/cifar10", "transnasbench101-macro/jigsaw", "--workers", "1", "--out", str(out)]

    def run(*more: str) -> Any:
        subprocess.run([*command, *more], cwd=ROOT, env=os.environ, check=True, capture_output=True)
        return json.loads(out.read_text())

    first = run("--seeds", "0:2")
    places = [(row["benchmark"], row["method"], row["protocol"], row["seeds"]) for row in first["rows"]]
    jigsaw = "transnasbench101-macro/jigsaw"
    assert places == [("nasbench101/cifar10", "random", "T", 2), (jigsaw, "random", "T", 2), (jigsaw, "gp-enumerate", "T", 2)]
    kept = {path: gzip.decompress(path.read_bytes()) for path in (tmp_path / "arena").iterdir()}
    more = run("--seeds", "0:3")
    assert [row["seeds"] for row in more["rows"]] == [3, 3, 3] and (tmp_path / "arena-T.png").is_file()
    for path, before in kept.items():  # the first two are not searched again
        runs = json.loads(gzip.decompress(path.read_bytes()))["runs"]
        assert {seed: runs[seed] for seed in ("0", "1")} == json.loads(before)["runs"]
