"""What README and guide show works as it stands there: code, commands, links, figures."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))}


def block(page: str, beginning: str) -> str:
    """The Python block of a page that begins like this."""
    (found,) = [text for text in re.findall(r"```python\n(.*?)```", PAGES[page], flags=re.DOTALL) if text.startswith(beginning)]
    return found


def run(folder: Path, command: str, *more: str) -> str:
    """Run a command of a page in a folder; its output."""
    words = shlex.split(command, comments=True)
    assert words[0] == "python"
    done = subprocess.run([sys.executable, *words[1:], *more], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands(page: str) -> list[str]:
    """The shell commands of a page that start Python, one a line."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGES[page], flags=re.DOTALL)
    lines = [line.strip() for text in blocks for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("python ")]


SUBCOMMANDS = ("diffnag.device",)
"""Commands whose flags are those of a sub-command."""


@cache
def help_of(module: str, *sub: str) -> str:
    command = [sys.executable, "-m", module, *sub, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- the code of the pages


def test_the_api_of_the_readme(capsys):
    names: dict[str, object] = {}
    exec(compile(block("README.md", "from diffnag import SearchOptions"), "README.md", "exec"), names)
    assert capsys.readouterr().out.startswith("gradient |")
    assert sum(parameter.numel() for parameter in names["network"].parameters()) > 70_000


def test_the_api_of_the_generators(capsys):
    exec(compile(block("docs/generators.md", "from diffnag import Steer"), "generators.md", "exec"), {})
    kind, samples, near = capsys.readouterr().out.split()
    assert kind == "gradient" and int(samples) > 60 and int(near) > 28


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("page", "cls", "guidance"), [("README.md", "NearestNeighbours", "particles"), ("docs/predictors.md", "Linear", "denoised")])
def test_own_predictor(tmp_path, page, cls, guidance):
    (tmp_path / "my_predictors.py").write_text(block(page, "# my_predictors.py"))
    (command,) = [line for line in commands(page) if "my_predictors:" in line]
    assert command.endswith(f"--predictor my_predictors:{cls}")
    run(tmp_path, command, *shlex.split("--oracle surrogate --budget 12 --batch 4 --candidates 64 --device cpu --out out"))
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["guidance"] == guidance
    assert result["labels_target"] == 12
    assert result["labels_source"] == {}
    assert result["predictor_nfe"] > 0
    assert result["oracle"]["kind"] == "surrogate"


def test_own_generator(tmp_path):
    (tmp_path / "my_generators.py").write_text(block("docs/generators.md", "# my_generators.py"))
    (command,) = [line for line in commands("docs/generators.md") if "my_generators:" in line]
    run(tmp_path, command)
    lines = [json.loads(line) for line in (tmp_path / "few.jsonl").read_text().splitlines()]
    assert len(lines) == 64 and all(line["valid"] for line in lines)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_own_trained_generator(tmp_path):
    """One file, its commands to the letter, and its test suite."""
    text = block("docs/generators.md", "# mixture.py")
    assert len([line for line in text.splitlines() if line]) < 60
    (tmp_path / "mixture.py").write_text(text)
    own = [line for line in commands("docs/generators.md") if "mixture:" in line]
    assert [shlex.split(line)[2] for line in own] == ["diffnag.train_score", "diffnag.generate", "diffnag.likelihood"]
    said = [run(tmp_path, command) for command in own]
    assert "256 architectures: mean log probability" in said[-1] and "(exact)" in said[-1]
    assert json.loads((tmp_path / "mixed.metrics.json").read_text())["validity"] > 0.99
    (tmp_path / "test_mine.py").write_text(block("docs/generators.md", "from pathlib import Path"))
    assert "13 passed" in run(tmp_path, "python -m pytest -q -p no:cacheprovider test_mine.py")


def test_own_objective(tmp_path):
    (tmp_path / "my_objectives.py").write_text(block("docs/objectives.md", "# my_objectives.py"))
    (command,) = [line for line in commands("docs/objectives.md") if "my_objectives:" in line]
    said = run(tmp_path, command, *shlex.split("--oracle surrogate --budget 8 --candidates 64 --device cpu --out own"))
    assert "limits    energy<=40 mJ" in said and "minimise energy" in said
    result = json.loads((tmp_path / "own" / "result.json").read_text())
    assert result["measurements"] == {"energy": 8} and result["front"]["members"]
    assert all(member["values"]["energy"] <= 40 for member in result["front"]["members"])


