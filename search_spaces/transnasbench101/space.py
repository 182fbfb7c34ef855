"""TransNAS-Bench-101 (Duan et al., CVPR 2021): a space of cells and a space of whole networks, trained on tasks of Taskonomy.

`transnasbench101-micro` has NAS-Bench-201's cell without pooling, in a fixed network of 5 modules: 4,096 architectures.
`transnasbench101-macro` chooses 4 to 6 modules of residual blocks, each of which can double the channels, halve the resolution, or both:
3,256 networks. Both use the benchmark's strings, `64-<modules>-<cell>`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Set
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.protocols import Attention, Decoded, Picture, Role, Size
from diffnag.search_spaces.shared.connection_cells import ConnectionCells, canonical
from diffnag.search_spaces.shared.matrices import operator_fault, wiring_fault

if TYPE_CHECKING:
    from torch import nn

    from diffnag.io.tables import BenchmarkTable

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")
"""Operations for the digits 0 to 3 in a cell's string, with the names of NAS-Bench-201."""
MICRO_MODULES = (4, 1, 4, 1, 4)
"""Types of the modules around a cell, as digits of a macro network."""
MODULES = ("normal", "double_channels", "halve_resolution", "double_and_halve")
"""Modules for the digits 1 to 4 in a macro network's string."""
ABSENT = len(MODULES)
"""Index of the operator `absent`."""
FEWEST, MOST = 4, 6
"""Smallest and largest number of modules in a macro network."""
DOUBLING, HALVING = (1, 3), (2, 3)
"""Indices of the modules that double the channels, and of those that halve the resolution."""
MOST_DOUBLED, MOST_HALVED = 3, 4
"""How often channels are doubled and resolution is halved at most; each happens at least once."""
WIDTH = 64
"""Channels of the stem."""
TABLE_FILE = "trans_nas_bench_101.csv.gz"
"""The table of both spaces."""
DATASETS: Mapping[str, tuple[int, int]] = {
    "class_scene": (47, 256), "class_object": (75, 256), "jigsaw": (1000, 64), "room_layout": (9, 256)
}  # fmt: skip
"""Task -> number of outputs and image side. For `jigsaw` it is the side of one tile; the benchmark's head sees 9 tiles at once."""
MEASURES: Mapping[str, str] = {"room_layout": "negative loss"}
"""Task -> its values, if they are not accuracies in %."""


class TransNASBench101Micro(ConnectionCells):
    """The search space `transnasbench101-micro`: 8 nodes, 6 operators, fixed wiring."""

    name = "transnasbench101-micro"
    operators = ("input", "output", *OPERATIONS)
    resnet_like = "64-41414-3_03_101"
    """Two 3x3 convolutions in parallel to a skip connection."""
    table_file = TABLE_FILE
    datasets = DATASETS
    measures = MEASURES
    skeletons = ((8, 1), (16, 1), (32, 1), (32, 2), (64, 2))

    def to_str(self, arch: Arch) -> str:
        """The benchmark's string, such as `64-41414-3_03_101`: the operations into feature map 1, into 2 and into 3."""
        a, *rest = map(str, self.operations(arch))
        return f"64-41414-{a}_{''.join(rest[:2])}_{''.join(rest[2:])}"

    def from_str(self, text: str) -> Arch:
        """Parse such a string; raises `UserError` for any other text."""
        digits = text.removeprefix("64-41414-").replace("_", "")
        if len(digits) == 6 and set(digits) <= set("0123"):
            arch = self.of_operations(tuple(map(int, digits)))
            if self.to_str(arch) == text:
                return arch
        digits_mean = ", ".join(f"{digit} {name}" for digit, name in enumerate(OPERATIONS))
        raise UserError(f"{text!r} is no {self.name} string; expected 64-41414-a_bc_def with digits {digits_mean}")

    def canonical(self, arch: Arch) -> str:
        """As in `nasbench201`, but a skip from the cell's input is kept, as it is a layer in cells that halve their map; 1,229 classes."""
        return canonical(self.names(arch), first_skip_is_layer=True)

    def size(
        self, arch: Arch, *, channels: int = WIDTH, cells: int = 2, num_classes: int, image_size: int = 256, stem_stride: int = 4
    ) -> Size:
        """Parameters and multiply-adds of `build` on 3-channel images."""
        from diffnag.search_spaces.transnasbench101.network import Plan, size

        plan = Plan(MICRO_MODULES, channels=channels, blocks=cells, stem_stride=stem_stride, cell=self.names(arch))
        return size(plan, num_classes=num_classes, image_size=image_size)

    def build(self, arch: Arch, *, channels: int = WIDTH, cells: int = 2, num_classes: int, stem_stride: int = 4) -> nn.Module:
        """The benchmark's network with a classification head and `cells` in each module: images `(b, 3, h, w)` -> `(b, num_classes)`."""
        from diffnag.search_spaces.transnasbench101.network import Network, Plan

        plan = Plan(MICRO_MODULES, channels=channels, blocks=cells, stem_stride=stem_stride, cell=self.names(arch))
        return Network(plan, num_classes=num_classes)

    def read_table(self, path: Path, *, trust_pickle: bool) -> BenchmarkTable:
        """Read the official `.pth`, or a CSV with the columns of `trans_nas_bench_101.csv.gz`; raises `UserError` for other files."""
        from diffnag.search_spaces.transnasbench101.table import read

        return read(path, self, part="micro", trust_pickle=trust_pickle)


