"""The files that a search writes to its folder: options.json, trials.csv, result.json, search.png; for a front front.csv and front.png."""

from __future__ import annotations

import csv
import subprocess
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffnag import _version
from diffnag.drawing.attempt import try_to_draw
from diffnag.io.files import write_json, written_whole
from diffnag.search_loop.show.curve import search_picture
from diffnag.search_loop.show.front import front_picture, write_front
from diffnag.search_loop.study.study import shown

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.result import SearchResult
    from diffnag.search_loop.show.reference import Reference

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "optuna")
COLUMNS = ("number", "round", "arch", "value", "state", "epochs", "error", "predicted_mean", "predicted_std", "cost_s")


def write_options(folder: Path, search: Search, *, storage: str) -> None:
    """Write options.json before the work begins: every option with its default filled in, and the versions of the packages."""
    options: dict[str, Any] = asdict(search.options)
    weights = None if search.options.weights is None else str(search.options.weights)
    options |= {"oracle": search.oracle_name, "storage": shown(storage), "weights": weights}
    if (generator := search.parts.generator) is not None:
        origin = generator.provenance()
        options["generator"] = origin.get("generator")
        options["checkpoint"] = str(search.options.checkpoint or "shipped") if "checkpoint" in origin else None
    versions = {package: version(package) for package in PACKAGES}
    about = {"diffnag": _version.__version__, "commit": _commit(), "packages": versions}
    write_json(folder / "options.json", {**options, **about})


def write_result(
    folder: Path, result: SearchResult, space: SearchSpace, *, more: Mapping[str, Any] | None = None,
    reference: Reference | None = None, on_note: Callable[[str], object] = warnings.warn,
) -> None:  # fmt: skip
    """Write trials.csv, then result.json with the entries of `more`, then search.png; for a front front.csv and front.png as well.

    The picture shows `reference` beside the search. A picture that fails is reported to `on_note`; the other files stay.
    """
    with written_whole(folder / "trials.csv") as temporary, temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        objectives = [one.name for one in result.objectives[1:]]
        writer = csv.DictWriter(file, [*COLUMNS, *objectives])
        writer.writeheader()
        for trial in result.trials:
            row = {**vars(trial), "arch": space.to_str(trial.arch), "state": trial.state}
            writer.writerow({column: row[column] for column in COLUMNS} | {name: trial.values.get(name) for name in objectives})
    write_json(folder / "result.json", {**result.to_json(), **(more or {})})
    tested = (more or {}).get("test_accuracy", (more or {}).get("test_score"))
    try_to_draw(
        folder / "search.png",
        lambda path: search_picture(path, result, space, reference=reference, finally_tested=tested),
        on_note=on_note,
    )
    if result.front is not None:
        write_front(folder / "front.csv", result)
        try_to_draw(folder / "front.png", lambda path: front_picture(path, result), on_note=on_note)


def _commit() -> str | None:
    """The commit that runs, or None if the package is no git checkout."""
    root = Path(_version.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None
