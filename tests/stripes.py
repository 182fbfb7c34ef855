"""A user's images for the tests of a search on them: stripes, which narrow networks learn in a moment."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffnag.command.running import run_command
from diffnag.search import main
from diffnag.search_loop.options import SearchOptions
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.test_training import images

RESNET = NASBench201.resnet_like
DATA = images()


@contextmanager
def narrow_networks() -> Iterator[None]:
    """Context with the narrowest networks, so that tests are quick."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("diffnag.search_spaces.nasbench201.space.NASBench201.skeletons", ((8, 1),))
        yield


def write_stripes(folder: Path, *, wrong: int = 0) -> Path:
    """Write the images as a user's file; so many labels of validation images are `wrong`, so that no network has all of them right."""
    path = folder / "stripes.npz"
    arrays = {f"{letter}_{name}": getattr(part, letter) for name in ("train", "val", "test") for letter in "xy"
              for part in [getattr(DATA, name)]}  # fmt: skip
    labels = arrays["y_val"] = arrays["y_val"].copy()
    labels[:wrong] = (labels[:wrong] + 1) % (1 + labels.max())
    np.savez(path, **arrays)
    return path


def call(*arguments: str | Path) -> int:
    """Run the command line in this process; returns its exit code."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["search", *map(str, arguments)])
        try:
            run_command(main)
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def few(stripes: Path, **changes: Any) -> SearchOptions:
    """Options of a short search on the images, with `changes`."""
    asked = {"dataset": str(stripes), "method": "random", "budget": 3, "epochs": 2, "device": "cpu"}
    return SearchOptions(**{**asked, **changes})
