"""Oracles that train nothing: a training-free score of the network, for spaces without a table and to try out a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diffnag.datasets.tasks import Task
from diffnag.oracles.columns import Columns
from diffnag.plugins import make_predictor

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

NOTE = "a training-free score of the untrained network, no accuracy"
SEED = 0
"""Of the weights and images that networks are scored with: an architecture has one score."""


class ProxyOracle:
    """The scores of the predictor of the same name (`diffnag.predictors.proxies.predictor`), for the shape of each dataset that the space knows."""

    kind = "proxy"
    proxy: str

    def setup(self, *, space: SearchSpace) -> None:
        """Nothing is opened."""
        self._space = space
        self._columns = Columns(self.kind, [f"{dataset}/val/0" for dataset in space.datasets])
        self._scored: dict[str, Any] = {}

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        """The space's datasets, each as `val` alone: no score is a test result."""
        return self._columns.available

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        """The score, higher being better; `epochs` are 0. `UserError` for what is not there."""
        self._columns.find(dataset, split, epochs)
        if dataset not in self._scored:
            self._scored[dataset] = make_predictor(self.proxy)
            self._scored[dataset].setup(space=self._space, task=Task.of(dataset, self._space), seed=SEED)
        return float(self._scored[dataset].scores([arch])[0])

    def provenance(self) -> Mapping[str, str | float]:
        """Which score it is, and that it is one."""
        return {"proxy": self.proxy, "seed": SEED, "note": NOTE}


class NaswotOracle(ProxyOracle):
    """How well the untrained network's activations tell images of noise apart."""

    proxy = "naswot"


class SynflowOracle(ProxyOracle):
    """How much flows through the untrained network's weights, as a logarithm."""

    proxy = "synflow"


class ZenOracle(ProxyOracle):
    """How strongly the untrained network's features respond to its image."""

    proxy = "zen"
