"""What runs in a graph, and its longest path, by the roles of the operators. Batches: V `(b, n, f)`, E `(b, n, n)` in {0, 1}."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diffnag.spaces.roles import roles_of

if TYPE_CHECKING:
    from diffnag.protocols import Role, SearchSpace

COUNTINGS = ("all", "leading", "live")
"""Every node that blocks nothing, those that lead to the output, or those that the input reaches as well."""


def having(space: SearchSpace, *words: Role) -> np.ndarray:
    """Bool mask `(f,)` of the operators that have one of the roles."""
    return np.array([not own.isdisjoint(words) for own in roles_of(space).values()])


def running(V: np.ndarray, E: np.ndarray, space: SearchSpace, counting: str) -> np.ndarray:
    """Bool mask `(b, n)` of the nodes that run, as `counting`, one of `COUNTINGS`, says. The output is the last node that exists."""
    exists = _marked(V, ~having(space, "absent"))
    active = exists & ~_marked(V, having(space, "blocks"))
    if counting == "all":
        return active
    b, n = active.shape
    leads = np.zeros((b, n), dtype=bool)
    leads[np.arange(b), n - 1 - exists[:, ::-1].argmax(1)] = True
    for i in reversed(range(n)):
        leads[:, i] = active[:, i] & (leads[:, i] | ((E[:, i] > 0) & leads).any(1))
    if counting == "leading":
        return leads
    inputs = having(space, "input")
    reached = _marked(V, inputs) if inputs.any() else exists & (E.sum(1) == 0)
    for j in range(n):
        reached[:, j] = active[:, j] & (reached[:, j] | ((E[:, :, j] > 0) & reached).any(1))
    return leads & reached


def _marked(V: np.ndarray, operators: np.ndarray) -> np.ndarray:
    """Bool mask `(b, n)` of the nodes that have one of the `operators (f,)`."""
    return np.asarray(V @ operators > 0)


def longest_path(E: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Largest sum of the weights `(b, n)`, which are not negative, on a path: `(b,)`."""
    longest = np.zeros(weight.shape)
    for j in range(weight.shape[1]):
        longest[:, j] = weight[:, j] + (E[:, :, j] * longest).max(1)
    return longest.max(1)
