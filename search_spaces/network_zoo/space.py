"""Whole networks as graphs: what the builders of timm and torchvision make, traced and folded to at most 160 nodes.

The examples come from `experiments.trace_networks`: structure and shapes alone. A node is one operator with its normalisation and
activation (`operators`). Widths follow from the operators along the graph (`shapes`), in parts of the stem's width, which `build` sets.
Class tokens, positions, stochastic depth and scales of layers are left out, and all behind the last pooling is the output.

An architecture keeps the order of its nodes, any topological one with the input first and the output last.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.protocols import Attention, Decoded, Role, Size
from diffnag.search_spaces.network_zoo.crossing import crossed
from diffnag.search_spaces.network_zoo.growth import Growth, random_growth
from diffnag.search_spaces.network_zoo.moves import moves
from diffnag.search_spaces.network_zoo.operators import ABSENT, INPUT, MOST_INPUTS, NAMES, OPERATORS, OUTPUT, TABLE
from diffnag.search_spaces.network_zoo.shapes import IMAGES, UNIT, Shape, shape_behind, shapes_of
from diffnag.search_spaces.shared.matrices import operator_fault
from diffnag.search_spaces.shared.programs import neighbours_of

if TYPE_CHECKING:
    from torch import nn

NODES = 160
RANDOM = 12
"""Nodes of a random network, at most, before its loose ends are joined."""
WIDTH = 32
ROUNDS = 3
"""Rounds in which the labels of a canonical key are mixed with those of their neighbours."""
ROLES: Mapping[str, Role] = {
    "input": "input", "output": "output", "absent": "absent", "maxpool": "pools", "avgpool": "pools",
    "first": "passes", "second": "passes", "add": "passes", "concat": "passes",
}  # fmt: skip
"""Kind of an operator -> its role; all others are layers."""


class NetworkZoo:
    """The search space `network-zoo`: up to 160 nodes, 50 operators, known by its examples."""

    name = "network-zoo"
    nodes = NODES
    operators: tuple[str, ...] = NAMES
    attention: Attention = "causal"
    datasets: Mapping[str, tuple[int, int]] = {"imagenet": (1000, 224)}
    skeletons = ((16, 1), (32, 1), (48, 1), (64, 1))
    generator = "pointers"
    shape_numbers = len(Shape._fields)
    inputs: Mapping[str, tuple[int, int]] = {name: op.inputs for name, op in OPERATORS.items() if op.kind != "absent"}

    def __init__(self) -> None:
        rows = np.zeros((NODES, len(NAMES)), dtype=bool)
        rows[0], rows[:, INPUT] = True, True
        edges = np.tri(NODES, dtype=bool)
        edges[0] = True
        self.constant = (rows, edges)

    @property
    def roles(self) -> Mapping[str, Set[Role]]:
        """What each operator does."""
        return {name: frozenset(_roles(name)) for name in NAMES}

    # -- strings and matrices

    def to_str(self, arch: Arch) -> str:
        """Operator and read nodes of each node but the input, which is node 0: `conv3-act@0/conv3@1/add@1,2/output@3`."""
        return "/".join(f"{NAMES[op]}@{','.join(map(str, sources))}" for op, sources in zip(arch.ops[1:], _reads(arch)[1:], strict=True))

    def from_str(self, text: str) -> Arch:
        """Parse such a string, whose nodes stand in topological order; `UserError` names the rule that it breaks."""
        parts = re.findall(r"([^@/]+)@(\d+(?:,\d+)*)", text)
        if not parts or "/".join(f"{name}@{listed}" for name, listed in parts) != text:
            raise _refused(text, "it does not have this form")
        if strange := [name for name, _ in parts if name not in NAMES]:
            raise _refused(text, f"there is no operator {strange[0]!r}; there are: {', '.join(NAMES)}")
        reads: list[Sequence[int]] = [(), *([int(source) for source in listed.split(",")] for _, listed in parts)]
        for node, sources in enumerate(reads):
            if wrong := [source for source in sources if source >= node]:
                raise _refused(text, f"node {node} reads node {wrong[0]}, which does not come before it")
            if len(set(sources)) < len(sources):
                raise _refused(text, f"node {node} reads a node twice")
        ops = [INPUT, *(NAMES.index(name) for name, _ in parts)]
        if fault := fault_of(ops, reads):
            raise _refused(text, fault)
        return _arch(ops, reads)

    def encode(self, arch: Arch) -> tuple[np.ndarray, np.ndarray]:
        """`V (160, 50)` and `E (160, 160)`, float32 in {0, 1}; slots behind the output are absent."""
        V, E = arch.matrices(nodes=NODES, operators=len(NAMES))
        V[len(arch.ops) :, ABSENT] = 1
        return V, E

    def decode(self, V: np.ndarray, E: np.ndarray) -> Decoded:
        """Read quantised `V (160, 50)`, `E (160, 160)`. Nothing is repaired: valid are exactly the matrices that `encode` gives."""
        if fault := operator_fault(V):
            return Decoded(None, fault)
        slots = V.argmax(1)
        count = NODES - int((slots[::-1] != ABSENT).argmax()) if (slots != ABSENT).any() else 0
        ops = slots[:count].tolist()
        if ABSENT in ops:
            return Decoded(None, f"node {ops.index(ABSENT)} is absent, and one behind it is not")
        reads: list[list[int]] = [[] for _ in ops]
        for source, node in np.argwhere(E).tolist():
            if not source < node:
                return Decoded(None, "an edge leads backwards: E is not upper triangular")
            if node >= count:
                return Decoded(None, f"an edge leads to node {node}, which is absent")
            reads[node].append(source)
        fault = fault_of(ops, reads)
        return Decoded(None, fault) if fault else Decoded(_arch(ops, reads), None)

    # -- identity

    def canonical(self, arch: Arch) -> str:
        """A hash of the graph that does not depend on the order of the nodes.

        Each node begins with a hash of all that it is computed from and one of all that is computed from it; then labels are mixed with
        those of neighbours as by Weisfeiler and Lehman. Networks that compute the same have equal keys; the reverse is not proved.
        """
        reads, behind = neighbours_of(len(arch.ops), arch.edges)
        up: list[str] = []
        for op, sources in zip(arch.ops, reads, strict=True):
            up.append(_hash(NAMES[op], *sorted(up[source] for source in sources)))
        down = [""] * len(arch.ops)
        for node in reversed(range(len(arch.ops))):
            down[node] = _hash(NAMES[arch.ops[node]], *sorted(down[user] for user in behind[node]))
        now = list(map(_hash, up, down))
        for _ in range(ROUNDS):
            now = [
                _hash(own, "<", *sorted(now[source] for source in sources), ">", *sorted(now[user] for user in users))
                for own, sources, users in zip(now, reads, behind, strict=True)
            ]
        return _hash(*sorted(now))

    # -- examples, draws, neighbours, parameters

    def examples(self) -> Sequence[Arch]:
        """The traced networks, one for each graph."""
        return tuple(_arch(*parsed) for parsed in _shipped().values())

    def names(self) -> Sequence[str]:
        """The first builder that makes each of the examples, such as `torchvision:resnet18`."""
        return tuple(_shipped())

    def random(self, rng: np.random.Generator, *, most: int = RANDOM) -> Arch:
        """A network by the rules alone, of about 4 to `most` nodes, hardly like a real one."""
        growth = random_growth(NODES, rng, most=most)
        return _arch(growth.ops, growth.reads)

    def growth(self) -> Growth:
        """A network to be built node by node, which knows what its next node may be."""
        return Growth(NODES)

    def enumerate(self) -> Iterator[Arch] | None:
        """None: there are too many."""
        return None

    def neighbours(self, arch: Arch) -> list[Arch]:
        """Networks with another operator at a node, one input more or less of a sum, product or concatenation, or one layer more or less.

        A layer is added directly behind the node that it reads, and keeps the shape of its map; every move has an inverse.
        """
        found = dict.fromkeys(_arch(ops, reads) for ops, reads in moves(arch.ops, _reads(arch), most=NODES))
        found.pop(arch, None)
        return list(found)

    def crossed(self, one: Arch, other: Arch, rng: np.random.Generator) -> Arch:
        """A random network that begins as `one` and ends as `other`, from two maps of the same shape on; `one` where no maps fit.

        Twice the same network makes one in which a part is repeated or left out.
        """
        return _arch(*crossed((one.ops, _reads(one)), (other.ops, _reads(other)), rng, most=NODES))

    @property
    def parameters(self) -> Mapping[str, tuple[str, ...]]:
        """An operator for each node but the input, and the nodes that it reads in ascending order, `none` behind the last.

        Most combinations break a rule; `from_parameters` refuses them.
        """
        return _parameters()

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        """The choices of an architecture."""
        chosen = {name: "absent" if name.startswith("node") else "none" for name in _parameters()}
        for node, (op, sources) in enumerate(zip(arch.ops[1:], _reads(arch)[1:], strict=True), start=1):
            chosen[f"node {node}"] = NAMES[op]
            chosen |= {f"input {node}.{place}": str(source) for place, source in enumerate(sources)}
        return chosen

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        """The architecture with these choices; `UserError` if they make no network."""
        ops = [INPUT, *(NAMES.index(parameters[f"node {node}"]) for node in range(1, NODES))]
        V, E = np.eye(len(NAMES))[ops], np.zeros((NODES, NODES))
        for node in range(1, NODES):
            for place in range(min(node, MOST_INPUTS)):
                if (source := parameters[f"input {node}.{place}"]) != "none":
                    E[int(source), node] = 1
        arch, why = self.decode(V, E)
        if arch is None:
            raise UserError(f"these choices make no network of network-zoo: {why}")
        return arch

    def shape_behind(self, op: int, inputs: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
        """Width and halvings of the map that an operator gives for such maps; None if it does not take them."""
        if op == INPUT:
            return IMAGES
        found = shape_behind(TABLE[op], [Shape(*shape) for shape in inputs])
        return found if isinstance(found, Shape) else None

    # -- networks

    def size(
        self, arch: Arch, *, channels: int = WIDTH, cells: int = 1, num_classes: int, image_size: int = 224, stem_stride: int = 1
    ) -> Size:
        """Parameters and multiply-adds of `build` on 3-channel images."""
        from diffnag.search_spaces.network_zoo.network import size

        channels = _width(channels, cells)
        side = -(-image_size // stem_stride)
        reads = _reads(arch)
        return size(arch.ops, reads, _shapes(arch), channels=channels, num_classes=num_classes, image_size=side)

    def build(self, arch: Arch, *, channels: int = WIDTH, cells: int = 1, num_classes: int, stem_stride: int = 1) -> nn.Module:
        """The network: images `(b, 3, h, w)` -> logits `(b, num_classes)`.

        `channels`, rounded up to a multiple of 16, is the width of its first convolution. Raises `UserError` if `cells` is not 1, as an
        architecture is a whole network.
        """
        from diffnag.search_spaces.network_zoo.network import Network

        channels = _width(channels, cells)
        return Network(arch.ops, _reads(arch), _shapes(arch), channels=channels, num_classes=num_classes, stem_stride=stem_stride)


def fault_of(ops: Sequence[int], reads: Sequence[Sequence[int]]) -> str | None:
    """The first rule that a graph breaks, or None; `reads` are the nodes that each node reads, all before it."""
    if not 3 <= len(ops) <= NODES:
        return f"it has {len(ops)} nodes, not 3 to {NODES}"
    for node, op in enumerate(ops):
        if (op == INPUT) != (node == 0) or (op == OUTPUT) != (node == len(ops) - 1):
            return f"node {node} is {NAMES[op]}; exactly the first must be input and exactly the last output"
    if reads[0]:
        return "the input reads a node"
    if loose := sorted(set(range(len(ops) - 1)) - {source for sources in reads for source in sources}):
        return f"nothing reads node {loose[0]}"
    if readers := [node for node, sources in enumerate(reads) if node > 1 and 0 in sources]:
        return f"node {readers[0]} reads the images, which only node 1 does"
    found = shapes_of(ops, reads)
    return found if isinstance(found, str) else None


def _roles(name: str) -> Set[Role]:
    """Roles of an operator."""
    op = OPERATORS[name]
    kind: Role = ROLES.get(op.kind, "layer")
    properties: dict[Role, bool] = {
        "spatial": (kind == "layer" and op.kernel > 1) or op.kind == "attention", "widens": op.step > 0, "shrinks": op.stride > 1,
    }  # fmt: skip
    return {kind, *(word for word, has in properties.items() if has)}


def _arch(ops: Sequence[int], reads: Sequence[Sequence[int]]) -> Arch:
    return Arch(tuple(ops), tuple((source, node) for node, sources in enumerate(reads) for source in sources))


def _reads(arch: Arch) -> list[list[int]]:
    """The nodes that each node reads, ascending."""
    return neighbours_of(len(arch.ops), arch.edges)[0]


def _shapes(arch: Arch) -> list[Shape]:
    found = shapes_of(arch.ops, _reads(arch))
    if isinstance(found, str):
        raise UserError(f"this is no network of network-zoo: {found}")
    return found


def _width(channels: int, cells: int) -> int:
    """Width of the stem; raises `UserError` if `cells` is not 1."""
    if cells != 1:
        raise UserError(f"an architecture of network-zoo is a whole network: cells must be 1, not {cells}")
    return -(-channels // UNIT) * UNIT


@cache
def _parameters() -> Mapping[str, tuple[str, ...]]:
    operators = tuple(name for name in NAMES if name != "input")
    found: dict[str, tuple[str, ...]] = {}
    for node in range(1, NODES):
        found[f"node {node}"] = operators
        found |= {f"input {node}.{place}": ("none", *map(str, range(node))) for place in range(min(node, MOST_INPUTS))}
    return found


@cache
def _shipped() -> Mapping[str, tuple[list[int], list[list[int]]]]:
    """Name of a builder -> operators and read nodes of its graph."""
    packed = files(__package__).joinpath("graphs.json.gz").read_bytes()
    return {name: (ops, reads) for name, (ops, reads) in json.loads(gzip.decompress(packed))["graphs"].items()}


def _hash(*parts: str) -> str:
    """Short hash of some texts."""
    return hashlib.blake2b("|".join(parts).encode(), digest_size=12).hexdigest()


def _refused(text: str, why: str) -> UserError:
    """The error for a text that is no network."""
    shown = text if len(text) <= 200 else f"{text[:200]}..."
    return UserError(
        f"{shown!r} is no network-zoo string: {why}; expected operator@read,nodes for each node, separated by '/', such as "
        f"conv3-act@0/conv3@1/add@1,2/output@3, with 0 for the input"
    )
