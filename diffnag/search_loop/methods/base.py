"""What a search method is. Each proposes from the history alone, so a resumed search goes on as the unbroken one would."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from diffnag.search_loop.domain import Domain
from diffnag.search_loop.trial import Batch, Generated, Proposal, Trial

if TYPE_CHECKING:
    from diffnag.arch import Arch

BASELINES = ("random", "evolution", "local-search", "bananas", "tpe", "gp-enumerate")
METHODS = ("diffnag", *BASELINES)

History = tuple[Trial, ...]


class Method(Protocol):
    """A way to search."""

    def propose(self, history: History, q: int, *, pending: Sequence[Arch] = (), generated: Generated | None = None) -> Batch:
        """At most `q` architectures of the domain, none a canonical copy of another or of one in `history` or `pending`.

        `pending` are planned and not yet evaluated, or other workers evaluate them now; one worker alone has none.
        `generated` is what the last of the batches, whoever asked for it, that told of such has told. Fewer than `q` where
        that is the method's way; none only where the domain is exhausted.
        """
        ...


def paid(domain: Domain, history: History, pending: Sequence[Arch] = ()) -> set[str]:
    """Canonical forms of what was evaluated, or is going to be."""
    return {domain.space.canonical(arch) for arch in (*(trial.arch for trial in history), *pending)}


def shuffled(archs: list[Arch], rng: np.random.Generator) -> list[Arch]:
    """In random order."""
    return [archs[i] for i in rng.permutation(len(archs))]


def batch_of(archs: Iterable[Arch]) -> Batch:
    """Proposals of which nothing is predicted."""
    return Batch(tuple(map(Proposal, archs)))
