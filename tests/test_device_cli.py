"""`python -m diffnag.device`: measure, fit, predict; device files, bundles, and what is refused."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffnag import device
from diffnag.command.running import run_command
from diffnag.devices import measuring
from diffnag.devices.export import Export
from diffnag.devices.file import DeviceFile, read_measurements
from diffnag.devices.timing import host_fingerprint
from diffnag.errors import UserError
from diffnag.search_loop.assembly import assemble
from diffnag.search_loop.options import SearchOptions
from diffnag.spaces.loading import load_space
from tests.test_devices import ARCHS, SPACE, timed

EXPORT = Export(num_classes=10, image_size=8, channels=4, cells=1)


@pytest.fixture
def fake_timing(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Timings by formula, in two rounds, the first of them twice as slow; `stop` in the mapping interrupts before that round."""
    asked = {"stop": 99}

    def time_archs(archs, space, export, *, rounds, on_export):
        for number in range(rounds):
            if number == asked["stop"]:
                raise KeyboardInterrupt
            yield dict(zip(map(space.to_str, archs), ((2 if number == 0 else 1) * timed("live")(archs)).tolist(), strict=True))

    monkeypatch.setattr(measuring, "time_archs", time_archs)
    yield asked


def run(monkeypatch: pytest.MonkeyPatch, *args: str | Path) -> int:
    """The exit code of `python -m diffnag.device ARGS`."""
    monkeypatch.setattr(sys, "argv", ["diffnag.device", *map(str, args)])
    try:
        run_command(device.main)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_measure_and_predict(monkeypatch, tmp_path, fake_timing, capsys) -> None:
    out = tmp_path / "mine.device.json"
    assert run(monkeypatch, "measure", "--samples", 10, "--out", out) == 0
    file = DeviceFile.load(out)
    assert file.name == "mine" and file.host == host_fingerprint() and file.runtime.startswith("onnxruntime") and len(file.measurements) == 10
    assert "10 architectures measured (16 channels, 5 cells a stage, 10 classes, images of 32 pixels" in capsys.readouterr().out
    archs, ms = file.known(SPACE)
    np.testing.assert_allclose(ms, timed("live")(archs))
    assert run(monkeypatch, "measure", "--samples", 2, "--out", out) == 0  # two more
    assert list(DeviceFile.load(out).measurements)[:10] == list(file.measurements) and len(DeviceFile.load(out).measurements) == 12

    lines = [json.dumps({"arch": None, "valid": False}), *(json.dumps({"arch": SPACE.to_str(arch)}) for arch in ARCHS)]
    (tmp_path / "few.jsonl").write_text("\n".join(lines))
    assert run(monkeypatch, "predict", out, "--archs", tmp_path / "few.jsonl", "--out", tmp_path / "predicted.csv") == 0
    rows = list(csv.DictReader((tmp_path / "predicted.csv").read_text().splitlines()))
    assert [row["arch"] for row in rows] == [SPACE.to_str(arch) for arch in ARCHS] and list(rows[0]) == ["arch", "ms", "std"]
    assert np.median([abs(float(row["ms"]) / true - 1) for row, true in zip(rows, timed("live")(ARCHS), strict=True)]) < 0.02


def test_an_interrupt_keeps_what_is_measured(monkeypatch, tmp_path, fake_timing, capsys) -> None:
    out = tmp_path / "mine.device.json"
    fake_timing["stop"] = 0
    assert run(monkeypatch, "measure", "--samples", 4, "--out", out) == 130 and not out.exists()
    assert "nothing was written" in capsys.readouterr().err
    fake_timing["stop"] = 1
    assert run(monkeypatch, "measure", "--samples", 4, "--out", out) == 130
    archs, ms = DeviceFile.load(out).known(SPACE)
    np.testing.assert_allclose(ms, 2 * timed("live")(archs))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_bundle_is_timed_without_the_package(monkeypatch, tmp_path, capsys) -> None:
    """For real, with three tiny networks."""
    small = ("--channels", 4, "--cells", 1, "--num-classes", 3, "--input-size", 8)
    assert run(monkeypatch, "measure", "--samples", 3, "--bundle", tmp_path / "bundle", *small) == 0
    hint = capsys.readouterr().out
    assert f"fit --space nasbench201 --bundle {tmp_path}/bundle --from {tmp_path}/bundle/measured.csv" in hint
    code = "import runpy, sys\nsys.modules['diffnag'] = sys.modules['torch'] = None\nsys.argv[1:] = ['--rounds', '2']\n"
    code += "runpy.run_path('bundle/runner.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "batch 1, 1 thread(s)" in done.stdout
    out = tmp_path / "pi.device.json"
    assert run(monkeypatch, "fit", "--bundle", tmp_path / "bundle", "--from", tmp_path / "bundle" / "measured.csv", "--out", out) == 0
    file = DeviceFile.load(out)
    assert file.export == Export(3, 8, 4, 1) and file.host == "" and len(file.measurements) == 3
    assert run(monkeypatch, "measure", "--samples", 3, "--bundle", tmp_path / "bundle") == 2
    assert "is not empty" in capsys.readouterr().err


