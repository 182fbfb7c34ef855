"""The surrogates of HW-GPT-Bench: the oracle of perplexity, the objective of memory, and the user's file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from diffnag import data
from diffnag import list as listing
from diffnag.command.running import run_command
from diffnag.datasets.tasks import Task
from diffnag.errors import DataNotFound, UserError
from diffnag.io.tables import kept_oracle_file
from diffnag.objectives.reading import load_objective
from diffnag.oracles.checked import load_oracle
from diffnag.protocols import KeepsOracleFile, Minimises, Objective, Oracle, PrefersOracle, SearchSpace
from diffnag.search_loop.oracle import find_oracle
from diffnag.search_spaces.gpt.memory import HWGPTMemory
from diffnag.search_spaces.gpt.scale import BENCHMARK_FILE
from diffnag.search_spaces.gpt.space import GPTLarge, GPTMedium, GPTSmall, GPTSpace
from diffnag.search_spaces.gpt.surrogate import METRICS, Surrogates, one_hot, scaled
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.testing import ObjectiveContract, OracleContract, draws

SPACE = GPTSmall()
SPACES = (SPACE, GPTMedium(), GPTLarge())
ARCH = SPACE.from_str("384-nobias:8-4_4-2_12-3_4-2_8-2_8-3_8-4_12-2_4-4_12-4_4-3")
RANGES = {"gpt-s": (21, 43), "gpt-m": (20, 37), "gpt-l": (18, 31)}
"""Between which perplexities of random models lie; those of scale s are documented, the others were seen."""


@pytest.fixture(name="space", params=SPACES, ids=lambda space: space.name)
def _space(request: pytest.FixtureRequest) -> SearchSpace:
    return request.param


@pytest.fixture
def benchmark(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of surrogates, alone in `$DIFFNAG_DATA`; tests that need it are skipped where it is absent."""
    if not (path := data_folder / BENCHMARK_FILE).is_file():
        pytest.skip(f"reference data not found: the folder has no {BENCHMARK_FILE}")
    (tmp_path / BENCHMARK_FILE).symlink_to(path)
    monkeypatch.setenv("DIFFNAG_DATA", str(tmp_path))
    return path


class TestOracle(OracleContract):
    @pytest.fixture
    def oracle(self, benchmark: Path, space: GPTSpace) -> Oracle:
        return load_oracle("hw-gpt-bench", space=space)

    def test_auto_takes_it_and_it_says_what_it_is(self, oracle: Oracle, space: GPTSpace) -> None:
        assert isinstance(space, PrefersOracle) and isinstance(space, Minimises)
        assert set(space.measures.values()) == space.minimised == {"perplexity"}
        found = find_oracle("auto", space)
        assert found.kind == oracle.kind == "surrogate" and found.available == {"openwebtext": ("val",)}
        provenance = oracle.provenance()
        assert provenance["note"] == "surrogate of HW-GPT-Bench: estimated, not measured" and len(str(provenance["sha256"])) == 64

    def test_another_space_is_refused(self) -> None:
        with pytest.raises(DataNotFound, match="oracle 'hw-gpt-bench' supports only the spaces gpt-s, gpt-m and gpt-l, not 'nasbench201'"):
            load_oracle("hw-gpt-bench", space=NASBench201())


class TestMemory(ObjectiveContract):
    @pytest.fixture
    def task(self) -> Task:
        return Task("openwebtext")

    @pytest.fixture
    def objective(self, benchmark: Path, space: GPTSpace, task: Task) -> Objective:
        return load_objective("hw-gpt-memory", space=space, task=task, skeleton=None)

    def test_wider_models_need_more(self, objective: HWGPTMemory, space: GPTSpace, task: Task) -> None:
        assert (objective.name, objective.unit, objective.maximise, objective.paid) == ("hw-gpt-memory", "MB", False, False)
        parameters = space.to_parameters(draws(space, 1)[0])
        values = [objective.measure(space.from_parameters(parameters | {"width": str(width)}), task=task) for width in space.scale.widths]
        assert values == sorted(values) and values[0] > 50

    def test_another_space_is_refused(self, task: Task) -> None:
        with pytest.raises(DataNotFound, match="objective 'hw-gpt-memory' supports only the spaces gpt-s, gpt-m and gpt-l, not 'nasbench201'"):
            HWGPTMemory().setup(space=NASBench201(), task=task, skeleton=None)


