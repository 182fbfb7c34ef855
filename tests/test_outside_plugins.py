"""Plug-ins of a package that is not ours: installed with entry points, then used by name through the commands.

Nothing in diffnag knows them. A new kind of plug-in is one more entry of TOYS.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import diffnag
from diffnag.plugins import GROUPS


class Toy(NamedTuple):
    """A plug-in of one kind: its registered name, the file in which its class `Toy` is, and a command that uses it."""

    name: str
    source: str
    command: str = ""


SPACE = '''
from torch import nn
from diffnag import Arch, CategoricalSpace

WIDTHS = ("narrow", "middle", "wide")

class Toy(CategoricalSpace):
    """Four layers in a chain, each of three widths."""

    name, nodes, operators = "toy-chain", 6, ("input", "output", *WIDTHS)
    parameters = {f"layer{i}": WIDTHS for i in range(4)}

    def from_parameters(self, parameters):
        layers = [self.operators.index(parameters[f"layer{i}"]) for i in range(4)]
        return Arch((0, *layers, 1), [(i, i + 1) for i in range(5)])

    def to_parameters(self, arch):
        return {f"layer{i}": self.operators[op] for i, op in enumerate(arch.ops[1:-1])}

    def build(self, arch, *, channels=4, cells=1, num_classes, stem_stride=1):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))
'''

PREDICTOR = '''
import numpy as np

class Toy:
    """The nearest architecture, by operators."""

    def fit(self, archs, y):
        self.archs, self.y = np.array([arch.ops for arch in archs]), y

    def predict(self, archs):
        apart = (np.array([arch.ops for arch in archs])[:, None] != self.archs[None]).sum(-1)
        return self.y[apart.argmin(1)], 1.0 + apart.min(1)
'''

ORACLE = '''
class Toy:
    """An accuracy of 80 %, and 5 more for each wide layer."""

    kind, available = "toy", {"toy-task": ("val", "test")}

    def setup(self, *, space):
        assert space.name == "toy-chain"

    def query(self, arch, *, dataset, split, epochs=None):
        return 80.0 + 5 * arch.ops.count(4) - (split == "test")

    def provenance(self):
        return {"version": "1"}
'''

GENERATOR = '''
import time
from dataclasses import dataclass
from diffnag.command.options import option
from diffnag.generators.base import Generation
from diffnag.protocols import Decoded

@dataclass(frozen=True)
class Sampling:
    width: str = option("wide", help="width of every layer")

class Generator:
    """One architecture, over and over."""

    steers, conditions = frozenset(), ()

    def __init__(self, space):
        self.space = space

    def sample(self, n, *, seed, steer=None, sampling=None):
        begin = time.perf_counter()
        layers = dict.fromkeys(self.space.parameters, (sampling or Sampling()).width)
        decoded = (Decoded(self.space.from_parameters(layers), None),) * n
        return Generation(decoded, decoded, "none", nfe=0, predictor_nfe=0, wall_s=time.perf_counter() - begin)

    def vary(self, archs, n, *, seed):
        return self.sample(n, seed=seed)

    def provenance(self):
        return {}

class Toy:
    Sampling = Sampling

    def load(self, space, path=None, *, device="cpu"):
        return Generator(space)
'''

OBJECTIVE = '''
class Toy:
    """Number of wide layers."""

    name, unit, maximise, paid = "wide-layers", "", False, False

    def measure(self, arch, *, task):
        return float(arch.ops.count(4))
'''

METHOD = '''
from diffnag.search_loop.methods.base import batch_of, taken

class Toy:
    """Whatever the space enumerates first."""

    uses, defaults = frozenset(), {}

    @classmethod
    def of(cls, setting):
        made = cls()
        made.domain = setting.domain
        return made

    def propose(self, known, q):
        seen = taken(self.domain, known)
        fresh = self.domain.fresh(self.domain.space.enumerate(), seen)
        return batch_of(arch for arch, _ in zip(fresh, range(q)))
'''

TOYS = {
    "space": Toy("toy-chain", SPACE, "train_score --space toy-chain --steps 120 --batch-size 64 --width 32 --out toy.safetensors"),
    "predictor": Toy(
        "toy-nearest", PREDICTOR,
        "search --space toy-chain --checkpoint toy.safetensors --dataset toy-task --predictor toy-nearest --oracle toy-oracle --budget 9 --out found",
    ),
    "oracle": Toy("toy-oracle", ORACLE, "generate --space toy-chain --checkpoint toy.safetensors --n 32 --seed 1 --out toys.jsonl"),
    "generator": Toy("toy-one", GENERATOR, "generate --space toy-chain --generator toy-one --width middle --n 4 --out middle.jsonl"),
    "objective": Toy(
        "toy-wide", OBJECTIVE,
        "search --space toy-chain --dataset toy-task --method random --oracle toy-oracle --limit toy-wide<=1 --budget 8 --out limited",
    ),
    "method": Toy(
        "toy-first", METHOD, "search --space toy-chain --dataset toy-task --method toy-first --oracle toy-oracle --budget 5 --out first"
    ),
}  # fmt: skip

COMMANDS = """
import importlib, sys

