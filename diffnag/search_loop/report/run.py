"""Read what a search has left in its folder: result.json, trials.csv and mistakes.json, each value checked."""

from __future__ import annotations

import csv
import errno
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from diffnag.errors import UserError, in_a_line
from diffnag.search_loop.report.mistakes import MISTAKES, Mistakes, read_mistakes
from diffnag.search_loop.result import Wanted
from diffnag.search_loop.show.measure import Measure

RESULT, TRIALS = "result.json", "trials.csv"
STATES = ("done", "pruned", "failed")


@dataclass(frozen=True)
class Row:
    """One label: a row of trials.csv, completed by what result.json knows of the front."""

    number: int
    arch: str
    value: float | None
    state: str
    epochs: int | None
    error: str
    predicted: float | None
    """What was predicted when it was chosen."""
    seconds: float
    values: Mapping[str, float]
    """Value of each objective beside the label."""
    on_front: bool
    test: float | None
    """Test value of a member of the front."""


@dataclass(frozen=True)
class Final:
    """The final training on a user's own images."""

    accuracy: float
    """Test accuracy, 0 to 1, or another score."""
    interval: tuple[float, float]
    images: int
    epochs: int
    seconds: float
    params: int
    flops: int
    skeleton: Mapping[str, Any]
    """Fields of the network's `Skeleton`."""
    image_size: int
    """Pixels a side of the images as they were read."""
    side: int
    """Pixels a side of the images that the network takes."""
    classes: tuple[str, ...]
    onnx_difference: float | None
    eight_bits: Mapping[str, float]
    """Accuracy and latencies in ms of the network in 8 bits; empty without one."""
    measure: str
    """What `accuracy` is, if it is another score."""
    figures: Mapping[str, float]
    """Other measures on the test images."""
    name: str
    """What chose or trained it: the method of the search, or what was better than what it found."""
    compare: tuple[tuple[str, float, int, int, str], ...]
    """Name, test accuracy, parameters, labels and architecture of each one that was finished, if they were compared."""


@dataclass(frozen=True)
class Run:
    """A search that has ended."""

    folder: Path
    space: str
    dataset: str
    """Its name, or the last part of its path."""
    kind: str
    """Kind of the oracle."""
    reward: str
    method: str
    predictor: str
    seed: int
    budget: int
    objectives: tuple[Wanted, ...]
    limits: tuple[str, ...]
    best: str | None
    """The best architecture, None if there is none."""
    best_value: float | None
    best_test: float | None
    curve: tuple[float | None, ...]
    """The best value after each label."""
    hypervolumes: tuple[float, ...] | None
    """Hypervolume of the front after each label; None for a single objective."""
    wanted: tuple[str, ...]
    """Objectives that span the front."""
    epochs: int | None
    seconds: float
    """Seconds of all evaluations."""
    wall_s: float
    sources: Mapping[str, int]
    guidance: str
    nfe: int
    predictor_nfe: int
    measurements: Mapping[str, int]
    rows: tuple[Row, ...]
    final: Final | None
    mistakes: Mistakes | None

    @property
    def label(self) -> Wanted:
        """The first objective."""
        return self.objectives[0]

    @property
    def measure(self) -> Measure:
        """How values of the label are named and written."""
        return Measure(self.kind, self.label.name)

    @cached_property
    def best_row(self) -> Row | None:
        """The first whole evaluation of the best architecture."""
        return next((row for row in self.rows if row.arch == self.best and row.state == "done"), None)


