"""Oracles without training: they score the untrained network. For spaces without a table, and to try out a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diffnag.datasets.tasks import Task
from diffnag.oracles.columns import Columns
from diffnag.plugins import make_predictor
from diffnag.spaces.tokens import refuse_tokens

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

NOTE = "a training-free score of the untrained network, no accuracy"
SEED = 0
"""Seed of the weights and images of the scores: an architecture has one score."""


class ProxyOracle:
    """Scores of the predictor of the same name (`diffnag.predictors.proxies.predictor`), for each dataset whose shape the space knows."""

    kind = "proxy"
    proxy: str

    def setup(self, *, space: SearchSpace) -> None:
        """Remember the space; nothing is opened. Raises `UserError` if the networks of the space take tokens."""
        refuse_tokens(space, f"oracle {self.proxy!r}")
        self._space = space
        self._columns = Columns(self.kind, [f"{dataset}/val/0" for dataset in space.datasets])
        self._scored: dict[str, Any] = {}

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        """The space's datasets, each with the split `val` only: a score is no test result."""
        return self._columns.available

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        """The score, higher is better; `epochs` is 0 or None. Raises `UserError` for anything unknown."""
        self._columns.find(dataset, split, epochs)
        if dataset not in self._scored:
            self._scored[dataset] = make_predictor(self.proxy)
            self._scored[dataset].setup(space=self._space, task=Task.of(dataset, self._space), seed=SEED)
        return float(self._scored[dataset].scores([arch])[0])

    def provenance(self) -> Mapping[str, str | float]:
        """Name and seed of the score, and a note that it is no accuracy."""
        return {"proxy": self.proxy, "seed": SEED, "note": NOTE}


class NaswotOracle(ProxyOracle):
    """How well the untrained network's activations distinguish images of noise."""

    proxy = "naswot"


class SynflowOracle(ProxyOracle):
    """How much flows through the untrained network's weights, as a logarithm."""

    proxy = "synflow"


class ZenOracle(ProxyOracle):
    """How strongly the untrained network's features respond to its image."""

    proxy = "zen"
