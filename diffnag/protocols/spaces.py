"""A search space, and what a space may offer beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from diffnag.arch import Arch
    from diffnag.io.tables import BenchmarkTable

Attention = Literal["ancestors", "causal", "full"]
Role = Literal["absent", "input", "output", "blocks", "passes", "pools", "layer", "spatial", "widens", "shrinks"]
"""A word for what an operator does; `HasRoles` explains each."""


class Decoded(NamedTuple):
    """Outcome of decoding: the architecture, or None and the reason why the graph is none of the space."""

    arch: Arch | None
    reason: str | None


@dataclass(frozen=True)
class Picture:
    """What is drawn of an architecture: nodes, each an operator or a plain word such as a state's name, and arrows.

    `panels` are titles, one a node: nodes of one title are framed together, and panels stand side by side in their order.
    """

    texts: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    panels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Size:
    """What a built network costs: trainable `params`, and `flops` (multiply-adds) of one forward pass."""

    params: int
    flops: int


class SearchSpace(Protocol):
    """A set of architectures. It knows no accuracies; those are the oracles'. Plain attributes serve for its properties."""

    @property
    def name(self) -> str:
        """How commands and results call it."""
        ...

    @property
    def nodes(self) -> int:
        """N, the most nodes an architecture has."""
        ...

    @property
    def operators(self) -> tuple[str, ...]:
        """The F operators, in the order of the columns of V."""
        ...

    @property
    def attention(self) -> Attention:
        """Which nodes may attend to which in a denoiser; `ancestors` only where E is constant."""
        ...

    @property
    def constant(self) -> tuple[np.ndarray, np.ndarray]:
        """Bool arrays `(n, f)` and `(n, n)`: entries of V and E that are the same in every architecture."""
        ...

    @property
    def datasets(self) -> Mapping[str, tuple[int, int]]:
        """Dataset -> number of classes and image side, for the sizes of the networks built for it."""
        ...

    @property
    def skeletons(self) -> tuple[tuple[int, int], ...]:
        """`channels` and `cells` of the networks to choose from for a user's own images, the cheapest first."""
        ...

    def to_str(self, arch: Arch) -> str: ...

    def from_str(self, text: str) -> Arch:
        """Parse the space's string; raises `UserError` where it is none of the space."""
        ...

    def encode(self, arch: Arch) -> tuple[np.ndarray, np.ndarray]:
        """`V (n, f)` and `E (n, n)`, float32 in {0, 1}."""
        ...

    def decode(self, V: np.ndarray, E: np.ndarray) -> Decoded:
        """Read quantised matrices, entries in {0, 1}; an invalid graph comes back with its reason."""
        ...

    def canonical(self, arch: Arch) -> str:
        """The key of what the architecture computes: equal keys, same function class."""
        ...

    def random(self, rng: np.random.Generator) -> Arch: ...

    def neighbours(self, arch: Arch) -> list[Arch]:
        """All architectures one edit away, without `arch`, in a fixed order."""
        ...

    def enumerate(self) -> Iterator[Arch] | None:
        """Every architecture once, in a fixed order, or None where there are too many."""
        ...

    @property
    def parameters(self) -> Mapping[str, tuple[str, ...]]:
        """The space as categorical parameters: name -> choices."""
        ...

    def to_parameters(self, arch: Arch) -> dict[str, str]: ...

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch: ...

    def size(self, arch: Arch, *, channels: int = ..., cells: int = ..., num_classes: int, image_size: int, stem_stride: int = ...) -> Size:
        """Size of the network that `build` gives with the same options, on one image of `image_size` pixels a side.

        A space that `HasResolution` takes that of the architecture instead.
        """
        ...

    def build(self, arch: Arch, *, channels: int = ..., cells: int = ..., num_classes: int, stem_stride: int = ...) -> nn.Module:
        """Images `(b, 3, h, w)` of any side -> logits; untrained, weights drawn from torch's global generator.

        `channels` is the width of the first stage, `cells` the depth of a stage in cells (1 where an architecture is a whole
        network). `stem_stride` divides the side before the first cell. The defaults are the benchmark's own network.
        """
        ...


@runtime_checkable
class HasNotes(Protocol):
    """A space with something that the user should read before a search."""

    notes: tuple[str, ...]
    """Sentences."""


@runtime_checkable
class HasParts(Protocol):
    """A space whose nodes belong to several stages or cells: predictors may tell apart what lies in which."""

    parts: tuple[int, ...]
    """Part of each node: 0, 1, ..., in the order of the nodes."""


