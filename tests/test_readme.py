"""What the README shows works as it stands there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MEASUREMENTS = (ROOT / "docs" / "measurements.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def block(beginning: str) -> str:
    (found,) = [text for text in BLOCKS if text.startswith(beginning)]
    return found


def test_api_example(capsys):
    names: dict[str, object] = {}
    exec(compile(block("from diffnag import Generator"), "README.md", "exec"), names)
    assert capsys.readouterr().out.startswith("gradient |")
    assert sum(parameter.numel() for parameter in names["network"].parameters()) > 70_000


@pytest.mark.timeout(120)
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


@pytest.mark.slow
@pytest.mark.timeout(900)  # it trains for real: minutes on a machine that is busy with other things
def test_own_space(tmp_path):
    """The file and the commands of the README, one after the other, to the letter."""
    text = block("# my_space.py")
    assert len(text.splitlines()) < 60
    (tmp_path / "my_space.py").write_text(text)
    commands = [shlex.split(line)[1:] for line in README.splitlines() if "my_space:Ladder" in line and line.startswith("python")]
    assert [command[1] for command in commands] == ["diffnag.train_score", "diffnag.generate", "diffnag.search"]
    for command in commands:
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "ladders.metrics.json").read_text())
    assert metrics["validity"] > 0.85 and metrics["uniqueness"] > 0.9
    (written,) = tmp_path.glob("runs/*/result.json")
    result = json.loads(written.read_text())
    assert result["labels_target"] == 6 and result["guidance"] == "particles" and result["test_accuracy"] > 0.8
    assert (written.parent / "model.pt").is_file()


def test_every_command_of_the_readme_exists():
    modules = set(re.findall(r"python -m diffnag\.(\w+)", README))
    assert modules >= {"search", "generate", "train_score", "train_predictor", "train_surrogate", "list", "data", "embed_datasets"}
    for module in modules:
        assert (ROOT / "diffnag" / f"{module}.py").is_file()


def test_figures_come_from_committed_results():
    """Every result file that a page names is there, and the pages say what the files say."""
    from experiments.pages import pages

    for page in (README, MEASUREMENTS):
        named = re.findall(r"experiments/results/([\w.]+)", page)
        assert named
        for name in named:
            assert (ROOT / "experiments" / "results" / name).is_file()
    for path, text in pages().items():
        assert path.read_text() == text