for line in sys.stdin.read().splitlines():
    sys.argv = line.split()
    try:
        importlib.import_module(f"diffnag.{sys.argv[0]}").main()
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command of TOYS has run; `printed` is what `list` and then they said."""
    folder, site = tmp_path_factory.mktemp("used"), tmp_path_factory.mktemp("site")
    metadata = site / "toy-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    points = []
    for kind, group in GROUPS.items():
        (site / f"toy_{kind}.py").write_text(TOYS[kind].source)
        points.append(f"[{group}]\n{TOYS[kind].name} = toy_{kind}:Toy\n")
    (metadata / "entry_points.txt").write_text("".join(points))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(Path(diffnag.__file__).parents[1])])}
    lines = ["list", *(toy.command for kind, toy in sorted(TOYS.items(), key=lambda item: item[0] != "space") if kind in GROUPS)]
    command = [sys.executable, "-W", "error", "-c", COMMANDS]
    done = subprocess.run(command, cwd=folder, env=environment, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "printed").write_text(done.stdout)
    return folder


def samples(path: Path) -> list[list[str]]:
    """The layers of the valid samples in a file of `generate`."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [each["arch"].split(",") for each in lines if each["valid"]]


def trials(folder: Path) -> list[list[str]]:
    """The layers of each evaluated architecture of a search."""
    with (folder / "trials.csv").open(newline="") as file:
        return [row["arch"].split(",") for row in csv.DictReader(file)]


pytestmark = pytest.mark.timeout(120)  # the first test runs all commands
only = {kind: pytest.mark.skipif(kind not in GROUPS, reason=f"there is no kind of plug-in called {kind}") for kind in TOYS}


def test_all_are_listed(used: Path) -> None:
    assert GROUPS.keys() <= TOYS.keys(), "a new kind of plug-in comes with a toy"
    listed = (used / "printed").read_text().split("checkpoints")[0].replace(",", " ").split()
    assert {TOYS[kind].name for kind in GROUPS} <= set(listed)


def test_space(used: Path) -> None:
    """A network learned it, and draws from it."""
    made = samples(used / "toys.jsonl")
    assert 16 < len(made) <= 32 and all(len(arch) == 4 and {*arch} <= {"narrow", "middle", "wide"} for arch in made)


def test_predictor_and_oracle(used: Path) -> None:
    result = json.loads((used / "found" / "result.json").read_text())
    assert result["predictor"] == "toy-nearest" and result["guidance"] == "particles"
    assert result["oracle"]["kind"] == "toy" and result["labels_target"] == 9 and result["labels_source"] == {}
    best = result["best"]["arch"].split(",")
    assert result["best"]["value"] == 80 + 5 * best.count("wide") == result["best"]["test"] + 1


@only["generator"]
def test_generator(used: Path) -> None:
    assert samples(used / "middle.jsonl") == [["middle"] * 4] * 4


@only["objective"]
def test_objective(used: Path) -> None:
    counts = [arch.count("wide") for arch in trials(used / "limited")]
    assert len(counts) == 8 and max(counts) == 1


@only["method"]
def test_method(used: Path) -> None:
    found = trials(used / "first")
    assert found == [["narrow"] * 4, ["narrow"] * 3 + ["middle"], ["narrow"] * 3 + ["wide"], ["narrow", "narrow", "middle", "narrow"],
                     ["narrow", "narrow", "middle", "middle"]]  # fmt: skip
