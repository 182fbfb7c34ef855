"""`python -m diffnag.search` with several objectives: what it says of values that are predicted, and what it refuses."""

from __future__ import annotations

import csv
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from matplotlib.figure import Figure

from diffnag.arch import Arch
from diffnag.datasets.tasks import Task
from diffnag.devices.file import DeviceFile
from diffnag.devices.runner import MANIFEST
from diffnag.errors import UserError
from diffnag.io.checkpoint import checksum
from diffnag.search_loop.loop import Search, run_search
from diffnag.search_loop.options import SearchOptions
from diffnag.search_loop.show import front as drawn
from diffnag.search_loop.show.files import write_result
from tests.search_fakes import ToyOracle
from tests.test_devices import ARCHS, SPACE
from tests.test_latency import STRINGS, device_file
from tests.test_search_cli import call, words

TOY = ("--dataset", "cifar10", "--oracle", "tests.search_fakes:ToyOracle", "--method", "random", "--budget", "6")


class Meter:
    """Paid for, and NaN."""

    name, unit, maximise, paid = "meter", "J", False, True

    def measure(self, arch: Arch, *, task: Task) -> object:
        return math.nan


class Broken(Meter):
    """Raises."""

    def measure(self, arch: Arch, *, task: Task) -> object:
        raise RuntimeError("the meter is off")


class Loose(Meter):
    """Raises where `answers` says so, in the order of the calls."""

    answers: ClassVar[list[object]] = []

    def measure(self, arch: Arch, *, task: Task) -> object:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Texts(Meter):
    """Returns a text."""

    def measure(self, arch: Arch, *, task: Task) -> object:
        return "much"


class FreeNaN(Meter):
    """Computed, and NaN."""

    paid = False


class FreeTexts(Texts):
    """Computed, and a text."""

    paid = False


class Unbounded(Meter):
    """Larger than any measurement."""

    def measure(self, arch: Arch, *, task: Task) -> object:
        return 1e300


class Crooked(Meter):
    """Predicts one value for all."""

    measurable = True

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(1), np.ones(1)

    def learn(self, archs: Sequence[Arch], values: np.ndarray) -> None: ...


class Unsure(Crooked):
    """Predicts without a standard deviation."""

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(len(archs)), np.full(len(archs), math.nan)


class Forgets(Crooked):
    """Predicts nothing any more after the first measurement."""

    known = 0.0

    def measure(self, arch: Arch, *, task: Task) -> object:
        return 1.0

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(archs), self.known), np.ones(len(archs))

    def learn(self, archs: Sequence[Arch], values: np.ndarray) -> None:
        self.known = math.nan if len(archs) else 0.0


def path_of(cls: type) -> str:
    return f"{__name__}:{cls.__name__}"


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


# -- values that are predicted