@runtime_checkable
class HasRoles(Protocol):
    """A space that declares what its operators do.

    Without a declaration predictors read the roles off the operators' names (`diffnag.spaces.roles`), and a name can mislead: an
    operator called `identity` is taken for one that changes nothing. `python -m diffnag.list --space S` shows the roles of a space.

    Each operator has exactly one kind:

    - `absent`: the node does not exist; it and its edges are left out.
    - `input`: the input of the cell or network. Paths begin here. In a space without it they begin at nodes that no edge leads to.
    - `output`: collects what reaches it and computes nothing itself.
    - `blocks`: lets nothing through. What only leads to it, or only comes from it, is left out.
    - `passes`: hands on its input unchanged. Predictors remove it and join what is before it to what is behind it.
    - `pools`: an average or maximum over neighbouring pixels, without weights.
    - `layer`: any other computation; predictors assume that it normalises and is not linear.

    Besides, it may have properties:

    - `spatial`: the layer combines more than one pixel, as a 3x3 convolution does.
    - `widens`: a layer or pooling that gives more channels than it takes.
    - `shrinks`: a layer or pooling that gives a smaller map than it takes, for example by a stride of 2.
    """

    roles: Mapping[str, Set[Role]]
    """Operator -> its roles, for every operator, such as `{"conv3x3": {"layer", "spatial"}}`."""


@runtime_checkable
class NamesMeasures(Protocol):
    """A space whose benchmark measures other things than accuracy on some datasets."""

    measures: Mapping[str, str]
    """Dataset -> what its values are, where they are no accuracies in %; higher is better, unless the space `Minimises` it."""


@runtime_checkable
class Minimises(Protocol):
    """A space that `measures` something of which less is better."""

    minimised: frozenset[str]
    """Names of such measures, such as `perplexity`."""


@runtime_checkable
class Pictured(Protocol):
    """A space whose architectures are drawn otherwise than as their nodes and edges."""

    def picture(self, arch: Arch) -> Picture: ...


@runtime_checkable
class DecodesBatches(Protocol):
    """A space that decodes many graphs faster together; `diffnag.spaces.decoding` serves all spaces."""

    def decode_batch(self, V: np.ndarray, E: np.ndarray) -> list[Decoded]:
        """What `decode` returns for each row of `V (b, n, f)`, `E (b, n, n)`."""
        ...


@runtime_checkable
class Prunes(Protocol):
    """A space in which `decode` reads many graphs as one architecture: without what computes nothing, nodes in an order of its own."""

    def needs_no_pruning(self, V: np.ndarray, E: np.ndarray) -> bool:
        """Whether quantised matrices are valid with nothing in them that `decode` leaves out."""
        ...


@runtime_checkable
class ReadsTables(Protocol):
    """A space that can read its benchmark's own files; asked for by `python -m diffnag.data import`."""

    table_file: str
    """Name of the table as it lies in `$DIFFNAG_DATA`."""

    def read_table(self, path: Path, *, trust_pickle: bool) -> BenchmarkTable: ...


@runtime_checkable
class HasMoreTables(Protocol):
    """A space whose architectures were measured in other ways than their accuracy; see `diffnag.io.property_tables` for the files."""

    more_tables: Mapping[str, str]
    """What was measured, such as `latency` -> name of its file as it lies in `$DIFFNAG_DATA`."""


@runtime_checkable
class PrefersGenerator(Protocol):
    """A space that names the generator family to use for it by default; otherwise `sde`."""

    generator: str


@runtime_checkable
class PrefersOracle(Protocol):
    """A space that names the oracle which `--oracle auto` takes; otherwise the table or the shipped surrogate."""

    oracle: str


@runtime_checkable
class KeepsOracleFile(Protocol):
    """A space whose oracle reads a benchmark's file as it is: `python -m diffnag.data import` checks the user's copy and keeps it."""

    oracle_file: str
    """Name of the file as it lies in `$DIFFNAG_DATA` and in the user cache."""

    def check_oracle_file(self, path: Path) -> str:
        """What the file holds, in a few words; `UserError` says what is wrong with it."""
        ...


@runtime_checkable
class HasExamples(Protocol):
    """A space that is known by examples: its rules say which graphs are valid, and hardly any graph that they allow is like a real one.

    Generators learn from the examples of a split, where they would learn from random architectures otherwise. `random` stays a draw by the
    rules alone.
    """

    def examples(self) -> Sequence[Arch]:
        """Real architectures, each once, in a fixed order; raises `DataNotFound` where a file that holds them is not there."""
        ...


@runtime_checkable
class CrossesExamples(Protocol):
    """A space that makes one architecture of two: from few examples generators then learn how to go on, and not each example by heart."""

    def crossed(self, one: Arch, other: Arch, rng: np.random.Generator) -> Arch:
        """A random valid architecture that begins as `one` and ends as `other`, or `one` where none is found; the two may be the same."""
        ...


@runtime_checkable
class CountsInputs(Protocol):
    """A space in which the operator of a node says how many inputs it takes, and all that is computed is used.

    Every node but the last one leads to another node, so that a graph ends in its last node. Slots behind it have the operator `absent`,
    and no edges. A space may have further rules.
    """

    inputs: Mapping[str, tuple[int, int]]
    """Operator -> fewest and most inputs, for every operator but the one that is absent."""
