"""Fold the steps of a traced model to nodes: convolutions, linear layers, pooling, attention, sums, ... with their normalisation and activation.

Reshaping, dropout, positions, class tokens and scales of layers are left out. All behind the last pooling is the head, and left out too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.zoo.tracing import Row

PASSED = re.compile(
    r"^(Identity|Dropout\w*|DropPath|DropBlock2d|StochasticDepth|LayerScale\w*|reshape|view|permute|transpose|contiguous|flatten|Flatten|expand"
    r"|roll|pad|ZeroPad2d|ConstantPad2d|unsqueeze|squeeze|to|clone|float|type_as|reshape_as|view_as|dropout|(window|grid)_(reverse|partition)\w*"
    r"|swapaxes|Permute|Affine|ChannelShuffle|PatchDropout\w*|deblockify|expand_as|Scale|neg)$"
)
CONSTANT = re.compile(r"PosEmbed|PositionalEncoding|RelPos(?!.*Attn)|Rope$|_build_grid|^eq$|^size$|^dim$")
NORM = re.compile(
    r"Norm(Act)?(\d?d)?(NoBias|Fp32|\d)*$|^(batch_norm|layer_norm|group_norm|normalize)$"
    r"|^(LayerNorm|GroupNorm|RmsNorm|SimpleNorm|BatchNorm|EvoNorm|FilterResponseNorm|SyncBatchNorm)\w*$|^(InplaceAbn|GlobalResponseNorm)$"
)
ACTIVATION = re.compile(
    r"^(\w*relu6?|\w*gelu|silu|\w*swish|tanh|\w*sigmoid|softmax|mish|elu|gelutanh|softplus|clamp|square|pow|exp|sqrt)_?$", re.IGNORECASE
)
GATE = re.compile(
    r"^(SEModule|SqueezeExcit\w*|EffectiveSEModule|C?EcaModule|\w*Cbam\w*|GatherExcite|GlobalContext|SELayer|SEWithNorm|BilinearAttnTransform|BatNonLocalAttn)$"
)
ATTENTION = re.compile(r"Attention|Attn|LiteMLA|GPSA|LambdaLayer")
WINDOW = re.compile(r"Window|Shifted|Grid|Halo|LocallyGrouped|PartitionAttention")
HEAD = re.compile(r"Head$|^SelectAdaptivePool2d$|^Adaptive(Avg|Max)Pool2d$|^adaptive_avg_pool2d$|^AttentionPool\w*|^RotAttentionPool2d$")
POOL = re.compile(r"^(Max|Avg)Pool2d(Same)?$|^(max|avg)_pool2d$|^BlurPool2d$|^Pooling$")
SUMS = ("add", "iadd", "add_", "sub", "sub_")
PRODUCTS = ("mul", "imul", "mul_", "truediv", "div", "div_")
UNARY_HEAD = ("conv", "act", "norm", "grouped")


class LeftOut(Exception):
    """Why a model is not in the zoo."""


@dataclass(eq=False)
class Node:
    """A node: its kind, what it reads, channels and pixels a side of its map, and what belongs to its kind."""

    kind: str
    inputs: list[Node]
    channels: int
    side: float
    kernel: int = 1
    active: bool = False
    part: int = 0
    """Which of the parts of a map it takes, 0 or 1."""


@dataclass
class Parts:
    """A map that is cut into several by channels."""

    whole: Node
    shapes: list[list[int]]


def folded(rows: Sequence[Row], side: int) -> list[Node]:
    """The nodes in topological order: the images first, and last the node that the head reads. Raises `LeftOut`."""
    folder = _Folder(rows, side)
    for row in rows:
        folder.fold(row)
    return folder.nodes_of_output()


class _Folder:
    """What each step of a model gives: a node, parts of one, or None for what does not depend on the images."""

    def __init__(self, rows: Sequence[Row], side: int) -> None:
        self.side = side
        self.nodes: list[Node] = []
        self.values: dict[str, Node | Parts | None] = {}
        self.shapes = {row.name: row.shape for row in rows}
        self.output: Node | None = None

    def fold(self, row: Row) -> None:
        """Note what a step gives."""
        read = [value for name in row.inputs if (value := self.values.get(name)) is not None]
        if row.kind == "placeholder":
            images = _is_tensor(row.shape) and len(row.shape) == 4
            self.values[row.name] = self._new("input", [], 3, self.side) if images else None
        elif row.kind == "output":
            ends = list(dict.fromkeys(each for each in read if isinstance(each, Node)))
            if len(ends) != 1:
                raise LeftOut("several outputs")
            self.output = ends[0]
        elif not read or not isinstance(row.shape, list) or CONSTANT.search(row.kind) or _numbers(row.shape):
            self.values[row.name] = None
        elif row.kind in ("chunk", "split", "unbind", "tensor_split") and isinstance(read[0], Node):
            self.values[row.name] = Parts(read[0], row.shape)
        elif any(isinstance(each, Parts) for each in read):
            self.values[row.name] = self._part(row, read)
        else:
            nodes = list(dict.fromkeys(each for each in read if isinstance(each, Node)))
            self.values[row.name] = self._step(row, nodes)

    def _new(self, kind: str, inputs: Sequence[Node], channels: int, side: float, **more: Any) -> Node:
        self.nodes.append(Node(kind, list(inputs), channels, side, **more))
        return self.nodes[-1]

    def _step(self, row: Row, read: list[Node]) -> Node:
        kind, shape, x = row.kind, row.shape, read[0]
        steps: tuple[tuple[bool, Callable[[Row, list[Node]], Node]], ...] = (
            (bool(ATTENTION.search(kind)) and not GATE.search(kind) and not HEAD.search(kind), self._attention),
            (not _is_tensor(shape), self._several),
            (kind == "getitem", self._indexed),
            (bool(GATE.search(kind)), lambda row, read: self._new("gate", [x], x.channels, x.side)),
            (bool(HEAD.search(kind)) or _is_global(row), lambda row, read: self._new("pooled", read, x.channels, 1)),
            (bool(PASSED.search(kind)), lambda row, read: x),
            (kind in ("PatchMerging", "PatchMergingV2"), lambda row, read: self._new("conv", [x], shape[-1], x.side / 2, kernel=2)),
            (kind == "conv2d" or "Conv2d" in kind, self._convolution),
            (kind.endswith("Linear") or kind == "linear", self._linear),
            (bool(POOL.search(kind)), self._pool),
            (bool(NORM.search(kind)), lambda row, read: self._new("norm", [x], x.channels, x.side, active=row.active)),
            (bool(ACTIVATION.search(kind)), lambda row, read: self._new("act", [x], x.channels, x.side, active=True)),
            (kind in SUMS + PRODUCTS, self._joined),
            (kind in ("cat", "concat"), self._concatenated),
        )
        for fits, step in steps:
            if fits:
                return step(row, read)
        raise LeftOut(f"a layer {kind}")

    def _several(self, row: Row, read: list[Node]) -> Node:
        raise LeftOut(f"several outputs of a layer {row.kind}")

    def _attention(self, row: Row, read: list[Node]) -> Node:
        """Attention keeps its shape; a smaller or wider map behind it is made by a pooling and a convolution behind it."""
        if len(read) > 1:
            raise LeftOut("attention of several maps")
        x, shape = read[0], row.shape if _is_tensor(row.shape) else row.shape[0]
        image = len(shape) == 4 and (shape[1] == x.channels or shape[2] == shape[3])
        channels, side = (shape[1], shape[2]) if image else (shape[-1], x.side)
        made = self._new("window" if WINDOW.search(row.kind) else "attention", [x], x.channels, x.side)
        if image and round(x.side / side) == 2:
            made = self._new("avgpool", [made], x.channels, side, kernel=2)
        if abs(made.side - side) > 1 or (not image and len(shape) == 3 and shape[0] * shape[1] < 1.8 * x.side**2):
            raise LeftOut("attention that changes the size of the map")
        return made if made.channels == channels else self._new("conv", [made], channels, made.side)

    def _indexed(self, row: Row, read: list[Node]) -> Node:
        x, index, shape = read[0], row.args[1], row.shape
        if isinstance(index, tuple) and len(index) >= 2 and index[0] == slice(None) and isinstance(index[1], int) and len(shape) == 2:
            return self._new("pooled", [x], x.channels, 1)  # a class token
        whole = self.shapes[row.inputs[0]]
        cut = index[1] if isinstance(index, tuple) and len(index) >= 2 else None
        if isinstance(cut, slice) and len(shape) == 4 and whole[1] == x.channels != shape[1]:
            if cut.step is None and 2 * shape[1] == x.channels:
                return self._new("half", [x], shape[1], x.side, part=0 if cut.start in (None, 0) else 1)
            raise LeftOut("parts of other channels than halves")
        if len(shape) in (3, 4):
            return x
        raise LeftOut("an index")

    def _part(self, row: Row, read: Sequence[Node | Parts]) -> Node:
        parts = read[0]
        if row.kind != "getitem" or not isinstance(parts, Parts) or not isinstance(row.args[1], int):
            raise LeftOut("several parts at once")
        sizes = next((
            found for axis in (1, -1) if sum(found := [shape[axis] for shape in parts.shapes]) == parts.whole.channels
        ), None)  # fmt: skip
        if sizes is None or len(sizes) > 2 or abs(sizes[0] - sizes[-1]) > 1:
            raise LeftOut("parts of other channels than halves")
        return parts.whole if len(sizes) == 1 else self._new("half", [parts.whole], sizes[0], parts.whole.side, part=row.args[1] % 2)

    def _convolution(self, row: Row, read: list[Node]) -> Node:
        x, shape = read[0], row.shape
        if row.kind == "conv2d":
            weights = self.shapes[row.inputs[1]]
            groups = row.args[6] if len(row.args) > 6 else row.kwargs.get("groups", 1)
            kernel, taken = weights[2], weights[1] * groups
        else:
            kernels = row.facts["kernel_size"]
            kernel = max(kernels) if isinstance(kernels, tuple) else kernels
            groups, taken = row.facts["groups"], row.facts["in_channels"]
        kind = "conv" if groups == 1 or (kernel == 1 and groups < taken) else "depthwise" if groups == taken else "grouped"
        if kind == "depthwise" and kernel == 1:
            return x  # a scale of channels
        return self._new(kind, [x], shape[1], shape[2], kernel=kernel)

    def _linear(self, row: Row, read: list[Node]) -> Node:
        x = read[0]
        if len(row.shape) == 2:
            return x if x.kind == "pooled" else self._new("pooled", [x], row.shape[-1], 1)
        if row.facts.get("in_features") != x.channels:
            raise LeftOut("a linear layer that mixes pixels, or what is not followed")
        return self._new("conv", [x], row.shape[-1], x.side)

    def _pool(self, row: Row, read: list[Node]) -> Node:
        x, shape = read[0], row.shape
        if len(shape) != 4:
            raise LeftOut("a pooling of tokens")
        if shape[2] == 1 and x.side > 2:
            return self._new("pooled", [x], x.channels, 1)
        return self._new("maxpool" if row.kind.lower().startswith("max") else "avgpool", [x], x.channels, shape[2])

    def _joined(self, row: Row, read: list[Node]) -> Node:
        if len(read) == 1:
            return read[0]  # joined with a constant or with itself
        widest = max(read, key=lambda node: node.side)
        return self._new("add" if row.kind in SUMS else "multiply", read, widest.channels, widest.side)

    def _concatenated(self, row: Row, read: list[Node]) -> Node:
        channels = sum(node.channels for node in read)
        if len(read) == 1:
            return read[0]  # with a class token
        if channels not in (row.shape[1], row.shape[-1]):
            raise LeftOut("a concatenation of other things than channels")
        return self._new("concat", read, channels, read[0].side)

    def nodes_of_output(self) -> list[Node]:
        """What the output depends on, without head, normalisations and activations."""
        from experiments.zoo.simplifying import simplified

        if self.output is None:
            raise LeftOut("no output")
        return simplified(self.nodes, self.output)


def _is_tensor(shape: Any) -> bool:
    return isinstance(shape, list) and len(shape) > 0 and all(isinstance(each, int) for each in shape)


def _numbers(shape: list[Any]) -> bool:
    """Whether a value is a list of numbers, such as a shape, or a vector."""
    return not shape or isinstance(shape[0], str) or (_is_tensor(shape) and len(shape) == 1)


def _is_global(row: Row) -> bool:
    """Whether a mean runs over all pixels."""
    return row.kind == "mean" and (len(row.shape) == 2 or row.shape[2:] == [1, 1])
