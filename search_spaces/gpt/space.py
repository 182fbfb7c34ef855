"""The spaces of HW-GPT-Bench (Sukthanker et al., NeurIPS 2024): decoder-only language models of three scales, s, m and l.

A model has an embedding width, biases or none, and a number of layers. Each layer has a number of heads and an MLP ratio, the size of
its hidden layer as a multiple of the width. There are about 2e12 models of scale s, 6e23 of scale m and 2e35 of scale l. Node 0 of the graph
is the embedding: its width, with or without biases. The other nodes are slots for layers, of which the last two may be `absent`. Edges
link consecutive nodes, so the wiring follows from the operators; both are generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.protocols import Attention, Decoded, Picture, Role, Size
from diffnag.search_spaces.gpt.scale import BENCHMARK_FILE, BIASES, FEWER, HEAD, Scale
from diffnag.search_spaces.shared.chains import Chains
from diffnag.search_spaces.shared.matrices import operator_fault, wiring_fault

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from diffnag.search_spaces.gpt.network import Shape

COLUMN = 6
"""Layers in one column of a picture."""


@dataclass(frozen=True)
class Model:
    """The choices of an architecture, as indices into those of its scale."""

    embedding: int
    layers: tuple[int, ...]


class GPTSpace:
    """A search space of language models. Networks map token ids `(b, t)` to logits `(b, t, vocabulary)`: see `TakesTokens`.

    What the package calls the number of classes is the vocabulary here, and the image side is the length of the context.
    """

    scale: ClassVar[Scale]
    attention: Attention = "full"
    datasets: Mapping[str, tuple[int, int]] = {"openwebtext": (50_254, 1024)}
    """Vocabulary and context. The benchmark's tokens are those of GPT-NeoX, which it does not pad."""
    skeletons = ((8, 1), (16, 1), (32, 1), (HEAD, 1))
    takes_tokens: Literal[True] = True
    measures: Mapping[str, str] = {"openwebtext": "perplexity"}
    minimised = frozenset({"perplexity"})
    oracle = "hw-gpt-bench"
    oracle_file = BENCHMARK_FILE

    def __init__(self) -> None:
        self.name = f"gpt-{self.scale.letter}"
        self.nodes = 1 + self.scale.depth
        embeddings = tuple(f"width{width}_{bias}" for width, bias in self.scale.embeddings)
        layers = tuple(f"heads{heads}_mlp{ratio}" for heads, ratio in self.scale.layers)
        self.operators = (*embeddings, *layers, "absent")
        self.roles: Mapping[str, Set[Role]] = {**{name: {"layer"} for name in (*embeddings, *layers)}, "absent": {"absent"}}
        self._first, self._absent = len(embeddings), len(self.operators) - 1
        never = np.zeros((self.nodes, len(self.operators)), dtype=bool)
        never[0, self._first :] = never[1:, : self._first] = True
        never[: self.nodes - FEWER, self._absent] = True
        wirings = [self._adjacency(depth) for depth in self.scale.depths]
        self.constant = (never, np.logical_and.reduce([wiring == wirings[0] for wiring in wirings]))
        self._chains = Chains(possible=~never, behind=np.arange(self.nodes) > 0)

    # -- strings and matrices

    def of_model(self, model: Model) -> Arch:
        """The architecture with these choices."""
        layers = [self._first + layer for layer in model.layers]
        absent = [self._absent] * (self.scale.depth - len(layers))
        return Arch((model.embedding, *layers, *absent), tuple(pairwise(range(1 + len(layers)))))

    def model(self, arch: Arch) -> Model:
        """The choices of an architecture: the inverse of `of_model`."""
        return Model(arch.ops[0], tuple(op - self._first for op in arch.ops[1:] if op != self._absent))

    def to_str(self, arch: Arch) -> str:
        """Width and biases, then heads and MLP ratio of each layer: `384-bias:8-4_4-2_12-3_...`."""
        model = self.model(arch)
        return f"{_joined(self.scale.embeddings[model.embedding])}:{'_'.join(_joined(self.scale.layers[layer]) for layer in model.layers)}"

    def from_str(self, text: str) -> Arch:
        """Parse such a string; `UserError` names the rule that it breaks."""
        embeddings, known = list(map(_joined, self.scale.embeddings)), list(map(_joined, self.scale.layers))
        embedding, _, rest = text.partition(":")
        layers = rest.split("_")
        if embedding not in embeddings:
            raise self._refused(text, f"it begins with {embedding!r}")
        for number, layer in enumerate(layers, start=1):
            if layer not in known:
                raise self._refused(text, f"layer {number} is {layer!r}")
        if len(layers) not in self.scale.depths:
            raise self._refused(text, f"it has {len(layers)} layers")
        return self.of_model(Model(embeddings.index(embedding), tuple(map(known.index, layers))))

    def _refused(self, text: str, why: str) -> UserError:
        """The error for a text that is no model."""
        embeddings, layers = (", ".join(map(_joined, choices)) for choices in (self.scale.embeddings, self.scale.layers))
        return UserError(
            f"{text!r} is no {self.name} string: {why}; expected a width and biases ({embeddings}), a colon, and {self.scale.depth - FEWER} to "
            f"{self.scale.depth} layers separated by '_', written as heads-ratio: {layers}"
        )

    def encode(self, arch: Arch) -> tuple[np.ndarray, np.ndarray]:
        """`V (n, 16)` and `E (n, n)`, float32 in {0, 1}; n is 13, 25 or 37."""
        return arch.matrices(nodes=self.nodes, operators=len(self.operators))

    def decode(self, V: np.ndarray, E: np.ndarray) -> Decoded:
        """Read quantised `V (n, 16)`, `E (n, n)`; for an invalid graph the reason is returned."""
        if fault := operator_fault(V):
            return Decoded(None, fault)
        ops = V.argmax(1).tolist()
        for node, op in enumerate(ops):
            if (op < self._first) != (node == 0):
                return Decoded(None, f"node {node} is {self.operators[op]}")
            if op == self._absent and node < self.nodes - FEWER:
                return Decoded(None, f"node {node} is absent, but there are at least {self.scale.depth - FEWER} layers")
            if op != self._absent and node and ops[node - 1] == self._absent:
                return Decoded(None, f"node {node} is a layer, but node {node - 1} before it is absent")
        arch = self.of_model(self.model(Arch(tuple(ops), ())))
        if fault := wiring_fault(E, self.encode(arch)[1]):
            return Decoded(None, f"{fault} with these layers")
        return Decoded(arch, None)

    def decode_batch(self, V: np.ndarray, E: np.ndarray) -> list[Decoded]:
        """Read quantised `V (b, n, 16)`, `E (b, n, n)`."""
        return self._chains.decode(V, E, self.decode)

    def _adjacency(self, depth: int) -> np.ndarray:
        """E `(n, n)` of models with so many layers, bool."""
        return np.eye(self.nodes, k=1, dtype=bool) & (np.arange(self.nodes) <= depth)

    def picture(self, arch: Arch) -> Picture:
        """The embedding and the layers that exist, in columns of `COLUMN` layers."""
        texts = tuple(self.operators[op] for op in arch.ops if op != self._absent)
        first = [max(0, node - 1) // COLUMN * COLUMN for node in range(len(texts))]
        panels = tuple(f"layers {k + 1} to {min(k + COLUMN, len(texts) - 1)}" for k in first)
        return Picture(texts, arch.edges, panels)

    # -- identity, draws, neighbours, parameters

    def canonical(self, arch: Arch) -> str:
        """The string itself: no two architectures compute the same class of functions."""
        return self.to_str(arch)

    def random(self, rng: np.random.Generator) -> Arch:
        """Draw as the benchmark does: width, biases and depth, then each layer, all uniformly."""
        embedding, depth = int(rng.integers(len(self.scale.embeddings))), int(rng.choice(self.scale.depths))
        return self.of_model(Model(embedding, tuple(rng.integers(len(self.scale.layers), size=depth).tolist())))

    def neighbours(self, arch: Arch) -> list[Arch]:
        """The models that differ in width or biases, or in one layer, and those with one layer less or more at the end."""
        model = self.model(arch)
        e, layers, kinds = model.embedding, model.layers, range(len(self.scale.layers))
        found = [Model(2 * width + e % 2, layers) for width in range(len(self.scale.widths)) if width != e // 2]
        found.append(Model(e ^ 1, layers))
        found += [
            Model(e, (*layers[:i], kind, *layers[i + 1 :])) for i in range(len(layers)) for kind in kinds if kind != layers[i]
        ]
        if len(layers) - 1 in self.scale.depths:
            found.append(Model(e, layers[:-1]))
        if len(layers) + 1 in self.scale.depths:
            found += [Model(e, (*layers, kind)) for kind in kinds]
        return [self.of_model(model) for model in found]

    def enumerate(self) -> None:
        """None: there are at least 1.9e12 models."""

    @property
    def parameters(self) -> Mapping[str, tuple[str, ...]]:
        """Width, biases, depth and layers; choices for layers beyond the depth have no effect."""
        return {
            "width": tuple(map(str, self.scale.widths)), "bias": BIASES, "depth": tuple(map(str, self.scale.depths)),
            **{f"layer {i}": tuple(map(_joined, self.scale.layers)) for i in range(1, self.scale.depth + 1)},
        }  # fmt: skip

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        """The choices of an architecture; layers beyond the depth get the first choice."""
        model = self.model(arch)
        width, bias = self.scale.embeddings[model.embedding]
        layers = (*model.layers, *[0] * (self.scale.depth - len(model.layers)))
        values = (str(width), bias, str(len(model.layers)), *(_joined(self.scale.layers[layer]) for layer in layers))
        return dict(zip(self.parameters, values, strict=True))

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        """The architecture with these choices."""
        known = list(map(_joined, self.scale.layers))
        embedding = self.scale.embeddings.index((int(parameters["width"]), parameters["bias"]))
        return self.of_model(Model(embedding, tuple(known.index(parameters[f"layer {i}"]) for i in range(1, int(parameters["depth"]) + 1))))

    # -- networks

    def size(
        self, arch: Arch, *, channels: int = HEAD, cells: int = 1, num_classes: int, image_size: int = 1024, stem_stride: int = 1
    ) -> Size:
        """Parameters of `build`, and multiply-adds of one forward pass over a context of `image_size` tokens."""
        from diffnag.search_spaces.gpt.network import size

        return size(self._shape(arch, channels, cells, num_classes, stem_stride), context=image_size)

    def build(self, arch: Arch, *, channels: int = HEAD, cells: int = 1, num_classes: int, stem_stride: int = 1) -> nn.Module:
        """The benchmark's language model: token ids `(b, t)` -> logits `(b, t, num_classes)`; `num_classes` is the vocabulary.

        `channels` is the size of a head, by default 64, and the embedding width is in proportion. It must be a multiple of 4, and `cells`
        and `stem_stride` must be 1, as an architecture is a whole network (else `UserError`).
        """
        from diffnag.search_spaces.gpt.network import GPT

        return GPT(self._shape(arch, channels, cells, num_classes, stem_stride))

    def _shape(self, arch: Arch, channels: int, cells: int, vocabulary: int, stem_stride: int) -> Shape:
        from diffnag.search_spaces.gpt.network import Shape

        for name, value in (("cells", cells), ("stem_stride", stem_stride)):
            if value != 1:
                raise UserError(f"an architecture of {self.name} is a whole network: {name} must be 1, not {value}")
        if channels % 4:
            raise UserError(f"channels of {self.name} are the size of a head, half of which is turned in pairs: a multiple of 4, not {channels}")
        model = self.model(arch)
        width, bias = self.scale.embeddings[model.embedding]
        layers = tuple(self.scale.layers[layer] for layer in model.layers)
        return Shape(width * channels // HEAD, bias == BIASES[0], layers, channels, vocabulary)

    # -- the oracle's file

    def check_oracle_file(self, path: Path) -> str:
        """What the file of surrogates at `path` holds for this space, in a few words; see `KeepsOracleFile`."""
        from diffnag.search_spaces.gpt.surrogate import METRICS, Surrogates

        return f"surrogates of {' and '.join(METRICS)}, sha256 {Surrogates.load(path, self.scale).sha256}"


def _joined(parts: Sequence[int | str]) -> str:
    return "-".join(map(str, parts))


class GPTSmall(GPTSpace):
    """The search space `gpt-s`: 13 nodes, 16 operators; 10 to 12 layers, up to 124 million parameters."""

    scale = Scale("s", (192, 384, 768), (4, 8, 12), 12)


class GPTMedium(GPTSpace):
    """The search space `gpt-m`: 25 nodes, 16 operators; 22 to 24 layers, up to 354 million parameters."""

    scale = Scale("m", (256, 512, 1024), (8, 12, 16), 24)


class GPTLarge(GPTSpace):
    """The search space `gpt-l`: 37 nodes, 16 operators; 34 to 36 layers, up to 773 million parameters."""

    scale = Scale("l", (320, 640, 1280), (8, 16, 20), 36)
