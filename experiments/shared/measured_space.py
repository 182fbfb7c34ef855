"""Measures samples against their search space: metrics, and distances of their graphs from those of the whole space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import Decoded, HasLikelihood

N = 1024
"""Number of samples per seed."""
DRAWS = 20_000
"""Number of random draws that represent a space too large to enumerate."""


class MeasuredSpace:
    """A registered space, its training split, and the figures of samples."""

    def __init__(self, name: str) -> None:
        from diffnag import load_space
        from diffnag.spaces.split import CanonicalSplit

        self.name, self.space, self.split = name, load_space(name), CanonicalSplit.named("canonical-sha256-0.5")

    @cached_property
    def archs(self) -> list[Arch]:
        """All architectures of the space, or seeded draws that differ from those of the training set."""
        rng = np.random.default_rng(1)
        return list(self.space.enumerate() or (self.space.random(rng) for _ in range(DRAWS)))

    @cached_property
    def held_out_share(self) -> float:
        """Share of the architectures whose class is held out from training."""
        return float(np.mean([not self.split.trains(self.space.canonical(arch)) for arch in self.archs]))

    def gap(self, generator: HasLikelihood, archs: Sequence[Arch]) -> dict[str, Any]:
        """Mean negative log-likelihood of `archs` minus ln N, in nats, N architectures in the space, which has to be enumerable."""
        found = generator.log_prob(archs, seed=0)
        error = float(found.nats.std(ddof=1) / len(archs) ** 0.5)
        return {"gap": round(float(-found.nats.mean() - np.log(len(self.archs))), 6) + 0.0, "stderr": error, "kind": found.kind}

    @cached_property
    def _statistics(self) -> Any:
        from diffnag.generators.metrics import GraphStatistics

        return GraphStatistics.of(self.archs, self.space)

    def figures(self, archs: Sequence[Arch], n: int = N) -> dict[str, float | None]:
        """Figures of `n` samples, of which `archs` are valid (duplicates included). A figure is None if no sample is valid."""
        from diffnag.generators.metrics import GraphStatistics, generation_metrics

        metrics: dict[str, Any] = {**generation_metrics(archs, n, self.space, self.split)}
        apart: Mapping[str, Any] = dict.fromkeys(("edges", "depth", "operators"))
        if archs:
            apart = GraphStatistics.of(archs, self.space).distances(self._statistics)
        return metrics | {f"wasserstein_{key}": value for key, value in apart.items()}

    def figures_of_matrices(self, V: np.ndarray, E: np.ndarray) -> dict[str, float | None]:
        """`figures` of quantised `V (m, n, f)` and `E (m, n, n)`, and the validity of each matrix alone.

        `validity_V`: every node has one operator, and the constant entries of the space are right. `validity_E`: the constant entries
        are right. `needed_no_pruning`: share of the valid samples without pruning, for spaces that know it.
        """
        archs = [item.arch for v, e in zip(V, E, strict=True) if (item := self.space.decode(v, e)).arch is not None]
        constant_V, constant_E = self.space.constant
        some_V, some_E = self.space.encode(self.archs[0])
        right_V = (V.sum(2) == 1).all(1) & (some_V == V)[:, constant_V].all(1)
        right_E = (some_E == E)[:, constant_E].all(1)
        found = self.figures(archs, len(V)) | {"validity_V": float(right_V.mean()), "validity_E": float(right_E.mean())}
        if pruned := getattr(self.space, "needs_no_pruning", None):
            whole = sum(pruned(v, e) for v, e in zip(V, E, strict=True))
            found["needed_no_pruning"] = whole / len(archs) if archs else None
        return found

    def matrices(self, generate: Callable[[Any], object]) -> tuple[np.ndarray, np.ndarray]:
        """Quantised `V (m, n, f)` and `E (m, n, n)` of all samples that `generate(space)` decodes."""
        watched = _Watched(self.space)
        generate(watched)
        V, E = zip(*watched.seen, strict=True)
        return np.stack(V), np.stack(E)


class _Watched:
    """A space that stores the matrices it decodes."""

    def __init__(self, space: Any) -> None:
        self._space = space
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._space, name)

    def decode(self, V: np.ndarray, E: np.ndarray) -> Decoded:
        self.seen.append((V, E))
        return self._space.decode(V, E)

    def decode_batch(self, V: np.ndarray, E: np.ndarray) -> list[Decoded]:
        from diffnag.spaces.decoding import decode_all

        self.seen += zip(V, E, strict=True)
        return decode_all(self._space, V, E)


def mean_over_seeds(figures: Callable[[int], Mapping[str, Any]], seeds: int) -> dict[str, float | None]:
    """Mean of each figure over the seeds that have it; None if none has."""
    rows = [figures(seed) for seed in range(seeds)]
    found = {key: [row[key] for row in rows if row[key] is not None] for key in rows[0]}
    return {key: float(np.mean(values)) if values else None for key, values in found.items()}
