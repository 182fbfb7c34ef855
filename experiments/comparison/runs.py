"""Running the compared commands: checkouts of two commits, their environment, and what is kept of the old one."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from experiments.comparison.cases import STDOUT, Case
from experiments.comparison.inputs import readme_plug_ins
from experiments.comparison.outputs import Made

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "optuna", "safetensors", "onnx", "onnxscript", "onnxruntime", "matplotlib", "pillow")
SECONDS = 1200
"""After these a command counts as endless; one of a slow case has three times as many."""
RECORD = "record.json"


class CommandFailed(Exception):
    """A command ended with another exit code than its case says."""


def versions() -> dict[str, str]:
    """Versions of what decides figures beside the code."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


def git(*arguments: str, root: Path) -> str:
    """Output of a git command; exits where it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: git {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def worktree(commit: str, *, root: Path, folder: Path) -> Iterator[Path]:
    """A temporary checkout of `commit` in `folder`."""
    git("worktree", "add", "--quiet", "--detach", str(folder), commit, root=root)
    try:
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder), root=root)


def register_entry_points(root: Path) -> None:
    """Register the entry points of a checkout, which then come before those of an installed package; exits where that fails."""
    setup = [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "egg_info"]
    done = subprocess.run(setup, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: the entry points of {root} cannot be registered: {done.stderr.strip()}")


@dataclass(frozen=True)
class Checkout:
    """A checkout and the environment in which its commands run. `work` holds its cache and its plug-ins."""

    root: Path
    work: Path
    inputs: Path

    @classmethod
    def prepare(cls, root: Path, *, work: Path, inputs: Path) -> Checkout:
        """Register the checkout's own entry points and lay out its plug-ins."""
        register_entry_points(root)
        plug_ins = work / "plug-ins"
        shutil.copytree(inputs / "plug-ins", plug_ins)
        (plug_ins / "my_predictors.py").write_text(readme_plug_ins(root))
        return cls(root, work, inputs)

    def environment(self, case: Case, out: Path) -> dict[str, str]:
        """One thread, no accelerator, a cache of its own, and the user's data where the case needs them."""
        dropped = {"PYTHONPATH", "PYTHONHASHSEED", *(() if case.needs_data else ("DIFFNAG_DATA",))}
        left = {key: value for key, value in os.environ.items() if key not in dropped}
        cache = out / "cache" if case.own_cache else self.work / "cache"
        return {
            **left, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "80", "DIFFNAG_CACHE": str(cache),
            "PYTHONPATH": str(self.work / "plug-ins"),
        }  # fmt: skip

    def places(self, out: Path) -> dict[str, str]:
        """Folder names, each with the variable that stands for it in commands."""
        data = os.environ.get("DIFFNAG_DATA")
        return {str(out): "$OUT", str(self.inputs): "$INPUTS", **({data: "$DIFFNAG_DATA"} if data else {})}

    def run(self, case: Case, out: Path) -> Made:
        """Run the commands of `case` in the folder `out`; `CommandFailed` where an exit code is not the expected one."""
        out.mkdir(parents=True)
        places = self.places(out)
        for number, command in enumerate(case.commands, start=1):
            words = list(command)
            for folder, variable in places.items():
                words = [word.replace(variable, folder) for word in words]
            done = subprocess.run(
                [sys.executable, "-m", *words], cwd=self.root, env=self.environment(case, out), capture_output=True, text=True, check=False,
                stdin=subprocess.DEVNULL, timeout=(3 if case.slow else 1) * SECONDS,
            )  # fmt: skip
            expected = case.exit_code if number == len(case.commands) else 0
            if done.returncode != expected:
                said = (done.stderr.strip().splitlines() or ["without a word"])[-1]
                raise CommandFailed(f"python -m {command[0]} ends with {done.returncode}, not {expected}: {said}")
        (out / STDOUT).write_text(done.stdout)
        return Made(out, places)


@dataclass(frozen=True)
class Kept:
    """What the old commit made, in a folder for each case that lasts from one comparison to the next.

    The name of a case's folder has a checksum of its commands, of their inputs and of the installed versions: where one of them changes,
    the case runs anew.
    """

    folder: Path
    inputs: str
    versions: Mapping[str, str]

    def place(self, case: Case) -> Path:
        """The folder of `case`, whether it is there or not."""
        made_by = {
            "commands": case.commands, "outputs": [asdict(output) for output in case.outputs], "exit_code": case.exit_code,
            "inputs": self.inputs if case.reads_inputs else None, "versions": dict(self.versions),
            "data": os.environ.get("DIFFNAG_DATA") if case.needs_data else None,
        }  # fmt: skip
        key = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{case.name.replace(' ', '-')}-{key[:12]}"

    def load(self, case: Case) -> Made | None:
        """What is kept of `case`, if anything."""
        record = self.place(case) / RECORD
        return Made(record.parent, json.loads(record.read_text())["places"]) if record.is_file() else None

    def run(self, case: Case, checkout: Checkout) -> Made:
        """Run `case`, keep the files that are compared, and return them."""
        place = self.place(case)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".running-") as temporary:
            made = checkout.run(case, Path(temporary) / "out")
            whole = Path(temporary) / "kept"
            for path in sorted({path for output in case.outputs for path in made.folder.glob(output.path)}):
                copy = whole / path.relative_to(made.folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            whole.mkdir(exist_ok=True)
            (whole / RECORD).write_text(json.dumps({"commands": case.commands, "places": dict(made.places)}, indent=2) + "\n")
            try:
                os.replace(whole, place)
            except OSError:
                if not (place / RECORD).is_file():  # else another comparison was faster, and what it made is as good
                    raise
        kept = self.load(case)
        assert kept
        return kept
