"""What may be drawn at each step: what is likely enough, and what the rules of a space allow, for spaces that can say so."""

from __future__ import annotations

import math
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
    """What may be drawn in `b` graphs that grow together.

    Args:
        space: The space of the graphs.
        b: How many there are.
        absent: Index of the operator `absent`.
        rules: Whether the rules of the space count; raises `UserError` if it does not say what is possible next.
        least: Share of the probability of the likeliest choice below which a choice is not drawn.
    """

    def __init__(self, space: SearchSpace, b: int, *, absent: int, rules: bool, least: float) -> None:
        if rules and not isinstance(space, GuidesGrowth):
            raise UserError(f"masks are for spaces that say what may come next, and {space.name!r} does not; leave masks out")
        self.absent, self.drop = absent, math.log(least) if least else -math.inf
        self.begun = [space.growth() for _ in range(b)] if rules and isinstance(space, GuidesGrowth) else []

    def operators(self, law: Tensor, rows: Tensor, step: int) -> Tensor:
        """Log probabilities `law (r, f)` of the operators at a step, in the graphs `rows (r,)`, without what may not be drawn."""
        if not self.begun:
            return self._likely(law)
        allowed = np.zeros(law.shape, dtype=bool)
        for place, row in enumerate(rows.tolist()):
            if self.begun[row].done:
                allowed[place, self.absent] = True
            elif len(self.begun[row].ops) > step:  # the first node is there already
                allowed[place, self.begun[row].ops[step]] = True
            else:
                allowed[place] = self.begun[row].operators()
        return self._likely(law.masked_fill(~torch.from_numpy(allowed).to(law.device), -torch.inf))

    def inputs(self, law: Tensor, rows: Sequence[int], own: Tensor, chosen: Tensor) -> Tensor:
        """Log probabilities `law (r, m + 1)` of one more input, the last of them for none, without what may not be drawn.

        `own (r,)` are the operators, `chosen (r, m)`, bool, the inputs so far.
        """
        if not self.begun:
            return self._likely(law)
        allowed = np.zeros(law.shape, dtype=bool)
        for place, (row, op) in enumerate(zip(rows, own.tolist(), strict=True)):
            sources = chosen[place].nonzero()[:, 0].tolist()[::-1]
            possible = self.begun[row].sources(op, sources)
            allowed[place, : len(possible)] = possible
            allowed[place, -1] = self.begun[row].enough(op, sources)
        return self._likely(law.masked_fill(~torch.from_numpy(allowed).to(law.device), -torch.inf))

    def add(self, rows: Tensor, step: int, own: Tensor, taken: Tensor) -> None:
        """Add nodes `own (r,)` that read `taken (r, m)`, bool, to the graphs `rows (r,)`."""
        if not self.begun:
            return
        for place, (row, op) in enumerate(zip(rows.tolist(), own.tolist(), strict=True)):
            if op != self.absent and len(self.begun[row].ops) <= step:
                self.begun[row].add(op, taken[place].nonzero()[:, 0].tolist())

    def _likely(self, law: Tensor) -> Tensor:
        return law.masked_fill(law < law.amax(-1, keepdim=True) + self.drop, -torch.inf).log_softmax(-1)
