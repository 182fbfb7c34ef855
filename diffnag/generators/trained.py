"""The generator of a trained network whose draws are matrices: what is left to a family is how it draws and moves."""

from __future__ import annotations

import hashlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from diffnag.arch import ArchBatch
from diffnag.command.options import check_numbers
from diffnag.errors import UserError
from diffnag.generators.base import Generation, Steer, by_particles, by_pool, refuse_conditions, refuse_count, refuse_no_start
from diffnag.generators.pieces import Pieces
from diffnag.guidance.choice import choose
from diffnag.protocols import Decoded, Prunes
from diffnag.spaces.decoding import decode_all

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.generators.diffusion.trace import Trace
    from diffnag.protocols import SearchSpace

CHUNK = 512
"""Samples that are drawn at once: on two cores score networks are faster so than with 256 or 1,024."""

THRESHOLD = "threshold"
"""The paper's rule, by which metrics are computed."""


class Matrices(NamedTuple):
    """A batch of quantised draws."""

    V: np.ndarray
    """`(b, n, f)` uint8 in {0, 1}"""
    E: np.ndarray
    """`(b, n, n)` uint8 in {0, 1}"""

    @classmethod
    def of(cls, V: Tensor, E: Tensor) -> Matrices:
        """Matrices `V (b, n, f)`, `E (b, n, n)` whose entries are 0 or 1 already."""
        return cls(V.cpu().numpy().astype(np.uint8), E.cpu().numpy().astype(np.uint8))


