"""The fingerprint of a search space: equal for the same space, another for each change that gives matrices another meaning."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from diffnag import plugins
from diffnag.errors import UserError
from diffnag.spaces.fingerprint import check_fingerprint, space_fingerprint
from diffnag.spaces.loading import load_space


def a_space(**changed: Any) -> Any:
    usual = {
        "name": "toy", "nodes": 2, "operators": ("input", "a", "b"), "parameters": {"x": ("1", "2"), "y": ("1",)},
        "constant": (np.array([[True, True, True], [False, False, False]]), np.ones((2, 2), dtype=bool)),
    }  # fmt: skip
    return SimpleNamespace(**{**usual, **changed})


def test_the_value_is_the_checksum_of_plain_json() -> None:
    """Fixed: what is stored beside weights must be the same on every machine and in every version."""
    text = json.dumps({
        "name": "toy", "nodes": 2, "operators": ["input", "a", "b"], "parameters": [["x", ["1", "2"]], ["y", ["1"]]],
        "constant": [[[1, 1, 1], [0, 0, 0]], [[1, 1], [1, 1]]],
    })  # fmt: skip
    assert space_fingerprint(a_space()) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert space_fingerprint(a_space(constant=tuple(part.astype(np.uint8) for part in a_space().constant))) == space_fingerprint(a_space())


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "toys"},
        {"nodes": 3},
        {"operators": ("input", "b", "a")},
        {"operators": ("input", "a", "c")},
        {"parameters": {"y": ("1",), "x": ("1", "2")}},
        {"parameters": {"x": ("2", "1"), "y": ("1",)}},
        {"parameters": {"z": ("1", "2"), "y": ("1",)}},
        {"constant": (np.zeros((2, 3), dtype=bool), np.ones((2, 2), dtype=bool))},
        {"constant": (a_space().constant[0], np.eye(2, dtype=bool))},
    ],
)
def test_every_change_shows(changed: dict[str, Any]) -> None:
    assert space_fingerprint(a_space(**changed)) != space_fingerprint(a_space())


def test_a_file_of_another_fingerprint_is_refused() -> None:
    check_fingerprint(a_space(), space_fingerprint(a_space()), what="f")
    with pytest.raises(UserError, match=r"f was made for space 'toy' when its operators, nodes or parameters were others .*; make it again"):
        check_fingerprint(a_space(nodes=3), space_fingerprint(a_space()), what="f")


def test_each_space_has_its_own() -> None:
    names = plugins.names("space")
    found = {space_fingerprint(load_space(name)) for name in names}
    assert len(found) == len(names) and found == {space_fingerprint(load_space(name)) for name in names}
