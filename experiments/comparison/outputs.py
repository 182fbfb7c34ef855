"""Comparison of what two commits made: samples, trials, results, weights, drawings. Seconds and rates are left out."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.comparison.cases import Kind, Output

UNCOMPARED = re.compile(r"seconds|_s$|^command$|^threads$|^commit$")
"""Keys whose values differ between two runs of the same code."""
CHECKSUM = re.compile(r"sha256|checksum")
SHOWN = 3
"""Differences of one file that are listed one by one."""
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?", re.IGNORECASE)

Places = Mapping[str, str]
"""Folder names of a run, each with the variable that stands for it."""


@dataclass
class Findings:
    """Differences count against the change; notes do not. `largest` is the largest error within the tolerance."""

    within: float = 0.0
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    largest: float = 0.0

    def numbers_agree(self, a: float, b: float) -> bool:
        """Whether two numbers are equal, or decimal numbers within the tolerance, relative above 1."""
        if a == b or (math.isnan(a) and math.isnan(b)):
            return True
        error = abs(a - b) / max(1.0, abs(a))
        if (isinstance(a, int) and isinstance(b, int)) or not error <= self.within:
            return False
        self.largest = max(self.largest, error)
        return True

    def add(self, what: str, differences: Sequence[str]) -> None:
        """Append the differences of one file, most of them as a count."""
        more = [f"{what}: {len(differences) - SHOWN} differences more"] if len(differences) > SHOWN else []
        self.differences += [*(f"{what}: {difference}" for difference in differences[:SHOWN]), *more]

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True)
class Made:
    """The folder of a finished case, and the folder names that its files may mention."""

    folder: Path
    places: Places

    def text(self, path: Path) -> str:
        """A file's text, with variables in place of folder names."""
        text = path.read_text()
        for name in sorted(self.places, key=len, reverse=True):
            text = text.replace(name, self.places[name])
        return text


def compare(outputs: Iterable[Output], old: Made, new: Made, *, within: float = 0.0) -> Findings:
    """Compare the outputs of a case, made by the `old` commit and by the `new` one."""
    found = Findings(within)
    for output in outputs:
        names = [sorted(str(path.relative_to(made.folder)) for path in made.folder.glob(output.path)) for made in (old, new)]
        if not names[0] or names[0] != names[1]:
            found.differences.append(f"{output.path}: {_listed(names[0])} before, {_listed(names[1])} now")
            continue
        for name in names[0]:
            try:
                COMPARERS[output.kind](old, new, name, found)
            except Exception as error:  # a file may be damaged in any way, and the other cases are to be compared all the same
                found.differences.append(f"{name}: cannot be compared, {type(error).__name__}: {error}")
    return found


def compare_json(old: Any, new: Any, found: Findings, *, at: str = "", missing: bool = True) -> list[str]:
    """Differences of plain data, each with its place. What is new is noted; so is what is `missing`, if that is no difference.

    Sentences and checksums may change, which is noted: their figures are compared where they stand. An architecture is no sentence.
    """
    key = at.rpartition("/")[2]
    if UNCOMPARED.search(key):
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        differences = [f"{at}/{name} is missing" for name in old if name not in new and not UNCOMPARED.search(name)]
        if not missing:
            for difference in differences:
                found.note(difference)
            differences = []
        for name in new:
            if name not in old:
                found.note(f"new entry {at}/{name}")
        for name in old:
            if name in new:
                differences += compare_json(old[name], new[name], found, at=f"{at}/{name}", missing=missing)
        return differences
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        if len(old) != len(new):
            return [f"{at or 'it'} has {len(old)} items before, {len(new)} now"]
        items = enumerate(zip(old, new, strict=True))
        return [difference for k, (a, b) in items for difference in compare_json(a, b, found, at=f"{at}/{k}", missing=missing)]
    return [] if _values_agree(old, new, key, at, found) else [f"{at or 'it'} {old!r} -> {new!r}"]


def _values_agree(old: Any, new: Any, key: str, at: str, found: Findings) -> bool:
    numbers = isinstance(old, int | float) and isinstance(new, int | float)
    if isinstance(old, bool) is isinstance(new, bool) and (found.numbers_agree(old, new) if numbers else old == new):
        return True
    if isinstance(old, str) and isinstance(new, str):
        if CHECKSUM.search(key):
            found.note(f"another checksum {at}")
            return True
        if key != "arch" and " " in old and " " in new:
            found.note(f"reworded: {at}")
            return True
    return False