def test_what_is_predicted_can_be_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands at the end of a search measure its front, and the same search goes on with what they measured."""
    from diffnag.device import main as device

    monkeypatch.chdir(tmp_path)
    device_file(Path("mine.device.json"))
    search = (*TOY, "--minimise", "latency:mine.device.json", "--limit", "latency:mine.device.json<=9ms", "--out", "run")
    assert call(monkeypatch, *search) == 0
    said = capsys.readouterr().out
    assert "limits latency:mine.device.json<=9 ms budget" in words(said) and "ms, predicted best" in words(said)
    note = "note: values of latency:mine.device.json are predictions, as it cannot be measured here; by these, its limits"
    assert f"{note} are met with a probability of" in words(said) and "unknown" not in said
    measure, runner, fit, _ = [line.strip() for line in said.split("what is measured:\n")[1].splitlines()[:4]]
    rows = table(Path("run/front.csv"))
    monkeypatch.setattr("sys.argv", shlex.split(measure)[2:])
    monkeypatch.setattr("diffnag.devices.export.Export.write", lambda self, path, arch, space: path.write_bytes(b""))
    device()
    assert runner.startswith("python runner.py")
    assert list(json.loads((Path("run/bundle") / MANIFEST).read_text())["networks"].values()) == [row["arch"] for row in rows]
    Path("run/bundle/measured.csv").write_text("arch,ms\n" + "".join(f"{row['arch']},{4 + i}\n" for i, row in enumerate(rows)))
    monkeypatch.setattr("sys.argv", shlex.split(fit)[2:])
    device()
    known = DeviceFile.load(Path("mine.device.json")).measurements
    assert len(known) >= 12 and all(known[row["arch"]] == 4 + i for i, row in enumerate(rows))
    capsys.readouterr()
    assert call(monkeypatch, *search) == 0
    members = json.loads(Path("run/result.json").read_text())["front"]["members"]
    exact = [member for member in members if member["arch"] in known]
    assert exact and all(member["values"]["latency:mine.device.json"] == known[member["arch"]] and not member["predicted_std"] for member in exact)


def test_another_device_under_the_same_name_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    path = device_file(Path("mine.device.json"))
    search = (*TOY, "--minimise", "latency:mine.device.json", "--out", "run")
    assert call(monkeypatch, *search) == 0
    about = json.loads(Path("run/result.json").read_text())["objectives"][1]["provenance"]
    first = DeviceFile.load(path)
    assert about == {
        "device": "mine", "origin": first.origin, "sha256": checksum(path), "measurements": "12", "runtime": "unknown",
    }  # fmt: skip
    first.with_measured({STRINGS[20]: 9.0}).save(path)  # it has grown
    assert DeviceFile.load(path).origin == first.origin and call(monkeypatch, *search) == 0
    grown = json.loads(Path("run/result.json").read_text())["objectives"][1]["provenance"]
    assert grown == about | {"sha256": checksum(path), "measurements": "13"}

    replace(first, measurements={arch: 2 * ms for arch, ms in first.measurements.items()}, origin="").save(path)
    capsys.readouterr()
    assert call(monkeypatch, *search) == 2
    other = DeviceFile.load(path).origin
    said = words(capsys.readouterr().err)
    assert f"was made with origin of latency:mine.device.json '{first.origin}', not '{other}': it goes on only with the options" in said


def test_a_file_of_before_has_the_origin_that_its_content_says(tmp_path: Path) -> None:
    path = device_file(tmp_path / "mine.device.json")
    content = json.loads(path.read_text())
    origin = content.pop("origin")
    path.write_text(json.dumps(content))
    assert DeviceFile.load(path).origin == origin != ""


def test_weights_of_the_package_are_noted_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DIFFNAG_DATA", str(tmp_path))
    assert call(monkeypatch, *TOY, "--limit", "latency:pixel3<=0.018s", "--out", tmp_path / "run") == 0
    said = words(capsys.readouterr().out)
    assert said.count("note: latency:pixel3 is predicted by the weights of the package") == 1 and "latency:pixel3<=18 ms" in said
    assert "--archs" in said and "trials.csv" in said and "--out pixel3.device.json" in said
    assert all(float(row["latency:pixel3"]) > 0 for row in table(tmp_path / "run" / "trials.csv"))


def test_a_device_of_the_file_is_exact_where_it_was_measured(tmp_path: Path) -> None:
    options = SearchOptions(dataset="cifar10", method="random", budget=30, minimise=(f"latency:{device_file(tmp_path / 'a.device.json')}",))
    result = run_search(options, oracle=ToyOracle())
    assert result.front
    for member in result.front.members:
        assert bool(member.predicted_std) == (member.arch not in STRINGS[:12])


# -- objectives that fail


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Broken, "objective 'meter': measure raised RuntimeError: the meter is off"),
        (Texts, "objective 'meter': measure raised ValueError: could not convert string to float: 'much'"),
        (FreeNaN, "objective 'meter' has no finite value for any of 64 random architectures"),
        (FreeTexts, "objective 'meter': measure raised ValueError"),
        (Crooked, r"objective 'meter': predict returned shapes \(1,\) and \(1,\) for 64 architectures"),
        (Unbounded, r"objective 'meter': measure returned 1e\+300; accepted are numbers up to 1e\+15 in size"),
        (Unsure, "objective 'meter': predict returned a mean or a standard deviation that is none; accepted are means up to"),
    ],
)
def test_a_broken_objective_costs_no_label(cls: type, message: str) -> None:
    oracle = ToyOracle()
    with pytest.raises(UserError, match=message):
        run_search(SearchOptions(dataset="cifar10", method="random", budget=3, minimise=(path_of(cls),)), oracle=oracle)
    assert oracle.asked == []


def test_predictions_that_are_lost_on_the_way_are_named(tmp_path: Path) -> None:
    options = SearchOptions(dataset="cifar10", predictor="gp", budget=12, minimise=(path_of(Forgets),))
    storage = f"journal:{tmp_path / 'study.journal'}"
    with (
        pytest.raises(UserError, match="objective 'meter' has no finite value for any of 256 random architectures"),
        Search(options, storage=storage, oracle=ToyOracle()) as search,
    ):
        search.work()
    assert search.study.history


def test_a_measurement_that_raises_now_and_then_costs_only_itself() -> None:
    off = RuntimeError("the meter is off")
    Loose.answers[:] = [1.0, off, off, 2.0, -math.inf, SystemExit(3)]
    notes: list[str] = []
    with Search(SearchOptions(dataset="cifar10", method="random", budget=6, minimise=(path_of(Loose),)), oracle=ToyOracle()) as search:
        result = search.run(on_note=notes.append)
    assert [set(trial.values) for trial in result.trials] == [{"accuracy", "meter"} if i in (0, 3) else {"accuracy"} for i in range(6)]
    said = "objective 'meter': measure raised RuntimeError: the meter is off; this evaluation has no value of it"
    infinite = "objective 'meter': measure returned -inf; accepted are numbers up to 1e+15 in size, and NaN for a failure"
    ended = "objective 'meter': measure raised SystemExit: 3"
    assert notes == [said, said, *(f"{one}; this evaluation has no value of it" for one in (infinite, ended))]
    assert result.measurements == {"meter": 2} and all(trial.error is None for trial in result.trials)


@pytest.mark.parametrize("limit", [False, True])
def test_a_broken_meter_ends_the_search_and_keeps_every_label(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: bool
) -> None:
    wish = ("--limit", f"{path_of(Loose)}<=9J") if limit else ("--minimise", path_of(Loose))
    Loose.answers[:] = [1.0, 2.0, *[RuntimeError("the meter is off")] * 3]
    assert call(monkeypatch, *TOY, *wish, "--out", tmp_path) == 2
    said = words(capsys.readouterr().err)
    assert said == (
        "error: objective 'meter': measure raised RuntimeError: the meter is off; it has failed 3 times in a row; all labels are kept, "
        "and the same command goes on"
    )
    Loose.answers[:] = [3.0]  # mended: one evaluation of six is left
    assert call(monkeypatch, *TOY, *wish, "--out", tmp_path) == 0 and not Loose.answers
    rows = table(tmp_path / "trials.csv")
    assert [row["meter"] for row in rows] == ["1.0", "2.0", "", "", "", "3.0"]
    assert [bool(row["accuracy" if "accuracy" in row else "value"]) for row in rows] == [True, True, *[not limit] * 3, True]


def test_an_objective_that_always_fails_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, *TOY, "--minimise", path_of(Meter), "--out", tmp_path) == 1
    assert "objective 'meter' has no value for any evaluation; trials.csv has those of the others" in words(capsys.readouterr().out)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["best"] is None and result["front"]["members"] == [] and set(result["front"]["reference"].values()) == {None}
    assert (tmp_path / "front.png").is_file()


def test_limits_without_a_value_name_no_number() -> None:
    with pytest.raises(UserError, match=r"meets meter<=3 J \(none has a value\) on cifar10"):
        run_search(SearchOptions(dataset="cifar10", method="random", budget=3, limit=(f"{path_of(FreeNaN)}<=3J",)), oracle=ToyOracle())
    result = run_search(SearchOptions(dataset="cifar10", method="random", budget=2, limit=(f"{path_of(Meter)}<=3J",)), oracle=ToyOracle())
    assert {trial.error for trial in result.trials} == {"meter<=3 J is not met: it has no value, so no label was paid for"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--limit params<=1e5 --limit params>=2e5", "(the most is 1,531,546) at once on cifar10"),
        ("--minimise params --minimise params", "objective 'params' is named twice; name it once"),
        ("--minimise params --acquisition ehvi --method gp-enumerate --confidence 2", "'2' is not a finite number from 0 to 1"),
        ("--method gp-enumerate --acquisition ehvi", "acquisition 'ehvi' is for several objectives; add --minimise or --maximise"),
        ("--minimise params --method bananas", "method 'bananas' optimises the label alone"),
        ("--minimise latency:none.device.json", "there is no device file none.device.json"),
        ("--minimise latency:damaged.device.json", "damaged.device.json is no readable device file"),
        ("--minimise latency:other.device.json", "device 'mine' was measured with num classes 3, not 10"),
    ],
)
def test_goals_that_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    device_file(Path("other.device.json"), num_classes=3)
    Path("damaged.device.json").write_text("{")
    assert call(monkeypatch, *TOY, *more.split(), "--out", "run") == 2
    assert message in words(capsys.readouterr().err) and not Path("run/trials.csv").exists()


# -- what is shown


def test_members_beyond_the_range_and_predictions_are_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: kept.append(self))
    options = SearchOptions(dataset="cifar10", method="random", budget=40, minimise=(f"latency:{device_file(tmp_path / 'a.device.json')}", "params"))
    result = run_search(options, oracle=ToyOracle())
    monkeypatch.setattr(drawn, "written_whole", lambda path: __import__("contextlib").nullcontext(path))
    drawn.front_picture(tmp_path / "front.png", result)
    latency, params, growth = kept[0].axes
    points = next(one for one in latency.collections if one.get_label() == "evaluated").get_offsets()
    assert len(points) == 40 and "predicted" in latency.get_xlabel()
    low = latency.get_ylim()[0]
    beyond = [trial for trial in result.trials if trial.values["accuracy"] < low]
    assert beyond and sum(len(one.get_offsets()) == 1 and one.get_offsets()[0][1] == 0.02 for one in latency.collections) == len(beyond)
    kept[0].canvas.draw()
    assert any(text.get_text().endswith("k") for text in params.get_xticklabels()) and growth.get_xlabel()


def test_a_list_of_bests_has_the_values_that_limits_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, *TOY, "--limit", "params<=5e5", "--out", tmp_path) == 0
    assert words(capsys.readouterr().out).split("best of")[1].count("; params ") == 5


def test_files_of_architectures(tmp_path: Path) -> None:
    from diffnag.devices.predictions import read_archs

    with Search(SearchOptions(dataset="cifar10", method="random", budget=5, minimise=("params",)), oracle=ToyOracle()) as search:
        result = search.run()
        write_result(tmp_path, result, search.space)
    assert [SPACE.to_str(arch) for arch in read_archs(tmp_path / "front.csv", SPACE)] == [member.arch for member in result.front.members]  # type: ignore[union-attr]
    (tmp_path / "few.jsonl").write_text(json.dumps({"arch": SPACE.to_str(ARCHS[0])}))
    assert read_archs(tmp_path / "few.jsonl", SPACE) == [ARCHS[0]]
    (tmp_path / "none.csv").write_text("network\nx\n")
    with pytest.raises(UserError, match="it lacks the column arch"):
        read_archs(tmp_path / "none.csv", SPACE)
