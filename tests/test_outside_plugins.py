"""Plug-ins of a package that is not ours: installed with entry points, then used by name through the commands.

A new kind of plug-in is one class in TOYS and one line in ENTRY_POINTS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import diffnag
from diffnag.plugins import GROUPS

TOYS = '''
import numpy as np
from torch import nn

from diffnag import Arch, CategoricalSpace

WIDTHS = ("narrow", "middle", "wide")


class Space(CategoricalSpace):
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


class Predictor:
    """Nearest architectures by their operators."""

    def fit(self, archs, y):
        self.archs, self.y = np.array([arch.ops for arch in archs]), y

    def predict(self, archs):
        apart = (np.array([arch.ops for arch in archs])[:, None] != self.archs[None]).sum(-1)
        return self.y[apart.argmin(1)], 1.0 + apart.min(1)


class Oracle:
    """Accuracy of 80 %, and 5 more for each wide layer."""

    kind, available = "toy", {"toy-task": ("val", "test")}

    def setup(self, *, space):
        assert space.name == "toy-chain"

    def query(self, arch, *, dataset, split, epochs=None):
        return 80.0 + 5 * arch.ops.count(4) - (split == "test")

    def provenance(self):
        return {"version": "1"}
'''

ENTRY_POINTS = {
    "diffnag.search_spaces": "toy-chain = toy_plugins:Space",
    "diffnag.predictors": "toy-nearest = toy_plugins:Predictor",
    "diffnag.oracles": "toy-widths = toy_plugins:Oracle",
}

COMMANDS = """
import runpy, sys

for command in (
    "list",
    "train_score --space toy-chain --steps 120 --batch-size 64 --width 32 --out toy.safetensors",
    "generate --space toy-chain --checkpoint toy.safetensors --n 32 --seed 1 --out toys.jsonl",
    "search --space toy-chain --checkpoint toy.safetensors --dataset toy-task --predictor toy-nearest --oracle toy-widths --budget 12 --out found",
):
    sys.argv = command.split()
    try:
        runpy.run_module(f"diffnag.{sys.argv[0]}", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder as pip would leave it: the module, and a distribution's metadata with its entry points."""
    site = tmp_path / "site"
    metadata = site / "toy-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "toy_plugins.py").write_text(TOYS)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("".join(f"[{group}]\n{line}\n" for group, line in ENTRY_POINTS.items()))
    return site


@pytest.mark.timeout(120)
def test_plugins_of_another_package_are_used_by_name(tmp_path: Path, installed: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), str(Path(diffnag.__file__).parents[1])])}
    command = [sys.executable, "-W", "error", "-c", COMMANDS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ENTRY_POINTS.values():
        assert line.split()[0] in done.stdout.split("checkpoints")[0].replace(",", " ").split()

    made = [json.loads(line) for line in (tmp_path / "toys.jsonl").read_text().splitlines()]
    assert len(made) == 32
    valid = [each["arch"].split(",") for each in made if each["valid"]]
    assert len(valid) > 16 and all(len(arch) == 4 and {*arch} <= {"narrow", "middle", "wide"} for arch in valid)

    result = json.loads((tmp_path / "found" / "result.json").read_text())
    assert result["oracle"]["kind"] == "toy" and result["labels_target"] == 12 and result["labels_source"] == {}
    best = result["best"]["arch"].split(",")
    assert result["best"]["value"] == 80 + 5 * best.count("wide") == result["best"]["test"] + 1


def test_every_group_has_a_toy() -> None:
    """A new kind of plug-in comes with a toy above."""
    assert set(GROUPS.values()) == set(ENTRY_POINTS)
