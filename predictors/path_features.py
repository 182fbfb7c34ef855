"""Path features: numbers that describe what an architecture computes.

They count what lies on the live paths of the graph, how long these paths are, and which share of the signal each of them carries. The
roles of the operators (`diffnag.spaces.roles`) decide what counts. Operators that block, and nodes that only lead to them or come from
them, leave no trace. Operators that pass their input on are dissolved: what is before them is joined to what is behind them. So the
architectures of one functional class share their features. In a space with several `parts` (stages, cells) operators are counted for
each part. If operators of the space widen or shrink maps, the features also hold how often that has happened on the way to each node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from diffnag.arch import ArchBatch
from diffnag.errors import UserError
from diffnag.predictors.plain_features import plain_features, varying
from diffnag.protocols import HasParts, HasRoles
from diffnag.spaces.draws import random_archs
from diffnag.spaces.roles import roles_of

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import Role, SearchSpace

POOLED = 0.5
"""Share of the signal's variance that is left after a pooling."""
REFERENCE_DRAWS = 1000
"""Random architectures over which features are standardised."""
LEAST = 1e-9
"""Columns of a smaller standard deviation are taken for constant."""
MOST_AMBIGUOUS = 0.01
"""Share of random architectures whose features may say less than their `canonical` form does."""
MOST_NODES = 64
"""Features compare all pairs of nodes of a thousand random architectures: beyond this they take minutes."""
REMEMBERED = 30_000
"""Architectures whose features are kept, because a search asks for the same ones again and again."""
Groups = tuple[np.ndarray, ...]
"""Groups of features, `(b, k)` each; predictors may weigh groups differently."""


@dataclass(frozen=True)
class RoleMasks:
    """Roles of the `f` operators as bool arrays `(f,)`, in the order of the columns of V. `passes` holds for input and output too."""

    absent: np.ndarray
    inputs: np.ndarray
    blocks: np.ndarray
    passes: np.ndarray
    pools: np.ndarray
    spatial: np.ndarray
    widens: np.ndarray
    shrinks: np.ndarray

    @classmethod
    def of(cls, roles: Mapping[str, Set[Role]]) -> Self:
        """Masks of `roles` in their order; `roles_of(space)` gives them in the order of the space's operators."""

        def having(*words: Role) -> np.ndarray:
            return np.array([not own.isdisjoint(words) for own in roles.values()])

        return cls(
            absent=having("absent"), inputs=having("input"), blocks=having("blocks"), passes=having("passes", "input", "output"),
            pools=having("pools"), spatial=having("spatial"), widens=having("widens"), shrinks=having("shrinks"),
        )  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """Standardisation of one group of features: which columns are kept, and how they are shifted and divided."""

    kept: np.ndarray
    """Bool `(k,)`."""
    centre: np.ndarray
    """Means of the kept columns."""
    spread: np.ndarray | float
    """Standard deviations of the kept columns, or one number for all."""

    @classmethod
    def by_column(cls, reference: np.ndarray) -> Self:
        """Every column that varies in `reference (m, k)` gets mean 0 and standard deviation 1 there; the others are left out."""
        kept = reference.std(0) > LEAST
        return cls(kept, reference.mean(0)[kept], reference.std(0)[kept])

    @classmethod
    def together(cls, reference: np.ndarray, kept: np.ndarray) -> Self:
        """All `kept` columns are divided by one number, so that their mean variance in `reference (m, k)` is 1.

        Distances then count the entries in which two architectures differ, and no column is lost that is rare in `reference`.
        """
        columns = reference[:, kept]
        power = float(columns.var(0).mean()) if kept.any() else 0.0
        return cls(kept, columns.mean(0), power**0.5 or 1.0)

    def __call__(self, group: np.ndarray) -> np.ndarray:
        """`(b, k)` -> the kept columns, standardised."""
        return (group[:, self.kept] - self.centre) / self.spread


