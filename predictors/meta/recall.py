"""What the tables of a benchmark's other datasets say of an architecture itself, remembered rather than learned.

A network smooths: it tells good from bad, and of the hundred best which is the very best only by chance. A table has seen each of
them. Its ranks are kept by functional class, as the mean over the class and over the tables, each weighed by how far its order
among the best is signal (`Source.reliability`).
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
    """Scores of the classes that tables know, of mean 0 and variance 1 over their architectures, higher being better.

    `keys (n,)` int64, increasing, and `scores (n,)` float32.
    """

    def __init__(self, space: SearchSpace, keys: Tensor, scores: Tensor) -> None:
        self._space, self.keys, self.scores = space, keys, scores
        self._sorted, self._values = keys.numpy(), scores.double().numpy()
        self._places: dict[Arch, int | None] = {}

    @classmethod
    def of(cls, sources: Sequence[Source], space: SearchSpace) -> Self | None:
        """Of the tables among the sources, which have the same architectures; None where there are none."""
        tables = [source for source in sources if source.better is not None]
        if not tables:
            return None
        better = np.average([table.better for table in tables], axis=0, weights=[table.reliability for table in tables])
        keys, classes = np.unique([_key(space, arch) for arch in tables[0].archs], return_inverse=True)
        scores = -(np.bincount(classes, better) / np.bincount(classes))
        members = scores[classes]
        return cls(space, torch.from_numpy(keys), torch.from_numpy((scores - members.mean()) / members.std()).float())

    @classmethod
    def from_tensors(cls, space: SearchSpace, tensors: Mapping[str, Tensor]) -> Self:
        """Of what `tensors` gave."""
        return cls(space, tensors["keys"], tensors["scores"])

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"keys": self.keys, "scores": self.scores}

    def __call__(self, archs: Sequence[Arch], *, otherwise: np.ndarray) -> np.ndarray:
        """The scores `(b,)`; of architectures that no table knows what `otherwise (b,)` has."""
        places = [self._place(arch) for arch in archs]
        return np.array([other if place is None else self._values[place] for place, other in zip(places, otherwise, strict=True)])

    def _place(self, arch: Arch) -> int | None:
        if arch not in self._places:
            key = _key(self._space, arch)
            place = int(np.searchsorted(self._sorted, key))
            self._places[arch] = place if place < len(self._sorted) and self._sorted[place] == key else None
        return self._places[arch]


def _key(space: SearchSpace, arch: Arch) -> int:
    """Of the functional class, in 64 bits."""
    return int.from_bytes(blake2b(space.canonical(arch).encode(), digest_size=8).digest(), "little", signed=True)
