"""`python -m diffnag.list` names what a search accepts, and no more."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from diffnag import list as listing
from diffnag.command.running import run_command
from diffnag.errors import UserError
from diffnag.io.tables import BenchmarkTable, imported_file
from diffnag.plugins import names
from diffnag.protocols import PrefersOracle, TakesTokens
from diffnag.search_loop.loop import Search, SearchOptions
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.loading import load_space


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["list", *arguments])
    run_command(listing.main)
    return capsys.readouterr().out


@pytest.mark.parametrize("name", names("space"))
def test_a_search_accepts_the_datasets_that_are_listed(name: str) -> None:
    space = load_space(name)
    found = listing.search_datasets(space)
    assert found or isinstance(space, PrefersOracle), "an oracle that a space prefers may lack its data"
    for oracles, datasets in found.items():
        asked = oracles.removeprefix("--oracle ").split(", ") if oracles.startswith("--oracle") else ["auto"]
        for dataset in datasets:
            for oracle in asked:
                with Search(SearchOptions(dataset=dataset, space=name, oracle=oracle, method="random")) as search:
                    assert dataset in search.oracle.available
    for dataset in ("mnist", "tiny_imagenet"):  # which tasks know, but no space
        assert not any(dataset in datasets for datasets in found.values())
        refused = "take tokens" if isinstance(space, TakesTokens) else "unknown dataset"
        with pytest.raises(UserError, match=refused):
            Search(SearchOptions(dataset=dataset, space=name, oracle="naswot", method="random"))


def test_a_table_of_some_datasets() -> None:
    space = NASBench201()
    archs = tuple(map(space.to_str, space.enumerate()))
    values = {f"cifar10/{split}/200": np.full(len(archs), 90, np.float32) for split in ("val", "test")}
    table = BenchmarkTable(space="nasbench201", archs=archs, values=values, seconds={}, version="v1_1", sha256="0" * 64)
    imported_file("nasbench201").parent.mkdir(parents=True, exist_ok=True)
    try:
        table.save(imported_file("nasbench201"))
        found = listing.search_datasets(space)
    finally:
        imported_file("nasbench201").unlink()
    assert found == {"table": ("cifar10",), "--oracle naswot, synflow, zen": ("cifar100", "ImageNet16-120")}


def test_the_overview(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(monkeypatch, capsys).splitlines()
    assert "  nasbench201             cifar10, cifar100, ImageNet16-120  (surrogate)" in lines
    assert any(line.startswith("  every space of images   your own images: digits (of scikit-learn), a folder") for line in lines)
    rows = {line.split()[0]: line for line in lines if line and not line.startswith(" ")}
    assert "random-forest" in rows["predictors"] and "surrogate" in rows["oracles"] and "dpmpp" in rows["samplers"]
    assert any(line.startswith("  tasks.safetensors: tasks, ") for line in lines)
    assert "mnist" not in "\n".join(lines) and all(len(line) <= 160 for line in lines)


def test_one_space(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(monkeypatch, capsys, "--space", "nasbench101")
    assert said.startswith("space         nasbench101\nnodes         at most 7\noperators     input: input\n")
    assert "\n              conv3x3-bn-relu: layer, spatial\n" in said
    assert "absent: absent\n              (roles declared by the space; see diffnag.protocols.HasRoles)\n" in said
    assert "\ndatasets      cifar10 (10 classes, 32 x 32 pixels)  (--oracle naswot, synflow, zen)\n" in said and "digits" in said
    own = printed(monkeypatch, capsys, "--space", "diffnag.search_spaces.nasbench201.space:NASBench201")
    assert own.startswith("space         diffnag.search_spaces.nasbench201.space:NASBench201\nnodes         at most 8\n")
    with pytest.raises(SystemExit) as stop:
        printed(monkeypatch, capsys, "--space", "nowhere")
    assert stop.value.code == 2 and "unknown space 'nowhere'; there are: " in capsys.readouterr().err
