"""The space `nasbench201` in full: strings, matrices, canonical form, neighbours, and its networks."""

from __future__ import annotations

import csv
import gzip
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from diffnag.arch import Arch, ArchBatch
from diffnag.errors import UserError
from diffnag.protocols import Size
from diffnag.search_spaces.nasbench201.network import Cell, Network, size
from diffnag.search_spaces.nasbench201.space import CONNECTIONS, OPERATIONS, NASBench201

SPACE = NASBench201()
ARCHS = list(SPACE.enumerate())
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
CLASSES = {"cifar10": 10, "cifar100": 100, "ImageNet16-120": 120}


@pytest.fixture(scope="module")
def rows(data_folder: Path) -> list[dict[str, str]]:
    """The benchmark's table, one dict for each architecture."""
    with gzip.open(data_folder / "nas_bench_201.csv.gz", "rt") as file:
        return list(csv.DictReader(file))


def same_partition(first: Iterable[Hashable], second: Iterable[Hashable]) -> bool:
    """Whether two labellings group the items in the same way."""
    pairs = set(zip(first, second, strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


class TestStrings:
    def test_every_architecture_round_trips(self) -> None:
        texts = [SPACE.to_str(arch) for arch in ARCHS]
        assert len(set(texts)) == len(set(ARCHS)) == 5**6
        assert [SPACE.from_str(text) for text in texts] == ARCHS

    def test_strings_are_the_official_ones(self, rows: list[dict[str, str]]) -> None:
        assert {row["arch_str"] for row in rows} == {SPACE.to_str(arch) for arch in ARCHS}

    def test_order_of_the_operations(self) -> None:
        arch = SPACE.from_str("|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|")
        assert [SPACE.operators[op] for op in arch.ops] == [
            "input", "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "none", "output"
        ]
        assert SPACE.to_parameters(arch) == {
            "0->1": "none", "0->2": "skip_connect", "1->2": "nor_conv_1x1",
            "0->3": "nor_conv_3x3", "1->3": "avg_pool_3x3", "2->3": "none",
        }

    @pytest.mark.parametrize(
        "text",
        [
            "", "x", BEST + "|", BEST[:-1], BEST.upper(),
            BEST.replace("~2", "~1"), BEST.replace("3x3", "5x5"), BEST.replace("+", ""),
        ],
    )
    def test_other_text_is_refused(self, text: str) -> None:
        with pytest.raises(UserError, match="no NAS-Bench-201 string"):
            SPACE.from_str(text)


class TestMatrices:
    def test_wiring(self) -> None:
        """There is an edge if one connection ends at the map where the other starts; listed by hand."""
        assert SPACE.edges == (
            (0, 1), (0, 2), (0, 4), (1, 3), (1, 5), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7)
        )

    def test_every_architecture_round_trips(self) -> None:
        for arch in ARCHS:
            V, E = SPACE.encode(arch)
            assert SPACE.decode(V, E) == (arch, None)

    def test_constant_entries(self) -> None:
        batch = ArchBatch.of(ARCHS, SPACE)
        assert (batch.V.amin(0) == batch.V.amax(0)).numpy().tolist() == SPACE.constant[0].tolist()
        assert (batch.E.amin(0) == batch.E.amax(0)).numpy().tolist() == SPACE.constant[1].tolist()
        assert batch.mask.all()

    def test_only_encodings_are_valid(self) -> None:
        """The reason names the node for every graph with an input or output in the wrong place."""
        ops, E = SPACE.from_str(BEST).ops, SPACE.encode(ARCHS[0])[1]
        for node, op in itertools.product(range(8), range(7)):
            changed = (*ops[:node], op, *ops[node + 1 :])
            decoded = SPACE.decode(np.eye(7, dtype=np.float32)[list(changed)], E)
            allowed = op >= 2 if 0 < node < 7 else op == (0 if node == 0 else 1)
            named = (None, f"node {node} is {SPACE.operators[op]}")
            assert decoded == ((Arch(changed, SPACE.edges), None) if allowed else named)

    def test_reasons(self) -> None:
        V, E = SPACE.encode(ARCHS[77])
        for change, reason in (
            (lambda V, E: V.__setitem__(3, 0), "node 3 has 0 operators"),
            (lambda V, E: V.__setitem__((3, slice(2)), 1), "node 3 has 3 operators"),
            (lambda V, E: E.__setitem__((0, 1), 0), "edge 0->1 is missing"),
            (lambda V, E: E.__setitem__((0, 3), 1), "edge 0->3 is not in the space"),
        ):
            broken = V.astype(np.uint8), E.astype(np.uint8)
            change(*broken)
            assert SPACE.decode(*broken) == (None, reason)


class TestIdentity:
    def test_counts(self) -> None:
        assert len({SPACE.canonical(arch) for arch in ARCHS}) == 4_930
        assert len({SPACE.official_key(arch) for arch in ARCHS}) == 6_466

    def test_official_key_is_the_isomorphism_of_the_benchmark(self, rows: list[dict[str, str]]) -> None:
        archs = [SPACE.from_str(row["arch_str"]) for row in rows]
        assert same_partition(map(SPACE.official_key, archs), (row["isomorph_id"] for row in rows))

    def test_official_key_is_finer(self) -> None:
        keys = {(SPACE.official_key(arch), SPACE.canonical(arch)) for arch in ARCHS}
        assert len(keys) == 6_466

    @pytest.mark.parametrize(
        ("text", "key"),
        [
            ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", "0"),
            ("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|nor_conv_1x1~2|", "0"),  # connected at neither end
            ("|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|", "x"),
            ("|skip_connect~0|+|none~0|none~1|+|avg_pool_3x3~0|avg_pool_3x3~1|none~2|", "avg_pool_3x3(x)+avg_pool_3x3(x)"),
            (
                "|nor_conv_1x1~0|+|skip_connect~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|",
                "nor_conv_3x3(nor_conv_1x1(x)+x)",
            ),
        ],
    )
    def test_examples(self, text: str, key: str) -> None:
        assert SPACE.canonical(SPACE.from_str(text)) == key

    def test_agrees_with_computing_the_cell(self) -> None:
        """Keys are equal exactly if the cells have equal values at a random point, under random operations with f(0) = 0."""
        assert same_partition(map(SPACE.canonical, ARCHS), _values(_random_operations(linear_pooling=False)))

    def test_linearity_of_pooling_is_not_in_the_key(self) -> None:
        """Pooling is linear. If keys took this into account there would be 4,660 classes, each a union of ours."""
        values = _values(_random_operations(linear_pooling=True))
        keys = [SPACE.canonical(arch) for arch in ARCHS]
        assert len(set(values)) == 4_660
        assert len(set(zip(keys, values, strict=True))) == 4_930


def _random_operations(*, linear_pooling: bool) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """A function `(m, d) -> (m, d)` for each operation; convolutions are not additive, and on request pooling is not either."""
    rng = np.random.default_rng(0)

    def additive(A: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: x @ A

    def bent(A: np.ndarray, B: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: x @ A + np.tanh(x @ B)

    matrices = rng.normal(size=(6, 8, 8)) / 8**0.5
    return {
        "none": np.zeros_like,
        "skip_connect": np.copy,
        "nor_conv_1x1": bent(*matrices[:2]),
        "nor_conv_3x3": bent(*matrices[2:4]),
        "avg_pool_3x3": additive(matrices[4]) if linear_pooling else bent(*matrices[4:]),
    }


def _values(operations: dict[str, Callable[[np.ndarray], np.ndarray]]) -> list[bytes]:
    """Output of every cell for one random vector, rounded."""
    chosen = np.array([SPACE.operations(arch) for arch in ARCHS])
    maps = np.zeros((4, len(ARCHS), 8))
    maps[0] = np.random.default_rng(1).normal(size=8)
    for connection, (source, target) in enumerate(CONNECTIONS):
        for index, name in enumerate(OPERATIONS):
            of_it = chosen[:, connection] == index
            maps[target, of_it] += operations[name](maps[source, of_it])
    return [row.tobytes() for row in np.round(maps[3], 8) + 0.0]  # adding 0.0 turns -0.0 into 0.0


class TestNeighboursAndDraws:
    def test_neighbours(self) -> None:
        numbers = np.array([arch.ops for arch in ARCHS])
        for index in (0, 1_234, 15_624):
            neighbours = SPACE.neighbours(ARCHS[index])
            one_apart = np.flatnonzero((numbers != numbers[index]).sum(1) == 1)
            assert len(neighbours) == 24 and set(neighbours) == {ARCHS[i] for i in one_apart}
            assert neighbours == SPACE.neighbours(ARCHS[index])

    def test_random_is_seeded_and_uniform(self) -> None:
        draw = [SPACE.random(np.random.default_rng(5)) for _ in range(2)]
        assert draw[0] == draw[1]
        rng = np.random.default_rng(0)
        counts = Counter((node, op) for _ in range(2_000) for node, op in enumerate(SPACE.random(rng).ops))
        # each operator is expected 400 times at each node, with standard deviation 18
        assert all(abs(counts[node, op] - 400) < 90 for node in range(1, 7) for op in range(2, 7))

    def test_parameters(self) -> None:
        assert list(SPACE.parameters) == ["0->1", "0->2", "1->2", "0->3", "1->3", "2->3"]
        assert set(SPACE.parameters.values()) == {OPERATIONS}
        assert all(SPACE.from_parameters(SPACE.to_parameters(arch)) == arch for arch in ARCHS[::7])


def _built(operations: tuple[int, ...], *, num_classes: int, image_size: int, channels: int, cells: int) -> Size:
    """Size counted on the module: multiply-adds of each convolution and linear layer while one image passes."""
    counted: list[int] = []

    def count(module: nn.Module, _: object, out: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            counted.append(out.numel() * module.weight[0].numel())
        elif isinstance(module, nn.Linear):
            counted.append(module.weight.numel() + module.bias.numel())

    with torch.device("meta"):
        network = Network(operations, channels=channels, cells=cells, num_classes=num_classes).eval()
        for module in network.modules():
            module.register_forward_hook(count)
            if isinstance(module, Cell):
                module.live = frozenset(range(6))  # the benchmark's figures count dead connections
        network(torch.empty(1, 3, image_size, image_size))
    return Size(params=sum(parameter.numel() for parameter in network.parameters()), flops=sum(counted))


class TestSize:
    def test_parameters_equal_the_table(self, rows: list[dict[str, str]]) -> None:
        for row in rows:
            arch = SPACE.from_str(row["arch_str"])
            for dataset, num_classes in CLASSES.items():
                expected = round(float(row[f"{dataset}_params_m"]) * 1e6)
                assert SPACE.size(arch, num_classes=num_classes, image_size=32).params == expected

    @pytest.mark.parametrize(
        ("text", "flops"),
        [
            ("|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|", 15.64737e6),
            ("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|", 220.11969e6),
        ],
    )
    def test_official_flops(self, text: str, flops: float) -> None:
        assert SPACE.size(SPACE.from_str(text), num_classes=10, image_size=32).flops == round(flops)

    def test_closed_form_equals_the_built_network(self) -> None:
        """One architecture for each pair of numbers of 1x1 and 3x3 convolutions; size depends on nothing else."""
        kinds = defaultdict(list)
        for arch in ARCHS:
            operations = SPACE.operations(arch)
            kinds[operations.count(2), operations.count(3)].append(operations)
        assert len(kinds) == 28
        for number, archs in enumerate(kinds.values()):
            assert len({size(operations, num_classes=10) for operations in archs}) == 1
            image_size = (16, 32)[number % 2]
            assert size(archs[0], num_classes=10, image_size=image_size, cells=1) == _built(
                archs[0], num_classes=10, image_size=image_size, channels=16, cells=1
            )

    @pytest.mark.parametrize(("channels", "cells", "image_size", "num_classes"), [(16, 5, 32, 120), (6, 2, 24, 7)])
    def test_widths_and_depths(self, channels: int, cells: int, image_size: int, num_classes: int) -> None:
        operations = SPACE.operations(SPACE.from_str(BEST))
        closed = size(operations, num_classes=num_classes, image_size=image_size, channels=channels, cells=cells)
        assert closed == _built(operations, num_classes=num_classes, image_size=image_size, channels=channels, cells=cells)


class TestNetwork:
    def test_one_training_step(self) -> None:
        torch.manual_seed(0)
        network = SPACE.build(SPACE.from_str(BEST), channels=4, cells=1, num_classes=7)
        images, labels = torch.randn(8, 3, 16, 16), torch.arange(8) % 7
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        losses = []
        for _ in range(5):
            logits = network(images)
            assert logits.shape == (8, 7)
            loss = nn.functional.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]

    def test_default_width_is_that_of_the_benchmark(self) -> None:
        with torch.device("meta"):
            network = SPACE.build(SPACE.from_str(BEST), num_classes=10)
        params = sum(parameter.numel() for parameter in network.parameters())
        assert params == SPACE.size(SPACE.from_str(BEST), num_classes=10).params

    def test_unconnected_cells_still_run(self) -> None:
        network = SPACE.build(SPACE.of_operations((0,) * 6), channels=4, cells=1, num_classes=3)
        assert network(torch.randn(2, 3, 8, 8)).isfinite().all()

    def test_pooling_counts_no_padding(self) -> None:
        """A constant image stays constant, as the mean at the border counts only existing pixels."""
        cell = Cell((0, 0, 0, 4, 0, 0), channels=2)
        assert torch.equal(cell(torch.full((1, 2, 5, 5), 3.0)), torch.full((1, 2, 5, 5), 3.0))

    def test_cell_by_hand(self) -> None:
        """The maps are 1 = conv(x), 2 = x + map 1, 3 = pool(map 2) + map 1 + x."""
        torch.manual_seed(0)
        cell = Cell((2, 1, 1, 1, 1, 4), channels=3).eval()
        x = torch.randn(2, 3, 6, 6)
        first = cell.convs["0"](x)
        pooled = nn.functional.avg_pool2d(x + first, 3, stride=1, padding=1, count_include_pad=False)
        torch.testing.assert_close(cell(x), pooled + first + x)

    def test_equal_keys_equal_functions(self) -> None:
        """Real cells with shared weights: architectures of one canonical form compute the same."""
        torch.manual_seed(0)
        shared = Cell((2, 3, 0, 0, 0, 0), channels=3).double()
        weights = {"nor_conv_1x1": shared.convs["0"].state_dict(), "nor_conv_3x3": shared.convs["1"].state_dict()}
        x = torch.randn(1, 3, 5, 5, dtype=torch.float64)
        groups = defaultdict(list)
        for arch in ARCHS:
            groups[SPACE.canonical(arch)].append(SPACE.operations(arch))
        several = [members for members in groups.values() if len(members) > 1]
        for members in several[::25]:
            outputs = []
            for operations in (members[0], members[len(members) // 2], members[-1]):
                cell = Cell(operations, channels=3).double().eval()
                for index, conv in cell.convs.items():
                    conv.load_state_dict(weights[OPERATIONS[operations[int(index)]]])
                with torch.no_grad():
                    outputs.append(cell(x))
            torch.testing.assert_close(outputs[1], outputs[0])
            torch.testing.assert_close(outputs[2], outputs[0])
