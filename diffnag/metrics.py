"""What a set of generated architectures is worth; the definitions are those of the README's glossary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace
    from diffnag.split import CanonicalSplit


class GenerationMetrics(TypedDict):
    """Shares in [0, 1]; None where the denominator is empty."""

    validity: float
    uniqueness: float | None
    uniqueness_canonical: float | None
    novelty: float | None


def generation_metrics(archs: Sequence[Arch], n: int, space: SearchSpace, split: CanonicalSplit) -> GenerationMetrics:
    """Metrics of `n` samples of which `archs` are the valid ones, duplicates kept.

    validity = valid / all; uniqueness = distinct / valid, by string and by canonical form; novelty = share of the
    distinct whose canonical class is outside the training split.
    """
    distinct = set(archs)
    classes = {arch: space.canonical(arch) for arch in distinct}
    return {
        "validity": len(archs) / n,
        "uniqueness": len(distinct) / len(archs) if archs else None,
        "uniqueness_canonical": len(set(classes.values())) / len(archs) if archs else None,
        "novelty": sum(not split.trains(key) for key in classes.values()) / len(distinct) if distinct else None,
    }
