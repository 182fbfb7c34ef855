"""What the rules of a space allow at each step of a draw, for spaces that can say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diffnag.errors import UserError
from diffnag.protocols import GuidesGrowth

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace


class Masks:
    """Graphs of a space that grow together, `b` of them, each by its own rules.

    Raises `UserError` for a space that does not say what is possible next.
    """

    def __init__(self, space: SearchSpace, b: int, *, absent: int) -> None:
        if not isinstance(space, GuidesGrowth):
            raise UserError(f"masks are for spaces that say what may come next, and {space.name!r} does not; leave masks out")
        self.absent, self.begun = absent, [space.growth() for _ in range(b)]

    def operators(self, law: Tensor, rows: Tensor, step: int) -> Tensor:
        """Log probabilities `law (r, f)` of the operators at a step, in the graphs `rows (r,)`, without what is not possible."""
        allowed = np.zeros(law.shape, dtype=bool)
        for place, row in enumerate(rows.tolist()):
            if self.begun[row].done:
                allowed[place, self.absent] = True
            elif len(self.begun[row].ops) > step:  # the first node is there already
                allowed[place, self.begun[row].ops[step]] = True
            else:
                allowed[place] = self.begun[row].operators()
        return _without(law, allowed)

    def inputs(self, law: Tensor, rows: Sequence[int], own: Tensor, chosen: Tensor) -> Tensor:
        """Log probabilities `law (r, m + 1)` of one more input, the last of them for none, without what is not possible.

        `own (r,)` are the operators, `chosen (r, m)`, bool, the inputs so far.
        """
        allowed = np.zeros(law.shape, dtype=bool)
        for place, (row, op) in enumerate(zip(rows, own.tolist(), strict=True)):
            sources = chosen[place].nonzero()[:, 0].tolist()[::-1]
            possible = self.begun[row].sources(op, sources)
            allowed[place, : len(possible)] = possible
            allowed[place, -1] = self.begun[row].enough(op, sources)
        return _without(law, allowed)

    def add(self, rows: Tensor, step: int, own: Tensor, taken: Tensor) -> None:
        """Add nodes `own (r,)` that read `taken (r, m)`, bool, to the graphs `rows (r,)`."""
        for place, (row, op) in enumerate(zip(rows.tolist(), own.tolist(), strict=True)):
            if op != self.absent and len(self.begun[row].ops) <= step:
                self.begun[row].add(op, taken[place].nonzero()[:, 0].tolist())


def _without(law: Tensor, allowed: np.ndarray) -> Tensor:
    return law.masked_fill(~torch.from_numpy(allowed).to(law.device), -torch.inf).log_softmax(-1)
