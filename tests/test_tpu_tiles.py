"""The space `tpu-tiles`: contract, rules, normal order, neighbours, and the programs of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffnag.errors import DataNotFound, UserError
from diffnag.io.tables import load_table
from diffnag.search_loop.oracle import find_oracle
from diffnag.protocols import CountsInputs, HasExamples, SearchSpace
from diffnag.search_spaces.shared.programs import graph_hash, in_normal_order, input_fault, neighbours_of
from diffnag.search_spaces.tpu_tiles.rules import INPUTS
from diffnag.search_spaces.tpu_tiles.space import ABSENT, RULES, TPUTiles
from diffnag.spaces.split import CanonicalSplit
from diffnag.testing import SearchSpaceContract, draws

SPACE = TPUTiles()
SUM = "29/29/43@0,1/18@2"


class TestContract(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return SPACE

    def test_neighbours(self, space: SearchSpace) -> None:
        """Of small programs only: a large one has thousands, and as many have each of them."""
        for text in (SUM, "29/18@0", "29/29/43@0,1/8@2/43@2,3/18@2,4"):
            arch = space.from_str(text)
            neighbours = space.neighbours(arch)
            assert neighbours and neighbours == space.neighbours(arch) and len(set(neighbours)) == len(neighbours) and arch not in neighbours
            for neighbour in neighbours[::5]:
                assert space.decode(*space.encode(neighbour)) == (neighbour, None) and arch in space.neighbours(neighbour)


@pytest.fixture
def programs(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of programs, where it is there."""
    if not (data_folder / SPACE.table_file).is_file():
        pytest.skip(f"reference data not found: {SPACE.table_file}")
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    return data_folder / SPACE.table_file


def shuffled(arch, rng):
    """The graph with its nodes in a random topological order."""
    inputs, takers = neighbours_of(len(arch.ops), arch.edges)
    missing, order = [len(given) for given in inputs], []
    ready = [node for node, count in enumerate(missing) if not count]
    while ready:
        order.append(node := ready.pop(rng.integers(len(ready))))
        for taker in takers[node]:
            missing[taker] -= 1
            ready += [taker] * (not missing[taker])
    place = {node: k for k, node in enumerate(order)}
    return [arch.ops[node] for node in order], [(place[i], place[j]) for i, j in arch.edges]


def test_any_order_of_the_nodes_is_read_as_the_same_program():
    rng = np.random.default_rng(0)
    archs = draws(SPACE, 60, seed=3)
    same = 0
    for arch in archs:
        ops, edges = shuffled(arch, rng)
        assert graph_hash(ops, edges) == SPACE.canonical(arch)
        same += in_normal_order(ops, edges) == (arch.ops, arch.edges)
        assert in_normal_order(arch.ops, arch.edges) == (arch.ops, arch.edges)
    assert same >= 0.95 * len(archs), "equal colours of inputs that differ are rare"


def test_a_change_of_one_node_or_edge_changes_the_class():
    arch = SPACE.from_str("29/29/43@0,1/8@2/43@2,3/18@2,4")
    classes = {SPACE.canonical(other) for other in SPACE.neighbours(arch)}
    assert len(classes) == len(SPACE.neighbours(arch)) and SPACE.canonical(arch) not in classes


def test_what_takes_the_longest_chain_comes_first():
    """The normal order of a sum of a long chain and a leaf, by hand: chain, leaf, sum, result."""
    assert SPACE.to_str(SPACE.from_str("29/29/8@1/8@2/43@0,3/18@4")) == "29/8@0/8@1/29/43@2,3/18@4"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "node 0 is ''"), ("29/11@0", "node 1 is '11@0'"), ("29/18@0,", "node 1 is '18@0,'"), ("29/18@1", "does not stand before it"),
        ("29/18@0,0", "takes another twice"), ("29", "it has 1 nodes, not 2 to 160"), ("29/43@0", "node 1 is op43 with 1 inputs, not 2"),
        ("29/29/18@0", "node 1 leads to no other"), ("18/18@0", "node 0 is op18 with 0 inputs, not 1 to 21"),
        ("/".join(["29", *(f"8@{k}" for k in range(160))]), "it has 161 nodes"), ("２９/18@0", "node 0 is"),
    ],
)  # fmt: skip
def test_strings_that_are_no_program(text, sentence):
    with pytest.raises(UserError, match="is no tpu-tiles string") as refused:
        SPACE.from_str(text)
    assert sentence in str(refused.value) and "expected code@inputs" in str(refused.value) and len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"V": [(3, 0), (3, ABSENT)]}, "node 3 has 2 operators"), ({"V": [(2, "absent")]}, "node 2 is absent, but not those behind it"),
        ({"E": [(3, 1)]}, "an edge leads backwards"), ({"E": [(0, 4)]}, "an edge leads to node 4, which is absent"),
        ({"E": [(0, 3)]}, None), ({"E": [(0, 1)]}, "node 1 is op29 with 1 inputs, not 0"),
    ],
)  # fmt: skip
def test_matrices_are_read_with_a_reason(change, reason):
    V, E = SPACE.encode(SPACE.from_str(SUM))
    for node, op in change.get("V", ()):
        V[node] = (V[node] if op != "absent" else 0) + np.eye(len(SPACE.operators))[ABSENT if op == "absent" else op] * (V[node].sum() < 2)
        V[node] = V[node].clip(0, 1)
    for edge in change.get("E", ()):
        E[edge] = 1
    arch, why = SPACE.decode(V, E)
    assert (why or "").startswith(reason or "") and (arch is None) == (reason is not None)