def compare_samples(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], found: Findings) -> list[str]:
    """Differences of generated samples, one a line. Reasons may be reworded, as long as equal ones stay equal."""
    if len(old) != len(new):
        return [f"{len(old)} samples before, {len(new)} now"]
    differences = []
    for number, (a, b) in enumerate(zip(old, new, strict=True), start=1):
        before, now = ({key: value for key, value in line.items() if key != "reason"} for line in (a, b))
        differences += compare_json(before, now, found, at=f"sample {number}")
    reasons = {(a.get("reason"), b.get("reason")) for a, b in zip(old, new, strict=True)}
    if any(len({pair[side] for pair in reasons}) < len(reasons) for side in (0, 1)):
        differences.append("samples are invalid for other reasons")
    elif any(a != b for a, b in reasons):
        found.note("reasons of invalid samples are reworded")
    return differences


def compare_trials(old: Sequence[Mapping[str, str]], new: Sequence[Mapping[str, str]], found: Findings) -> list[str]:
    """Differences of the rows of two trials.csv."""
    if len(old) != len(new):
        return [f"{len(old)} trials before, {len(new)} now"]
    differences = []
    for number, rows in enumerate(zip(old, new, strict=True)):
        before, now = ({key: value if key == "arch" else _value(value) for key, value in row.items()} for row in rows)
        differences += compare_json(before, now, found, at=f"trial {number}")
    return differences


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def compare_arrays(old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray], found: Findings) -> list[str]:
    """Differences of named arrays, bit by bit. Where only the names differ, that is noted."""
    if old.keys() != new.keys():
        if sorted(map(_bits, old.values())) == sorted(map(_bits, new.values())):
            found.note("arrays have other names and the same content")
            return []
        gone, come = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
        return [f"{_listed(gone)} before, {_listed(come)} now"]
    return [f"{name}: {_arrays_apart(old[name], new[name])}" for name in old if _bits(old[name]) != _bits(new[name])]


