"""An oracle, and what an oracle may offer beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn

    from diffnag.arch import Arch
    from diffnag.datasets.images import ImageDataset
    from diffnag.protocols.spaces import SearchSpace


class Oracle(Protocol):
    """Answers what an architecture is worth. Nothing else holds labels. The class is made without arguments."""

    @property
    def kind(self) -> str:
        """The kind of figures, in one word: `table`, `surrogate`, ..."""
        ...

    def setup(self, *, space: SearchSpace) -> None:
        """Open the data; raises `DataNotFound` if it is not there."""
        ...

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        """Dataset -> its splits."""
        ...

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        """Accuracy in %, or what the space `measures` instead; `epochs=None` means the longest training.

        Raises `UserError` for an unknown dataset, split or number of epochs. Any other error is a failed evaluation.
        """
        ...

    def provenance(self) -> Mapping[str, str | float]:
        """Version, checksum and other facts that stand beside the figures in every result: texts and finite numbers."""
        ...


@runtime_checkable
class MultiFidelity(Protocol):
    """An oracle whose evaluation can be watched, and stopped early."""

    epochs: int
    """Length of an evaluation that is not stopped."""

    def stages(self, arch: Arch, *, dataset: str, split: str) -> Iterator[tuple[int, float]]:
        """`(epochs so far, accuracy in %)` at some points of one evaluation, the last of them after `epochs`.

        Work is done when the next point is asked for. An evaluation from which no further point is asked for is stopped.
        """
        ...


@runtime_checkable
class NeedsImages(Protocol):
    """An oracle that measures on a user's own images."""

    def set_images(self, images: ImageDataset, *, dataset: str, seconds: float | None, epochs: int | None, seed: int, device: str) -> None:
        """Call them `dataset` from now on; called once, after `setup`.

        One full evaluation should cost about `seconds` of one core; `epochs` says how long it trains, None leaves both to
        the oracle.
        """
        ...


@runtime_checkable
class GivesNetworks(Protocol):
    """An oracle on a user's own images whose architectures have weights before they are trained; the space is one of `Inherits`."""

    def network(self, arch: Arch) -> nn.Module:
        """The network of `arch` for standardised images of its own resolution, in evaluation mode; its caller may train it."""
        ...

    def probe(self) -> tuple[Arch, nn.Module, float]:
        """The pretrained network as it is with a linear classifier: its architecture, the network, and its validation accuracy in %.

        The classifier is fitted to the images of training and validation, and for the accuracy to those of training alone.
        """
        ...


@runtime_checkable
class Prepares(Protocol):
    """An oracle that has long work to do before its first answer."""

    def prepare(self, *, on_progress: Callable[[str, int, int], object]) -> None:
        """Do the work, if it is not done yet, and call `on_progress(what, done, of)` as it goes on; without it the first query does so."""
        ...