# -- what is refused


def written(path: Path, *, export: Export = EXPORT, archs: int = 4, host: str = "") -> DeviceFile:
    measurements = dict(zip(map(SPACE.to_str, ARCHS[:archs]), timed("all")(ARCHS[:archs]).tolist(), strict=True))
    file = DeviceFile.new(SPACE, measurements, name="mine", spec="nasbench201", export=export, runtime="unknown", host=host)
    file.save(path)
    return file


def test_a_file_comes_back(tmp_path: Path) -> None:
    assert written(tmp_path / "a.device.json") == DeviceFile.load(tmp_path / "a.device.json")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text[: len(text) // 2], "no readable device file"),
        (lambda text: "[]", "no readable device file"),
        (lambda text: text.replace('"format": 1', '"format": 7'), "not a diffnag device of format 1"),
        (lambda text: text.replace('"batch": 1', '"batch": 0'), "batch is 0; 1 to 4,096 are accepted"),
        (lambda text: text.replace('"batch": 1', '"batch": "one"'), "batch of Export is 'one'"),
        (lambda text: text.replace('"host": ""', '"hosts": ""'), "no field 'hosts'"),
        (lambda text: text.replace('"ms": ', '"ms": -'), "accepted are finite numbers above 0"),
        (lambda text: text.replace('"ms": ', '"ms": 1e999, "was": '), "accepted are finite numbers above 0"),
    ],
)
def test_damaged_files(tmp_path: Path, change: Callable[[str], str], says: str) -> None:
    path = tmp_path / "a.device.json"
    written(path)
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=says):
        DeviceFile.load(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("architecture,ms\nx,1", "lacks the column arch"),
        ("arch,ms\nx,1,2", "no readable CSV of measurements"),
        ("arch,ms\nnothing,1", "is no NAS-Bench-201 string"),
        ("arch,ms\nA,0", "has 0.0 ms for"),
        ("arch,ms\nA,-1", "has -1.0 ms for"),
        ("arch,ms\nA,nan", "has nan ms for"),
        ("arch,ms\nA,inf", "has inf ms for"),
        ("arch,ms\nA,fast", "has 'fast' ms for"),
        ("arch,ms\nA,1\nA,2", "twice"),
        ("arch,ms\nA,1\nB,2", "has 2 measurements; at least 3 are needed"),
        ("arch,ms\n", "has 0 measurements"),
        ("", "lacks the column arch"),
    ],
)
def test_measurements_that_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "measured.csv"
    path.write_text(text.replace("A", SPACE.to_str(ARCHS[0])).replace("B", SPACE.to_str(ARCHS[1])))
    with pytest.raises(UserError, match=says):
        read_measurements(path, SPACE)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("measure", "needs either --out, to time on this machine, or --bundle"),
        ("measure --out a.device.json --bundle b", "needs either --out"),
        ("measure --samples 0 --out a.device.json", "'0' is not a whole number of at least 1"),
        ("measure --out a.json", "it has to end in .device.json"),
        ("measure --out a.device.json --dataset mnist", "unknown dataset 'mnist'; there are: cifar10"),
        ("measure --out a.device.json --dataset cifar10 --num-classes 3", "do not go with it"),
        ("measure --out a.device.json --dataset cifar10 --time-limit 10m", "--time-limit is for your own images as --dataset"),
        ("measure --out a.device.json --dataset digits --cells 3 --stem-stride 2", "--cells, --stem-stride does not go with it"),
        ("measure --out a.device.json --inputs 1,8", "'1,8' is not channels, height and width, such as 1,8,128"),
        ("measure --out a.device.json --num-classes 3 --inputs 1,8,32 --input-size 8", "--inputs states the height and the width"),
        ("measure --out a.device.json --stem-stride 5000", "stem_stride is 5000; 1 to 4,096 are accepted"),
        ("measure --out a.device.json --batch 100000", "batch is 100000; 1 to 4,096 are accepted"),
        ("measure --out there.device.json", "was measured with image size 8, not 32; measure it again"),
        ("measure --out there.device.json --channels 4 --cells 1 --num-classes 10 --input-size 8", "was measured on another machine"),
        ("fit --from none.csv --out a.device.json", "there is no file none.csv"),
        ("fit --from none.csv --out a.device.json --bundle .", "is no bundle of diffnag.device measure"),
        ("predict none.device.json --archs a.jsonl --out b.csv", "there is no device file none.device.json"),
        ("predict there.device.json --archs none.jsonl --out b.csv", "there is no file none.jsonl"),
        ("predict there.device.json --archs bad.jsonl --out b.csv", "line 1 of bad.jsonl is not understood"),
        ("predict there.device.json --archs empty.jsonl --out b.csv", "empty.jsonl has no architecture"),
        ("predict there.device.json --archs empty.jsonl --out b.csv --space darts", "is of space 'nasbench201', not of 'darts'"),
    ],
)
def test_commands_that_are_refused(monkeypatch, tmp_path, capsys, words: str, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "there.device.json")
    (tmp_path / "bad.jsonl").write_text("nothing")
    (tmp_path / "empty.jsonl").write_text('{"arch": null}\n')
    assert run(monkeypatch, *words.split()) == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error


