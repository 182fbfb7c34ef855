"""Score training: interruption and the number of processes change nothing; bad input gets its sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from diffnag import train_score
from diffnag.errors import UserError
from diffnag.generators import training
from diffnag.generators.diffusion.family import SDEFamily
from diffnag.generators.diffusion.levels import training_times
from diffnag.generators.diffusion.options import Config
from diffnag.generators.diffusion.samplers import time_grid
from diffnag.io.checkpoint import load_checkpoint

OPTIONS = training.Training(space="nasbench201", split="canonical-sha256-0.5", steps=12, batch_size=16, learning_rate=3e-3, seed=0)
TINY = Config(width=16, layers=1, heads=2)
COMMAND = [
    sys.executable, "-m", "diffnag.train_score", "--steps", "12", "--batch-size", "16", "--width", "16", "--layers", "1", "--heads", "2",
    "--device", "cpu",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _small_samples(monkeypatch):
    monkeypatch.setattr(training, "quality", lambda run, space, split, *, n: {"validity": 0.0})


def train(out, options=OPTIONS, config=TINY, *, resume=False):
    return training.train(SDEFamily(), options, config, out=out, resume=resume, device="cpu")


def weights(path):
    return load_checkpoint(path, kind="generator")[0]


def assert_equal(one, two):
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(("sde", "cross_entropy"), [("ve", False), ("vp", False), ("sub-vp", False), ("ve", True)])
def test_learns_and_describes_itself(tmp_path, sde, cross_entropy):
    config = replace(TINY, sde=sde, cross_entropy=cross_entropy)
    meta = train(tmp_path / "d.safetensors", replace(OPTIONS, steps=4), config)
    _, stored = load_checkpoint(tmp_path / "d.safetensors", kind="generator")
    assert Config(**stored["config"]) == config and stored["training"]["seed"] == 0
    assert stored["sde"]["name"] == sde and stored["split"] == "canonical-sha256-0.5"
    assert stored["training_architectures"] == meta["training_architectures"] == 8710
    assert not (tmp_path / "d.safetensors.state").exists()


def test_interrupted_and_resumed_equals_unbroken(tmp_path, monkeypatch):
    train(tmp_path / "unbroken.safetensors")
    real, out = training.TrainingRun.advance, tmp_path / "broken.safetensors"

    def interrupted(run, data, *, rank, world):
        if run.step == 5:
            os.kill(os.getpid(), signal.SIGINT)  # in the middle of a step, which is then finished
        return real(run, data, rank=rank, world=world)

    monkeypatch.setattr(training.TrainingRun, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 6 of 12; the same command with --resume goes on"):
        train(out)
    monkeypatch.setattr(training.TrainingRun, "advance", real)
    with pytest.raises(UserError, match="holds an interrupted training: pass --resume"):
        train(out)
    with pytest.raises(UserError, match=r"was begun with other options: seed 0 \(now 1\)"):
        train(out, replace(OPTIONS, seed=1), resume=True)
    train(out, resume=True)
    assert_equal(weights(tmp_path / "unbroken.safetensors"), weights(out))


def test_state_is_saved_while_training(tmp_path, monkeypatch):
    """A kill gives no chance to save, so the state is written as training goes on."""
    monkeypatch.setattr(training, "SAVE_EVERY_S", 0.0)
    saved = []
    real = training.TrainingRun.save
    monkeypatch.setattr(training.TrainingRun, "save", lambda run, path: (saved.append(run.step), real(run, path)))
    train(tmp_path / "d.safetensors", replace(OPTIONS, steps=3))
    assert saved == [1, 2]


def test_resume_demands_a_file(tmp_path):
    with pytest.raises(UserError, match="--resume: there is no interrupted training"):
        train(tmp_path / "d.safetensors", resume=True)
    (tmp_path / "d.safetensors.state").write_bytes(b"junk")
    with pytest.raises(UserError, match="is no readable training state"):
        train(tmp_path / "d.safetensors", resume=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_learn_the_same(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    subprocess.run([*COMMAND, "--out", one], check=True, env=environment, capture_output=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *COMMAND[1:]]
    subprocess.run([*torchrun, "--out", two], check=True, env=environment, capture_output=True)
    for key, value in weights(one).items():
        torch.testing.assert_close(weights(two)[key], value, atol=2e-4, rtol=1e-3)


def test_average_forgets_its_first_weights():
    average, now = torch.zeros(1), torch.ones(1)
    for count in range(1, 100):
        average = training._ema(average, now, count)
    assert average.item() > 0.999


def test_levels_are_those_that_sampling_visits(space):
    from diffnag.generators.diffusion.sde import make_sde

    grid = time_grid(make_sde("vp"), 1000)
    assert grid[0] == 1 and grid[-1] == pytest.approx(make_sde("vp").t_min)


def test_a_share_of_the_levels_lies_where_entries_are_decided(space):
    from diffnag.generators.diffusion.sde import make_sde

    for name in ("ve", "vp"):
        sde = make_sde(name)
        assert torch.equal(training_times(sde, 0.0), time_grid(sde, 1000))
        times = training_times(sde, 0.7)
        assert times[0] == 1 and times[-1] == pytest.approx(sde.t_min) and (times.diff() < 0).all()
        noise, plain = sde.noise_to_signal(times), sde.noise_to_signal(time_grid(sde, 1000))
        middle, before = (((levels > 0.4) & (levels < 1.6)).float().mean().item() for levels in (noise, plain))
        assert middle == pytest.approx(0.3 * before + 0.7 * 0.8, abs=0.03)  # 0.8 of the law lies within a factor 2 of its centre


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--sde", "x"], "unknown SDE 'x'; there are: ve, vp, sub-vp"),
        (["--space", "x"], "unknown space 'x'; there are: "),
        (["--split", "half"], "unknown split 'half'; expected canonical-sha256-F"),
        (["--width", "10"], "--width 10 is not a multiple of twice --heads 2"),
        (["--out", "/proc/nowhere/d.safetensors"], "cannot write /proc/nowhere/d.safetensors"),
        (["--out", "/"], "cannot write /: Is a directory"),
        (["--focus", "2"], "'2' is not a finite number from 0.0 to 1.0"),
        (["--device", "nonsense"], "device 'nonsense' is not available here"),
    ],
)
def test_bad_input(tmp_path, arguments, sentence, capsys, monkeypatch):
    from diffnag.command.running import run_command

    monkeypatch.setattr(sys, "argv", ["train_score", "--out", str(tmp_path / "d.safetensors"), *arguments])
    with pytest.raises(SystemExit) as stop:
        run_command(train_score.main)
    assert stop.value.code == 2 and sentence in capsys.readouterr().err