class Noise:
    """Random numbers of a draw, on the CPU, so that a seed means the same on every device.

    Numbers are drawn for `CHUNK` rows, of which the first are taken: a sample does not depend on how many are drawn with it.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, rows: int, *size: int, device: torch.device | str = "cpu") -> Tensor:
        """Standard normal `(rows, *size)`."""
        return torch.randn(CHUNK, *size, generator=self._generator)[:rows].to(device)

    def uniform(self, rows: int, *size: int, device: torch.device | str = "cpu") -> Tensor:
        """Uniform in [0, 1), `(rows, *size)`."""
        return torch.rand(CHUNK, *size, generator=self._generator)[:rows].to(device)

    def log_uniform(self, low: float, high: float) -> float:
        """A number between `low` and `high` whose logarithm is uniform."""
        return math.exp(math.log(low) + (math.log(high) - math.log(low)) * self.uniform(1).item())

    def choice(self, probabilities: Tensor) -> Tensor:
        """One category for each row of `probabilities (rows, ..., k)`, which need not be normalised: int64 `(rows, ...)`."""
        return self.pick(self.uniform(len(probabilities), *probabilities.shape[1:-1], device=probabilities.device), probabilities)

    @staticmethod
    def pick(u: Tensor, probabilities: Tensor) -> Tensor:
        """The category in which the share `u (...)` of the cumulated `probabilities (..., k)` lies."""
        cumulated = probabilities.cumsum(-1)
        return (cumulated <= u[..., None] * cumulated[..., -1:]).sum(-1).clamp_max(probabilities.shape[-1] - 1)


class OwnNoise(Noise):
    """Random numbers of a likelihood: each architecture has its own, decided by itself and the seed, whatever else is in its batch."""

    def __init__(self, seed: int, batch: ArchBatch) -> None:
        parts = zip(*(part.cpu().numpy().astype(np.uint8) for part in (batch.V, batch.E)), strict=True)
        digests = (hashlib.blake2b(V.tobytes() + E.tobytes(), digest_size=8, key=str(seed).encode()).digest() for V, E in parts)
        self._rows = [torch.Generator().manual_seed(int.from_bytes(digest) >> 1) for digest in digests]

    def normal(self, rows: int, *size: int, device: torch.device | str = "cpu") -> Tensor:
        """Standard normal `(rows, *size)`, for the first architectures of the batch."""
        return torch.stack([torch.randn(size, generator=own) for own in self._rows[:rows]]).to(device)

    def uniform(self, rows: int, *size: int, device: torch.device | str = "cpu") -> Tensor:
        """Uniform in [0, 1), `(rows, *size)`, for the first architectures of the batch."""
        return torch.stack([torch.rand(size, generator=own) for own in self._rows[:rows]]).to(device)


class NetworkGenerator(ABC):
    """Draws architectures of a space from a trained network.

    What a family draws are `Matrices`; where it is something else, `_quantise` says how it is read.

    Args:
        space: The search space.
        network: A network of the family; raises `UserError` for one of another space.
        sampling: Default options of a draw.
    """

    Sampling: ClassVar[type]
    steers: frozenset[str] = frozenset({"particles"})
    conditions: tuple[str, ...] = ()

    def __init__(self, space: SearchSpace, network: Any, sampling: Any = None) -> None:
        if network.space_name != space.name:
            raise UserError(f"the network is of space {network.space_name!r}, not of {space.name!r}")
        self.space, self.network = space, network
        self.sampling = self._checked(self.Sampling() if sampling is None else sampling)
        self._pieces = Pieces()

    @abstractmethod
    def _draw(self, b: int, sampling: Any, steer: Steer, kind: str, noise: Any) -> Any:
        """Draw `b` samples, `b <= CHUNK`, steered by `kind` unless that is `none`, `particles` or `pool`."""

    @abstractmethod
    def _near(self, batch: ArchBatch, noise: Any) -> Any:
        """Draw one sample near each architecture of a batch of up to `CHUNK`; a move leaves the generator's law in place."""

    def sample(self, n: int, *, seed: int, steer: Steer = Steer(), sampling: Any = None) -> Generation:  # noqa: B008 - frozen
        """Draw `n` architectures, with a tilt from the law `p(A) exp(S z(A))`; see `diffnag.guidance`."""
        sampling = self.sampling if sampling is None else self._checked(sampling)
        refuse_conditions(self, steer)
        refuse_count(n)
        tilt, before = steer.tilt, 0 if steer.tilt is None else steer.tilt.items
        kind = "none" if tilt is None else choose(tilt.predictor, getattr(sampling, "guidance", "auto"), self.steers)
        if tilt is not None:
            tilt.predictor.check_for(self.space)
        begin, noise, rule = time.perf_counter(), self._random(seed), getattr(sampling, "quantise", THRESHOLD)

        def more() -> list[Arch]:
            return [item.arch for item in self._decode(self._draw(CHUNK, sampling, steer, kind, noise)) if item.arch is not None]

        with torch.no_grad(), evaluations(self.network.evaluated) as counted, self._pieces.cores(n, kind):
            drawn = [self._draw(b, sampling, steer, kind, noise) for b in chunks(n)]
            by_threshold = decoded = [item for one in drawn for item in self._decode(one)]
            if rule != THRESHOLD:
                decoded = [item for one in drawn for item in self._decode(one, rule)]
            trace = self._trace(drawn, decoded, sampling, noise)
            if kind == "particles":
                decoded = by_particles(decoded, steer, lambda now: [item.arch for item in self._moved(now, noise)], seed=seed)
            if kind == "pool":
                decoded = by_pool(decoded, steer, more, seed=seed)
        if kind in ("particles", "pool"):  # they replace samples
            by_threshold = [old if old.arch is None else new for old, new in zip(by_threshold, decoded, strict=True)]
        return Generation(
            tuple(decoded), tuple(by_threshold), kind, nfe=math.ceil(counted.rows / n),
            predictor_nfe=0 if tilt is None else 1 + math.ceil((tilt.items - before) / n),
            wall_s=time.perf_counter() - begin, trace=trace, unpruned=partial(self._unpruned, drawn),
        )  # fmt: skip

    def vary(self, archs: Sequence[Arch], n: int, *, seed: int) -> Generation:
        """Draw `n` architectures near those of `archs`, which are taken in turn."""
        refuse_count(n)
        refuse_no_start(archs)
        begin = time.perf_counter()
        with torch.no_grad(), evaluations(self.network.evaluated) as counted, self._pieces.cores(n, "none"):
            near = tuple(self._moved([archs[k % len(archs)] for k in range(n)], self._random(seed)))
        return Generation(near, near, "none", math.ceil(counted.rows / n), 0, time.perf_counter() - begin)

    def provenance(self) -> Mapping[str, str]:
        """Family, split, checksum of the file and the command that made it; empty texts where they are not known."""
        return {"generator": self.network.family, "split": self.network.split, **self.network.origin}

    def _checked(self, sampling: Any) -> Any:
        """The options, if they are accepted; `UserError` names the first that is not."""
        if not isinstance(sampling, self.Sampling):
            raise UserError(f"the family {self.network.family!r} takes its own Sampling options, not a {type(sampling).__name__}")
        check_numbers(sampling)
        return sampling

    def _batches(self, archs: Sequence[Arch], rows: int = CHUNK) -> Iterator[ArchBatch]:
        """Architectures in batches of up to `rows`, where the network is."""
        for first in range(0, len(archs), rows):
            yield ArchBatch.of(archs[first : first + rows], self.space, device=self.network.device)

    def _random(self, seed: int) -> Any:
        """What draws and moves take their random numbers from."""
        return Noise(seed)

    def _quantise(self, drawn: Any, rule: str = THRESHOLD) -> Matrices:
        """What `_draw` and `_near` return as matrices, by a rule of the family's options or the paper's."""
        del rule
        matrices: Matrices = drawn
        return matrices

    def _trace(self, drawn: Sequence[Any], decoded: Sequence[Decoded], sampling: Any, noise: Any) -> Trace | None:
        """The way of one sample, for a family that shows it."""
        del drawn, decoded, sampling, noise
        return None

    def _moved(self, archs: Sequence[Arch], noise: Any) -> Iterator[Decoded]:
        for batch in self._batches(archs):
            yield from self._decode(self._near(batch, noise))

    def _decode(self, drawn: Any, rule: str = THRESHOLD) -> list[Decoded]:
        return decode_all(self.space, *self._quantise(drawn, rule))

    def _unpruned(self, drawn: Sequence[Any]) -> int | None:
        if not isinstance(space := self.space, Prunes):
            return None
        return sum(space.needs_no_pruning(v, e) for one in drawn for v, e in zip(*self._quantise(one), strict=True))


class Evaluations:
    """How often a network was evaluated: `rows`, the samples in all batches that it saw."""

    rows = 0


@contextmanager
def evaluations(network: nn.Module) -> Iterator[Evaluations]:
    """Count the calls of a network; its `forward` returns a tensor, or a tuple of tensors, of one row a sample."""
    counted = Evaluations()

    lock = Lock()  # pieces of a batch are evaluated at once

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        with lock:
            counted.rows += len(output[0] if isinstance(output, tuple) else output)

    handle = network.register_forward_hook(hook)
    try:
        yield counted
    finally:
        handle.remove()


def chunks(n: int) -> list[int]:
    """Sizes of the batches in which `n` samples are drawn."""
    return [min(CHUNK, n - first) for first in range(0, n, CHUNK)]