class TransNASBench101Macro:
    """The search space `transnasbench101-macro`: 6 nodes, 5 operators; the modules that are not `absent` form a chain."""

    name = "transnasbench101-macro"
    nodes = MOST
    operators = (*MODULES, "absent")
    roles: Mapping[str, Set[Role]] = {
        "normal": {"layer"}, "double_channels": {"layer", "widens"}, "halve_resolution": {"layer", "shrinks"},
        "double_and_halve": {"layer", "widens", "shrinks"}, "absent": {"absent"},
    }  # fmt: skip
    """All modules are of 3x3 convolutions. None is marked `spatial`, as this would tell no two modules apart."""
    attention: Attention = "full"
    resnet_like = "64-1444-basic"
    """The modules of ResNet-18."""
    table_file = TABLE_FILE
    datasets = DATASETS
    measures = MEASURES
    skeletons = ((8, 1), (16, 1), (32, 1), (32, 2), (64, 2))

    def __init__(self) -> None:
        rows = np.zeros((self.nodes, len(self.operators)), dtype=bool)
        rows[:FEWEST, ABSENT] = True
        wirings = [self.of_modules((0,) * count).matrices(nodes=MOST, operators=len(self.operators))[1] for count in (FEWEST, MOST)]
        self.constant = (rows, wirings[0] == wirings[1])

    # -- strings and matrices

    def of_modules(self, modules: tuple[int, ...]) -> Arch:
        """The architecture of these 4 to 6 modules, indices into `MODULES`; the benchmark's rules are not checked."""
        return Arch((*modules, *[ABSENT] * (MOST - len(modules))), tuple(pairwise(range(len(modules)))))

    def modules(self, arch: Arch) -> tuple[int, ...]:
        """The modules of an architecture: the inverse of `of_modules`."""
        return tuple(op for op in arch.ops if op != ABSENT)

    def to_str(self, arch: Arch) -> str:
        """The benchmark's string, such as `64-1444-basic`."""
        return f"64-{''.join(str(op + 1) for op in self.modules(arch))}-basic"

    def from_str(self, text: str) -> Arch:
        """Parse such a string; `UserError` names the rule that it breaks."""
        digits = text.removeprefix("64-").removesuffix("-basic")
        why: str | None = "it does not have this form"
        if text == f"64-{digits}-basic" and digits and set(digits) <= set("1234"):
            modules = tuple(int(digit) - 1 for digit in digits)
            if (why := _fault(modules)) is None:
                return self.of_modules(modules)
        digits_mean = ", ".join(f"{digit} {name}" for digit, name in enumerate(MODULES, start=1))
        raise UserError(f"{text!r} is no {self.name} string: {why}; expected 64-<{FEWEST} to {MOST} digits>-basic with digits {digits_mean}")

    def encode(self, arch: Arch) -> tuple[np.ndarray, np.ndarray]:
        """`V (6, 5)` and `E (6, 6)`, float32 in {0, 1}."""
        return arch.matrices(nodes=self.nodes, operators=len(self.operators))

    def decode(self, V: np.ndarray, E: np.ndarray) -> Decoded:
        """Read quantised `V (6, 5)`, `E (6, 6)`; for an invalid graph the reason is returned."""
        if fault := operator_fault(V):
            return Decoded(None, fault)
        ops = tuple(V.argmax(1).tolist())
        for node, (before, op) in enumerate(pairwise(ops), start=1):
            if before == ABSENT != op:
                return Decoded(None, f"node {node} is a module, but node {node - 1} before it is absent")
        arch = self.of_modules(tuple(op for op in ops if op != ABSENT))
        if fault := _fault(self.modules(arch)):
            return Decoded(None, fault)
        if fault := wiring_fault(E, self.encode(arch)[1]):
            return Decoded(None, f"{fault} with these modules")
        return Decoded(arch, None)

    def picture(self, arch: Arch) -> Picture:
        """The modules that exist."""
        return Picture(tuple(MODULES[op] for op in self.modules(arch)), arch.edges)

    # -- identity, draws, neighbours, parameters

    def canonical(self, arch: Arch) -> str:
        """The string itself: no two networks compute the same class of functions."""
        return self.to_str(arch)

    def random(self, rng: np.random.Generator) -> Arch:
        """Uniform over the 3,256 networks."""
        networks = _networks()
        return self.of_modules(networks[int(rng.integers(len(networks)))])

    def neighbours(self, arch: Arch) -> list[Arch]:
        """The networks of the space that differ in one module, and those with one module less or more at the end."""
        modules = self.modules(arch)
        found = [(*modules[:i], op, *modules[i + 1 :]) for i in range(len(modules)) for op in range(ABSENT) if op != modules[i]]
        found += [modules[:-1], *((*modules, op) for op in range(ABSENT))]
        return [self.of_modules(other) for other in found if _fault(other) is None]

    def enumerate(self) -> Iterator[Arch]:
        """All 3,256 networks, the shortest first; the first module varies slowest."""
        return map(self.of_modules, _networks())

    @property
    def parameters(self) -> Mapping[str, tuple[str, ...]]:
        """Modules by position; `from_parameters` refuses combinations that break a rule of the space."""
        return {f"module {k + 1}": MODULES if k < FEWEST else self.operators for k in range(MOST)}

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        """The choices of an architecture."""
        return dict(zip(self.parameters, (self.operators[op] for op in arch.ops), strict=True))

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        """The architecture with these choices; `UserError` if they make no network of the space."""
        ops = tuple(self.operators.index(parameters[name]) for name in self.parameters)
        present = tuple(op for op in ops if op != ABSENT)
        fault = "a module follows an absent one" if ops[: len(present)] != present else _fault(present)
        if fault:
            raise UserError(f"these choices make no {self.name} network: {fault}")
        return self.of_modules(present)

    # -- networks and tables

    def size(
        self, arch: Arch, *, channels: int = WIDTH, cells: int = 2, num_classes: int, image_size: int = 256, stem_stride: int = 4
    ) -> Size:
        """Parameters and multiply-adds of `build` on 3-channel images."""
        from diffnag.search_spaces.transnasbench101.network import Plan, size

        plan = Plan(self._digits(arch), channels=channels, blocks=cells, stem_stride=stem_stride)
        return size(plan, num_classes=num_classes, image_size=image_size)

    def build(self, arch: Arch, *, channels: int = WIDTH, cells: int = 2, num_classes: int, stem_stride: int = 4) -> nn.Module:
        """The benchmark's network with a classification head, `cells` blocks in each module: images `(b, 3, h, w)` -> `(b, num_classes)`."""
        from diffnag.search_spaces.transnasbench101.network import Network, Plan

        plan = Plan(self._digits(arch), channels=channels, blocks=cells, stem_stride=stem_stride)
        return Network(plan, num_classes=num_classes)

    def _digits(self, arch: Arch) -> tuple[int, ...]:
        """Types of the modules, 1 to 4."""
        return tuple(op + 1 for op in self.modules(arch))

    def read_table(self, path: Path, *, trust_pickle: bool) -> BenchmarkTable:
        """Read the official `.pth`, or a CSV with the columns of `trans_nas_bench_101.csv.gz`; raises `UserError` for other files."""
        from diffnag.search_spaces.transnasbench101.table import read

        return read(path, self, part="macro", trust_pickle=trust_pickle)


def _fault(modules: tuple[int, ...]) -> str | None:
    """The first rule of the benchmark that these modules break, or None."""
    if not FEWEST <= len(modules) <= MOST:
        return f"it has {len(modules)} modules, not {FEWEST} to {MOST}"
    for changing, most, what in ((DOUBLING, MOST_DOUBLED, "double the channels"), (HALVING, MOST_HALVED, "halve the resolution")):
        count = sum(op in changing for op in modules)
        if not 1 <= count <= most:
            return f"{count} of its modules {what}, not 1 to {most}"
    return None


@cache
def _networks() -> tuple[tuple[int, ...], ...]:
    """Modules of all networks, in the order of `enumerate`."""
    every = itertools.chain.from_iterable(itertools.product(range(ABSENT), repeat=count) for count in range(FEWEST, MOST + 1))
    return tuple(modules for modules in every if _fault(modules) is None)