def test_the_study_of_a_front(tmp_path, monkeypatch, capsys):
    text = block("docs/objectives.md", "# after: ")
    run(tmp_path, text.splitlines()[0].removeprefix("# after: "), *shlex.split("--oracle surrogate --device cpu"))
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "objectives.md", "exec"), {})
    assert "StudyDirection.MAXIMIZE: 2" in (out := capsys.readouterr().out) and "StudyDirection.MINIMIZE: 1" in out


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("page", "module", "suite"),
    [
        ("docs/predictors.md", "# my_predictors.py", "import pytest\n\nfrom diffnag import load_space"),
        ("docs/spaces.md", "# my_space.py", "import pytest\n\nfrom diffnag.testing import SearchSpaceContract"),
    ],
)
def test_the_contract_suites_of_the_guide(tmp_path, page, module, suite):
    code = block(page, module)
    (tmp_path / code.splitlines()[0].removeprefix("# ")).write_text(code)
    (tmp_path / "test_mine.py").write_text(block(page, suite))
    assert "passed" in run(tmp_path, "python -m pytest -q -p no:cacheprovider test_mine.py")


@pytest.mark.slow
@pytest.mark.timeout(900)  # it trains for real: minutes on a machine that is busy with other things
def test_own_space(tmp_path):
    """The file and the commands of the guide, one after the other, to the letter."""
    text = block("docs/spaces.md", "# my_space.py")
    assert len(text.splitlines()) < 70
    (tmp_path / "my_space.py").write_text(text)
    own = [line for line in commands("docs/spaces.md") if "my_space:Ladder" in line]
    assert [shlex.split(line)[2] for line in own] == ["diffnag.train_score", "diffnag.generate", "diffnag.search"]
    for command in own:
        run(tmp_path, command)
    metrics = json.loads((tmp_path / "ladders.metrics.json").read_text())
    assert metrics["validity"] > 0.85 and metrics["uniqueness"] > 0.9
    (written,) = tmp_path.glob("runs/*/result.json")
    result = json.loads(written.read_text())
    assert result["labels_target"] == 6 and result["guidance"] == "particles" and result["test_accuracy"] > 0.8
    assert (written.parent / "model.pt").is_file()


# -- commands, links, figures


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_flag_exists(page):
    for command in commands(page):
        words = shlex.split(command, comments=True)
        assert words[1] == "-m", command
        module = words[2]
        if not module.startswith("diffnag."):
            continue
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), command
        if "..." in words or module == "diffnag.data":
            continue
        for flag in (word for word in words if word.startswith("--")):
            assert flag in help_of(module, *words[3:4] if module in SUBCOMMANDS else ()), f"{command}: {module} has no {flag}"


def test_the_pages_name_every_command():
    named = {module for text in PAGES.values() for module in re.findall(r"python -m diffnag\.(\w+)", text)}
    there = {path.stem for path in (ROOT / "diffnag").glob("*.py") if "run_command(main)" in path.read_text()}
    assert there - {"train_image_encoder"} <= named


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)):
        if not target.startswith(("http://", "https://")):
            path = ((ROOT / page).parent / target).resolve()
            assert path.exists() and path.is_relative_to(ROOT), f"{page}: {target}"


def test_figures_come_from_committed_results():
    """Every result file that a page names is there, and the pages say what the files say."""
    from experiments.pages import pages

    for page in ("README.md", "docs/measurements.md"):
        named = re.findall(r"experiments/results/([\w.]+)", PAGES[page])
        assert named
        for name in named:
            assert (ROOT / "experiments" / "results" / name).is_file()
    for path, text in pages().items():
        assert path.read_text() == text


def test_the_readme_has_two_screens():
    text = re.sub(r"<!-- measured -->.*?<!-- /measured -->", "", PAGES["README.md"], flags=re.DOTALL)
    assert len(text.splitlines()) <= 125


def test_every_public_name_is_documented():
    import diffnag

    public = [name for name in diffnag.__all__ if name != "__version__"]
    assert sorted(public) == sorted(name for names in diffnag._HOMES.values() for name in names)
    for name in public:
        assert (getattr(diffnag, name).__doc__ or "").strip(), name
