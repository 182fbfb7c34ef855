"""The space `darts`: genotypes, both cells as one graph, canonical form, networks, and the optional oracle."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from diffnag.arch import ArchBatch
from diffnag.errors import DataNotFound, UserError
from diffnag.protocols import SearchSpace
from diffnag.search_spaces.darts import nasbench301 as darts_nasbench301
from diffnag.search_spaces.darts.genotype import OPERATIONS, STATES, Cell, Genotype, computed
from diffnag.search_spaces.darts.nasbench301 import NASBench301Oracle
from diffnag.search_spaces.darts.network import FactorizedReduce, Network
from diffnag.search_spaces.darts.space import DARTS
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.counting import measured_size
from diffnag.testing import OracleContract, SearchSpaceContract, draws
from tests.edited import Change, edited
from tests.exporting import onnx_difference

SPACE = DARTS()
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), "
    "('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
"""The cells that Liu et al. (ICLR 2019) published, second order."""
MEASURED = (
    "Genotype(normal=[('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_3x3', 0), "
    "('dil_conv_5x5', 2), ('sep_conv_3x3', 1), ('skip_connect', 2)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), "
    "('avg_pool_3x3', 1), ('skip_connect', 0), ('dil_conv_5x5', 1), ('sep_conv_3x3', 1), ('sep_conv_5x5', 2), ('sep_conv_3x3', 2), "
    "('dil_conv_3x3', 3)], reduce_concat=range(2, 6))"
)

"""Cells of a training that NAS-Bench-301 documents with its number of parameters."""


@pytest.fixture(name="space")
def _space() -> SearchSpace:
    return DARTS()


class TestContract(SearchSpaceContract):
    pass


class TestGenotypes:
    def test_the_order_of_two_operations_does_not_matter(self) -> None:
        arch = SPACE.from_str(DARTS_V2)
        assert SPACE.from_str(SPACE.to_str(arch)) == arch
        assert SPACE.genotype(arch).normal[4:6] == [("skip_connect", 0), ("sep_conv_3x3", 1)]
        assert SPACE.from_str(DARTS_V2.replace("[2, 3, 4, 5]", "range(2, 6)").replace("'", '"')) == arch

    @pytest.mark.parametrize(
        ("old", "new", "rule"),
        [
            (DARTS_V2, "print('hello')", "is no darts string; expected Genotype"),
            ("Genotype(", "__import__('os').system(", "is no darts string"),
            ("normal_concat=[2, 3, 4, 5]", "normal_concat=[3, 4, 5]", "normal_concat is .3,4,5.; in every cell"),
            ("('skip_connect', 0), ('dil_conv_3x3', 2)]", "('skip_connect', 0)]", "normal cell .* is not a list of eight pairs"),
            ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 2, 1)", "normal cell .* is not a list of eight pairs"),
            ("dil_conv_3x3", "none", "normal cell has the operation 'none'; there are: max_pool_3x3"),
            ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)", "state 5 of the normal cell reads state 5, which is not an earlier one"),
            ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 0)", "state 5 of the normal cell reads state 0 twice"),
            ("('max_pool_3x3', 1), ('skip_connect', 2)", "('max_pool_3x3', 2), ('skip_connect', 2)", "state 2 of the reduce cell reads state 2"),
        ],
    )
    def test_other_text_is_refused_with_the_broken_rule(self, old: str, new: str, rule: str) -> None:
        assert old in DARTS_V2
        with pytest.raises(UserError, match=rule):
            SPACE.from_str(DARTS_V2.replace(old, new))


class TestMatrices:
    def test_graph_by_hand(self) -> None:
        arch = SPACE.from_str(DARTS_V2)
        names = [SPACE.operators[op] for op in arch.ops]
        assert names[:4] == ["input", "input", "sep_conv_3x3", "sep_conv_3x3"] and names[9] == "dil_conv_3x3"
        assert [node for node, name in enumerate(names) if name == "output"] == [10, 11, 20]
        normal = {(0, 2), (1, 3), (0, 4), (1, 5), (0, 6), (1, 7), (0, 8), (2, 9), (3, 9)}
        between = set(itertools.product(range(2, 10), (10, 11)))
        reduce = {(10, 12), (11, 13), (11, 14), (12, 15), (13, 15), (10, 16), (12, 17), (13, 17), (11, 18), (12, 19), (13, 19)}
        assert set(arch.edges) == normal | between | reduce | {(node, 20) for node in range(12, 20)}

    def test_constant_entries(self) -> None:
        """Constant are exactly the entries that never vary over many draws."""
        batch = ArchBatch.of(draws(SPACE, 2_000), SPACE)
        for part, constant in zip((batch.V, batch.E), SPACE.constant, strict=True):
            assert ((part.amin(0) == part.amax(0)).numpy() == constant).all()

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ([("V", 3, slice(None), 0)], "node 3 has 0 operators"),
            ([("V", 11, slice(None), 0), ("V", 11, 4, 1)], "node 11 is skip_connect"),
            ([("V", 5, slice(None), 0), ("V", 5, 1, 1)], "node 5 is output"),
            ([("E", 3, 9, 0)], "node 9 does not read one input or both operations of one earlier state of its cell"),
            ([("E", 1, 4, 1)], "node 4 does not read one input"),
            ([("E", 0, 12, 1)], "node 12 does not read one input"),
            ([("E", 0, 4, 0), ("E", 1, 4, 1)], "nodes 4 and 5 read states 1 and 1, not one and a later one"),
            ([("E", 7, 11, 0)], "edge 7->11 is missing"),
            ([("E", 0, 20, 1)], "edge 0->20 is not in the space"),
        ],
    )
    def test_reasons(self, changes: list[Change], reason: str) -> None:
        arch, said = SPACE.decode(*edited(SPACE, DARTS_V2, changes))
        assert arch is None and said is not None and said.startswith(reason)

    def test_all_wirings_in_one_batch(self) -> None:
        """The 180 wirings of a cell, in the one cell and in the other; a batch of them reads other graphs as `decode` does."""
        ways = list(itertools.product(*(itertools.combinations(range(state), 2) for state in (2, 3, 4, 5))))
        first, *_ = cells = [tuple((0, state) for pair in pairs for state in pair) for pairs in ways]
        archs = [SPACE.of_cells(*pair) for cell in cells for pair in ((cell, first), (first, cell))]
        V, E = (np.stack(part).astype(np.uint8) for part in zip(*map(SPACE.encode, archs), strict=True))
        assert len(set(archs)) == 2 * 180 - 1 and SPACE.decode_batch(V, E) == [(arch, None) for arch in archs]
        for flipped in np.ndindex(21, 21):  # no wiring differs from another one in a single edge
            E[0][flipped] ^= 1
            assert SPACE.decode_batch(V[:1], E[:1]) == [SPACE.decode(V[0], E[0])] and SPACE.decode(V[0], E[0]).reason
            E[0][flipped] ^= 1


class TestIdentity:
    def test_by_hand(self) -> None:
        normal, reduce = SPACE.canonical(SPACE.from_str(DARTS_V2)).split(";")
        assert normal == (
            "0+dil_conv_3x3(sep_conv_3x3(0)+sep_conv_3x3(1))|0+sep_conv_3x3(1)|"
            "sep_conv_3x3(0)+sep_conv_3x3(1)|sep_conv_3x3(0)+sep_conv_3x3(1)"
        )
        zero, one = "max_pool_3x3(0)", "max_pool_3x3(1)"
        assert reduce == f"{zero}+{zero}+{one}|{zero}+{one}|{zero}+{one}+{one}|{zero}+{one}+{one}"

    def test_a_skip_that_halves_the_map_is_no_identity(self) -> None:
        cell = next(cell for _, cell in map(SPACE.cells, draws(SPACE, 50)) if (2, 0) in cell)
        assert "skip_connect(0)" in computed(cell, skips_from=2) and "skip" not in computed(cell, skips_from=0)

    def test_states_may_change_places(self) -> None:
        """Two states that read only the inputs are swapped for all readers: another graph, the same function."""
        a, b = (3, 0), (5, 1)
        one: Cell = (a, b, (4, 0), (6, 1), (0, 2), (1, 3), (3, 0), (5, 2))
        other: Cell = ((4, 0), (6, 1), a, b, (1, 2), (0, 3), (3, 0), (5, 3))
        archs = [SPACE.of_cells(cell, cell) for cell in (one, other)]
        assert archs[0] != archs[1] and SPACE.canonical(archs[0]) == SPACE.canonical(archs[1])

    def test_agrees_with_computing_the_cell(self) -> None:
        """For cells of few operations, keys are equal exactly if the values at a random point are."""
        rng = np.random.default_rng(0)
        operations = _random_operations(rng)
        cells = [tuple((int(rng.choice((2, 3, 4))), state) for _, state in cell) for arch in draws(SPACE, 4_000) for cell in SPACE.cells(arch)]
        keys, values = [computed(cell, skips_from=0) for cell in cells], [_value(cell, operations) for cell in cells]
        assert len(set(keys)) < len(set(cells)), "the sample holds equal ones"
        assert len(set(zip(keys, values, strict=True))) == len(set(keys)) == len(set(values))


def _random_operations(rng: np.random.Generator) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """A function on `(8,)` for each operation; only the identity is additive."""

    def bent(A: np.ndarray, B: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: x @ A + np.tanh(x @ B)

    return {name: np.copy if name == "skip_connect" else bent(*rng.normal(size=(2, 8, 8)) / 8**0.5) for name in OPERATIONS}


def _value(cell: Cell, operations: dict[str, Callable[[np.ndarray], np.ndarray]]) -> bytes:
    """The four states for two fixed inputs, without their order."""
    states = list(np.random.default_rng(1).normal(size=(2, 8)))
    for (op, i), (other, j) in zip(cell[::2], cell[1::2], strict=True):
        states.append(operations[OPERATIONS[op]](states[i]) + operations[OPERATIONS[other]](states[j]))
    return b"".join(sorted((np.round(state, 8) + 0.0).tobytes() for state in states[2:]))


class TestNeighboursAndDraws:
    def test_number_of_neighbours(self) -> None:
        """16 operations with 6 others each; sources of states 3, 4 and 5 have 1, 2 and 3 others."""
        for arch in draws(SPACE, 5):
            assert len(SPACE.neighbours(arch)) == 16 * 6 + 2 * 2 * (1 + 2 + 3)

    def test_random_is_uniform(self) -> None:
        cells = [cell for arch in draws(SPACE, 2_000) for cell in SPACE.cells(arch)]
        sources = Counter((cell[6][1], cell[7][1]) for cell in cells)
        assert len(sources) == 10 and all(abs(count - 400) < 100 for count in sources.values())  # five standard deviations
        operations = Counter(op for cell in cells for op, _ in cell)
        assert len(operations) == 7 and all(abs(count - 32_000 / 7) < 320 for count in operations.values())

    def test_parameters(self) -> None:
        assert len(SPACE.parameters) == 2 * (4 * 2 + 3)
        assert SPACE.parameters["reduce 4 inputs"] == ("0,1", "0,2", "0,3", "1,2", "1,3", "2,3")
        assert math.prod(map(len, SPACE.parameters.values())) == (180 * 7**8) ** 2


class TestNetwork:
    def test_parameters_of_darts(self) -> None:
        """The 3.3 M of table 1 of Liu et al., exactly as the authors' code counts them."""
        assert SPACE.size(SPACE.from_str(DARTS_V2), channels=36, cells=6, num_classes=10).params == 3_349_342

    def test_parameters_that_nas_bench_301_documents(self) -> None:
        """`model_parameters` of a result file of the benchmark (20 cells, 50 channels) without the auxiliary classifier."""
        auxiliary = 800 * 128 + 2 * 128 + 4 * 128 * 768 + 2 * 768 + (768 + 1) * 10
        assert SPACE.size(SPACE.from_str(MEASURED), channels=50, cells=6, num_classes=10).params == 6_369_358 - auxiliary

    @pytest.mark.parametrize(("channels", "cells", "image_size", "stem_stride"), [(8, 2, 32, 1), (5, 1, 17, 2), (4, 1, 9, 1)])
    def test_size_equals_the_built_network(self, channels: int, cells: int, image_size: int, stem_stride: int) -> None:
        for arch in draws(SPACE, 4):
            network = SPACE.build(arch, channels=channels, cells=cells, num_classes=7, stem_stride=stem_stride)
            shape = {"channels": channels, "cells": cells, "num_classes": 7, "stem_stride": stem_stride}
            assert SPACE.size(arch, image_size=image_size, **shape) == measured_size(network, image_size=image_size)

    def test_where_the_cells_are(self) -> None:
        """NAS-Bench-301 has 8 cells; the third and the sixth are reductions; a state has 32, 64 and 128 channels."""
        network = SPACE.build(SPACE.from_str(DARTS_V2), num_classes=10)
        assert isinstance(network, Network)
        older = newer = network.stem(torch.zeros(1, 3, 16, 16))
        shapes = []
        for cell in network.cells:
            older, newer = newer, cell(older, newer)
            shapes.append(newer.shape[1:3])
        assert shapes == [(128, 16)] * 2 + [(256, 8)] * 3 + [(512, 4)] * 3

    def test_cell_by_hand(self) -> None:
        torch.manual_seed(0)
        genotype = Genotype(
            normal=[("skip_connect", 0), ("avg_pool_3x3", 1), ("max_pool_3x3", 0), ("sep_conv_3x3", 2),
                    ("skip_connect", 2), ("skip_connect", 3), ("dil_conv_5x5", 1), ("skip_connect", 4)],
            normal_concat=list(STATES), reduce=[("skip_connect", 0), ("skip_connect", 1)] * 4, reduce_concat=list(STATES),
        )  # fmt: skip
        cell = Network(genotype, channels=4, cells=1, num_classes=2).eval().cells[0]
        older, newer = torch.randn(2, 2, 12, 6, 6)
        s0, s1 = cell.enter[0](older), cell.enter[1](newer)
        s2 = s0 + functional.avg_pool2d(s1, 3, 1, 1, count_include_pad=False)
        s3 = functional.max_pool2d(s0, 3, 1, 1) + cell.operations[3](s2)
        s4 = s2 + s3
        _, depthwise, pointwise, norm = cell.operations[6]
        dilated = functional.conv2d(s1.relu(), depthwise.weight, padding=4, dilation=2, groups=4)
        s5 = norm(pointwise(dilated)) + s4
        torch.testing.assert_close(cell(older, newer), torch.cat([s2, s3, s4, s5], dim=1))

    def test_factorized_reduce_on_even_sides_pads_nothing(self) -> None:
        torch.manual_seed(0)
        reduce, x = FactorizedReduce(3, 5).eval(), torch.randn(2, 3, 6, 8)
        expected = torch.cat([reduce.here(x.relu()), reduce.further(x.relu()[:, :, 1:, 1:])], dim=1)
        torch.testing.assert_close(reduce(x), reduce.norm(expected))

    def test_equal_keys_equal_functions(self) -> None:
        """Real networks: if two states and their weights change places, the logits stay the same."""
        torch.manual_seed(0)
        one: Cell = ((3, 0), (5, 1), (4, 0), (6, 1), (3, 2), (4, 3), (3, 0), (5, 2))
        other: Cell = ((4, 0), (6, 1), (3, 0), (5, 1), (4, 2), (3, 3), (3, 0), (5, 3))
        place = {0: 2, 1: 3, 2: 0, 3: 1, 4: 5, 5: 4, 6: 6, 7: 7}  # operation of `one` -> operation of `other`
        first, second = (SPACE.build(SPACE.of_cells(cell, cell), channels=4, cells=1, num_classes=3).eval() for cell in (one, other))
        assert isinstance(first, Network) and isinstance(second, Network)
        second.load_state_dict({name: value for name, value in first.state_dict().items() if ".operations." not in name}, strict=False)
        for a, b in zip(first.cells, second.cells, strict=True):
            for i, j in place.items():
                b.operations[j].load_state_dict(a.operations[i].state_dict())
        entries = [entry for number, cell in enumerate(second.cells) for k, entry in enumerate(cell.enter) if number + k >= 2]
        readers = [module for entry in entries for module in entry.modules() if isinstance(module, nn.Conv2d)]
        with torch.no_grad():
            for layer in [*readers, second.classifier]:  # all layers that read the output of a cell, not of the stem
                states = layer.weight.chunk(4, dim=1)
                layer.weight.copy_(torch.cat([states[1], states[0], *states[2:]], dim=1))
        x = torch.randn(2, 3, 8, 8)
        torch.testing.assert_close(first(x), second(x))

    def test_every_weight_is_used(self) -> None:
        torch.manual_seed(0)
        network = SPACE.build_small(SPACE.from_str(MEASURED), num_classes=5, image_size=8)
        network(torch.randn(4, 3, 8, 8)).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())

    @pytest.mark.slow
    @pytest.mark.timeout(300)
    def test_onnx(self, tmp_path: Path) -> None:
        for k, arch in enumerate(draws(SPACE, 2)):
            assert onnx_difference(arch, SPACE, channels=4, image_size=17, path=tmp_path / f"{k}.onnx") <= 1e-4


