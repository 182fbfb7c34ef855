"""The surrogates of HW-GPT-Bench (Sukthanker et al., NeurIPS 2024) in a user's file: perplexity and memory of language models.

A surrogate is a perceptron of the benchmark's authors: four hidden layers with ReLU between them, from the choices of an architecture to one
number. That of the perplexity was trained on networks that share a supernet's weights. All that it returns are a surrogate's
estimates, never measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import DataNotFound, UserError
from diffnag.io.archives import open_npz
from diffnag.io.checkpoint import checksum
from diffnag.io.tables import locate_file
from diffnag.io.text_tables import reading
from diffnag.search_spaces.gpt.scale import BENCHMARK_FILE, BIASES, Scale

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

METRICS = ("perplexity", "float16_memory")
"""Perplexity on OpenWebText, and the memory of the network in float16, in MB."""
BENCHMARK = "HW-GPT-Bench"
NOTE = "surrogate of HW-GPT-Bench: estimated, not measured"
LAYERS = 5
CHUNK = 4096
"""Architectures that are evaluated at once."""

Perceptron = tuple[tuple[np.ndarray, np.ndarray], ...]
"""Weights `(out, in)` and biases `(out,)` of each layer."""


@dataclass(frozen=True)
class Surrogates:
    """The surrogates of one space, and the checksum of the file that they come from."""

    scale: Scale
    networks: Mapping[str, Perceptron]
    """Metric -> its network."""
    sha256: str

    @classmethod
    def of(cls, space: SearchSpace, *, asked_by: str) -> Surrogates:
        """The surrogates of `space` in `$DIFFNAG_DATA` or the user cache.

        Raises `DataNotFound` for other spaces, where `asked_by` names who needs them, and if there is no file.
        """
        if not isinstance(scale := getattr(space, "scale", None), Scale):
            raise DataNotFound(f"{asked_by} supports only the spaces gpt-s, gpt-m and gpt-l, not {space.name!r}")
        if (path := locate_file(BENCHMARK_FILE)) is None:
            raise DataNotFound(
                f"the surrogates of {BENCHMARK} are not here: run `python -m diffnag.data import {space.name} --from FILE`, or set $DIFFNAG_DATA "
                f"to a folder with {BENCHMARK_FILE}"
            )
        return cls.load(path, scale)

    @classmethod
    def load(cls, path: Path, scale: Scale) -> Surrogates:
        """Read a file; raises `UserError` if it is damaged, if an array is missing, and for other shapes or values than expected."""
        if not path.is_file():
            raise UserError(f"there is no file {path}")
        with reading(path, f"file of {BENCHMARK}'s surrogates"), open_npz(path) as arrays:
            networks = {metric: _network(arrays, f"{scale.letter}/{metric}", _inputs(scale, metric), path) for metric in METRICS}
        return cls(scale, networks, checksum(path))

    def predict(self, metric: str, archs: Sequence[Arch]) -> np.ndarray:
        """Estimates of one of `METRICS`, float64 `(b,)`; tens of thousands of architectures take seconds."""
        features = {"perplexity": one_hot, "float16_memory": scaled}[metric]
        chunks = [archs[first : first + CHUNK] for first in range(0, len(archs), CHUNK)]
        return np.concatenate([np.empty(0), *(_forward(self.networks[metric], features(self.scale, chunk)) for chunk in chunks)])


def one_hot(scale: Scale, archs: Sequence[Arch]) -> np.ndarray:
    """Features of the perplexity, float64 `(b, 8 + 6 L)`: all choices one-hot.

    Their order is width, depth, MLP ratio of each of the L layers, heads of each layer, biases; zeros for layers that are not there.
    """
    width, bias, heads, ratio, there = _choices(scale, archs)
    choice = np.eye(3)
    layers = [(choice[chosen] * there[..., None]).reshape(len(archs), -1) for chosen in (ratio, heads)]
    depth = there.sum(1) - scale.depths[0]
    return np.concatenate([choice[width], choice[depth], *layers, np.eye(2)[bias]], axis=1)


def scaled(scale: Scale, archs: Sequence[Arch]) -> np.ndarray:
    """Features of the memory, float64 `(b, 3 + 2 L)`: each choice scaled to 0 to 1 over its values.

    Their order is width, depth, MLP ratio of each of the L layers, heads of each layer (-1 for layers that are not there), biases (1 or 0).
    """
    width, bias, heads, ratio, there = _choices(scale, archs)
    layers = [np.where(there, values[chosen], -1) for values, chosen in ((_scale((0, 1, 2)), ratio), (_scale(scale.heads), heads))]
    depth = _scale(scale.depths)[there.sum(1) - scale.depths[0]]
    return np.column_stack([_scale(scale.widths)[width], depth, *layers, bias == BIASES.index("bias")])


def _choices(scale: Scale, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Choices as indices: width and biases `(b,)`, heads and MLP ratio of each layer `(b, L)`; and which layers are there, bool `(b, L)`."""
    ops = np.array([arch.ops for arch in archs])
    embedding, layer = ops[:, 0], ops[:, 1:] - len(scale.embeddings)
    there = layer < len(scale.layers)
    heads, ratio = np.divmod(np.where(there, layer, 0), 3)
    return embedding // 2, embedding % 2, heads, ratio, there


def _scale(values: Sequence[int]) -> np.ndarray:
    """`values`, which grow, mapped to 0 to 1."""
    return (np.array(values) - values[0]) / (values[-1] - values[0])


def _forward(network: Perceptron, x: np.ndarray) -> np.ndarray:
    """Features `(b, k)` -> estimates `(b,)`."""
    for number, (weight, bias) in enumerate(network):
        x = (np.maximum(x, 0) if number else x) @ weight.T + bias
    return x[:, 0]


def _inputs(scale: Scale, metric: str) -> int:
    """Number of features of a metric."""
    return 8 + 6 * scale.depth if metric == "perplexity" else 3 + 2 * scale.depth


def _network(arrays: Mapping[str, np.ndarray], prefix: str, inputs: int, path: Path) -> Perceptron:
    """The network whose arrays are called `prefix/fc1.weight` and so on, as float64; `UserError` if they do not fit together."""
    layers, size = [], inputs
    for number in range(1, LAYERS + 1):
        names = [f"{prefix}/fc{number}.{part}" for part in ("weight", "bias")]
        if missing := [name for name in names if name not in arrays]:
            raise UserError(f"{path} is no file of {BENCHMARK}'s surrogates: it lacks the array {missing[0]}")
        weight, bias = (arrays[name] for name in names)
        outputs = 1 if number == LAYERS else bias.size
        for name, array, shape in zip(names, (weight, bias), ((outputs, size), (outputs,)), strict=True):
            if array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
                raise UserError(f"{path} is damaged: {name} is {array.dtype} of shape {array.shape}; expected are finite floats of shape {shape}")
        layers.append((weight.astype(np.float64), bias.astype(np.float64)))
        size = outputs
    return tuple(layers)
