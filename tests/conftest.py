"""Fixtures every test may use: the space, the reference data, and a cache that is not the user's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from diffnag.search_spaces.nasbench201.space import NASBench201


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("DIFFNAG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("DIFFNAG_DATA", raising=False)


_REFERENCE = Path(os.environ.get("DIFFNAG_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The reference tables and images; tests that need them are skipped where they are absent."""
    if not (_REFERENCE / "nas_bench_201.csv.gz").is_file():
        pytest.skip("reference data not found: set $DIFFNAG_DATA to the folder that holds nas_bench_201.csv.gz")
    return _REFERENCE


@pytest.fixture(scope="session")
def space() -> NASBench201:
    return NASBench201()


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that a test saves, in their order."""
    saved: list[Figure] = []
    save = Figure.savefig

    def kept(self: Figure, *arguments: Any, **options: Any) -> None:
        saved.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", kept)
    return saved