def test_other_spaces_and_other_networks(tmp_path: Path) -> None:
    file = written(tmp_path / "a.device.json")
    file.check(SPACE, EXPORT)
    with pytest.raises(UserError, match="was measured in space 'nasbench201', not in 'darts'"):
        file.check(load_space("darts"))
    for name in ("num_classes", "image_size", "channels", "cells", "stem_stride", "batch", "threads"):
        with pytest.raises(UserError, match=rf"was measured with {name.replace('_', ' ')} \d+, not \d+; measure it again"):
            file.check(SPACE, replace(EXPORT, **{name: getattr(EXPORT, name) + 1}))


@pytest.mark.parametrize("wanted", [replace(EXPORT, stem_stride=4, image_size=32), replace(EXPORT, image_size=48, inputs=(2, 8, 48), batch=3)])
def test_a_refused_file_says_how_to_measure(monkeypatch, tmp_path, fake_timing, wanted: Export) -> None:
    """The command of the sentence measures the networks that were asked for."""
    with pytest.raises(UserError, match="into another file: python -m diffnag.device measure --space nasbench201 ") as refused:
        written(tmp_path / "a.device.json").check(SPACE, wanted)
    command = str(refused.value).split("python -m diffnag.device ")[1].replace("NAME", str(tmp_path / "b"))
    assert run(monkeypatch, *command.split(), "--samples", 3) == 0
    file = DeviceFile.load(tmp_path / "b.device.json")
    assert file.export == wanted
    file.check(SPACE, wanted)


def test_the_networks_of_a_search_on_own_images(monkeypatch, tmp_path, fake_timing, capsys) -> None:
    """A file that was measured for images is accepted by a search on them, whose network has a stem that reduces them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("photos.npz", x=rng.integers(0, 255, (90, 64, 64, 3), dtype=np.uint8), y=np.repeat([0, 1, 2], 30))
    photos = ("measure", "--dataset", "photos.npz", "--space", "nasbench201")
    assert run(monkeypatch, *photos, "--samples", 3, "--out", "mine.device.json") == 0
    assert "stem of stride 2, 3 classes, images of 64 pixels a side" in capsys.readouterr().out
    options = SearchOptions(dataset="photos.npz", space="nasbench201", method="random", minimise=("latency:mine.device.json",))
    assert assemble(options).goal.measured[0].name == "latency:mine.device.json"
    assert device._space_name("auto", "photos.npz") == SearchOptions(dataset="photos.npz", method="random").resolved().space
    assert run(monkeypatch, "measure", "--samples", 3, "--out", "other.device.json") == 0
    with pytest.raises(UserError, match=r"was measured with num classes 10, not 3; measure it again.*--channels \d+ --cells \d --stem-stride 2 "):
        assemble(replace(options, minimise=("latency:other.device.json",)))
