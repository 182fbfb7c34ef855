"""Cells of the DARTS space and their common notation, `Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=..., ...)`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from diffnag.errors import UserError

OPERATIONS = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
CELLS = ("normal", "reduce")
STATES = (2, 3, 4, 5)
"""The states that a cell computes; 0 and 1 are its inputs."""

Pair = tuple[int, int]
"""An operation, as an index into `OPERATIONS`, and the state that it reads."""
Cell = tuple[Pair, ...]
"""Eight pairs, two for each state."""


class Genotype(NamedTuple):
    """The common notation: for both cells the pairs (operation, state that it reads) of states 2, 2, 3, 3, ..., and the output states."""

    normal: list[tuple[str, int]]
    normal_concat: list[int]
    reduce: list[tuple[str, int]]
    reduce_concat: list[int]

    @classmethod
    def of(cls, normal: Cell, reduce: Cell) -> Genotype:
        """The notation of two cells."""
        named = ([(OPERATIONS[op], state) for op, state in cell] for cell in (normal, reduce))
        return cls(next(named), list(STATES), next(named), list(STATES))


_GENOTYPE = re.compile(
    r"Genotype\(normal=\[(?P<normal>[^]]*)\],normal_concat=(?P<normal_concat>[^=]*),"
    r"reduce=\[(?P<reduce>[^]]*)\],reduce_concat=(?P<reduce_concat>[^=]*)\)"
)
_PAIR = r"""\((?P<quote>['"])(?P<operation>\w+)(?P=quote),(?P<state>\d)\)"""


def read_genotype(text: str) -> tuple[Cell, Cell]:
    """The normal and the reduction cell in the text of a genotype; `UserError` names the rule of the space that the text breaks."""
    match = _GENOTYPE.fullmatch("".join(text.split()))
    if match is None:
        raise UserError(
            f"{text!r} is no darts string; expected Genotype(normal=[...], normal_concat=[2, 3, 4, 5], reduce=[...], "
            "reduce_concat=[2, 3, 4, 5]) with eight pairs such as ('sep_conv_3x3', 0) in each list"
        )
    for name in CELLS:
        if (concat := match[f"{name}_concat"]) not in ("[2,3,4,5]", "range(2,6)"):
            raise UserError(f"{name}_concat is {concat}; in every cell of the space it is [2, 3, 4, 5]")
    return _read_cell(match["normal"], "normal"), _read_cell(match["reduce"], "reduce")


def _read_cell(text: str, name: str) -> Cell:
    """One cell; `name` stands in error messages."""
    pairs = [(match["operation"], int(match["state"])) for match in re.finditer(_PAIR, text)]
    if re.sub(_PAIR, "", text).strip(",") or len(pairs) != 2 * len(STATES):
        raise UserError(f"the {name} cell [{text}] is not a list of eight pairs such as ('sep_conv_3x3', 0)")
    for place, (operation, state) in enumerate(pairs):
        target = STATES[place // 2]
        if operation not in OPERATIONS:
            raise UserError(f"the {name} cell has the operation {operation!r}; there are: {', '.join(OPERATIONS)}")
        if state >= target:
            raise UserError(f"state {target} of the {name} cell reads state {state}, which is not an earlier one")
        if place % 2 and state == pairs[place - 1][1]:
            raise UserError(f"state {target} of the {name} cell reads state {state} twice; the two that it reads must differ")
    return tuple((OPERATIONS.index(operation), state) for operation, state in pairs)


def by_state(cell: Cell) -> Iterator[tuple[Pair, Pair]]:
    """The two pairs of each state; the one that reads the earlier state comes first."""
    for one, other in zip(cell[::2], cell[1::2], strict=True):
        yield (one, other) if one[1] < other[1] else (other, one)


def computed(cell: Cell, *, skips_from: int) -> str:
    """Key of the function that a cell computes: its output states as sorted expressions of the inputs `0` and `1`.

    Sums are flattened and sorted. Skip connections from state `skips_from` or a later one are identities and are left out.
    """
    sums: list[tuple[str, ...]] = [("0",), ("1",)]
    for pairs in by_state(cell):
        terms: list[str] = []
        for op, state in pairs:
            identity = OPERATIONS[op] == "skip_connect" and state >= skips_from
            terms += sums[state] if identity else (f"{OPERATIONS[op]}({'+'.join(sums[state])})",)
        sums.append(tuple(sorted(terms)))
    return "|".join(sorted("+".join(terms) for terms in sums[2:]))
