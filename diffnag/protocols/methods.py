"""A way to search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from diffnag.search_loop.methods.base import Setting
    from diffnag.search_loop.trial import Batch, Known


class Method(Protocol):
    """Proposes architectures to evaluate.

    Its proposals are a function of its setting and of what is known, so a resumed search goes on as an unbroken one would. A class
    attribute `searches_fronts = True` says that it can optimise several objectives.
    """

    uses: ClassVar[frozenset[str]]
    """The `METHOD_OPTIONS` of `SearchOptions` that it uses; others are refused."""
    defaults: ClassVar[Mapping[str, Any]]
    """Values of the options that are not given. An option that is used and has no default is required."""

    @classmethod
    def of(cls, setting: Setting) -> Self:
        """Make the method for one search; raises `UserError` if it does not suit the search."""
        ...

    def propose(self, known: Known, q: int) -> Batch:
        """At most `q` architectures of the domain, none a canonical copy of another or of one that is labelled or pending.

        A method may return fewer than `q`, but none only if the domain is exhausted.
        """
        ...
