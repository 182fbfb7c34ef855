"""The loop of experiments that measure several arms on the sets of `experiments.images.sets`, seed by seed."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.images.sets import SETS, draw_set
from experiments.shared.pool import seeds_argument
from experiments.shared.results import add_row, measured

Measure = Callable[[Path, int], Mapping[str, Any]]
"""A function of the file of images and the seed, which returns what a row says."""


def add_set_options(options: argparse.ArgumentParser, *, seeds: int) -> None:
    """Add `--sets` and `--seeds`, by default all and the first `seeds` of them."""
    options.add_argument("--sets", nargs="+", metavar="NAME", default=list(SETS), choices=list(SETS), help=f"of {', '.join(SETS)} (default: all)")
    options.add_argument("--seeds", type=seeds_argument, default=range(seeds), help=f"A:B, B excluded (default: 0:{seeds})")


def add_rows(
    name: str, data: Path, sets: Sequence[str], seeds: Sequence[int], arms: Mapping[Any, Measure], *, given: Mapping[str, float], arm: str = "arm"
) -> None:  # fmt: skip
    """Measure each arm on each set that the result file `name` has no row of; `given` and the name of the arm belong to the key of a row."""
    for seed in seeds:
        for one in sets:
            for value, measure in arms.items():
                key = {"set": one, "seed": seed, **given, arm: value}
                if measured(name, key):
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    images = draw_set(one, data / "images", seed).write(Path(folder) / f"{one}.npz")
                    add_row(name, key, measure(images, seed))
