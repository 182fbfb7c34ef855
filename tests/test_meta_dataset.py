"""Drawn tasks, measurements on them, and the command that makes them."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffnag import build_meta_dataset
from diffnag.command.running import run_command
from diffnag.datasets import drawn_tasks
from diffnag.datasets.drawn_tasks import Change, TaskSpec, allowed_classes, changed, draw_task, halved, task_images
from diffnag.datasets.meta_dataset import CROSSED, TRAINING, Effort, Measurement, append, is_begun, read, read_together
from diffnag.errors import DataNotFound, UserError
from diffnag.networks.short_training import measure
from diffnag.spaces.loading import load_space

SPACE = load_space("nasbench201")
RNG = np.random.default_rng(0)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small sources: `toys` of 10 classes, each of one colour, and a grey `mnist` of 28 pixels."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    y = np.arange(400) % 10
    colours = rng.integers(0, 256, (10, 1, 1, 3))
    x = (0.7 * colours[y] + 0.3 * rng.integers(0, 256, (400, 16, 16, 3))).astype(np.uint8)
    np.savez(tmp_path / "images" / "toys.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    grey = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "images" / "mnist.npz", x_train=grey[:40], y_train=y[:40], x_test=grey[40:], y_test=y[40:60])
    monkeypatch.setenv("DIFFNAG_DATA", str(tmp_path))
    drawn_tasks.images_of.cache_clear()
    yield tmp_path
    drawn_tasks.images_of.cache_clear()


def _spec(**other: object) -> TaskSpec:
    spec = TaskSpec("toys", (1, 4, 6), train_images=30, label_noise=0.0, change=Change(), seed=5)
    return replace(spec, **other)  # type: ignore[arg-type]


class TestTasks:
    def test_train_and_judged_are_all_images_once(self, images: Path) -> None:
        task = task_images(_spec())
        x, y = drawn_tasks.images_of("toys")
        mine = sorted(image.tobytes() for image in x[np.isin(y, (1, 4, 6))])
        assert sorted(image.tobytes() for image in [*task.x_train, *task.x_judged]) == mine
        assert len(task.x_train) == 30
        assert np.bincount(task.y_train).tolist() == [10, 10, 10]

    def test_half_of_a_small_task_is_judged_on(self, images: Path) -> None:
        task = task_images(_spec(train_images=2_000))
        assert len(task.x_train) == len(task.x_judged) == 60

    def test_labels_follow_their_images(self, images: Path) -> None:
        x, y = drawn_tasks.images_of("toys")
        names = {image.tobytes(): (1, 4, 6).index(label) for image, label in zip(x, y, strict=True) if label in (1, 4, 6)}
        task = task_images(_spec())
        assert [names[image.tobytes()] for image in task.x_judged] == task.y_judged.tolist()

    def test_label_noise_is_in_training_alone(self, images: Path) -> None:
        clean, noisy = task_images(_spec(classes=tuple(range(10)), train_images=200)), task_images(
            _spec(classes=tuple(range(10)), train_images=200, label_noise=0.5)
        )
        assert (clean.x_train == noisy.x_train).all()
        assert (clean.y_judged == noisy.y_judged).all()
        assert 0.35 < (clean.y_train != noisy.y_train).mean() < 0.55  # a tenth of the redrawn labels stays right

    def test_same_spec_same_images(self, images: Path) -> None:
        spec = _spec(change=Change(shuffle=4, noise=30.0, grey=True, side=8), label_noise=0.3)
        assert all((a == b).all() for a, b in zip(task_images(spec), task_images(spec), strict=True))

    def test_changes(self) -> None:
        x = RNG.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
        assert (changed(x, Change(), np.random.default_rng(0)) == x).all()
        assert changed(x, Change(side=8), np.random.default_rng(0)).shape == (3, 8, 8, 3)
        assert changed(x, Change(grey=True), np.random.default_rng(0)).shape == (3, 16, 16)
        blurred = changed(x, Change(blur=2), np.random.default_rng(0))
        assert (blurred[:, ::2, ::2] == blurred[:, 1::2, 1::2]).all()
        assert (halved(blurred) == halved(x)).all()
        assert len(np.unique(changed(x, Change(blur=4), np.random.default_rng(0))[0, :, :, 0].reshape(4, 4, 4, 4).std((1, 3)))) == 1
        step = np.zeros((1, 16, 16, 3), dtype=np.uint8)
        step[:, :, 8:] = 100
        assert (changed(step, Change(edges=True), np.random.default_rng(0))[0] == np.where(np.arange(16) == 8, 200, 0)).all()
        moved = changed(x, Change(shuffle=4), np.random.default_rng(0))
        blocks = lambda image: sorted(image[i : i + 4, j : j + 4].tobytes() for i in range(0, 16, 4) for j in range(0, 16, 4))  # noqa: E731
        assert (moved != x).any()
        assert all(blocks(a) == blocks(b) for a, b in zip(x, moved, strict=True))
        assert (changed(x[[1, 0, 2]], Change(shuffle=4), np.random.default_rng(0)) == moved[[1, 0, 2]]).all()

    def test_halved_is_the_mean_of_blocks(self) -> None:
        x = RNG.integers(0, 256, (2, 4, 4), dtype=np.uint8)
        exact = x.reshape(2, 2, 2, 2, 2).mean((2, 4))
        assert np.abs(halved(x) - exact).max() <= 0.5

    def test_what_is_held_out(self, images: Path) -> None:
        assert allowed_classes("toys", held_out=True).tolist() == [4, 9]
        assert allowed_classes("toys", held_out=False).tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
        assert allowed_classes("mnist", held_out=True).tolist() == list(range(10))
        with pytest.raises(UserError, match="mnist is held out for tests"):
            allowed_classes("mnist", held_out=False)
        for seed in range(50):
            assert not {4, 9} & set(draw_task("toys", np.random.default_rng(seed), held_out=False).classes)

    def test_sources_are_brought_to_16_pixels(self, images: Path) -> None:
        x, y = drawn_tasks.images_of("mnist")
        assert x.shape == (60, 16, 16) and y.shape == (60,)

    def test_missing_images(self, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UserError, match="mnist, toys"):
            drawn_tasks.images_of("svhn")
        monkeypatch.delenv("DIFFNAG_DATA")
        with pytest.raises(DataNotFound, match=r"\$DIFFNAG_DATA"):
            drawn_tasks.images_of("svhn")


ODD = {
    "objects": ({"x_train": np.array([{}], dtype=object)}, "is no .npz file with x_train"),
    "one dimension": ({"x_train": np.zeros(8, np.uint8)}, r"x_train of .* has the type uint8 and the shape \(8,\); accepted is"),
    "no images": ({"x_train": np.zeros((0, 16, 16), np.uint8), "y_train": np.zeros(0, int)}, "has 0 images in x_train"),
    "floats": ({"x_train": np.zeros((8, 16, 16))}, "has the type float64"),
    "fewer labels": ({"y_train": np.zeros(7, int)}, r"has 8 images in x_train and int64 labels of shape \(7,\) in y_train"),
    "float labels": ({"y_test": np.zeros(8)}, "float64 labels"),
    "words": ({"y_test": np.full(8, "cat")}, "<U3 labels"),
    "channels": ({"x_test": np.zeros((8, 16, 16, 3), np.uint8)}, r"images of shape \(16, 16\) in x_train and of \(16, 16, 3\) in x_test"),
    "oblong": (dict.fromkeys(("x_train", "x_test"), np.zeros((8, 16, 32), np.uint8)), "images of 16 x 32 pixels; accepted are squares"),
    "side": (dict.fromkeys(("x_train", "x_test"), np.zeros((8, 17, 17), np.uint8)), "images of 17 x 17 pixels"),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_odd_arrays_are_refused(odd: str, images: Path) -> None:
    arrays, fault = ODD[odd]
    x, y = np.zeros((8, 16, 16), np.uint8), np.arange(8)
    usual = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    np.savez(images / "images" / "odd.npz", **{**usual, **arrays})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=fault) as caught:
        drawn_tasks.images_of("odd")
    assert "\n" not in str(caught.value)


class TestMeasurements:
    def test_a_trained_cell_beats_chance_and_repeats(self, images: Path) -> None:
        text = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
        task = task_images(_spec(classes=(0, 1, 2), train_images=60))
        one, again = (
            measure(text, task, SPACE, task=3, seed=1, effort=Effort(image_passes=2_000, batch_size=30), device="cpu") for _ in range(2)
        )
        assert one.accuracy is not None and one.accuracy > 60
        assert replace(one, seconds=0.0) == replace(again, seconds=0.0)
        assert (one.task, one.arch, one.seed, one.epochs) == (3, text, 1, 34)
        network = SPACE.build_small(SPACE.from_str(text), num_classes=3, image_size=16)
        assert one.params == sum(p.numel() for p in network.parameters())

    def test_round_trip_and_cut_line(self, tmp_path: Path) -> None:
        path = tmp_path / "m.jsonl"
        rows = [Measurement(0, "a", 0, 50.5, 1.25, 8, 1.5, 100), Measurement(0, "b", 0, None, None, 8, 1.5, 100)]
        append(path, [{"space": "nasbench201"}])
        append(path, [_spec()], task=0)
        append(path, rows)
        with path.open("ab") as file:
            file.write(b'[0,"c",0,4')
        for _ in range(2):
            data = read(path)
            assert data.about == {"space": "nasbench201"} and data.tasks == {0: _spec()} and data.measurements == tuple(rows)
            assert is_begun(path)
        assert path.read_bytes().endswith(b"\n")

    @pytest.mark.parametrize("text", ["my notes\nwithout a last newline", '{"format": "other"}\n[1]', "[" * 100_000, '["format"]\n', "x" * 200_000])
    def test_other_files_are_left_as_they_are(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "notes.log"
        path.write_text(text)
        with pytest.raises(UserError, match=r"notes.log is no meta-dataset .*; accepted is one, or a new file"):
            is_begun(path)
        assert path.read_text() == text

    def test_new_empty_and_cut_files_are_begun(self, tmp_path: Path) -> None:
        path = tmp_path / "m.jsonl"
        for text in (None, "", '{"format": "diffnag-meta-dataset-1", "spa'):
            if text is not None:
                path.write_text(text)
            assert not is_begun(path)
            append(path, [{"space": "nasbench201"}])
            assert read(path).about == {"space": "nasbench201"}

    def test_a_full_disk_leaves_whole_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "m.jsonl"
        append(path, [{"space": "nasbench201"}])
        whole = path.read_bytes()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, before[1]))
        try:
            with pytest.raises(UserError, match=f"cannot write {path}: File too large"):
                append(path, [Measurement(0, "a", 0, 50.5, 1.25, 8, 1.5, 100)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.read_bytes() == whole

    @pytest.mark.parametrize(
        "text", ["", "{}\n", '{"format": "other"}\n', "not json\n", '{"format": "diffnag-meta-dataset-1"}\n[1, 2]\n', "[" * 100_000 + "\n"]
    )
    def test_other_files_are_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "m.jsonl").write_text(text)
        with pytest.raises(UserError, match="is no meta-dataset"):
            read(tmp_path / "m.jsonl")

    @pytest.mark.parametrize(
        ("path", "held_out"),
        [(path, held_out) for held_out, files in ((False, TRAINING), (True, CROSSED)) for paths in files.values() for path in paths],
    )
    def test_shipped(self, path: Path, held_out: bool) -> None:
        data = read(path)
        assert path.stat().st_size < 1e6
        assert data.about["held_out"] is held_out
        for spec in data.tasks.values():
            if spec.source not in drawn_tasks.HELD_OUT_WHOLE:
                assert all((label % 5 == 4) is held_out for label in spec.classes)
            else:
                assert held_out
        keys = [(m.task, m.arch, m.seed) for m in data.measurements]
        assert len(keys) == len(set(keys)) and {task for task, _, _ in keys} <= set(data.tasks)
        if held_out:
            archs = [{m.arch for m in data.measurements if m.task == task} for task in data.tasks]
            assert len(archs[0]) >= (40 if data.about["space"] == "nasbench201" else 30) and all(part == archs[0] for part in archs)

    def test_training_part_is_large(self) -> None:
        data = read_together(TRAINING["nasbench201"])
        assert len(data.tasks) >= 300 and len(data.measurements) >= 2_500
        assert {spec.source for spec in data.tasks.values()} == {"tiny_imagenet16", "cifar100_16", "letters"}

    def test_crossed_files_are_one(self) -> None:
        data, parts = read_together(CROSSED["nasbench201"]), [read(path) for path in CROSSED["nasbench201"]]
        assert len(data.tasks) == sum(len(part.tasks) for part in parts) >= 24
        last = parts[-1]
        first = len(data.tasks) - len(last.tasks)
        assert data.tasks[first] == last.tasks[0] and data.tasks[first].source == "letters"
        assert {m.arch for m in data.measurements if m.task == first} == {m.arch for m in data.measurements if m.task == 0}


class TestCommand:
    ARGS = ("--images", "toys", "--tasks", "2", "--archs-per-task", "2", "--workers", "1", "--device", "cpu")

    def _run(self, *args: str, out: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "diffnag.build_meta_dataset", *args, "--out", str(out)]
        return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))

    @pytest.mark.slow
    @pytest.mark.timeout(300)
    def test_goes_on_and_grows(self, images: Path, tmp_path: Path) -> None:
        out = tmp_path / "m.jsonl"
        command = [sys.executable, "-m", "diffnag.build_meta_dataset", *self.ARGS, "--out", str(out)]
        heard = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731 - background jobs ignore Ctrl-C
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
        while not (out.is_file() and out.read_text().count("\n") >= 4):
            assert process.poll() is None and not time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=20)
        assert process.returncode == 130 and "the same command continues it" in printed
        assert self._run(*self.ARGS, out=out).returncode == 0
        first = read(out)
        assert len(first.measurements) == 4 and len(first.tasks) == 2
        more = self._run("--archs-per-task", "3", *self.ARGS[:4], *self.ARGS[6:], out=out)
        assert more.returncode == 0, more.stderr
        data = read(out)
        assert data.measurements[:4] == first.measurements and len({(m.task, m.arch) for m in data.measurements}) == 6
        other = self._run("--seed", "1", *self.ARGS, out=out)
        assert other.returncode == 2 and "was made with another seed" in other.stderr
        assert json.loads(out.read_text().splitlines()[0])["images"] == ["toys"]

    def _printed(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str, out: Path) -> str:
        """The error of the command, run in this process."""
        monkeypatch.setattr("sys.argv", ["build_meta_dataset", *args, "--out", str(out)])
        with pytest.raises(SystemExit) as exit_:
            run_command(build_meta_dataset.main)
        assert exit_.value.code == 2
        return capsys.readouterr().err

    def test_a_file_of_the_user_stays(
        self, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "notes.log"
        out.write_text("first line\nlast line")
        assert "notes.log is no meta-dataset" in self._printed(monkeypatch, capsys, *self.ARGS, out=out)
        assert out.read_text() == "first line\nlast line"

    def test_no_source(self, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        assert "--images names no source" in self._printed(monkeypatch, capsys, "--images", " , ", *self.ARGS[2:], out=tmp_path / "m.jsonl")

    def test_more_architectures_than_there_are(
        self, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """With 6 operations, and architectures that count as equal if they have equal numbers of skips, there are 7."""
        monkeypatch.setattr(type(SPACE), "canonical", lambda self, arch: str(self.to_str(arch).count("skip_connect")))
        monkeypatch.setattr(build_meta_dataset, "PATIENCE", 50)
        printed = self._printed(monkeypatch, capsys, *self.ARGS[:4], "--archs-per-task", "8", *self.ARGS[6:], out=tmp_path / "m.jsonl")
        assert "space 'nasbench201' has 7 architectures that compute different things; --archs-per-task asks for more" in printed
        assert not (tmp_path / "m.jsonl").exists()

    def test_mistakes(self, images: Path, tmp_path: Path) -> None:
        unknown = self._run("--images", "svhn", *self.ARGS[2:], out=tmp_path / "m.jsonl")
        assert unknown.returncode == 2 and "unknown image source 'svhn'" in unknown.stderr
        held = self._run("--images", "mnist", *self.ARGS[2:], out=tmp_path / "m.jsonl")
        assert held.returncode == 2 and "held out" in held.stderr