def test_neighbours_of_a_sum_by_hand():
    """Three other leaves for either of two equal ones, other sums of two, other results of one; no input can move anywhere."""
    one, two = (sum(fewest <= count <= most for fewest, most in INPUTS.values()) for count in (1, 2))
    assert len(SPACE.neighbours(SPACE.from_str(SUM))) == 3 + (two - 1) + (one - 1)


def test_it_says_what_it_is():
    assert isinstance(SPACE, HasExamples) and isinstance(SPACE, CountsInputs)
    assert set(SPACE.inputs) | {"absent"} == set(SPACE.operators) and len(SPACE.operators) == 45
    for call in (lambda: SPACE.build(SPACE.from_str(SUM), num_classes=2), lambda: SPACE.size(SPACE.from_str(SUM), num_classes=2)):
        with pytest.raises(UserError, match="no network can be built of it"):
            call()


def test_random_programs_have_all_sizes():
    nodes = [len(arch.ops) for arch in draws(SPACE, 400)]
    assert min(nodes) == 2 and max(nodes) > 140 and 30 < np.mean(nodes) < 45


def test_a_missing_file_is_named():
    with pytest.raises(DataNotFound, match="the tpu-tiles table is not here: .* set \\$DIFFNAG_DATA to a folder with tpu_tiles.npz"):
        SPACE.examples()


def test_the_programs_of_the_file(programs):
    archs = SPACE.examples()
    assert len(archs) == len(set(archs)) == len({SPACE.canonical(arch) for arch in archs}) == 475
    assert max(len(arch.ops) for arch in archs) == 154 and np.median([len(arch.ops) for arch in archs]) == 36
    for arch in archs:
        assert SPACE.decode(*SPACE.encode(arch)) == (arch, None) and SPACE.from_str(SPACE.to_str(arch)) == arch
        assert input_fault(arch.ops, arch.edges, RULES, SPACE.operators) is None
    assert len(CanonicalSplit(0.5).training_archs(SPACE)) == 239


def test_runtimes_are_means_over_equal_programs(programs):
    table = load_table(SPACE)
    with np.load(programs) as arrays:
        counted = len(arrays["runtime"])
    assert counted == 1261 and len(table.archs) == 475 and not table.complete
    assert table.values["tpu/val/0"].min() > 0.2 and table.values["tpu/val/0"].max() < 27
    oracle = find_oracle("auto", SPACE)
    assert oracle.query(SPACE.from_str(table.archs[0]), dataset="tpu", split="val") == pytest.approx(float(table.values["tpu/val/0"][0]), abs=1e-4)


def a_file(path: Path, **changed) -> Path:
    """A file of one program, `18(43(29, 29))` in the order of the file."""
    arrays = {
        "op": np.array([18, 43, 29, 29]), "node_ptr": np.array([0, 4]), "src": np.array([0, 1, 1]), "dst": np.array([1, 2, 3]),
        "edge_ptr": np.array([0, 3]), "runtime": np.array([1.5]),
    } | changed  # fmt: skip
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def test_a_small_file_is_read(tmp_path):
    table = SPACE.read_table(a_file(tmp_path / "a.npz"), trust_pickle=False)
    assert table.archs == (SUM,) and table.values["tpu/val/0"].tolist() == [1.5]
    twice = {"op": np.array([18, 29] * 2), "node_ptr": np.array([0, 2, 4]), "src": np.array([0, 0]), "dst": np.array([1, 1])}
    table = SPACE.read_table(a_file(tmp_path / "b.npz", **twice, edge_ptr=np.array([0, 1, 2]), runtime=np.array([1.0, 2.0])), trust_pickle=False)
    assert table.archs == ("29/18@0",) and table.values["tpu/val/0"].tolist() == [1.5]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"op": None}, "it lacks the array op"), ({"runtime": np.array([1.0, 2.0])}, "do not belong to the same number of graphs"),
        ({"op": np.array([18, 43, 29, 11])}, "graph 0 is no program of tpu-tiles: there is no operator 11"),
        ({"dst": np.array([0, 2, 3])}, "its nodes are not in topological order"), ({"dst": np.array([1, 2, 2])}, "graph 0 is no program"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused(changed, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        SPACE.read_table(a_file(tmp_path / "a.npz", **changed), trust_pickle=False)


def test_files_of_another_kind_are_refused(tmp_path):
    (path := tmp_path / "a.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match="a.npz"):
        SPACE.read_table(path, trust_pickle=False)
    with pytest.raises(UserError, match="there is no file"):
        SPACE.read_table(tmp_path / "b.npz", trust_pickle=False)
