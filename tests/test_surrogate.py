"""The shipped surrogate reaches its bars; features are correct counts; training runs, is reproducible and refuses bad input."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from diffnag import train_surrogate
from diffnag.arch import Arch
from diffnag.command.running import run_command
from diffnag.errors import DataNotFound, UserError
from diffnag.io.files import PRETRAINED
from diffnag.io.tables import BenchmarkTable
from diffnag.networks.ensemble import ensemble
from diffnag.oracles.surrogate import (
    Surrogate,
    SurrogateOracle,
    graph_features,
)
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.search_spaces.nasbench201.table import KEYS
from diffnag.train_surrogate import Options, figures, held_out, train

SHIPPED = PRETRAINED / "nasbench201" / "surrogate.safetensors"
BARS = {"strings": 0.915, "canonical_classes": 0.86}


@pytest.fixture(scope="module")
def oracle() -> SurrogateOracle:
    made = SurrogateOracle()
    made.setup(space=NASBench201())
    return made


# -- what is shipped


def test_shipped_metadata_meets_the_bars() -> None:
    surrogate, meta = Surrogate.load(SHIPPED)
    assert SHIPPED.stat().st_size < 2_000_000
    assert meta["note"] == "a surrogate of measured accuracies, not a benchmark result"
    assert meta["table_version"] == "v1_0"
    assert meta["labels"] == meta["training_architectures"] * 12
    assert set(surrogate.outputs) == set(KEYS)
    for name, bar in BARS.items():
        stated = meta["held_out"][name]
        assert stated["architectures"] > 1000
        assert set(stated["outputs"]) == set(KEYS)
        assert all(figure["kendall_tau"] >= bar for key, figure in stated["outputs"].items() if key.endswith("/200"))
    assert meta["held_out"]["canonical_classes"]["architectures_of_a_trained_class"] == 0


def test_shipped_figures_are_those_of_the_table(oracle: SurrogateOracle, space: NASBench201, data_folder: Path) -> None:
    table = space.read_table(data_folder / space.table_file, trust_pickle=False)
    assert oracle.meta["table_sha256"] == table.sha256
    archs = [space.from_str(text) for text in table.archs]
    classes = [space.canonical(arch) for arch in archs]
    sets = held_out(classes, table.archs, share=oracle.meta["trained_held_out"], seed=oracle.meta["trained_seed"])
    truth = np.stack([table.values[key] for key in oracle.surrogate.outputs], axis=1).astype(np.float64)
    for name, chosen in sets.items():
        stated = oracle.meta["held_out"][name]
        rows = np.flatnonzero(chosen)
        assert stated["architectures"] == len(rows)
        measured = figures(oracle.surrogate, [graph_features(archs[row], space.operators) for row in rows], truth[rows])
        for key, figure in measured.items():
            assert figure == pytest.approx(stated["outputs"][key], abs=2e-4)  # up to another machine's rounding
            assert not key.endswith("/200") or figure["kendall_tau"] >= BARS[name]


def test_queries(oracle: SurrogateOracle, space: NASBench201) -> None:
    assert oracle.available == dict.fromkeys(("cifar10", "cifar100", "ImageNet16-120"), ("val", "test"))
    archs = [space.random(np.random.default_rng(k)) for k in range(20)]
    one = [oracle.query(arch, dataset="cifar10", split="test") for arch in archs]
    assert all(0 <= value <= 100 for value in one)
    many = oracle.predict_many(archs, dataset="cifar10", split="test", epochs=200)
    np.testing.assert_allclose(one, many, atol=1e-3)
    assert (oracle.predict_many(archs, dataset="cifar10", split="test", epochs=12) < many).mean() > 0.8
    assert oracle.predict_many([], dataset="cifar10", split="val").shape == (0,)


def test_a_cell_of_3x3_convolutions_beats_one_that_is_dead(oracle: SurrogateOracle, space: NASBench201) -> None:
    best, dead = space.of_operations((3, 3, 3, 1, 3, 3)), space.of_operations((0,) * 6)
    assert oracle.query(best, dataset="cifar10", split="test") > 93.5
    assert oracle.query(dead, dataset="cifar10", split="test") == pytest.approx(10, abs=1)


def test_what_is_not_there_is_named(oracle: SurrogateOracle, space: NASBench201) -> None:
    arch = space.random(np.random.default_rng(0))
    with pytest.raises(UserError, match="unknown dataset 'mnist'; there are: cifar10, cifar100, ImageNet16-120"):
        oracle.query(arch, dataset="mnist", split="val")
    with pytest.raises(UserError, match="unknown split 'train'; there are: val, test"):
        oracle.query(arch, dataset="cifar10", split="train")
    with pytest.raises(UserError, match="no results of 90 epochs; there are: 12, 200"):
        oracle.query(arch, dataset="cifar10", split="val", epochs=90)


def test_a_space_without_a_surrogate_says_so() -> None:
    class Elsewhere(NASBench201):
        name = "elsewhere"

    with pytest.raises(DataNotFound, match=r"no surrogate is shipped for space 'elsewhere'; there are: .*nasbench201"):
        SurrogateOracle().setup(space=Elsewhere())


def test_provenance_calls_it_a_surrogate(oracle: SurrogateOracle) -> None:
    said = oracle.provenance()
    assert said["kind"] == "surrogate"
    assert said["note"] == "a surrogate of measured accuracies, not a benchmark result"
    assert said["table_version"] == "v1_0"
    assert float(said["kendall_tau/canonical_classes/cifar10/val/200"]) >= 0.86
    assert float(said["kendall_tau/strings/cifar10/val/200"]) >= 0.915


# -- features


def test_features_of_a_chain(space: NASBench201) -> None:
    """3x3 -> skip -> pool, beside a 1x1 without a path to the output."""
    arch = space.from_str("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|")
    assert +graph_features(arch, space.operators) == {
        "path nor_conv_3x3>avg_pool_3x3": 1, "paths": 1, "depth": 2,
        "node nor_conv_3x3": 1, "node avg_pool_3x3": 1, "node output": 1,
        "fan-in nor_conv_3x3": 1, "fan-in avg_pool_3x3": 1, "fan-in output": 1,
        "input to nor_conv_3x3": 1, "nor_conv_3x3 to avg_pool_3x3": 1, "avg_pool_3x3 to output": 1,
    }  # fmt: skip


def test_features_of_a_sum_through_an_identity() -> None:
    """input -> a -> b, input -> skip -> b, and a dead end: b sums over a and the input."""
    operators = ("input", "output", "skip_connect", "a", "b")
    arch = Arch((0, 3, 2, 4, 3, 1), ((0, 1), (0, 2), (1, 3), (2, 3), (0, 4), (3, 5)))
    assert +graph_features(arch, operators) == {
        "path a>b": 1, "path b": 1, "paths": 2, "depth": 2, "node a": 1, "node b": 1, "node output": 1,
        "fan-in a": 1, "fan-in b": 2, "fan-in output": 1, "input to a": 1, "input to b": 1, "a to b": 1, "b to output": 1,
    }  # fmt: skip


def test_features_of_nothing(space: NASBench201) -> None:
    assert not +graph_features(space.of_operations((3, 0, 0, 0, 0, 3)), space.operators)


def test_paths_are_the_same_within_a_canonical_class(space: NASBench201) -> None:
    paths, members = defaultdict(set), 0
    rng = np.random.default_rng(0)
    for arch in {space.random(rng) for _ in range(1500)}:
        counts = graph_features(arch, space.operators)
        paths[space.canonical(arch)].add(frozenset((name, n) for name, n in counts.items() if name.startswith("path")))
        members += 1
    assert members > len(paths) + 300
    assert all(len(found) == 1 for found in paths.values())


# -- training


def test_ensemble_is_its_members_side_by_side() -> None:
    generator = torch.Generator().manual_seed(0)
    layers = [(torch.randn(2, *shape, generator=generator), torch.randn(2, 1, shape[1], generator=generator)) for shape in ((3, 4), (4, 1))]
    x = torch.randn(5, 3, generator=generator)
    for k, out in enumerate(ensemble(layers, x)):
        (first, a), (second, b) = ((weight[k], bias[k]) for weight, bias in layers)
        torch.testing.assert_close(out, torch.nn.functional.silu(x @ first + a) @ second + b)


def test_held_out_sets_are_apart() -> None:
    strings = [f"s{k}" for k in range(20_000)]
    classes = [f"c{k // 2}" for k in range(20_000)]
    sets = held_out(classes, strings, share=0.1, seed=0)
    by_string, by_class = sets["strings"], sets["canonical_classes"]
    assert by_class.mean() == pytest.approx(0.1, abs=0.01)
    assert by_string.mean() == pytest.approx(0.09, abs=0.01)
    assert not (by_string & by_class).any()
    assert (by_class[::2] == by_class[1::2]).all()  # classes are never torn apart
    assert (held_out(classes, strings, share=0.1, seed=1)["canonical_classes"] != by_class).any()


def a_table(space: NASBench201, m: int = 400) -> BenchmarkTable:
    """Accuracies that depend on the graph: convolutions on paths from input to output raise them."""
    archs = list(dict.fromkeys(space.random(np.random.default_rng(k)) for k in range(m)))
    worth = np.array([[graph_features(arch, space.operators)[name] for name in ("node nor_conv_3x3", "paths")] for arch in archs])
    value = (10 + 10 * worth[:, 0] + worth[:, 1]).astype(np.float32)
    return BenchmarkTable(
        space=space.name, archs=tuple(map(space.to_str, archs)), values={key: value + k for k, key in enumerate(KEYS)},
        seconds={}, version="made-up", sha256="0" * 64,
    )  # fmt: skip


def write_csv(table: BenchmarkTable, path: Path) -> None:
    columns = {"arch_str": table.archs, **{key.replace("/", "_"): value for key, value in table.values.items()}}
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in [list(columns), *zip(*columns.values(), strict=True)]))


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["train_surrogate", *map(str, arguments)])
    run_command(train_surrogate.main)


def test_training_from_the_command_line(
    space: NASBench201, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(a_table(space), tmp_path / "table.csv")
    out = tmp_path / "surrogate.safetensors"
    arguments = ("--data", tmp_path / "table.csv", "--out", out, "--epochs", 60, "--members", 2, "--width", 32, "--device", "cpu")
    run_main(monkeypatch, *arguments)
    assert "a surrogate of measured accuracies, not a benchmark result" in capsys.readouterr().out
    _, meta = Surrogate.load(out)
    assert meta["command"].startswith("python -m diffnag.train_surrogate --data")
    assert meta["held_out"]["strings"]["outputs"]["cifar10/val/200"]["kendall_tau"] > 0.8
    assert meta["held_out"]["strings"]["outputs"]["cifar10/val/200"]["r2"] > 0.8


def test_training_repeats_itself(space: NASBench201, tmp_path: Path) -> None:
    options = Options(held_out=0.1, epochs=2, members=2, width=8, seed=0)
    for name in ("a", "b"):
        train(space, a_table(space, 100), options, out=tmp_path / name, device="cpu")
    a, b = (Surrogate.load(tmp_path / name)[0].tensors for name in ("a", "b"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_an_interrupted_training_leaves_the_old_file(
    space: NASBench201, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(a_table(space, 100), tmp_path / "table.csv")
    out = tmp_path / "surrogate.safetensors"
    out.write_bytes(b"old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diffnag.networks.ensemble.ensemble", interrupt)
    with pytest.raises(SystemExit) as exit_:
        run_main(monkeypatch, "--data", tmp_path / "table.csv", "--out", out, "--device", "cpu")
    assert exit_.value.code == 130
    assert "stopped after epoch 0 of 120; nothing was written" in capsys.readouterr().err
    assert out.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "nowhere.csv"), "there is no file nowhere.csv"),
        ((), "the nasbench201 table is not here"),
        (("--held-out", "1.5"), "'1.5' is not a finite number from 0.001 to 0.9"),
        (("--space", "nowhere"), "unknown space 'nowhere'"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIFFNAG_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as exit_:
        run_main(monkeypatch, "--out", tmp_path / "out.safetensors", *arguments)
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err


def test_too_small_a_table_is_refused(space: NASBench201, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="5 architectures are too few"):
        train(space, a_table(space, 5), Options(held_out=0.1, epochs=1, members=1, width=8, seed=0), out=tmp_path / "x", device="cpu")


def test_missing_values_are_refused_before_the_training(space: NASBench201, tmp_path: Path) -> None:
    table = a_table(space)
    table.values[KEYS[3]][5] = np.nan
    with pytest.raises(UserError, match=f"the nasbench201 table has missing values in {KEYS[3]}; a surrogate is trained on complete columns"):
        train(space, table, Options(), out=tmp_path / "x", device="cpu")
