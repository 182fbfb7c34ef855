"""The oracle `surrogate`: a model of measured accuracies, for machines without the table.

Its answers are never benchmark results. It sees only the graph of an architecture and the names of the operators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffnag.errors import DataNotFound
from diffnag.io.files import PRETRAINED
from diffnag.oracles.columns import Columns
from diffnag.spaces.fingerprint import check_fingerprint

if TYPE_CHECKING:
    from torch import Tensor

    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

NOTE = "a surrogate of measured accuracies, not a benchmark result"
FILE = "surrogate.safetensors"
NEEDS = {
    "space": str, "space_fingerprint": str, "features": list, "outputs": list, "held_out": dict, "labels": int, "table_version": str,
    "table_sha256": str,
}  # fmt: skip
"""What the description in a checkpoint must have."""
DEAD = frozenset({"none", "zero"})
"""Operators whose output is zero."""
IDENTITY = frozenset({"skip_connect", "identity"})
"""Operators whose output is their input."""


def graph_features(arch: Arch, operators: Sequence[str]) -> Counter[str]:
    """Counts over the live graph: the graph without dead branches, and with identities replaced by their inputs.

    `path a>b`: paths from the first to the last node, by their operators (the path encoding of White et al., AAAI 2021, with
    multiplicity); `node a`: nodes on such paths; `a to b`: terms of the sums at nodes b that are outputs of nodes a; `fan-in a`: most
    terms of a sum at a node a; `depth`: operators on the longest path; `paths`: number of paths.
    """
    names = [operators[op] for op in arch.ops]
    last = len(names) - 1
    sources: list[list[int]] = [[] for _ in names]
    for i, j in arch.edges:
        sources[j].append(i)

    inputs: list[Counter[str]] = [Counter()]  # terms of the sum at each node: operator -> count
    outputs = [Counter({names[0]: 1})]  # terms that the node adds to a later sum; an identity may add several
    paths: list[Counter[tuple[str, ...]]] = [Counter({(): 1})]  # paths from node 0 to this node, with its operator
    for j in range(1, last + 1):
        terms, arriving = Counter[str](), Counter[tuple[str, ...]]()
        for i in sources[j]:
            terms.update(outputs[i])
            arriving.update(paths[i])
        name = names[j]
        if name in DEAD:
            terms, arriving = Counter(), Counter()
        inputs.append(terms)
        passes = name in IDENTITY or not terms
        outputs.append(terms if passes else Counter({name: 1}))
        paths.append(arriving if passes or j == last else Counter({(*path, name): n for path, n in arriving.items()}))

    live = {last} if inputs[last] else set()
    for j in range(last, 0, -1):
        if j in live:
            live.update(i for i in sources[j] if outputs[i])
    found = Counter({f"path {'>'.join(path)}": n for path, n in paths[last].items()})
    found["paths"] = paths[last].total()
    found["depth"] = max(map(len, paths[last]), default=0)
    for j in live - {0}:
        if names[j] not in IDENTITY:
            found[f"node {names[j]}"] += 1
            found[f"fan-in {names[j]}"] = max(found[f"fan-in {names[j]}"], inputs[j].total())
            found.update({f"{source} to {names[j]}": n for source, n in inputs[j].items()})
    return found


def design(counts: Sequence[Mapping[str, int]], features: Sequence[str]) -> np.ndarray:
    """Design matrix `(b, features)`, float32, of the counts of b architectures."""
    return np.array([[count.get(name, 0) for name in features] for count in counts], dtype=np.float32).reshape(-1, len(features))


@dataclass(frozen=True)
class Surrogate:
    """An ensemble of networks on `graph_features`. It predicts normal scores, which `quantiles` maps to accuracies."""

    features: tuple[str, ...]
    """The columns of the design matrix."""
    outputs: tuple[str, ...]
    """`dataset/split/epochs`, such as `cifar10/val/200`."""
    tensors: Mapping[str, Tensor]
    """`centre (d,)` and `scale (d,)` of the features; `levels (q,)`, normal scores, and `quantiles (outputs, q)`, their accuracies in %;
    `weight0`, `bias0`, ... of the layers."""

    @property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of each layer, as `ensemble` takes them."""
        depth = sum(name.startswith("weight") for name in self.tensors)
        return [(self.tensors[f"weight{k}"].float(), self.tensors[f"bias{k}"].float()) for k in range(depth)]

    def predict(self, counts: Sequence[Mapping[str, int]]) -> np.ndarray:
        """Accuracies in %, `(b, outputs)`, from the `graph_features` of b architectures; they are within the measured range."""
        import torch

        from diffnag.networks.ensemble import ensemble

        with torch.inference_mode():
            x = (torch.from_numpy(design(counts, self.features)) - self.tensors["centre"]) / self.tensors["scale"]
            scores = ensemble(self.layers, x).mean(0).numpy()
        levels, quantiles = self.tensors["levels"].numpy(), self.tensors["quantiles"].numpy()
        return np.stack([np.interp(scores[:, k], levels, row) for k, row in enumerate(quantiles)], axis=1)

    def check_shapes(self) -> None:
        """Raise `ValueError` unless the tensors fit the features, the outputs and each other."""
        members, knots = len(self.tensors["weight0"]), len(self.tensors["levels"])
        wanted = {"centre": (len(self.features),), "scale": (len(self.features),), "levels": (knots,), "quantiles": (len(self.outputs), knots)}
        size = len(self.features)
        for depth, (weight, _) in enumerate(self.layers):
            wanted |= {f"weight{depth}": (members, size, weight.shape[-1]), f"bias{depth}": (members, 1, weight.shape[-1])}
            size = weight.shape[-1]
        if size != len(self.outputs) or any(tuple(self.tensors[name].shape) != shape for name, shape in wanted.items()):
            raise ValueError(f"its tensors have other shapes than {len(self.features)} features and {len(self.outputs)} outputs ask for")

    @classmethod
    def load(cls, path: str | Path) -> tuple[Surrogate, dict[str, Any]]:
        """The surrogate in a file of `diffnag.train_surrogate`, and its metadata. Raises `UserError` if it is damaged or of another kind."""
        from diffnag.io.checkpoint import load_checkpoint, rebuilding

        tensors, meta = load_checkpoint(path, kind="surrogate", needs=NEEDS)
        with rebuilding(path):
            surrogate = cls(features=tuple(meta["features"]), outputs=tuple(meta["outputs"]), tensors=tensors)
            Columns(f"surrogate {path}", surrogate.outputs)
            surrogate.check_shapes()
            _rank_correlations(meta)
        return surrogate, meta


