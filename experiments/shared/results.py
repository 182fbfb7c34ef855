"""Result files `experiments/results/NAME.json`, in which every row says what made it.

The key `made_by` holds the command, the commit of the code, the versions of the packages, and the threads and cores of the machine.
It stands in each row where several runs of a script share a file, and once at the top where one run writes the whole file.
Rows that were measured before rows said so have `recorded_later`: their commit is the one that added the row to the repository, and
their command is the one that makes the row today.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
CODE = ("diffnag", "search_spaces", "predictors", "experiments/*.py")
"""Paths, for git, of the code that makes results."""
PACKAGES = ("numpy", "scipy", "scikit-learn", "optuna")
"""Packages whose versions are recorded, beside diffnag, Python and torch."""
Row = Mapping[str, Any]
Values = Mapping[str, Any]
"""What a template is given."""


def read_result(name: str) -> dict[str, Any]:
    """Content of `experiments/results/<name>.json`; empty if the file does not exist."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def write_result(name: str, content: Mapping[str, Any]) -> None:
    """Write `experiments/results/<name>.json`."""
    from diffnag.io.files import write_json

    write_json(RESULTS / f"{name}.json", content)
    print(f"wrote {RESULTS / name}.json")


def measured(name: str, key: Mapping[str, Any]) -> bool:
    """Whether the `rows` of a result file have one with all of `key`."""
    return any(key.items() <= row.items() for row in read_result(name).get("rows", []))


def add_row(name: str, key: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Add the row of what was `found` to a result file, sorted by `key`, and print it; other scripts may have added rows meanwhile."""
    row = record({**key, **found})
    print(row, flush=True)
    rows = [*read_result(name).get("rows", []), row]
    write_result(name, {"rows": sorted(rows, key=lambda row: [str(row[part]) for part in key])})


def record(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with a last key `made_by`."""
    return {**row, "made_by": made_by()}


def made_by() -> dict[str, Any]:
    """Command, commit, versions, threads and cores of the running script."""
    import torch

    from diffnag import __version__

    versions = {"diffnag": __version__, "python": platform.python_version(), "torch": torch.__version__}
    return {
        "command": shlex.join(["python", "-m", module(), *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions | {name: version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def by_seeds(records: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The different records of seeds, each with the seeds that it made, such as `0:20, 25:30` (the last number not included)."""
    seeds: dict[str, list[int]] = {}
    for seed in sorted(records):
        seeds.setdefault(json.dumps(records[seed], sort_keys=True), []).append(seed)
    return [{**records[members[0]], "seeds": _ranges(members)} for members in seeds.values()]


def by_keys(rows: Iterable[Row], *keys: str) -> dict[Any, Row]:
    """Rows by the values of these keys: a tuple, or the value itself for one key."""
    return {tuple(row[key] for key in keys) if len(keys) > 1 else row[keys[0]]: row for row in rows}


def distinct(rows: Iterable[Row], key: str) -> list[Any]:
    """The different values of a key, in the order of the rows."""
    return list(dict.fromkeys(row[key] for row in rows))


@cache
def commit() -> str:
    """Commit of the code, asked for once in a process; `unknown` outside a git checkout."""
    try:
        head = _git("rev-parse", "HEAD").strip()
        return f"{head} with local changes" if _git("status", "--porcelain", "--untracked-files=no", "--", *CODE) else head
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True).stdout


def module() -> str:
    """Name of the running script, such as `experiments.arena`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else f"experiments.{Path(sys.argv[0]).stem}"


def _ranges(seeds: Sequence[int]) -> str:
    """Sorted numbers as ranges: 0, 1, 2, 5 -> `0:3, 5:6`."""
    ends = [seeds[0], *(number for a, b in pairwise(seeds) if b != a + 1 for number in (a + 1, b)), seeds[-1] + 1]
    return ", ".join(f"{first}:{last}" for first, last in zip(ends[::2], ends[1::2], strict=True))
