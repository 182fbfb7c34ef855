"""A generator and the family that makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from diffnag.arch import Arch, ArchBatch
    from diffnag.generators.base import Condition, Generation, Steer
    from diffnag.protocols.spaces import SearchSpace


class Generator(Protocol):
    """Draws architectures of one space: a trained network of some family, or a rule."""

    space: SearchSpace
    steers: frozenset[str]
    """Kinds of guidance that it supports, of those in `diffnag.guidance.choice`. `particles` needs only `sample` and `vary`."""
    conditions: tuple[str, ...]
    """Properties that a draw can be conditioned on; empty for unconditional families."""

    def sample(self, n: int, *, seed: int, steer: Steer = ..., sampling: Any = None) -> Generation:
        """Draw `n` samples. `sampling` is the family's own frozen `Sampling` options, by default the generator's.

        Raises `UserError` for guidance or a condition that it does not support.
        """
        ...

    def vary(self, archs: Sequence[Arch], n: int, *, seed: int) -> Generation:
        """Draw `n` architectures near those of `archs`, which are taken in turn. A move leaves the generator's law in place."""
        ...

    def provenance(self) -> Mapping[str, str]:
        """Where it comes from: family, checksum, split, command."""
        ...


class LogProb(NamedTuple):
    """Log probabilities of architectures under a generator."""

    nats: np.ndarray
    """`(b,)`"""
    kind: Literal["exact", "bound"]


@runtime_checkable
class HasLikelihood(Protocol):
    """A generator that knows how probable an architecture is."""

    def log_prob(self, archs: Sequence[Arch], *, seed: int) -> LogProb:
        """Log probability of each (V, E), in nats; a lower bound where it is not exact."""
        ...


@runtime_checkable
class MeasuresConditions(Protocol):
    """A generator that knows the conditions of architectures, so that a draw can be asked for others like them."""

    def condition_of(self, archs: Sequence[Arch], names: Sequence[str]) -> Condition:
        """Values of its conditions `names`, as a draw accepts them: a tuple for each, in the order of `archs`."""
        ...


@runtime_checkable
class HasFigures(Protocol):
    """A generator that reports figures of its own beside validity, uniqueness and novelty."""

    def figures(self, batch: ArchBatch) -> Mapping[str, float]:
        """Figures over architectures of its training set, by name; they stand in the description of its checkpoint."""
        ...


class Family(Protocol):
    """A generator family: makes the generators of one kind. The class is made without arguments."""

    Sampling: ClassVar[type]
    """Frozen dataclass of the options of a draw; the command line derives from it."""

    def load(self, space: SearchSpace, path: Path | None = None, *, device: str | torch.device = ...) -> Generator:
        """The generator in `path`, by default the shipped one; raises `UserError` where it belongs to another space or family."""
        ...


@runtime_checkable
class TrainableFamily(Protocol):
    """A family that learns from unlabelled architectures: what `python -m diffnag.train_score` needs of it."""

    Sampling: ClassVar[type]
    Config: ClassVar[type]
    """Frozen dataclass of everything, beside the space, that decides the network and its loss."""

    def load(self, space: SearchSpace, path: Path | None = None, *, device: str | torch.device = ...) -> Generator:
        """See `Family`."""
        ...

    def build(self, space: SearchSpace, config: Any, *, seed: int) -> nn.Module:
        """A fresh network, its weights drawn by `seed`."""
        ...

    def loss(self, net: Any, batch: ArchBatch, condition: Any, *, generator: torch.Generator, share: slice = ...) -> Tensor:
        """Unreduced loss of the rows `share` of `batch`, by default `(b,)`.

        Randomness is drawn for the whole batch, so that the shares of several processes add up to the loss of one.
        """
        ...

    def generator(self, space: SearchSpace, net: Any, *, split: str = ...) -> Generator:
        """A trained, or half-trained, network as a generator; `split` names what it was trained on."""
        ...

    def save(self, path: Path, net: Any, meta: Mapping[str, Any]) -> None:
        """Write the weights and everything that `load` needs; `meta` stands beside it."""
        ...


@runtime_checkable
class LearnsConditions(Protocol):
    """A trainable family whose draws can be conditioned on properties of an architecture, which are computed from the training set."""

    def conditions_of(self, net: Any, archs: Sequence[Arch], space: SearchSpace) -> Tensor:
        """Values `(m, c)` that `loss` takes as `condition`, row by row; what `net` must know of them to read others, it keeps."""
        ...
