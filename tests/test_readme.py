"""What the README shows works as it stands there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def block(beginning: str) -> str:
    (found,) = [text for text in BLOCKS if text.startswith(beginning)]
    return found


def test_api_example(capsys):
    names: dict[str, object] = {}
    exec(compile(block("from diffnag import Generator"), "README.md", "exec"), names)
    assert capsys.readouterr().out.startswith("gradient |")
    assert sum(parameter.numel() for parameter in names["network"].parameters()) > 70_000


@pytest.mark.parametrize(("cls", "guidance"), [("NearestNeighbours", "particles"), ("Linear", "denoised")])
def test_own_predictor(tmp_path, cls, guidance):
    (tmp_path / "my_predictors.py").write_text(block("# my_predictors.py"))
    command = [
        sys.executable, "-m", "diffnag.search", "--dataset", "cifar10", "--predictor", f"my_predictors:{cls}", "--oracle", "surrogate",
        "--budget", "12", "--batch", "4", "--candidates", "64", "--device", "cpu", "--out", "out",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["guidance"] == guidance
    assert result["labels_target"] == 12
    assert result["labels_source"] == {}
    assert result["predictor_nfe"] > 0
    assert result["oracle"]["kind"] == "surrogate"


def test_every_command_of_the_readme_exists():
    modules = set(re.findall(r"python -m diffnag\.(\w+)", README))
    assert modules >= {"search", "generate", "train_score", "train_predictor", "train_surrogate", "list", "data", "embed_datasets"}
    for module in modules:
        assert (Path(__file__).parents[1] / "diffnag" / f"{module}.py").is_file()


def test_figures_come_from_committed_results():
    """Every result file that the README's table names is there."""
    named = re.findall(r"experiments/results/([\w.]+)", README)
    assert named
    for name in named:
        assert (Path(__file__).parents[1] / "experiments" / "results" / name).is_file()
