"""The comparison of two commits: every change of a figure is found, seconds and wording are not changes."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from experiments.comparison.cases import Case, Output, cases
from experiments.comparison.outputs import COMPARERS, Findings, Made, compare
from experiments.comparison.runs import Checkout, Kept

Sides = tuple[Made, Made]
ROOT = Path(__file__).parents[1]
SAMPLE = {"arch": "|a~0|", "valid": True, "reason": None, "predicted": 1.25}
BROKEN = {"arch": None, "valid": False, "reason": "node 3 has no input", "predicted": None}
TRIAL = {"number": 0, "arch": "|a~0|", "value": 91.5, "state": "done", "predicted_mean": 0.5, "cost_s": 0.01}
RESULT = {"best": {"arch": "|a~0|", "value": 91.5}, "wall_s": 2.0, "labels_target": 12, "oracle": {"sha256": "ab", "note": "a surrogate, no result"}}


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    old, new = (Made(tmp_path / name, {f"{tmp_path / name}": "$OUT"}) for name in ("old", "new"))
    for side in (old, new):
        side.folder.mkdir()
    return old, new


def found(sides: Sides, kind: Any, name: str, *, within: float = 0.0) -> Findings:
    return compare([Output(kind, name)], *sides, within=within)


def write_lines(sides: Sides, *contents: Sequence[Any]) -> None:
    for side, lines in zip(sides, contents, strict=True):
        (side.folder / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_trials(sides: Sides, *rows: Mapping[str, Any]) -> None:
    for side, row in zip(sides, rows, strict=True):
        with (side.folder / "trials.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerow(row)


def test_changed_sample_is_found(sides: Sides) -> None:
    write_lines(sides, [SAMPLE, BROKEN], [SAMPLE, BROKEN])
    assert found(sides, "samples", "lines.jsonl") == Findings()
    write_lines(sides, [SAMPLE, BROKEN], [{**SAMPLE, "arch": "|b~0|"}, BROKEN])
    assert found(sides, "samples", "lines.jsonl").differences == ["lines.jsonl: sample 1/arch '|a~0|' -> '|b~0|'"]
    write_lines(sides, [SAMPLE, BROKEN], [SAMPLE])
    assert found(sides, "samples", "lines.jsonl").differences == ["lines.jsonl: 2 samples before, 1 now"]


def test_reasons_may_be_reworded_but_not_confused(sides: Sides) -> None:
    other = {**BROKEN, "reason": "the output is cut off"}
    write_lines(sides, [BROKEN, other, BROKEN], [{**BROKEN, "reason": "no input at 3"}, other, {**BROKEN, "reason": "no input at 3"}])
    reworded = found(sides, "samples", "lines.jsonl")
    assert not reworded.differences and reworded.notes == ["reasons of invalid samples are reworded"]
    write_lines(sides, [BROKEN, other, BROKEN], [BROKEN, BROKEN, BROKEN])
    assert found(sides, "samples", "lines.jsonl").differences == ["lines.jsonl: samples are invalid for other reasons"]


def test_tolerance_is_of_decimal_numbers_alone(sides: Sides) -> None:
    write_lines(sides, [SAMPLE], [{**SAMPLE, "predicted": 1.25 * (1 + 4e-6)}])
    assert found(sides, "samples", "lines.jsonl").differences
    close = found(sides, "samples", "lines.jsonl", within=1e-5)
    assert not close.differences and close.largest == pytest.approx(4e-6)
    write_lines(sides, [SAMPLE], [{**SAMPLE, "predicted": 1.25 * (1 + 2e-5)}])
    assert found(sides, "samples", "lines.jsonl", within=1e-5).differences
    write_lines(sides, [{"labels": 1_000_000}], [{"labels": 1_000_001}])
    assert found(sides, "samples", "lines.jsonl", within=1e-5).differences


def test_changed_trial_is_found_and_seconds_are_not(sides: Sides) -> None:
    write_trials(sides, TRIAL, {**TRIAL, "cost_s": 7.0, "unit": "%"})
    unchanged = found(sides, "trials", "trials.csv")
    assert not unchanged.differences and unchanged.notes == ["new entry trial 0/unit"]
    write_trials(sides, TRIAL, {**TRIAL, "value": 91.50001})
    assert found(sides, "trials", "trials.csv").differences == ["trials.csv: trial 0/value 91.5 -> 91.50001"]
    write_trials(sides, TRIAL, {key: value for key, value in TRIAL.items() if key != "state"})
    assert found(sides, "trials", "trials.csv").differences == ["trials.csv: trial 0/state is missing"]


def test_changed_result_is_found_and_seconds_and_words_are_not(sides: Sides) -> None:
    oracle = {"sha256": "cd", "note": "one that is reworded"}
    for side, result in zip(sides, (RESULT, {**RESULT, "wall_s": 3.0, "oracle": oracle}), strict=True):
        (side.folder / "result.json").write_text(json.dumps(result))
    unchanged = found(sides, "json", "result.json")
    assert not unchanged.differences and unchanged.notes == ["another checksum /oracle/sha256", "reworded: /oracle/note"]
    changed = {**RESULT, "labels_target": 13, "best": {"arch": "Genotype(a, b)", "value": None}}
    (sides[1].folder / "result.json").write_text(json.dumps(changed))
    assert len(found(sides, "json", "result.json").differences) == 3


def test_folders_of_the_runs_are_no_difference(sides: Sides) -> None:
    for side in sides:
        (side.folder / "result.json").write_text(json.dumps({"storage": f"{side.folder}/study.db"}))
    assert found(sides, "json", "result.json") == Findings()


def test_changed_tensor_is_found_to_the_bit(sides: Sides) -> None:
    def save(side: Made, weight: torch.Tensor, **about: Any) -> None:
        save_file({"weight": weight, "bias": torch.zeros(2)}, side.folder / "d.safetensors", metadata={"diffnag": json.dumps(about)})

    weight = torch.tensor([1.0, torch.nan, 0.0])
    save(sides[0], weight, trained_seed=0, trained_width=16, train_seconds=3.0, command="a", kind="denoiser", split="half")
    save(sides[1], weight, training={"seed": 0}, config={"width": 16}, train_seconds=9.0, command="b", kind="score", family="sde")
    same = found(sides, "tensors", "d.safetensors")
    assert not same.differences
    assert same.notes == ["metadata/kind 'denoiser' -> 'score'", "metadata without split", "metadata with family"]
    save(sides[1], torch.tensor([1.0, torch.nan, -0.0]), training={"seed": 1})
    changed = found(sides, "tensors", "d.safetensors").differences
    assert changed == ["d.safetensors: weight: 1 of 3 values differ, by at most nan", "d.safetensors: metadata/seed 0 -> 1"]
    save(sides[1], weight.double(), trained_seed=0)
    assert "float32 (3,) before, float64 (3,) now" in found(sides, "tensors", "d.safetensors").differences[0]


def test_changed_model_is_found(sides: Sides) -> None:
    for side, value, seconds in zip(sides, (0.0, 0.0), (1.0, 2.0), strict=True):
        torch.save({"arch": "a", "about": {"seconds": seconds}, "weights": {"w": torch.full((2,), value)}}, side.folder / "model.pt")
    assert found(sides, "model", "model.pt") == Findings()
    torch.save({"arch": "b", "about": {}, "weights": {"w": torch.tensor([0.0, 0.5])}}, sides[1].folder / "model.pt")
    assert found(sides, "model", "model.pt").differences == ["model.pt: w: 1 of 2 values differ, by at most 0.5", "model.pt: /arch 'a' -> 'b'"]


def test_changed_onnx_is_found_and_other_names_are_not(sides: Sides) -> None:
    def save(side: Made, name: str, value: float, operator: str = "Add") -> None:
        node = onnx.helper.make_node(operator, ["x", name], ["y"])
        x, y = (onnx.helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, [2]) for key in "xy")
        initializer = onnx.numpy_helper.from_array(np.full(2, value, np.float32), name)
        onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y], [initializer])), side.folder / "m.onnx")

    save(sides[0], "w", 1.0)
    save(sides[1], "v", 1.0)
    renamed = found(sides, "onnx", "m.onnx")
    assert not renamed.differences and renamed.notes == ["arrays have other names and the same content"]
    save(sides[1], "w", 2.0)
    assert found(sides, "onnx", "m.onnx").differences == ["m.onnx: w: 2 of 2 values differ, by at most 1"]
    save(sides[1], "w", 1.0, "Mul")
    assert found(sides, "onnx", "m.onnx").differences == ["m.onnx: 1 operators before, 1 others now"]


def test_measurement_lines_but_their_seconds(sides: Sides) -> None:
    write_lines(sides, [{"command": "a"}, [0, "|a~0|", 0, 97.5, 0.2, 18, 4.5, 15194]], [{"command": "b"}, [0, "|a~0|", 0, 97.5, 0.2, 18, 9.9, 15194]])
    assert found(sides, "lines", "lines.jsonl") == Findings()
    write_lines(sides, [[0, "|a~0|", 0, 97.5, 0.2, 18, 4.5, 15194]], [[0, "|a~0|", 0, 97.6, 0.2, 18, 4.5, 15195]])
    assert len(found(sides, "lines", "lines.jsonl").differences) == 2


def test_numbers_of_a_text(sides: Sides) -> None:
    for side, text in zip(sides, ("wrote $OUT/a3.pt: 15,194 parameters", "15,194 weights, in $OUT/a3.pt"), strict=True):
        (side.folder / "stdout.txt").write_text(text)
    assert found(sides, "numbers", "stdout.txt") == Findings(notes=["reworded: stdout.txt"])
    (sides[1].folder / "stdout.txt").write_text("15,195 weights")
    assert len(found(sides, "numbers", "stdout.txt").differences) == 1


def test_changed_table_is_found(sides: Sides) -> None:
    def save(side: Made, rows: list[float], **head: Any) -> None:
        np.savez(side.folder / "t.npz", rows=np.array(rows), head=np.frombuffer(json.dumps(head).encode(), np.uint8))

    save(sides[0], [1.0, 2.0], format=1, version="v1")
    save(sides[1], [1.0, 2.0], format=2, version="v1", complete=True)
    same = found(sides, "arrays", "*.npz")
    assert not same.differences and same.notes == ["t.npz: another format", "new entry head/complete"]
    save(sides[1], [1.0, 2.5], format=1, version="v2")
    assert found(sides, "arrays", "*.npz").differences == ["t.npz: rows: 1 of 2 values differ, by at most 0.5", "t.npz: head/version 'v1' -> 'v2'"]


def test_missing_and_damaged_files_are_differences(sides: Sides) -> None:
    (sides[0].folder / "cell.svg").write_bytes(b"<svg/>")
    assert found(sides, "bytes", "*.svg").differences == ["*.svg: cell.svg before, none now"]
    (sides[1].folder / "cell.svg").write_bytes(b"<svg />")
    assert found(sides, "bytes", "*.svg").differences == ["cell.svg: its bytes differ"]
    assert "cannot be compared, JSONDecodeError" in found(sides, "json", "cell.svg").differences[0]


def test_cases_cover_every_command_and_can_be_compared() -> None:
    known = cases()
    commands = {command[0].partition(".")[2] for case in known for command in case.commands if command[0].startswith("diffnag.")}
    parsers = {path.stem for path in (ROOT / "diffnag").glob("*.py") if "run_command(main)" in path.read_text()}
    assert commands == parsers
    assert {output.kind for case in known for output in case.outputs} == COMPARERS.keys()


class Instant(Checkout):
    """A checkout whose commands make one file at once."""

    def run(self, case: Case, out: Path) -> Made:
        out.mkdir(parents=True)
        for name in ("cell.svg", "more.txt"):
            (out / name).write_text(f"{out}")
        return Made(out, {f"{out}": "$OUT"})


def test_what_is_compared_is_kept(tmp_path: Path) -> None:
    kept, case = Kept(tmp_path, "inputs", {}), Case("draw", (("diffnag.draw",),), (Output("bytes", "*.svg"),))
    checkout = Instant(tmp_path, work=tmp_path, inputs=tmp_path)
    for made in (kept.run(case, checkout), kept.load(case), kept.run(case, checkout)):  # the last as if two comparisons ran at once
        assert made and made.text(made.folder / "cell.svg") == "$OUT"
        assert sorted(path.name for path in made.folder.iterdir()) == ["cell.svg", "record.json"]
    assert [path.name for path in tmp_path.iterdir()] == [kept.place(case).name]


def test_what_is_kept_belongs_to_the_commands(tmp_path: Path) -> None:
    case = Case("list", (("diffnag.list",),))
    kept = Kept(tmp_path, "inputs", {"torch": "2"})
    assert kept.load(case) is None
    changed = [Kept(tmp_path, "inputs", {"torch": "3"}).place(case), kept.place(Case("list", (("diffnag.list", "--help"),)))]
    assert len({kept.place(case), *changed}) == 3
