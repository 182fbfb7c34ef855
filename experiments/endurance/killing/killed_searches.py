"""Searches that are killed at random moments until they end."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffnag.spaces.loading import load_space
from experiments.endurance.forked import kill_session, run_search_command, start_forked
from experiments.endurance.killing.logged import LOG, SECONDS, SPACE, begun
from experiments.endurance.killing.outcomes import Found
from experiments.endurance.killing.stored import Attempt, Corrupt, attempts, check_whole

TABLE_BUDGET, TRAINING_BUDGET = 40, 8
"""Labels of a search, for each worker."""
QUERY_S = 0.04
"""Seconds of one look into the table."""
LIVES_S = {False: 0.2, True: 0.8}
"""The longest time from an evaluation that begins to a kill, by whether the search trains."""
EARLY, EARLY_S = 0.3, 2.0
"""Share of the kills that come within so many seconds, whether anything is evaluated by then or not."""
MOST_KILLS = 50
"""Kills after which a search is left alone until it ends."""
EVERYBODY = 0.25
"""Share of the moments at which all workers are killed, as a machine dies; else one of them is."""
PATIENCE_S = 600.0
KILLED = -9


@dataclass
class SearchCampaign:
    """One search in `folder`, by some workers that each run the whole command."""

    folder: Path
    storage: str
    workers: int
    trains: bool
    moments: random.Random
    found: Found = field(default_factory=Found)
    processes: dict[int, int] = field(default_factory=dict)
    """Number of a worker -> id of its process."""
    finished: dict[int, str] = field(default_factory=dict)
    """Number of a trial -> its outcome, for all that were finished at the last look."""
    begun_then: dict[str, int] = field(default_factory=dict)
    """How often evaluations that were finished at the last look were begun until then, by canonical form."""

    def run(self) -> Found:
        """Kill until the search has ended, then look at what is left."""
        if self.trains:
            _write_images(self.folder / "images.npz")
        until = time.monotonic() + PATIENCE_S
        try:
            while not self._step():
                if time.monotonic() > until:
                    self.found.faults.append(f"{self.folder.name}: no end after {PATIENCE_S:g} s and {self.found.kills} kills")
                    return self.found
            self._check_end()
        finally:
            for process in self.processes.values():
                kill_session(process)
                os.waitpid(process, 0)
        if not self.found.faults:
            shutil.rmtree(self.folder)
        return self.found

    @property
    def _budget(self) -> int:
        return self.workers * (TRAINING_BUDGET if self.trains else TABLE_BUDGET)

    def _step(self) -> bool:
        """Start who is missing, wait, kill; returns whether all workers have ended by themselves."""
        for worker in range(self.workers):
            if worker not in self.processes:
                self.processes[worker] = self._start(worker, self.folder / "run", self.storage)
        early, share, before = self.moments.random() < EARLY, self.moments.random(), self._evaluations()
        spared = self.found.kills >= MOST_KILLS
        until = time.monotonic() + share * EARLY_S if early and not spared else math.inf
        while time.monotonic() < until:
            if self._collect():
                return True
            if not spared and until == math.inf and self._evaluations() > before:
                until = time.monotonic() + share * LIVES_S[self.trains]
            time.sleep(0.005)
        self._look()
        everybody = self.moments.random() < EVERYBODY
        victims = list(self.processes) if everybody else [self.moments.choice(sorted(self.processes))]
        for worker in victims:
            kill_session(self.processes[worker])
        for worker in victims:
            _, status = os.waitpid(self.processes.pop(worker), 0)
            if os.waitstatus_to_exitcode(status) == KILLED:
                self.found.kills += 1
        if not self.processes:
            self._check_files()
        self._look()
        return False

    def _evaluations(self) -> int:
        """How many evaluations were begun until now."""
        return sum(begun(self.folder / "log").values())

    def _collect(self) -> bool:
        """Take note of workers that have ended by themselves: one that is done ends the campaign, once all are."""
        for worker, process in list(self.processes.items()):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                del self.processes[worker]
                if code := os.waitstatus_to_exitcode(status):
                    said = (self.folder / f"stderr-{worker}").read_text()[-2000:]
                    self.found.faults.append(f"{self.folder.name}: worker {worker} ended with {code}: {said}")
                    return True
                self._wait_for_others()
                return True
        return False

    def _wait_for_others(self) -> None:
        for worker, process in list(self.processes.items()):
            _, status = os.waitpid(process, 0)
            del self.processes[worker]
            if code := os.waitstatus_to_exitcode(status):
                self.found.faults.append(f"{self.folder.name}: worker {worker} ended with {code}")

    def _look(self) -> None:
        """Read the storage; what was finished at the last look must be there and must not have been begun again."""
        space = load_space(SPACE)
        there = attempts(self.storage)
        log = begun(self.folder / "log")
        for number, outcome in self.finished.items():
            if number not in there or there[number].outcome != outcome:
                self.found.faults.append(f"{self.folder.name}: trial {number} lost its outcome {outcome}")
        for key, count in self.begun_then.items():
            if log[key] > count:
                self.found.faults.append(f"{self.folder.name}: {key} was finished and is evaluated again")
        done = {number: attempt for number, attempt in there.items() if attempt.outcome is not None}
        self.finished = {number: str(attempt.outcome) for number, attempt in done.items()}
        keys = {space.canonical(space.from_str(attempt.arch)) for attempt in done.values() if "abandoned" not in attempt.attributes}
        # read after the storage: what was begun again before the look is found by the count of all in the end
        self.begun_then = {key: log[key] for key in keys}

    def _check_files(self) -> None:
        try:
            check_whole(self.storage)
        except Corrupt as fault:
            self.found.faults.append(f"{self.folder.name}: corrupt {fault}")
        for path in (self.folder / "run").glob("*.json"):
            try:
                json.loads(path.read_text())
            except ValueError:
                self.found.faults.append(f"{self.folder.name}: corrupt {path.name}")

    def _check_end(self) -> None:
        """The budget is spent exactly, each evaluation once but for those that were killed, and the result is that of an unbroken run."""
        self._look()
        self._check_files()
        labels = self._labels(attempts(self.storage))
        self.found.finished += len(labels)
        budget = self._budget
        if len(labels) != budget:
            self.found.faults.append(f"{self.folder.name}: {len(labels)} labels, not {budget}")
        more = sum(begun(self.folder / "log").values()) - budget
        if more > self.found.kills:
            self.found.faults.append(f"{self.folder.name}: {more} evaluations more than labels, with {self.found.kills} kills")
        for name in ("result.json", "trials.csv", "report.html", *(["model.pt"] if self.trains else [])):
            if not (self.folder / "run" / name).is_file():
                self.found.faults.append(f"{self.folder.name}: no {name}")
        if self.workers == 1 and not self.found.faults:
            self._compare(labels)

    def _compare(self, labels: Mapping[str, float]) -> None:
        whole = self.folder / "whole"
        whole.mkdir()
        storage = f"sqlite:///{whole}/study.db"
        process = self._start(9, whole / "run", storage, log=whole / "log")
        _, status = os.waitpid(process, 0)
        if code := os.waitstatus_to_exitcode(status):
            self.found.faults.append(f"{self.folder.name}: the unbroken run ended with {code}")
            return
        self.found.compared += 1
        if (other := self._labels(attempts(storage))) != labels:
            self.found.faults.append(f"{self.folder.name}: labels {labels}, unbroken {other}")
        best, other_best = (_best(place / "result.json") for place in (self.folder / "run", whole / "run"))
        if best != other_best:
            self.found.faults.append(f"{self.folder.name}: best {best}, unbroken {other_best}")

    def _labels(self, there: Mapping[int, Attempt]) -> dict[str, float]:
        """Architecture -> value, in the order of their places."""
        found: dict[str, float] = {}
        for attempt in there.values():
            if attempt.state == "COMPLETE" and attempt.value is not None:
                if attempt.arch in found:
                    self.found.faults.append(f"{self.folder.name}: {attempt.arch} has two labels")
                found[attempt.arch] = attempt.value
        return found

    def _start(self, worker: int, out: Path, storage: str, *, log: Path | None = None) -> int:
        dataset, oracle = (str(self.folder / "images.npz"), "LoggedTraining") if self.trains else ("cifar10", "LoggedTable")
        args = [
            "--space", SPACE, "--dataset", dataset, "--oracle", f"experiments.endurance.killing.logged:{oracle}", "--method", "evolution",
            "--budget", str(self._budget), "--out", str(out), "--storage", storage, "--study", "search", "--device", "cpu",
            *(["--epochs", "1"] if self.trains else []),
        ]  # fmt: skip
        env = {LOG: str(log or self.folder / "log"), SECONDS: str(QUERY_S), "DIFFNAG_CACHE": str(self.folder / "cache")}
        return start_forked(
            lambda: run_search_command(args), folder=self.folder, env=env,
            stdout=self.folder / f"stdout-{worker}", stderr=self.folder / f"stderr-{worker}",
        )  # fmt: skip


def _best(path: Path) -> Any:
    """The best of a result, without seconds."""
    found = json.loads(path.read_text())
    return found["best"], found["labels_target"]


def _write_images(path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(256, size=(60, 8, 8, 1), dtype=np.uint8), np.arange(60) % 2
    x[y == 1, :, :4] //= 2
    np.savez(path, x_train=x, y_train=y)