class PathFeatures:
    """Features of a space's architectures in the groups of `path_features`, standardised over random architectures.

    Args:
        space: Its declared roles count, else what the operators' names show.
        plain: Whether `plain_features` follow as a last group. Without them different architectures can have equal features, for
            example where an operator that changes its input has the role `passes`. None adds them if the space declares no roles,
            because names can mislead, or if `ambiguous` features are more than a share `MOST_AMBIGUOUS`. Other spaces lose a little
            by the group (experiments/plain_features.py).

    Features of up to `REMEMBERED` architectures are kept. Raises `UserError` for a space of more than `MOST_NODES` nodes.
    """

    _row: dict[Arch, int]
    _known: Groups

    def __init__(self, space: SearchSpace, *, plain: bool | None = None) -> None:
        if space.nodes > MOST_NODES:
            raise UserError(f"features of paths are for spaces of at most {MOST_NODES} nodes, {space.name!r} has {space.nodes}; use random-forest")
        self._space, self._roles = space, RoleMasks.of(roles_of(space))
        self._parts = np.array(space.parts if isinstance(space, HasParts) else (0,) * space.nodes)
        reference = random_archs(space, REFERENCE_DRAWS, seed=0)
        V, E = self._matrices(reference)
        groups = path_features(V, E, self._roles, self._parts)
        if plain is None:
            plain = not isinstance(space, HasRoles) or ambiguous(groups, map(space.canonical, reference)) > MOST_AMBIGUOUS
        self._scales = [Scale.by_column(group) for group in groups]
        self._plain = Scale.together(plain_features(V, E), varying(space)) if plain else None
        self._forget()

    def __call__(self, archs: Sequence[Arch]) -> Groups:
        """One array `(b, k)` for each group."""
        fresh = [arch for arch in dict.fromkeys(archs) if arch not in self._row]
        if fresh and len(self._row) + len(fresh) > REMEMBERED:
            self._forget()
            fresh = list(dict.fromkeys(archs))
        if fresh:
            self._row |= {arch: row for row, arch in enumerate(fresh, start=len(self._row))}
            self._known = tuple(np.concatenate(parts) for parts in zip(self._known, self._standardised(fresh), strict=True))
        rows = [self._row[arch] for arch in archs]
        return tuple(group[rows] for group in self._known)

    @property
    def has_plain(self) -> bool:
        """Whether the last group holds the `plain_features`."""
        return self._plain is not None

    def _forget(self) -> None:
        """Drop the features that were kept."""
        self._row = {}
        scales = [*self._scales, self._plain] if self._plain else self._scales
        self._known = tuple(np.empty((0, len(scale.centre))) for scale in scales)

    def _standardised(self, archs: Sequence[Arch]) -> Groups:
        """Groups of standardised features, computed afresh."""
        V, E = self._matrices(archs)
        groups = path_features(V, E, self._roles, self._parts)
        standardised = tuple(scale(group) for scale, group in zip(self._scales, groups, strict=True))
        return (*standardised, self._plain(plain_features(V, E))) if self._plain else standardised

    def _matrices(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """V `(b, n, f)` and E `(b, n, n)`."""
        batch = ArchBatch.of(archs, self._space)
        return batch.V.numpy(), batch.E.numpy()


def ambiguous(groups: Groups, keys: Iterable[str]) -> float:
    """Share of the different `keys` whose architectures have the same features as those of another key.

    Args:
        groups: Features of m architectures, `(m, k)` each.
        keys: Their `canonical` forms.
    """
    features = np.round(np.concatenate(groups, axis=1), 9)
    owners: dict[bytes, set[str]] = {}
    for row, key in zip(features + 0.0, keys, strict=True):  # + 0.0 turns -0 into 0
        owners.setdefault(row.tobytes(), set()).add(key)
    shared = set[str]().union(*(own for own in owners.values() if len(own) > 1))
    return len(shared) / len(set[str]().union(*owners.values()))


def path_features(V: np.ndarray, E: np.ndarray, roles: RoleMasks, parts: np.ndarray | None = None) -> Groups:
    """Features of a batch of graphs in two or three groups.

    Args:
        V: Operators `(b, n, f)`, one-hot; a row of zeros means that the node does not exist.
        E: Edges `(b, n, n)` in {0, 1}, upper triangular.
        roles: Roles of the f operators.
        parts: Part of each node `(n,)`, numbers from 0 to p - 1; by default all nodes are in one part.

    Returns:
        `structure (b, p f + 20)`: number of live nodes with each operator in each part, lengths of paths, statistics of the signal.
        `flow (b, f + (f + 1)^2)`: square roots of the number of paths through each operator, and through each pair of operators that
        follow each other, where the ends of a path count as an operator.
        `scale (b, 4 n + 2)`, only if an operator widens or shrinks: number of widenings on the way to each node, and number of layers
        after 0, 1, ..., n widenings; then the same for shrinkings.

    The output of a graph is its last node that exists.
    """
    parts = np.zeros(V.shape[1], dtype=int) if parts is None else parts
    V = V * ~roles.absent  # rows of absent nodes become zero
    sources = _sources(V, E, roles)
    V, E, output, live = _live(V.astype(np.float64), E.astype(np.float64), sources, roles)
    b, n, f = V.shape
    rows = np.arange(b)
    passing, pooling, spatial = V @ roles.passes, V @ roles.pools, V @ roles.spatial
    working = live * (1 - passing)  # live nodes that are not dissolved
    layer = working * (1 - pooling)
    onward = _paths_to(output, E)
    marks = np.zeros((b, n, f + 1))  # number of paths to and with a node by their last operator; index f counts paths without one
    pairs = np.zeros((b, f + 1, f + 1))
    for j in range(n):
        arriving = np.einsum("bi,bik->bk", E[:, :, j], marks)
        arriving[:, f] += live[:, j] * sources[:, j]
        pairs[:, :, :f] += (onward[:, j] * working[:, j])[:, None, None] * arriving[:, :, None] * V[:, j, None, :]
        marks[:, j] = passing[:, j, None] * arriving
        marks[:, j, :f] += working[:, j, None] * arriving.sum(1, keepdims=True) * V[:, j]
    pairs[:, :, f] = marks[rows, output]
    through = pairs[:, :, :f].sum(1)
    paths = pairs[:, :, f].sum(1)
    lengths = [
        extreme
        for weight in (working, layer, layer * spatial, working * pooling, working * (spatial + pooling))
        for extreme in _lengths(weight, E, live, output, sources)
    ]
    mean_length = np.divide(through @ (1.0 - np.maximum(roles.pools, roles.passes)), paths, out=np.zeros(b), where=paths > 0)
    identities = pairs[:, f, f]
    structure = np.column_stack([
        *((V * working[..., None])[:, parts == part].sum(1) for part in range(parts.max() + 1)), *lengths, mean_length, paths, identities,
        _signal(E, layer, working * pooling, spatial, output, sources),
    ])  # fmt: skip
    flow = np.sqrt(np.column_stack([through, pairs.reshape(b, -1)]))
    if not (roles.widens | roles.shrinks).any():
        return structure, flow
    return structure, flow, np.column_stack([_scale(V @ role, E, live, layer, output) for role in (roles.widens, roles.shrinks)])


def _sources(V: np.ndarray, E: np.ndarray, roles: RoleMasks) -> np.ndarray:
    """Nodes where paths begin, `(b, n)` in {0, 1}: inputs, or nodes without an incoming edge in a space that has no inputs."""
    sources = V @ roles.inputs if roles.inputs.any() else V.any(2) & ~E.any(1)
    return np.asarray(sources, dtype=np.float64)


def _live(
    V: np.ndarray, E: np.ndarray, sources: np.ndarray, roles: RoleMasks
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """V, E without dead edges, index of the output node `(b,)`, and mask of the nodes on a path from a source to it `(b, n)`."""
    b, n, _ = V.shape
    present = V.sum(2) > 0
    output = n - 1 - present[:, ::-1].argmax(1)
    active = present * (1 - V @ roles.blocks)
    reached, leads = np.zeros((b, n)), np.zeros((b, n))
    for j in range(n):
        reached[:, j] = active[:, j] * np.maximum(sources[:, j], (E[:, :, j] * reached).max(1))
    leads[np.arange(b), output] = 1
    for i in reversed(range(n)):
        leads[:, i] = active[:, i] * np.maximum(leads[:, i], (E[:, i] * leads).max(1))
    live = reached * leads
    return V, E * live[:, :, None] * live[:, None, :], output, live


def _paths_to(output: np.ndarray, E: np.ndarray) -> np.ndarray:
    """Number of paths from each node to the output, `(b, n)`."""
    b, n = E.shape[:2]
    onward = np.zeros((b, n))
    onward[np.arange(b), output] = 1
    for i in reversed(range(n)):
        onward[:, i] += np.einsum("bj,bj->b", E[:, i], onward)
    return onward


def _lengths(weight: np.ndarray, E: np.ndarray, live: np.ndarray, output: np.ndarray, sources: np.ndarray) -> list[np.ndarray]:
    """Lengths `(b,)` of the longest and of the shortest path from a source to the output; -1 if there is no path.

    Each node on a path adds its `weight (b, n)` to the length.
    """
    answers = []
    for sign in (1, -1):
        best = np.full(weight.shape, -np.inf)
        for j in range(weight.shape[1]):
            before = np.where(E[:, :, j] > 0, best, -np.inf).max(1)
            before = np.maximum(before, np.where(live[:, j] * sources[:, j] > 0, 0.0, -np.inf))
            best[:, j] = before + sign * weight[:, j]
        length = best[np.arange(len(best)), output]
        answers.append(np.where(np.isfinite(length), sign * length, -1))
    return answers


def _scale(steps: np.ndarray, E: np.ndarray, live: np.ndarray, layer: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Largest number of `steps (b, n)` on a path to and with each node, then number of layers with 0, 1, ..., n steps: `(b, 2 n + 1)`.

    A node that is not live gets the number of the output, after which nothing changes.
    """
    b, n = steps.shape
    taken = np.zeros((b, n))
    for j in range(n):
        taken[:, j] = live[:, j] * (steps[:, j] + (E[:, :, j] * taken).max(1))
    counts = ((taken[..., None] == np.arange(n + 1)) * layer[..., None]).sum(1)
    return np.column_stack([np.where(live > 0, taken, taken[np.arange(b), output, None]), counts])


def _signal(
    E: np.ndarray, layer: np.ndarray, pool: np.ndarray, spatial: np.ndarray, output: np.ndarray, sources: np.ndarray
) -> np.ndarray:
    """Statistics `(b, 7)` of a signal of unit variance that runs through a random network.

    A layer normalises, and its output is a new signal of variance 1; all other operators are linear. So each node is a weighted sum of
    uncorrelated signals, those of the inputs and of the layers, with amplitudes `A`. The statistics describe the output: log variance,
    share of the input, variance that comes from layers; then, over its signals weighted by variance: mean depth, mean spatial depth,
    standard deviation of the depth, entropy.
    """
    b, n = layer.shape
    A, depth, spatial_depth = np.zeros((b, n, n)), np.zeros((b, n)), np.zeros((b, n))
    inputs = sources * (1 - layer)  # a path that begins with a layer carries nothing of the input itself
    for j in range(n):
        A[:, j] = np.einsum("bi,bik->bk", E[:, :, j], A)
        A[:, j, j] += sources[:, j]
        A[:, j] *= np.where(pool[:, j] > 0, POOLED**0.5, 1.0)[:, None]
        share = _shares(A[:, j])
        new = layer[:, j] > 0
        depth[:, j] = new * (1 + (share * depth).sum(1))
        spatial_depth[:, j] = new * (spatial[:, j] + (share * spatial_depth).sum(1))
        A[new, j] = np.eye(n)[j]
    last = A[np.arange(b), output]
    variance, share = (last**2).sum(1), _shares(last)
    of_input = (last**2 * inputs).sum(1)
    dead = variance == 0
    mean = (share * depth).sum(1)
    spread = np.sqrt((share * (depth - mean[:, None]) ** 2).sum(1))
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(1)
    return np.column_stack([
        np.where(dead, 0, np.log(np.where(dead, 1, variance))), (share * inputs).sum(1), variance - of_input,
        mean, (share * spatial_depth).sum(1), np.where(dead, -1, spread), np.where(dead, -1, entropy),
    ])  # fmt: skip


def _shares(A: np.ndarray) -> np.ndarray:
    """Shares of the variance `(b, n)` of signals with amplitudes `A (b, n)`; zero if there is no signal."""
    power = A**2
    total = power.sum(1, keepdims=True)
    return np.divide(power, total, out=np.zeros_like(power), where=total > 0)