class TestSurrogates:
    def test_equal_to_torch_on_features_by_hand(self, benchmark: Path, space: GPTSpace) -> None:
        surrogates, archs = Surrogates.of(space, asked_by="test"), draws(space, 50)
        with np.load(benchmark) as arrays:
            for metric, by_hand in zip(METRICS, (one_hot_by_hand, scaled_by_hand), strict=True):
                x = torch.tensor([by_hand(space.to_parameters(arch), space) for arch in archs])
                for layer in range(1, 6):
                    weight, bias = (torch.from_numpy(arrays[f"{space.scale.letter}/{metric}/fc{layer}.{part}"]) for part in ("weight", "bias"))
                    x = functional.linear(x if layer == 1 else x.relu(), weight, bias)
                np.testing.assert_allclose(surrogates.predict(metric, archs), x[:, 0].numpy(), rtol=1e-4)

    def test_perplexities_are_in_the_range_of_the_benchmark(self, benchmark: Path, space: GPTSpace) -> None:
        values = Surrogates.of(space, asked_by="test").predict("perplexity", draws(space, 5_000))
        low, high = RANGES[space.name]
        assert low < values.min() and values.max() < high and values.shape == (5_000,)
        assert Surrogates.of(space, asked_by="test").predict("perplexity", []).shape == (0,)

    def test_features_by_hand(self) -> None:
        arch = SPACE.from_str("192-bias:4-2_8-3_12-4_" + "_".join(["4-4"] * 7))
        seen = one_hot(SPACE.scale, [arch])[0]
        assert seen[:6].tolist() == [1, 0, 0, 1, 0, 0] and seen[6:15].tolist() == np.eye(3).ravel().tolist() and seen[-2:].tolist() == [1, 0]
        assert seen[6 + 30 : 6 + 36].tolist() == [0] * 6 and seen[42:51].tolist() == np.eye(3).ravel().tolist() and not seen[72:78].any()
        seen = scaled(SPACE.scale, [arch])[0]
        assert seen.tolist() == [0, 0, 0, 0.5, 1, *[1] * 7, -1, -1, 0, 0.5, 1, *[0] * 7, -1, -1, 1]


def one_hot_by_hand(parameters: dict[str, str], space: GPTSpace) -> list[float]:
    layers = [tuple(map(int, parameters[f"layer {i}"].split("-"))) for i in range(1, int(parameters["depth"]) + 1)]
    given = [(int(parameters["width"]), space.scale.widths), (int(parameters["depth"]), space.scale.depths)]
    nothing = [(None, (2, 3, 4))] * (space.scale.depth - len(layers))
    given += [(ratio, (2, 3, 4)) for _, ratio in layers] + nothing + [(heads, space.scale.heads) for heads, _ in layers] + nothing
    return [float(value == choice) for value, choices in [*given, (parameters["bias"], ("bias", "nobias"))] for choice in choices]


def scaled_by_hand(parameters: dict[str, str], space: GPTSpace) -> list[float]:
    def share(value: int, choices: tuple[int, ...]) -> float:
        return (value - choices[0]) / (choices[-1] - choices[0])

    layers = [tuple(map(int, parameters[f"layer {i}"].split("-"))) for i in range(1, int(parameters["depth"]) + 1)]
    nothing = [-1.0] * (space.scale.depth - len(layers))
    return [
        share(int(parameters["width"]), space.scale.widths), share(len(layers), space.scale.depths),
        *(share(ratio, (2, 3, 4)) for _, ratio in layers), *nothing, *(share(heads, space.scale.heads) for heads, _ in layers), *nothing,
        float(parameters["bias"] == "bias"),
    ]  # fmt: skip


