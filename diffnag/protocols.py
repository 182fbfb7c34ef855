"""What a plug-in must offer. Anything with these members fits; nothing has to be subclassed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from diffnag.arch import Arch, ArchBatch
    from diffnag.datasets.images import ImageDataset
    from diffnag.datasets.tasks import Task
    from diffnag.generators.base import Generation, Steer
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
    """A set of architectures. It knows no accuracies; those are the oracles'."""

    name: str
    nodes: int
    """N, the most nodes an architecture has."""
    operators: tuple[str, ...]
    """The F operators, in the order of the columns of V."""
    attention: Attention
    """Which nodes may attend to which in a denoiser; `ancestors` only where E is constant."""
    constant: tuple[np.ndarray, np.ndarray]
    """Bool arrays `(n, f)` and `(n, n)`: entries of V and E that are the same in every architecture."""
    datasets: Mapping[str, tuple[int, int]]
    """Dataset -> number of classes and image side, for the sizes of the networks built for it."""
    skeletons: tuple[tuple[int, int], ...]
    """`channels` and `cells` of the networks to choose from for a user's own images, the cheapest first."""

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

    def size(
        self, arch: Arch, *, channels: int = ..., cells: int = ..., num_classes: int, image_size: int, stem_stride: int = ...
    ) -> Size:
        """Size of the network that `build` gives with the same options, on one image of `image_size` pixels a side."""
        ...

    def build(
        self, arch: Arch, *, channels: int = ..., cells: int = ..., num_classes: int, stem_stride: int = ...
    ) -> nn.Module:
        """Images `(b, 3, h, w)` of any side -> logits; untrained, weights drawn from torch's global generator.

        `channels` is the width of the first stage, `cells` the depth of a stage in cells (1 where an architecture is a whole
        network). `stem_stride` divides the side before the first cell. The defaults are the benchmark's own network.
        """
        ...


@runtime_checkable
class TrainsSmall(Protocol):
    """A space with a reduced skeleton: asked for by `python -m diffnag.build_meta_dataset`."""

    def build_small(self, arch: Arch, *, num_classes: int, image_size: int) -> nn.Module:
        """A network that trains in seconds and in which the choice of the architecture still matters."""
        ...


@runtime_checkable
class HasResNetLike(Protocol):
    """A space that names its architecture closest to a residual network, to be compared with."""

    resnet_like: str
    """As the space writes it."""


@runtime_checkable
class HasParts(Protocol):
    """A space whose nodes belong to several stages or cells: predictors may tell apart what lies in which."""

    parts: tuple[int, ...]
    """Of each node, 0, 1, ... in their order."""


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
    """Dataset -> what its values are, higher being better, where they are no accuracies in %."""


@runtime_checkable
class Pictured(Protocol):
    """A space whose architectures are drawn otherwise than as their nodes and edges."""

    def picture(self, arch: Arch) -> Picture: ...


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


class Generator(Protocol):
    """Draws architectures of one space: a trained network of some family, or a rule."""

    space: SearchSpace
    steers: frozenset[str]
    """Kinds of guidance that it supports: `gradient`, `denoised`, `particles`. The last needs only `sample` and `vary`."""
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
class PrefersGenerator(Protocol):
    """A space that names the generator family to use for it by default; otherwise `sde`."""

    generator: str


@runtime_checkable
class Predictor(Protocol):
    """Predicts a value (higher is better) of architectures. The class is made without arguments."""

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Learn from all labels so far: `y (m,)` belongs to `archs`. Called anew, with all, for each update."""
        ...

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean `(b,)` and standard deviation `(b,)`."""
        ...


@runtime_checkable
class NeedsSetup(Protocol):
    """A predictor that needs to know space and task before it is used."""

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        """Called once, before anything else. The task carries the dataset's name, a user's own images, and descriptors."""
        ...


@runtime_checkable
class RelaxedPredictor(Protocol):
    """A predictor that is differentiable on relaxed architectures: allows `denoised` guidance."""

    def forward(self, V: Tensor, E: Tensor, mask: Tensor) -> Tensor:
        """`V (b, n, f)`, `E (b, n, n)` in [0, 1], `mask (b, n)`, on the CPU -> mean `(b,)`, in the units of `predict`."""
        ...


@runtime_checkable
class NoisyPredictor(Protocol):
    """A noise-aware predictor: allows `gradient` guidance."""

    def forward_noisy(self, V: Tensor, E: Tensor, mask: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean `(b,)` and variance `(b,)` of what `predict` would return for the clean architecture behind a noisy one.

        `V (b, n, f)` and `E (b, n, n)` are the clean entries, -1 or 1, plus normal noise of standard deviation `noise (b,)`: states
        x_t / alpha in the data's scale and noise levels sigma / alpha, whatever the diffusion. All are on the CPU.
        """
        ...


@runtime_checkable
class HasPrior(Protocol):
    """A predictor that can predict before any `fit`: it was trained on source labels, or needs none.

    With an attribute `prior_labels: float` a search leaves the prior behind after so many labels: up to its `initial` labels it
    then takes unguided samples.
    """

    @property
    def labels_source(self) -> Mapping[str, int]:
        """Origin -> number of (arch, dataset, split, epochs) values that it was trained on."""
        ...


class Oracle(Protocol):
    """Answers what an architecture is worth. Nothing else holds labels. The class is made without arguments."""

    kind: str
    """What the figures are, in one word: `table`, `surrogate`, ..."""

    def setup(self, *, space: SearchSpace) -> None:
        """Open the data; raises `DataNotFound` where it is not there."""
        ...

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        """Dataset -> its splits."""
        ...

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        """Accuracy in %, or what the space `measures` instead; `epochs=None` is the longest training there is.

        Raises `UserError` for what is not there.
        """
        ...

    def provenance(self) -> Mapping[str, str | float]:
        """Version, checksum and whatever else stands beside the figures in every result."""
        ...


@runtime_checkable
class MultiFidelity(Protocol):
    """An oracle whose evaluation can be watched, and stopped early."""

    epochs: int
    """Of an evaluation that is not stopped."""

    def stages(self, arch: Arch, *, dataset: str, split: str) -> Iterator[tuple[int, float]]:
        """`(epochs so far, accuracy in %)` at some points of one evaluation, the last of them after `epochs`.

        Work is done when the next point is asked for; who asks no more stops the evaluation.
        """
        ...


@runtime_checkable
class NeedsImages(Protocol):
    """An oracle that measures on a user's own images."""

    def set_images(
        self, images: ImageDataset, *, dataset: str, seconds: float | None, epochs: int | None, seed: int, device: str
    ) -> None:
        """Call them `dataset` from now on; called once, after `setup`.

        One full evaluation should cost about `seconds` of one core; `epochs` says how long it trains, None leaves both to
        the oracle.
        """
        ...
