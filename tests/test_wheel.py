"""The package as a user installs it: a wheel in an environment of its own, used from a folder that has nothing to do with the checkout.

Nothing is downloaded: the new environment finds what diffnag depends on in the environment that runs the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("diffnag", "predictors", "search_spaces", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OWN_PREDICTORS = """
class Mean:
    def fit(self, archs, y):
        self.mean = y.mean()

    def predict(self, archs):
        import numpy as np
        return np.full(len(archs), self.mean), np.ones(len(archs))
"""


def run(*command: str | Path, cwd: Path, **extra: str) -> str:
    """Run a command without the variables by which the tests lead commands to the checkout; returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | extra
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged: building leaves files beside its sources."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.state"))
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


def build(kind: str, sources: Path, out: Path) -> Path:
    """Build a `wheel` or an `sdist` as pip would, by the build backend that pyproject.toml names."""
    run(sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_{kind}({str(out)!r})", cwd=sources)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", sources, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment into which the wheel was installed."""
    where = tmp_path_factory.mktemp("environment")
    venv.create(where, symlinks=True)
    made = where / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", made, "install", "--no-deps", "--no-index", wheel, cwd=where)
    (site,) = where.glob("lib/python*/site-packages")
    paths = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in sorted(paths)))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder, with modules that have the names of ours at the top of the checkout."""
    (tmp_path / "predictors.py").write_text(OWN_PREDICTORS)
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "__init__.py").write_text("raise RuntimeError('nobody asked for this module')\n")
    return tmp_path


def packaged_files() -> set[str]:
    """All files that must be in a wheel, by their names there."""
    folders = {"diffnag": ROOT / "diffnag", "diffnag/predictors": ROOT / "predictors", "diffnag/search_spaces": ROOT / "search_spaces"}
    found = {"diffnag/py.typed"}
    for name, folder in folders.items():
        found |= {f"{name}/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*.py")}
    found |= {f"diffnag/search_loop/report/page.{kind}" for kind in ("css", "html", "js")}
    found.add("diffnag/search_spaces/network_zoo/graphs.json.gz")
    pretrained = ROOT / "diffnag" / "pretrained"
    found |= {path.relative_to(ROOT).as_posix() for path in pretrained.rglob("*") if path.is_file() and path.suffix != ".state"}
    assert len(found) > 120
    return found


def test_a_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (listed,) = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
        names = {name for name in archive.namelist() if not name.startswith(listed.split("/")[0])}
        entry_points = archive.read(listed).decode()
    assert names == packaged_files()
    groups = ConfigParser()
    groups.optionxform = str  # type: ignore[assignment, method-assign]
    groups.read_string(entry_points)
    declared = [point for group in groups.sections() for point in groups[group].values()]
    assert len(declared) > 20
    for point in declared:
        assert f"{point.split(':')[0].replace('.', '/')}.py" in names


def test_an_sdist_builds_the_same_wheel(sources: Path, wheel: Path, tmp_path: Path) -> None:
    for name in ("sdist", "unpacked", "wheel"):
        (tmp_path / name).mkdir()
    shutil.unpack_archive(build("sdist", sources, tmp_path / "sdist"), tmp_path / "unpacked")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again = build("wheel", unpacked, tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert {each.filename: each.CRC for each in one.infolist() if not each.filename.endswith("RECORD")} == {
            each.filename: each.CRC for each in other.infolist() if not each.filename.endswith("RECORD")
        }


def test_generate_from_a_wheel(python: Path, folder: Path) -> None:
    """The user's `predictors.py` and `search_spaces/` hide nothing of ours, and ours do not hide them."""
    run(python, "-m", "diffnag.generate", "--n", "16", "--device", "cpu", "--out", "x.jsonl", cwd=folder)
    made = [json.loads(line) for line in (folder / "x.jsonl").read_text().splitlines()]
    assert len(made) == 16 and sum(each["valid"] for each in made) > 8

    printed = run(python, "-m", "diffnag.list", cwd=folder)
    for name in ("nasbench201", "random-forest", "meta", "surrogate", "nasbench201/surrogate.safetensors"):
        assert name in printed

    code = "import diffnag, diffnag.predictors.mlp, diffnag.search_spaces.nasbench201.space as space; print(diffnag.__file__, space.__file__)"
    homes = run(python, "-c", code, cwd=folder).split()
    assert len(homes) == 2 and all(Path(home).is_relative_to(python.parents[1]) for home in homes)


def test_search_from_a_wheel_with_an_own_predictor(python: Path, folder: Path) -> None:
    run(
        python, "-m", "diffnag.search", "--dataset", "cifar10", "--predictor", "predictors:Mean", "--oracle", "surrogate", "--budget", "4",
        "--candidates", "16", "--device", "cpu", "--out", "out", cwd=folder,
    )  # fmt: skip
    result = json.loads((folder / "out" / "result.json").read_text())
    assert result["labels_target"] == 4 and result["predictor"] == "predictors:Mean"
