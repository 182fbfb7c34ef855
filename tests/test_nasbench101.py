"""The space `nasbench101`: graphs, hashes, matrices, strings, neighbours, networks and tables."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from diffnag.arch import Arch, ArchBatch
from diffnag.errors import DataNotFound, UserError
from diffnag.io.tables import load_table
from diffnag.oracles.table import TableOracle
from diffnag.predictors.path_features import RoleMasks, path_features
from diffnag.protocols import Oracle, Size
from diffnag.search_spaces.nasbench101 import graphs
from diffnag.search_spaces.nasbench101.network import Cell, Network, vertex_channels
from diffnag.search_spaces.nasbench101.space import OPERATIONS, NASBench101
from diffnag.search_spaces.nasbench101.table import read
from diffnag.spaces.roles import roles_of
from diffnag.testing import OracleContract, SearchSpaceContract, draws

SPACE = NASBench101()
FILE = "nas_bench_101.npz"
CHAIN = "conv3x3@0/conv1x1@1/maxpool3x3@2/output@3"


@pytest.fixture
def space() -> NASBench101:
    return SPACE


@pytest.fixture(scope="session")
def columns(data_folder: Path) -> dict[str, np.ndarray]:
    """Columns of the reference file, and `row`: hash -> row."""
    if not (data_folder / FILE).is_file():
        pytest.skip(f"reference data has no {FILE}")
    with np.load(data_folder / FILE) as file:
        columns = {name: file[name] for name in ("hash", "params", "test_acc_mean108", "val_acc_108", "val_acc_12")}
    return {**columns, "row": {key.decode(): row for row, key in enumerate(columns["hash"])}}


@pytest.fixture(scope="session")
def oracle(data_folder: Path, columns: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> TableOracle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFNAG_DATA", str(data_folder))
        patch.setenv("DIFFNAG_CACHE", str(tmp_path_factory.mktemp("nasbench101")))
        made = TableOracle()
        made.setup(space=SPACE)
        again = load_table(SPACE)  # from the cache
    assert again.archs == made.table.archs and again.sha256 == made.table.sha256
    return made


def cell(text: str) -> Arch:
    return SPACE.from_str(text)


def of_random_matrices(count: int) -> Iterator[Arch]:
    """Valid cells from random matrices of all densities and numbers of vertices."""
    rng = np.random.default_rng(0)
    found = 0
    while found < count:
        ops = np.where(rng.random(5) < rng.random() / 2, 5, rng.integers(1, 4, size=5))
        V = np.eye(6)[[0, *ops, 4]]
        E = np.triu(rng.random((7, 7)) < rng.uniform(0.2, 0.7), 1)
        arch, _ = SPACE.decode(V, E)
        if arch is not None:
            found += 1
            yield arch


class TestContract(SearchSpaceContract):
    pass


@pytest.mark.timeout(120)
class TestOracleContract(OracleContract):
    sparse = ("val",)

    @pytest.fixture
    def oracle(self, oracle: TableOracle) -> Oracle:
        return oracle


class TestGraphs:
    def test_every_cell_once(self) -> None:
        cells = list(graphs.cells())
        assert len(cells) == len(set(cells)) == graphs.COUNT == 423_624
        places = [0, 1, 2, 3, 88, 2_533, 64_541, 64_542, 423_623]
        assert [graphs.cell(k) for k in places] == [cells[k] for k in places]
        assert list(np.bincount([len(labels) + 2 for labels, _ in cells])) == [0, 0, 1, 6, 84, 2_441, 62_010, 359_082]

    def test_normal_form_is_the_same_for_every_order_of_the_vertices(self) -> None:
        rng = np.random.default_rng(0)
        for arch in draws(SPACE, 300):
            n = len(arch.ops)
            place = [0, *(1 + rng.permutation(n - 2)).tolist(), n - 1]
            edges = {(place[i], place[j]) for i, j in arch.edges}
            ops = [arch.ops[place.index(vertex)] for vertex in range(n)]
            assert SPACE._cell(ops, edges) == (arch, "")

    @pytest.mark.parametrize("count", [500, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
    def test_hashes_of_random_valid_graphs_are_in_the_table(self, columns: dict[str, np.ndarray], count: int) -> None:
        archs = list(of_random_matrices(count))
        assert len({len(arch.ops) for arch in archs}) >= 5
        assert sum(SPACE.canonical(arch) in columns["row"] for arch in archs) == count

    def test_hash_is_injective_on_random_cells(self) -> None:
        archs = set(draws(SPACE, 2_000))
        assert len({SPACE.canonical(arch) for arch in archs}) == len(archs)

    def test_draws_are_uniform_over_cells(self) -> None:
        sizes = np.bincount([len(arch.ops) for arch in draws(SPACE, 4_000)], minlength=8)[5:] / 4_000
        np.testing.assert_allclose(sizes, np.array([2_441, 62_010, 359_082]) / graphs.COUNT, atol=0.02)


class TestStrings:
    def test_an_example(self) -> None:
        arch = cell("conv3x3@0/maxpool3x3@0,1/output@0,2")
        assert [SPACE.operators[op] for op in arch.ops] == ["input", "conv3x3-bn-relu", "maxpool3x3", "output"]
        assert arch.edges == ((0, 1), (0, 2), (0, 3), (1, 2), (2, 3))
        assert SPACE.to_str(arch) == "conv3x3@0/maxpool3x3@0,1/output@0,2"
        assert SPACE.to_str(cell("output@0")) == "output@0"

    def test_other_orders_and_dead_vertices_are_accepted(self) -> None:
        assert cell("maxpool3x3@3/conv3x3@0/conv1x1@2/output@1") == cell(CHAIN)
        assert cell("conv3x3@0/conv1x1@1/conv1x1@2/maxpool3x3@2/output@4") == cell(CHAIN)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "it does not have this form"),
            ("|none~0|+|none~0|none~1|", "it does not have this form"),
            ("conv3x3@0/output@1/", "it does not have this form"),
            ("conv3x3@0", "exactly its last vertex must be output"),
            ("output@0/output@1", "exactly its last vertex must be output"),
            ("conv5x5@0/output@1", "there is no operation 'conv5x5'"),
            ("conv3x3@0/output@2", "vertex 2 is read, but only vertices 0 to 1 can be read"),
            ("conv3x3@0,2/conv1x1@1/output@2", "its graph has a cycle"),
            ("conv3x3@1/output@1", "its graph has a cycle"),
            ("conv3x3@0/conv3x3@0/output", "it does not have this form"),
            ("/".join(f"conv3x3@{i}" for i in range(6)) + "/output@6", "it has 8 vertices, at most 7 are allowed"),
            ("conv3x3@0/conv3x3@0,1/conv3x3@0,1,2/conv3x3@0,1,2/output@4,3", "it has 11 edges, at most 9 are allowed"),
        ],
    )
    def test_others_are_refused_with_the_rule_they_break(self, text: str, why: str) -> None:
        with pytest.raises(UserError, match="is no NAS-Bench-101 string") as refused:
            SPACE.from_str(text)
        assert why in str(refused.value)


class TestMatrices:
    def test_layout(self) -> None:
        V, E = SPACE.encode(cell("conv3x3@0/maxpool3x3@0,1/output@0,2"))
        assert [SPACE.operators[op] for op in V.argmax(1)] == [
            "input", "conv3x3-bn-relu", "maxpool3x3", "absent", "absent", "absent", "output"
        ]
        assert np.argwhere(E).tolist() == [[0, 1], [0, 2], [0, 6], [1, 2], [2, 6]]

    def test_constant_entries(self) -> None:
        few = [cell(text) for text in ("output@0", "conv3x3@0/output@1", CHAIN)]
        batch = ArchBatch.of(draws(SPACE, 5_000) + few, SPACE)
        for matrices, constant in zip((batch.V, batch.E), SPACE.constant, strict=True):
            assert (matrices.amin(0) == matrices.amax(0)).numpy().tolist() == constant.tolist()
        assert batch.mask.all()

    def test_pruning(self) -> None:
        whole = SPACE.encode(cell(CHAIN))
        assert SPACE.needs_no_pruning(*whole)
        for change in ([(5, 5)], [(5, 3)]):  # a vertex without incoming edges; an absent vertex with an edge
            V, E = (part.copy() for part in whole)
            for slot, op in change:
                V[slot] = np.eye(6)[op if op == 5 else 1]
            E[1, 5] = 1
            assert SPACE.decode(V, E) == (cell(CHAIN), None) and not SPACE.needs_no_pruning(V, E)

    def test_ten_edges_with_one_pruned_are_valid(self) -> None:
        nine = next(arch for arch in draws(SPACE, 100) if len(arch.edges) == 9 and len(arch.ops) == 6)
        V, E = SPACE.encode(nine)
        V[5] = np.eye(6)[1]
        E[0, 5] = 1
        assert SPACE.decode(V, E) == (nine, None)

    def test_reasons(self) -> None:
        V, E = SPACE.encode(cell(CHAIN))
        for at, to, reason in (
            ((2, slice(None)), 0, "node 2 has 0 operators"),
            ((0, slice(None)), np.eye(6)[5], "node 0 is absent"),
            ((6, slice(None)), np.eye(6)[1], "node 6 is conv3x3-bn-relu"),
            ((3, slice(None)), np.eye(6)[4], "node 3 is output"),
        ):
            broken = V.copy()
            broken[at] = to
            assert SPACE.decode(broken, E) == (None, reason)
        assert SPACE.decode(V, np.zeros_like(E)) == (None, "its input does not reach its output")
        assert SPACE.decode(V, E.T) == (None, "an edge leads backwards: E is not upper triangular")
        full = np.eye(6)[[0, 1, 1, 1, 1, 1, 4]]
        assert SPACE.decode(full, np.triu(np.ones((7, 7)), 1)) == (None, "it has 21 edges, at most 9 are allowed")

    def test_parameters_that_make_no_cell_are_refused(self) -> None:
        parameters = SPACE.to_parameters(cell(CHAIN))
        assert parameters["slot 1"] == "conv3x3-bn-relu" and parameters["slot 5"] == "absent" and parameters["0->1"] == "yes"
        with pytest.raises(UserError, match="make no nasbench101 cell: its input does not reach its output"):
            SPACE.from_parameters({**parameters, "0->1": "no"})


class TestNeighbours:
    def test_neighbours_of_a_chain(self) -> None:
        """Neighbours of a cell with one interior vertex, listed by hand."""
        found = {SPACE.to_str(arch) for arch in SPACE.neighbours(cell("conv3x3@0/output@1"))}
        inserted = {
            text
            for op in ("conv3x3", "conv1x1", "maxpool3x3")
            for text in (
                f"{op}@0/conv3x3@1/output@2", f"conv3x3@0/{op}@1/output@2",  # in place of an edge
                f"{op}@0/conv3x3@0,1/output@2", f"conv3x3@0/{op}@1/output@1,2",  # in addition to an edge
                f"conv3x3@0/{op}@0/output@1,2",  # in addition to the whole chain
            )
        }
        assert found == {"conv1x1@0/output@1", "maxpool3x3@0/output@1", "conv3x3@0/output@0,1", "output@0"} | {
            SPACE.to_str(cell(text)) for text in inserted
        }

    def test_every_cell_is_reached(self) -> None:
        """All cells of up to four vertices are reached from the smallest one by moves."""
        seen, front = {cell("output@0")}, [cell("output@0")]
        while front:
            front = [other for arch in front for other in SPACE.neighbours(arch) if len(other.ops) <= 4 and other not in seen]
            front = list(dict.fromkeys(front))
            seen.update(front)
        assert len(seen) == 1 + 6 + 84


class TestNetwork:
    def test_parameters_equal_the_table(self, oracle: TableOracle, columns: dict[str, np.ndarray]) -> None:
        rng = np.random.default_rng(0)
        for text in rng.choice(oracle.table.archs, size=500, replace=False):
            arch = cell(str(text))
            assert SPACE.size(arch, num_classes=10).params == columns["params"][columns["row"][SPACE.canonical(arch)]]

    def test_size_equals_the_built_network(self) -> None:
        for arch in draws(SPACE, 10):
            network = SPACE.build(arch, channels=8, cells=2, num_classes=3, stem_stride=2)
            flops = 0

            def count(module: torch.nn.Module, _: object, out: torch.Tensor) -> None:
                nonlocal flops
                per_place = module.weight[0].numel() + (module.bias is not None)
                flops += per_place * out.numel()

            for module in network.modules():
                if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                    module.register_forward_hook(count)
            network.eval()(torch.randn(1, 3, 15, 15))
            params = sum(p.numel() for p in network.parameters())
            assert SPACE.size(arch, channels=8, cells=2, num_classes=3, image_size=15, stem_stride=2) == Size(params, flops)

    def test_channels_are_shared_out(self) -> None:
        assert vertex_channels(128, 5, cell("conv3x3@0/conv3x3@0/conv3x3@0/output@1,2,3").edges) == [0, 43, 43, 42, 128]
        assert vertex_channels(10, 5, [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)]) == [0, 5, 5, 5, 10]
        with pytest.raises(UserError, match="concatenates 3 vertices needs at least 3 channels, not 2"):
            vertex_channels(2, 5, cell("conv3x3@0/conv3x3@0/conv3x3@0/output@1,2,3").edges)

    def test_a_cell_by_hand(self) -> None:
        """Sums, projections and concatenation. Vertex 1 is wider than vertex 2, which therefore reads its first channels."""
        names, edges = [OPERATIONS[0], OPERATIONS[2], OPERATIONS[1]], [(0, 1), (1, 2), (0, 2), (2, 3), (1, 4), (3, 4), (0, 4)]
        torch.manual_seed(0)
        made = Cell(names, edges, c_in=4, c_out=7).eval()
        x = torch.randn(2, 4, 5, 5)

        def conv(name: str, x: torch.Tensor) -> torch.Tensor:
            return functional.relu(made.convs[name][1](made.convs[name][0](x)))

        one = conv("vertex1", conv("projection1", x))
        two = functional.max_pool2d(one[:, :3] + conv("projection2", x), 3, 1, 1)
        three = conv("vertex3", two)
        assert one.shape[1] == 4 and three.shape[1] == 3
        torch.testing.assert_close(made(x), torch.cat([one, three], 1) + conv("projection4", x))

    def test_input_straight_to_output_and_small_images(self) -> None:
        network = Network([], [(0, 1)], channels=4, cells=1, num_classes=2)
        assert [tuple(p.shape) for p in network.body[0].parameters()] == [(4, 4, 1, 1), (4,), (4,)]
        for side in (1, 5, 33):
            assert network(torch.randn(2, 3, side, side)).shape == (2, 2)


class TestFeatures:
    def test_absent_contributes_nothing(self) -> None:
        roles = RoleMasks.of(roles_of(SPACE))
        batch = ArchBatch.of(draws(SPACE, 50), SPACE)
        V, E = batch.V.numpy(), batch.E.numpy()
        structure, _ = path_features(V, E, roles)
        absent = SPACE.operators.index("absent")
        without = V.copy()
        without[:, :, absent] = 0
        assert (V[:, :, absent].sum(1) > 0).any() and not structure[:, absent].any()
        for one, two in zip(path_features(V, E, roles), path_features(without, E, roles), strict=True):
            np.testing.assert_array_equal(one, two)

    def test_counts_and_depths(self) -> None:
        """The longer of two paths has two 3x3 convolutions and a pooling."""
        V, E = SPACE.encode(cell("conv3x3@0/maxpool3x3@1/conv3x3@2/conv1x1@0/output@3,4"))
        structure, _ = path_features(V[None], E[None], RoleMasks.of(roles_of(SPACE)))
        named = dict(zip(SPACE.operators, structure[0], strict=False))
        assert [named[name] for name in ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3", "absent")] == [2, 1, 1, 0]
        longest, shortest = structure[0][6:8]
        assert (longest, shortest) == (3, 1)


class TestTable:
    def test_values_are_those_of_the_file(self, oracle: TableOracle, columns: dict[str, np.ndarray]) -> None:
        assert oracle.available == {"cifar10": ("test", "val")}
        known = np.flatnonzero(~np.isnan(columns["val_acc_108"]))
        rows = {columns["row"][SPACE.canonical(arch)]: arch for arch in map(cell, oracle.table.archs[:200] + oracle.table.archs[-200:])}
        lacking = 0
        for row, arch in rows.items():
            assert oracle.query(arch, dataset="cifar10", split="test") == pytest.approx(100 * columns["test_acc_mean108"][row], abs=1e-3)
            if row in known:
                for epochs, name in ((None, "val_acc_108"), (12, "val_acc_12")):
                    value = oracle.query(arch, dataset="cifar10", split="val", epochs=epochs)
                    assert value == pytest.approx(100 * columns[name][row], abs=1e-3)
            else:
                lacking += 1
                with pytest.raises(UserError, match="has cifar10/val/108 for 30,001 of its 423,624 architectures, not for"):
                    oracle.query(arch, dataset="cifar10", split="val")
        assert 0 < lacking < len(rows)
        with pytest.raises(UserError, match="no results of 12 epochs; there are: 108"):
            oracle.query(cell(CHAIN), dataset="cifar10", split="test", epochs=12)
        assert oracle.provenance()["architectures"] == 423_624

    def test_official_records(self, tmp_path: Path) -> None:
        """Three runs of one cell and one of another, in the format of the benchmark's file."""
        chain = ("0100001000010000", "input,conv3x3-bn-relu,maxpool3x3,output")
        path = tmp_path / "nasbench_only108.tfrecord"
        values = [(0.90, 0.80), (0.93, 0.83), (0.90, 0.83)]
        lines = [record("a" * 32, 108, *chain, runs) for runs in values] + [record("b" * 32, 4, "0100", "input,output", (0.5, 0.25))]
        path.write_bytes(b"".join(lines))
        table = read(path, SPACE)
        assert table.archs == ("conv3x3@0/maxpool3x3@1/output@2", "output@0") and table.version == "nasbench_only108"
        np.testing.assert_allclose(table.values["cifar10/val/108"], [91, np.nan])
        np.testing.assert_allclose(table.values["cifar10/test/108"], [82, np.nan])
        np.testing.assert_allclose(table.values["cifar10/test/4"], [np.nan, 25])
        np.testing.assert_allclose(table.seconds["cifar10/4"], [np.nan, 30])
        for damaged in (path.read_bytes()[:-9], b"x" * 64, b"", framed(b"[" * 100_000), framed(b'["a", 108, 7, "input,output", ""]')):
            path.write_bytes(damaged)
            with pytest.raises(UserError, match="is no readable NAS-Bench-101 table|has no architecture") as caught:
                read(path, SPACE)
            assert "\n" not in str(caught.value)

    def test_damaged_files_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / FILE
        with pytest.raises(UserError, match="there is no file"):
            read(path, SPACE)
        path.write_bytes(b"junk")
        with pytest.raises(UserError, match="is no readable NAS-Bench-101 table"):
            read(path, SPACE)
        np.savez(path, num_vertices=np.zeros(3))
        with pytest.raises(UserError, match="it lacks the column adjacency"):
            read(path, SPACE)

    def test_no_table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DIFFNAG_DATA", str(tmp_path))
        monkeypatch.setenv("DIFFNAG_CACHE", str(tmp_path / "cache"))
        with pytest.raises(DataNotFound, match=f"nasbench101 table is not here.*{FILE}"):
            load_table(SPACE)


def record(key: str, epochs: int, adjacency: str, operations: str, accuracies: tuple[float, float]) -> bytes:
    """Record of one training run with evaluations at its start, half-way and at its end; checksums are empty."""

    def field(number: int, kind: int, data: bytes) -> bytes:
        return bytes([number << 3 | kind]) + (bytes([len(data)]) if kind == 2 else b"") + data

    def evaluation(epoch: float, validation: float, test: float) -> bytes:
        numbers = {1: epoch, 2: 30.0 * (epoch > 0), 3: 0.99, 4: validation, 5: test}
        data = b"".join(field(number, 1, struct.pack("<d", value)) for number, value in numbers.items())
        return field(1, 2, data + field(6, 2, b"path"))

    runs = evaluation(0, 0.1, 0.1) + evaluation(epochs / 2, 0.2, 0.2) + evaluation(epochs, *accuracies)
    metrics = base64.b64encode(runs + field(2, 0, b"\xac\x02") + field(3, 1, struct.pack("<d", 99.0))).decode()
    return framed(json.dumps([key, epochs, adjacency, operations, metrics]).encode())


def framed(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + bytes(4) + data + bytes(4)
