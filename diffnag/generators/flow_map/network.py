"""The flow map: a network that goes the whole way of a teacher's ODE in one evaluation, and the pairs that it learns from.

Song et al. (2023), consistency models; for categories, the answer is a softmax for each operator row and a sigmoid for each edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from diffnag.generators.diffusion import options as diffusion
from diffnag.generators.diffusion.denoiser import Denoiser
from diffnag.generators.diffusion.samplers import RecordCalls, dpmpp, time_grid
from diffnag.generators.diffusion.sde import from_json, to_json
from diffnag.generators.edge_groups import EdgeGroups
from diffnag.generators.flow_map.exclusions import Exclusions, excluded_pairs
from diffnag.generators.flow_map.options import Config
from diffnag.generators.network import GraphNetwork
from diffnag.io.checkpoint import config_from

if TYPE_CHECKING:
    from diffnag.generators.diffusion.sde import SDE
    from diffnag.protocols import SearchSpace

EVALUATIONS = 20
"""Evaluations of the teacher on a path."""
KEPT = (0, 8, 10, 12, 13, 14, 15)
"""States of a path that become pairs: pure noise, and noise sigma / alpha from 3.2 to 0.6, between which architectures are decided."""
AT_ONCE = 512
"""Paths that are followed at once."""


class FlowMap(GraphNetwork):
    """Maps a noisy state at any level to the architecture at the end of the teacher's probability-flow ODE.

    It has the form of the teacher and begins with its weights: at little noise the two agree. With `rounds` its joint head corrects
    the estimate more often than the teacher's, since here one evaluation has to settle what 20 settle there.

    With `exclusions`, operators and patterns of edges that exclude each other are not decided together: where they would be, the surest
    entries are decided first. Without, each entry is the likeliest by itself.

    Args:
        denoiser: The network inside, whose logits are the answer.
        lesson: Where its pairs come from, for a network that is trained.
        excluded: Pairs of choices that exclude each other, for a network that has `exclusions`; None reads them off the space.
    """

    family: ClassVar[str] = "flow-map"
    config_type: ClassVar[type] = Config
    excluded: Tensor
    """`(p, 2)`, for a network that has `exclusions`."""

    def __init__(self, space: SearchSpace, config: Config, denoiser: Denoiser, lesson: Lesson | None = None, excluded: Tensor | None = None) -> None:
        super().__init__(space, config)
        self.denoiser, self.lesson = denoiser, lesson
        if config.exclusions:
            self.register_buffer("excluded", excluded_pairs(space, denoiser.groups) if excluded is None else excluded)

    @property
    def sde(self) -> SDE:
        """The forward process of the teacher."""
        return self.denoiser.sde

    @classmethod
    def of(cls, space: SearchSpace, config: Config, teacher: Denoiser, *, seed: int) -> Self:
        """A network that begins as its teacher and will learn from it; pairs are drawn by `seed`."""
        inside = deepcopy(teacher).requires_grad_(True)
        inside.config = replace(inside.config, rounds=config.rounds)
        made = cls(space, config, inside, Lesson(teacher, config.paths, seed))
        made.split = teacher.split
        return made

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Logits `(b, d)` of the architecture that `x (b, d)` at times `t (b,)` leads to."""
        return self.denoiser.logits(x, t)

    def mapped(self, x: Tensor, t: Tensor) -> Tensor:
        """The likeliest architecture `(b, d)` in {-1, 1} that `x (b, d)` at the time `t (1,)` leads to."""
        logits = self(x, t)
        answer = self.denoiser.decided(logits)
        return self._settled(logits, answer) if self.config.exclusions else answer

    @cached_property
    def exclusions(self) -> Exclusions:
        """What its choices exclude, on its device at first use."""
        return Exclusions(self.excluded, self.packing.nodes, self.packing.operators, self.denoiser.groups)

    def _settled(self, logits: Tensor, answer: Tensor) -> Tensor:
        """An `answer (b, d)` in {-1, 1} whose rows that contradict themselves are decided anew, by their `logits (b, d)`."""
        groups, cut = self.denoiser.groups, self.packing.nodes * self.packing.operators
        there = (answer + 1) / 2
        patterns = one_hot(groups.formed(there[:, cut:]), groups.patterns.shape[1])
        chosen = torch.cat([there[:, :cut], patterns.flatten(1)], dim=1)
        (wrong,) = self.exclusions.contradict(chosen).nonzero(as_tuple=True)
        if not len(wrong):
            return answer
        rows, edges = self.within_space(logits[wrong])
        log_p = torch.cat([rows.log_softmax(2).flatten(1), groups.energies(edges).log_softmax(2).flatten(1)], dim=1)
        settled = self.exclusions.settled(log_p, chosen[wrong])
        wired = torch.einsum("bgk,gkm->bm", settled[:, cut:].unflatten(1, patterns.shape[1:]), groups.patterns)
        edges = torch.where(groups.grouped, wired, there[wrong, cut:])
        return answer.index_copy(0, wrong, 2 * torch.cat([settled[:, :cut], edges], dim=1) - 1)

    def loss(self, rows: int, *, generator: torch.Generator, share: slice) -> Tensor:
        """Cross-entropy of `rows` pairs, unreduced, of which the `share` is computed."""
        if self.lesson is None:
            raise ValueError("a network that was loaded has no teacher to learn from")
        pairs = self.lesson.pairs(self.device)
        path = torch.randint(len(pairs.ends), (rows,), generator=generator)[share].to(self.device)
        later = torch.randint(len(pairs.times), (rows,), generator=generator)
        level = torch.where(torch.rand(rows, generator=generator) < self.config.pure, 0, later)[share].to(self.device)
        return self.denoiser.surprise(pairs.states[level, path], pairs.times[level], pairs.ends[path]) / self.packing.size

    def described(self) -> Mapping[str, Any]:
        """The forward process and the network inside."""
        return {"sde": to_json(self.sde), "denoiser": asdict(self.denoiser.config)}

    @classmethod
    def rebuilt(cls, space: SearchSpace, config: Config, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The network of a file, before its weights are set."""
        inside = config_from(diffusion.Config, meta["denoiser"])
        groups = EdgeGroups(*(tensors[f"denoiser.{name}"] for name in EdgeGroups._fields)) if inside.edge_groups else None
        return cls(space, config, Denoiser(space, from_json(meta["sde"]), inside, groups), excluded=tensors.get("excluded"))


class Pairs(NamedTuple):
    """States on `m` paths at `k` times, and the architectures at their ends."""

    states: Tensor
    """`(k, m, d)`"""
    times: Tensor
    """`(k,)`"""
    ends: Tensor
    """`(m, d)` in {-1, 1}"""


class Lesson:
    """A teacher and the pairs that are read off its paths, which are followed when they are first needed.

    They depend on teacher and seed alone, so that an interrupted training finds the same pairs again.
    """

    def __init__(self, teacher: Denoiser, paths: int, seed: int) -> None:
        self._teacher, self._paths, self._seed = teacher, paths, seed
        self._pairs: Pairs | None = None

    @torch.no_grad()
    def pairs(self, device: torch.device) -> Pairs:
        """All pairs, on `device`."""
        if self._pairs is None:
            teacher, noise = self._teacher.to(device), torch.Generator().manual_seed(self._seed)
            ts, d = time_grid(teacher.sde, EVALUATIONS, device=device), teacher.packing.size
            made = Pairs(torch.empty(len(KEPT), self._paths, d, device=device), ts[list(KEPT)], torch.empty(self._paths, d, device=device))
            for first in range(0, self._paths, AT_ONCE):
                rows = slice(first, min(first + AT_ONCE, self._paths))
                way = RecordCalls(teacher.score)
                x = teacher.sde.prior((rows.stop - rows.start, d), generator=noise, device=device)
                made.ends[rows] = teacher.decided(dpmpp(way, teacher.sde, x, ts, generator=noise))
                made.states[:, rows] = torch.stack([way.calls[k][0] for k in KEPT])
            self._pairs = made
        return self._pairs
