"""Result files of the experiments: every row says which command, commit and versions made it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.shared import results
from experiments.shared.results import RESULTS, ROOT, by_seeds, made_by, record

FILES = sorted(RESULTS.glob("*.json"))
DERIVED = {"kendall_tau", "searches", "tests", "device_means", "exact", "predicted"}
"""Keys that hold no measurements: options of searches, tests between the rows of the same file, and summaries of its rows."""


def records(found: Any) -> list[dict[str, Any]]:
    return found if isinstance(found, list) else [found]


def all_records(node: Any) -> Iterator[dict[str, Any]]:
    """Every `made_by` in a result."""
    if isinstance(node, dict):
        yield from records(node["made_by"]) if "made_by" in node else ()
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from all_records(child)


def unexplained(node: Any, path: str = "") -> Iterator[str]:
    """Paths of the rows without `made_by` in themselves or in what holds them."""
    if isinstance(node, dict) and "made_by" in node:
        return
    if isinstance(node, dict) and not any(isinstance(value, dict | list) for value in node.values()):
        yield path
        return
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        if key not in DERIVED:
            yield from unexplained(child, f"{path}/{key}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_row_says_what_made_it(path: Path) -> None:
    content = json.loads(path.read_text())
    assert list(unexplained(content)) == []
    found = list(all_records(content))
    assert found
    for one in found:
        program, flag, module, *_ = shlex.split(one["command"])
        assert (program, flag) == ("python", "-m")
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), one["command"]
        assert re.fullmatch(r"[0-9a-f]{40}", one["commit"])
        assert {"diffnag", "python", "torch"} <= one["versions"].keys() and one["threads"] > 0 and one["cores"] > 0


def test_rows_without_a_record_are_found() -> None:
    rows = {"n": 3, "rows": [{"a": 1, "made_by": {}}, {"a": 2}], "searches": {"a": {"b": 1}}}
    assert list(unexplained(rows)) == ["/rows/1"] and list(unexplained({"made_by": {}, **rows})) == []


def test_a_record_has_the_running_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["arena.py", "--methods", "a b"])
    monkeypatch.setattr(results, "module", lambda: "experiments.arena")
    made = record({"a": 1})["made_by"]
    assert made == made_by() and made["command"] == "python -m experiments.arena --methods 'a b'"
    assert made["versions"].keys() == {"diffnag", "python", "torch", *results.PACKAGES}
    assert "recorded_later" not in made


def test_equal_records_of_seeds_are_joined() -> None:
    a, b = {"commit": "a"}, {"commit": "b"}
    assert by_seeds({0: a, 1: a, 2: b, 5: a, 6: a}) == [{**a, "seeds": "0:2, 5:7"}, {**b, "seeds": "2:3"}]
    assert by_seeds({3: a}) == [{**a, "seeds": "3:4"}]


def test_the_commit_is_unknown_outside_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(results, "ROOT", tmp_path)
    results.commit.cache_clear()
    assert results.commit() == "unknown"
    results.commit.cache_clear()
