"""Trainings of score networks that are killed at random moments until they end."""

from __future__ import annotations

import math
import os
import random
import shutil
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from experiments.endurance.forked import kill_session, known_training_set, start_forked, train_command
from experiments.endurance.killing.outcomes import Found

SPACE, SPLIT, STEPS = "transnasbench101-macro", "canonical-sha256-0.5", 300
LIFE_S = 0.8
"""The longest time from the first state that a training saves to its kill."""
EARLY, EARLY_S = 0.3, 4.0
"""Share of the kills that come within so many seconds, whether anything is saved by then or not."""
PATIENCE_S = 600.0
KILLED = -9
ARGS = (
    "--generator", "sde", "--space", SPACE, "--split", SPLIT, "--steps", str(STEPS), "--batch-size", "16", "--width", "8", "--layers", "1",
    "--heads", "1", "--device", "cpu",
)  # fmt: skip


@dataclass
class TrainingCampaign:
    """One training in `folder`."""

    folder: Path
    moments: random.Random
    found: Found = field(default_factory=Found)

    def run(self) -> Found:
        """Kill until the training has ended, then compare its weights with those of an unbroken one."""
        known_training_set(SPACE, SPLIT)
        until = time.monotonic() + PATIENCE_S
        out = self.folder / "n.safetensors"
        while True:
            process = self._start(out)
            code = self._within(process, out)
            if code == 0:
                break
            if code is None:
                kill_session(process)
                _, status = os.waitpid(process, 0)
                self.found.kills += os.waitstatus_to_exitcode(status) == KILLED
            else:
                self.found.faults.append(f"{self.folder.name}: ended with {code}: {(self.folder / 'stderr').read_text()[-2000:]}")
                break
            if not self._is_whole(out) or time.monotonic() > until:
                self.found.faults.append(f"{self.folder.name}: no end after {PATIENCE_S:g} s, or a damaged file")
                break
        if not self.found.faults:
            self._compare(out)
        if not self.found.faults:
            shutil.rmtree(self.folder)
        return self.found

    def _start(self, out: Path) -> int:
        resume = ["--resume"] if out.with_name(out.name + ".state").exists() else []
        return start_forked(
            lambda: train_command([*ARGS, "--out", str(out), *resume]), folder=self.folder, env={},
            stdout=self.folder / "stdout", stderr=self.folder / "stderr",
        )  # fmt: skip

    def _within(self, process: int, out: Path) -> int | None:
        """The exit code of a training that ends before its moment has come, else None."""
        state = out.with_name(out.name + ".state")
        early, share, before = self.moments.random() < EARLY, self.moments.random(), _changed(state)
        until = time.monotonic() + share * EARLY_S if early else math.inf
        while time.monotonic() < until:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if not early and until == math.inf and _changed(state) != before:
                until = time.monotonic() + share * LIFE_S
            time.sleep(0.005)
        return None

    def _is_whole(self, out: Path) -> bool:
        """Whether what the killed training has left can be read."""
        import torch

        from diffnag.io.checkpoint import load_checkpoint

        state = out.with_name(out.name + ".state")
        if state.exists():
            torch.load(state, weights_only=True)
        if out.exists():
            load_checkpoint(out, kind="generator")
        return True

    def _compare(self, out: Path) -> None:
        from diffnag.io.checkpoint import weights_checksum

        self.found.finished += 1
        self.found.compared += 1
        if weights_checksum(out) != unbroken():
            self.found.faults.append(f"{self.folder.name}: other weights than those of an unbroken training")


@cache
def unbroken() -> str:
    """Checksum of the weights of a training that nobody kills."""
    import tempfile

    from diffnag.io.checkpoint import weights_checksum

    with tempfile.TemporaryDirectory(prefix="endurance-") as folder:
        place = Path(folder)
        process = start_forked(
            lambda: train_command([*ARGS, "--out", str(place / "n.safetensors")]), folder=place, env={},
            stdout=place / "stdout", stderr=place / "stderr",
        )  # fmt: skip
        _, status = os.waitpid(process, 0)
        assert status == 0, (place / "stderr").read_text()
        return weights_checksum(place / "n.safetensors")


def _changed(path: Path) -> int:
    """When a file was changed, in ns; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