class SurrogateOracle:
    """Answers with the surrogate that the package has for the space."""

    kind = "surrogate"

    def setup(self, *, space: SearchSpace) -> None:
        """Load the weights; raises `DataNotFound` if the package has none for the space."""
        path = PRETRAINED / space.name / FILE
        if not path.is_file():
            known = sorted(found.parent.name for found in PRETRAINED.glob(f"*/{FILE}"))
            raise DataNotFound(f"no surrogate is shipped for space {space.name!r}; there are: {', '.join(known) or 'none'}")
        self.surrogate, self.meta = Surrogate.load(path)
        check_fingerprint(space, self.meta["space_fingerprint"], what=str(path))
        self._operators = space.operators
        self._columns = Columns("surrogate", self.surrogate.outputs)

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        """Dataset -> its splits."""
        return self._columns.available

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        """Estimated accuracy in % after `epochs`, by default the longest training. Raises `UserError` for anything unknown."""
        return float(self.predict_many([arch], dataset=dataset, split=split, epochs=epochs)[0])

    def predict_many(self, archs: Sequence[Arch], *, dataset: str, split: str, epochs: int | None = None) -> np.ndarray:
        """Answers to `query`, `(b,)`, for many architectures at once."""
        column = self.surrogate.outputs.index(self._columns.find(dataset, split, epochs))
        return self.surrogate.predict([graph_features(arch, self._operators) for arch in archs])[:, column]

    def provenance(self) -> Mapping[str, str | float]:
        """A note on the figures, the table behind them, and their rank correlation with it on held-out architectures."""
        about: dict[str, str | float] = {key: self.meta[key] for key in ("space", "table_version", "table_sha256", "labels")}
        return {"kind": self.kind, "note": NOTE, **about, **_rank_correlations(self.meta)}


def _rank_correlations(meta: Mapping[str, Any]) -> dict[str, float]:
    """Kendall's tau of each output on the held-out sets, from the metadata of a surrogate."""
    return {
        f"kendall_tau/{held_out}/{key}": float(figure["kendall_tau"])
        for held_out, figures in meta["held_out"].items()
        for key, figure in figures["outputs"].items()
    }
