"""Recall: what the tables of a benchmark's other datasets say about single architectures, remembered and not learned.

A network smooths. It tells good architectures from bad ones, but finds the very best of the hundred best only by chance. A table has
measured each of them. The ranks in the tables are kept by functional class, as a mean over the class and over the tables. Tables are
weighted by the share of signal in their order of the best (`Source.reliability`). Ranks are for the choice of the best alone: they say
little of how far good architectures lie apart. So the values of each table are kept too, from which labels learn what each table is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.sources import Source
    from diffnag.protocols import SearchSpace


class Recall:
    """Scores of the functional classes in the tables: mean 0 and variance 1 over their architectures, higher is better.

    Args:
        space: The space of the tables.
        keys: Hash of each class, int64 `(n,)`, increasing.
        scores: Score of each class, float32 `(n,)`.
        tables: Value of each class in each table, float32 `(n, t)`, with mean 0 and variance 1 over the architectures too.
    """

    def __init__(self, space: SearchSpace, keys: Tensor, scores: Tensor, tables: Tensor) -> None:
        self._space, self.keys, self.scores, self.tables = space, keys, scores, tables
        self._sorted, self._values = keys.numpy(), torch.column_stack([scores, tables]).double().numpy()
        self._places: dict[Arch, int | None] = {}

    @classmethod
    def of(cls, sources: Sequence[Source], space: SearchSpace) -> Self | None:
        """The scores from those `sources` that are tables, which must hold the same architectures; None if no source is a table."""
        tables = [source for source in sources if source.better is not None]
        if not tables:
            return None
        better = np.average([table.better for table in tables], axis=0, weights=[table.reliability for table in tables])
        keys, classes = np.unique([_key(space, arch) for arch in tables[0].archs], return_inverse=True)
        means = np.column_stack([np.bincount(classes, one) / np.bincount(classes) for one in (-better, *(table.values for table in tables))])
        members = means[classes]
        found = torch.from_numpy((means - members.mean(0)) / members.std(0)).float()
        return cls(space, torch.from_numpy(keys), found[:, 0], found[:, 1:])

    @classmethod
    def from_tensors(cls, space: SearchSpace, tensors: Mapping[str, Tensor]) -> Self:
        """The scores that a checkpoint holds: the inverse of `tensors`."""
        return cls(space, tensors["keys"], tensors["scores"], tensors["tables"])

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Keys, scores and values, for a checkpoint."""
        return {"keys": self.keys, "scores": self.scores.contiguous(), "tables": self.tables.contiguous()}

    def __call__(self, archs: Sequence[Arch], *, otherwise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores `(b,)` and values `(b, t)`; both are those of `otherwise (b,)` for architectures that are in no table."""
        places = [self._place(arch) for arch in archs]
        known = np.array([place is not None for place in places], dtype=bool)
        found = np.repeat(np.asarray(otherwise, dtype=np.float64)[:, None], self._values.shape[1], axis=1)
        found[known] = self._values[[place for place in places if place is not None]]
        return found[:, 0], found[:, 1:]

    def _place(self, arch: Arch) -> int | None:
        """Index of the architecture's class, or None."""
        if arch not in self._places:
            key = _key(self._space, arch)
            place = int(np.searchsorted(self._sorted, key))
            self._places[arch] = place if place < len(self._sorted) and self._sorted[place] == key else None
        return self._places[arch]


def _key(space: SearchSpace, arch: Arch) -> int:
    """Hash of the architecture's functional class, in 64 bits."""
    return int.from_bytes(blake2b(space.canonical(arch).encode(), digest_size=8).digest(), "little", signed=True)