class TestFile:
    def test_list(self, benchmark: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        for arguments, sentence in (
            (("--space", "gpt-m"), "datasets      openwebtext (50,254 tokens, context of 1,024; perplexity, less is better)  (surrogate)\n"),
            ((), "  gpt-s                   openwebtext  (surrogate)\n"),
        ):
            run(monkeypatch, listing, "list", *arguments)
            assert sentence in (printed := capsys.readouterr().out) and ("own images" in printed) == (not arguments)

    def test_without_a_file_the_import_is_named(self, space: GPTSpace) -> None:
        kept_oracle_file(BENCHMARK_FILE).unlink(missing_ok=True)
        with pytest.raises(DataNotFound, match=f"are not here: run `python -m diffnag.data import {space.name} --from FILE`, .*{BENCHMARK_FILE}"):
            find_oracle("auto", space)
        assert listing.search_datasets(space) == {}

    def test_the_users_copy_is_imported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert all(isinstance(space, KeepsOracleFile) for space in SPACES)
        np.savez(path := tmp_path / "mine.npz", **made_up())
        try:
            run(monkeypatch, data, "data", "import", "gpt-m", "--from", str(path))
            assert "gpt-m: surrogates of perplexity and float16_memory, sha256 " in capsys.readouterr().out
            run(monkeypatch, data, "data", "list")
            lines = capsys.readouterr().out.splitlines()
            assert all(any(line.startswith(f"{space.name}: {kept_oracle_file(BENCHMARK_FILE)}, surrogates") for line in lines) for space in SPACES)
            assert find_oracle("auto", SPACE).query(ARCH, dataset="openwebtext", split="val") == pytest.approx(2.0)
        finally:
            kept_oracle_file(BENCHMARK_FILE).unlink(missing_ok=True)

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"s/perplexity/fc3.bias": None}, "it lacks the array s/perplexity/fc3.bias"),
            ({"s/float16_memory/fc1.weight": np.ones((4, 26))}, r"s/float16_memory/fc1.weight is float64 of shape \(4, 26\); .*shape \(4, 27\)"),
            ({"s/perplexity/fc5.bias": np.ones(2)}, r"s/perplexity/fc5.bias is float64 of shape \(2,\); expected are finite floats of shape \(1,\)"),
            ({"s/perplexity/fc2.bias": np.array([1, 2, np.nan, 4])}, "s/perplexity/fc2.bias is .*; expected are finite floats"),
            ({"s/perplexity/fc2.bias": np.ones(4, int)}, "s/perplexity/fc2.bias is int64"),
        ],
    )
    def test_a_damaged_file_is_refused(self, changes: dict[str, np.ndarray | None], sentence: str, tmp_path: Path) -> None:
        arrays = {name: array for name, array in (made_up() | changes).items() if array is not None}
        np.savez(path := tmp_path / "a.npz", **arrays)
        with pytest.raises(UserError, match=sentence):
            SPACE.check_oracle_file(path)

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.npz").write_text("no archive")
        with pytest.raises(UserError, match="a.npz is no readable file of HW-GPT-Bench's surrogates"):
            SPACE.check_oracle_file(tmp_path / "a.npz")
        with pytest.raises(UserError, match="there is no file .*b.npz"):
            SPACE.check_oracle_file(tmp_path / "b.npz")


def made_up() -> dict[str, np.ndarray]:
    """Arrays of a file in which every estimate is 2."""
    arrays = {}
    for space in SPACES:
        for metric, features in zip(METRICS, (8 + 6 * space.scale.depth, 3 + 2 * space.scale.depth), strict=True):
            sizes = (features, 4, 4, 4, 4, 1)
            for layer in range(1, 6):
                arrays[f"{space.scale.letter}/{metric}/fc{layer}.weight"] = np.zeros((sizes[layer], sizes[layer - 1]), np.float32)
                arrays[f"{space.scale.letter}/{metric}/fc{layer}.bias"] = np.full(sizes[layer], 2, np.float32)
    return arrays


def run(monkeypatch: pytest.MonkeyPatch, command: object, name: str, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    run_command(command.main)