def read_run(folder: Path) -> Run:
    """Read the folder of a search. Raises `UserError` for a folder that is none, and for damaged files."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; expected is the folder of a search")
    path = folder / RESULT
    if not path.is_file():
        raise UserError(f"{folder} is not the folder of a search that has ended: it has no {RESULT}")
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        return _run(folder, result, path)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {in_a_line(error)}") from error


def _run(folder: Path, result: Any, path: Path) -> Run:
    objectives = tuple(Wanted(str(one["name"]), str(one["unit"]), bool(one["maximise"]), bool(one["measured"])) for one in result["objectives"])
    if not objectives:
        raise ValueError("no objectives")
    front, best = result["front"], result["best"]
    arch = None if best is None else str(best["arch"])
    return Run(
        folder=folder, space=str(result["space"]), dataset=Path(str(result["dataset"])).name, kind=str(result["oracle"]["kind"]),
        reward=str(result["reward"]), method=str(result["method"]), predictor=str(result["predictor"]),
        seed=int(result["seed"]), budget=int(result["budget"]), objectives=objectives, limits=tuple(map(str, result["limits"])),
        best=arch, best_value=None if best is None else _finite(best["value"]), best_test=None if best is None else _maybe(best["test"]),
        curve=tuple(map(_maybe, result["incumbent_curve"])),
        hypervolumes=None if front is None else tuple(map(_finite, front["hypervolume_curve"])),
        wanted=() if front is None else tuple(map(str, front["reference"])),
        epochs=None if result["epochs_target"] is None else int(result["epochs_target"]),
        seconds=_finite(result["seconds_target"]), wall_s=_finite(result["wall_s"]), sources=_counts(result["labels_source"]),
        guidance=str(result["guidance"]), nfe=int(result["nfe"]), predictor_nfe=int(result["predictor_nfe"]),
        measurements=_counts(result["measurements"]), rows=_rows(folder / TRIALS, objectives, front),
        final=_final(result) if "final" in result else None,
        mistakes=read_mistakes(folder / MISTAKES, arch=str(result["final"]["arch"])) if "final" in result else None,
    )  # fmt: skip


def _final(result: Any) -> Final:
    final, low_high = result["final"], result["test_interval"]
    skeleton = {key: final["plan"][key] for key in ("channels", "cells", "stem_stride", "small", "inputs") if key != "inputs" or key in final["plan"]}
    word = "score" if "test_score" in result else "accuracy"
    compare = [
        (str(row["name"]), _finite(row[f"test_{word}"]), int(row["params"]), int(row["labels"]), str(row["arch"])) for row in result["compare"] or ()
    ]
    return Final(
        name=str(final["name"]), accuracy=_finite(result[f"test_{word}"]),
        interval=(_finite(low_high[0]), _finite(low_high[1])), images=int(result["test_images"]),
        epochs=int(final["epochs"]), seconds=_finite(final["seconds"]), params=int(final["params"]), flops=int(final["flops"]),
        skeleton=skeleton, image_size=int(result["images"]["size"]),
        side=int(final.get("image_size", result["images"]["size"])), classes=tuple(map(str, result["classes"])),
        onnx_difference=_maybe(result["onnx_max_abs_difference"]),
        eight_bits={key: _finite(value) for key, value in result.get("eight_bits", {}).items() if key != "test_interval"}, compare=tuple(compare),
        measure=str(result.get("test_measure", word)), figures={str(key): _finite(value) for key, value in result.get("test_figures", {}).items()},
    )  # fmt: skip


def _rows(path: Path, objectives: tuple[Wanted, ...], front: Any) -> tuple[Row, ...]:
    """The rows of trials.csv. Values that are predicted stand with the members of the front alone."""
    members = {} if front is None else {int(member["number"]): member for member in front["members"]}
    label, *others = (one.name for one in objectives)
    rows = []
    try:
        if path.exists() and not path.is_file():
            raise IsADirectoryError(errno.EISDIR, "it is no regular file", str(path))
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in ("number", "arch", "value", "state", *others) if name not in (reader.fieldnames or ())]:
                raise ValueError(f"it lacks the column {missing[0]}")
            for row in reader:
                number, state = int(row["number"]), row["state"]
                if state not in STATES:
                    raise ValueError(f"state {state!r}")
                member = members.get(number)
                values = {name: float(row[name]) for name in others if row[name] and math.isfinite(float(row[name]))}
                if member is not None:
                    values |= {str(name): _finite(value) for name, value in member["values"].items() if name != label}
                rows.append(Row(
                    number, row["arch"], _number(row["value"]), state, int(row["epochs"]) if row["epochs"] else None, row["error"],
                    _number(row["predicted_mean"]), _finite(float(row["cost_s"])), values, member is not None,
                    None if member is None else _maybe(member["test"]),
                ))  # fmt: skip
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} has no {path.name}") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is damaged: {in_a_line(error)}") from error
    return tuple(rows)


def _finite(value: Any) -> float:
    """A finite number; a text that looks like one is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _maybe(value: Any) -> float | None:
    return None if value is None else _finite(value)


def _number(text: str) -> float | None:
    """The number in a cell; None for an empty one."""
    return _finite(float(text)) if text else None


def _counts(given: Any) -> dict[str, int]:
    return {str(name): int(count) for name, count in given.items()}