def _bits(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return str(array.dtype), array.shape, array.tobytes()


def _arrays_apart(old: np.ndarray, new: np.ndarray) -> str:
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return f"{old.dtype} {old.shape} before, {new.dtype} {new.shape} now"
    wrong = np.frombuffer(old.tobytes(), np.uint8).reshape(old.size, -1) != np.frombuffer(new.tobytes(), np.uint8).reshape(old.size, -1)
    error = np.abs(old.astype(np.float64) - new.astype(np.float64)).max() if old.dtype.kind in "fiub" else float("nan")
    return f"{wrong.any(1).sum()} of {old.size} values differ, by at most {error:.3g}"


def _samples(old: Made, new: Made, name: str, found: Findings) -> None:
    before, now = ([json.loads(line) for line in made.text(made.folder / name).splitlines()] for made in (old, new))
    found.add(name, compare_samples(before, now, found))


def _json(old: Made, new: Made, name: str, found: Findings) -> None:
    before, now = (json.loads(made.text(made.folder / name)) for made in (old, new))
    found.add(name, compare_json(before, now, found))


def _lines(old: Made, new: Made, name: str, found: Findings) -> None:
    """Lines of a meta-dataset. A measurement is a list: its last number but one is the seconds."""
    def rows(made: Made) -> list[Any]:
        found = [json.loads(line) for line in made.text(made.folder / name).splitlines()]
        return [[*row[:-2], row[-1]] if isinstance(row, list) else row for row in found]

    found.add(name, compare_json(rows(old), rows(new), found))


def _trials(old: Made, new: Made, name: str, found: Findings) -> None:
    before, now = (list(csv.DictReader(made.text(made.folder / name).splitlines())) for made in (old, new))
    found.add(name, compare_trials(before, now, found))


def _tensors(old: Made, new: Made, name: str, found: Findings) -> None:
    from safetensors import safe_open

    def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        with safe_open(path, framework="np") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, json.loads((file.metadata() or {}).get("diffnag", "{}"))  # noqa: SIM118

    (before, about_before), (now, about_now) = (read(made.folder / name) for made in (old, new))
    found.add(name, compare_arrays(before, now, found))
    _compare_metadata(_leaves(about_before), _leaves(about_now), name, found)


def _leaves(value: Any, key: str = "") -> dict[str, set[str]]:
    """The values of each key of nested data, wherever it stands: entries may move to another place in the metadata."""
    if not isinstance(value, Mapping | list):
        return {key: {repr(value)}}
    inner = value.items() if isinstance(value, Mapping) else ((key, item) for item in value)
    leaves: dict[str, set[str]] = {}
    for name, item in inner:
        for leaf, values in _leaves(item, name.removeprefix("trained_")).items():
            leaves[leaf] = leaves.get(leaf, set()) | values
    return leaves


def _compare_metadata(old: Mapping[str, set[str]], new: Mapping[str, set[str]], name: str, found: Findings) -> None:
    """Figures, seeds and sizes that both have are to be equal; changes of texts, and of what is there, are noted."""
    compared = [key for key in old if not UNCOMPARED.search(key) and not CHECKSUM.search(key) and key != "format"]
    for key in compared:
        if key in new and old[key] != new[key]:
            change = f"metadata/{key} {_listed(sorted(old[key]))} -> {_listed(sorted(new[key]))}"
            if any(text.startswith(("'", '"')) for text in old[key]):
                found.note(change)
            else:
                found.add(name, [change])
    if gone := [key for key in compared if key not in new]:
        found.note(f"metadata without {', '.join(gone)}")
    if come := [key for key in new if key not in old]:
        found.note(f"metadata with {', '.join(come)}")


def _model(old: Made, new: Made, name: str, found: Findings) -> None:
    import torch

    before, now = (torch.load(made.folder / name, map_location="cpu", weights_only=True) for made in (old, new))
    weights = [{key: tensor.numpy() for key, tensor in content.pop("weights").items()} for content in (before, now)]
    found.add(name, compare_arrays(weights[0], weights[1], found))
    found.add(name, compare_json(before, now, found, missing=False))


def _onnx(old: Made, new: Made, name: str, found: Findings) -> None:
    import onnx

    def read(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
        graph = onnx.load(path).graph
        return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}, sorted(node.op_type for node in graph.node)

    (before, operators_before), (now, operators_now) = (read(made.folder / name) for made in (old, new))
    found.add(name, compare_arrays(before, now, found))
    if operators_before != operators_now:
        found.add(name, [f"{len(operators_before)} operators before, {len(operators_now)} others now"])


def _bytes(old: Made, new: Made, name: str, found: Findings) -> None:
    if (old.folder / name).read_bytes() != (new.folder / name).read_bytes():
        found.add(name, ["its bytes differ"])


def _arrays(old: Made, new: Made, name: str, found: Findings) -> None:
    """A table in the compact form: arrays, and a head of JSON."""
    def read(path: Path) -> tuple[dict[str, np.ndarray], Any]:
        with np.load(path) as file:
            return {key: file[key] for key in file.files if key != "head"}, json.loads(file["head"].tobytes())

    (before, head_before), (now, head_now) = (read(made.folder / name) for made in (old, new))
    found.add(name, compare_arrays(before, now, found))
    if head_before.pop("format") != head_now.pop("format"):
        found.note(f"{name}: another format")
    found.add(name, compare_json(head_before, head_now, found, at="head", missing=False))


def _numbers(old: Made, new: Made, name: str, found: Findings) -> None:
    """The numbers of a text, which may be reworded."""
    before, now = (made.text(made.folder / name) for made in (old, new))
    numbers = [NUMBER.findall(text) for text in (before, now)]
    if numbers[0] != numbers[1]:
        found.add(name, [f"{before.strip()!r} -> {now.strip()!r}"])
    elif before != now:
        found.note(f"reworded: {name}")


def _exists(old: Made, new: Made, name: str, found: Findings) -> None:
    if not all((made.folder / name).stat().st_size for made in (old, new)):
        found.add(name, ["it is empty"])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "") if names else "none"


COMPARERS: Mapping[Kind, Callable[[Made, Made, str, Findings], None]] = {
    "samples": _samples, "json": _json, "trials": _trials, "tensors": _tensors, "model": _model, "onnx": _onnx, "bytes": _bytes,
    "lines": _lines, "arrays": _arrays, "numbers": _numbers, "exists": _exists,
}  # fmt: skip
