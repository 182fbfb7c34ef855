"""What a user installs: names, versions, quick start-up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import diffnag
from diffnag.plugins import names

ROOT = Path(__file__).parents[1]


def test_public_names_are_there():
    for name in diffnag.__all__:
        assert getattr(diffnag, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = diffnag.nothing
    assert diffnag.__version__ == "0.1.0"


def test_entry_points():
    assert "nasbench201" in names("space")
    assert set(names("predictor")) >= {"meta", "meta-only", "mlp", "random-forest"}
    assert set(names("oracle")) >= {"surrogate", "table"}


COMMANDS = sorted(path.stem for path in (ROOT / "diffnag").glob("*.py") if 'if __name__ == "__main__":' in path.read_text())
HEAVY = ("torch", "optuna", "sklearn", "matplotlib", "scipy", "pandas")


def loaded_by(code: str, *arguments: str) -> str:
    """Names of the HEAVY packages that `code` imports in a process of its own, in brackets, after what it prints."""
    code += f"\nimport sys\nprint(sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_nothing_heavy():
    assert loaded_by("import diffnag") == "[]\n"
    assert loaded_by("import diffnag; diffnag.Tilt") == "['torch']\n", "the check sees what is loaded"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command):
    code = f"""
from diffnag.{command} import main
try:
    main()
except SystemExit as end:
    assert not end.code
"""
    printed = loaded_by(code, "--help")
    assert printed.startswith(f"usage: python -m diffnag.{command} ") and printed.endswith("\n[]\n")


def test_every_command_is_seen():
    assert set(COMMANDS) >= {"search", "generate", "train_score", "train_predictor", "list", "data", "draw", "export"}


def test_shipped_files_are_small():
    for path in (ROOT / "diffnag" / "pretrained").rglob("*"):
        assert path.is_dir() or path.stat().st_size < 2e6, path