class _Package(SimpleNamespace):
    """Stand-in for the package nasbench301; like the real ensemble, it converts the genotype and answers."""

    def load_ensemble(self, folder: str) -> Any:
        assert Path(folder).name == "xgb_v1.0"
        return self

    def predict(self, config: Any, representation: str, with_noise: bool) -> np.float64:
        assert representation == "genotype" and not with_noise
        configuration = defaultdict(float)
        for cell in (config.normal, config.reduce):
            for operation, state in cell:
                configuration[operation] += 1 + state
        return np.float64(90 + configuration["sep_conv_3x3"] / 16)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of data with trusted models, and the stand-in as the package."""
    (tmp_path / "nb_models_1.0" / "xgb_v1.0").mkdir(parents=True)
    (tmp_path / "nb_models_1.0" / "xgb_v1.0" / "surrogate_model.model").write_bytes(b"weights")
    monkeypatch.setenv("DIFFNAG_DATA", str(tmp_path))
    monkeypatch.setenv("DIFFNAG_TRUST_PICKLE", "1")
    monkeypatch.setattr(darts_nasbench301, "import_module", lambda name: _Package())
    monkeypatch.setattr(darts_nasbench301.metadata, "version", lambda name: "0.3")
    return tmp_path


class TestNASBench301(OracleContract):
    @pytest.fixture
    def oracle(self, installed: Path) -> NASBench301Oracle:
        oracle = NASBench301Oracle()
        oracle.setup(space=SPACE)
        return oracle

    def test_the_ensemble_gets_the_genotype(self, oracle: NASBench301Oracle) -> None:
        """In its normal cell DARTS_V2 has the operation on states 0, 1, 0, 1 and 1."""
        assert oracle.query(SPACE.from_str(DARTS_V2), dataset="cifar10", split="val") == 90 + (5 + 3) / 16

    def test_without_the_package(self) -> None:
        with pytest.raises(DataNotFound, match="needs the package nasbench301, .*pip install nasbench301"):
            NASBench301Oracle().setup(space=SPACE)

    def test_without_models_or_trust_or_the_space(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(DataNotFound, match="supports only the space 'darts', not 'nasbench201'"):
            NASBench301Oracle().setup(space=NASBench201())
        monkeypatch.delenv("DIFFNAG_TRUST_PICKLE")
        with pytest.raises(UserError, match="are pickles.*DIFFNAG_TRUST_PICKLE=1"):
            NASBench301Oracle().setup(space=SPACE)
        (installed / "nb_models_1.0" / "xgb_v1.0").rename(installed / "elsewhere")
        with pytest.raises(DataNotFound, match=r"models of nasbench301 are missing: .*nb_models_1.0/xgb_v1.0"):
            NASBench301Oracle().setup(space=SPACE)
