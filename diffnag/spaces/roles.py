"""Roles of operators: what each operator of a space does, as the space declares it or as the operator's name shows it.

Predictors that look at more than the graph need roles, for example to leave out operators that compute nothing. The words and their
meanings are those of `diffnag.protocols.HasRoles`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, NamedTuple

from diffnag.errors import UserError
from diffnag.protocols import HasRoles, Role

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

KINDS: tuple[Role, ...] = ("absent", "input", "output", "blocks", "passes", "pools", "layer")
"""Every operator has exactly one of these roles."""
PROPERTIES: Mapping[Role, frozenset[Role]] = {
    "spatial": frozenset({"layer"}),
    "widens": frozenset({"layer", "pools"}),
    "shrinks": frozenset({"layer", "pools"}),
}
"""Roles that an operator may have besides -> the kinds that may have them."""
NAMED_KINDS: Mapping[str, Role] = {
    "^absent": "absent", "^input": "input", "^output": "output", "^(none|zero)": "blocks", "^(skip|identity)": "passes", "pool": "pools",
}  # fmt: skip
"""Pattern of a name in lower case -> the kind that it shows; the first that fits counts, and any other operator is a layer."""
NAMED_PROPERTIES: Mapping[str, Role] = {"double|widen": "widens", "halve|reduce|stride": "shrinks"}
"""Pattern of a name in lower case -> the property that it shows."""
SPATIAL = "[2-9]x[2-9]"
"""Kernel sizes above 1 in a name, such as `conv3x3`, show that a layer is spatial."""
Roles = Mapping[str, Set[Role]]


class RoleRow(NamedTuple):
    """One row of the table of a space's roles."""

    operator: str
    roles: str
    """The words, separated by commas, the kind first."""
    origin: str
    """`declared` by the space, or read off the operator's `name`."""


def roles_of(space: SearchSpace) -> dict[str, frozenset[Role]]:
    """Operator -> its roles, in the order of the space's operators.

    They are those that the space declares (`HasRoles`), else those of `roles_by_name`. Raises `UserError` for a wrong declaration.
    """
    if not isinstance(space, HasRoles):
        return roles_by_name(space.operators)
    if fault := fault_of(space.roles, space.operators):
        raise UserError(f"space {space.name!r} declares wrong roles: {fault}")
    return {operator: frozenset(space.roles[operator]) for operator in space.operators}


def roles_by_name(operators: Sequence[str]) -> dict[str, frozenset[Role]]:
    """Operator -> the roles that its name shows, for spaces that declare none."""
    return {operator: _roles_of_name(operator.lower()) for operator in operators}


def fault_of(roles: object, operators: Sequence[str]) -> str | None:
    """The first fault of declared `roles` for a space with these `operators`, in one sentence, or None."""
    if not isinstance(roles, Mapping):
        return f"roles is a {type(roles).__name__}; accepted is a mapping of each operator to a set of words"
    for operator in operators:
        if operator not in roles:
            return f"operator {operator!r} has no roles; accepted is a set of words for each operator"
        words = roles[operator]
        if not isinstance(words, Set):
            return f"the roles of operator {operator!r} are a {type(words).__name__}; accepted is a set of words"
        if unknown := sorted(repr(word) for word in words if word not in (*KINDS, *PROPERTIES)):
            return f"operator {operator!r} has an unknown role {unknown[0]}; accepted are {', '.join((*KINDS, *PROPERTIES))}"
        kinds = [kind for kind in KINDS if kind in words]
        if len(kinds) != 1:
            return f"operator {operator!r} has {len(kinds)} of the roles {', '.join(KINDS)}; it must have exactly one"
        for word, allowed in PROPERTIES.items():
            if word in words and kinds[0] not in allowed:
                return f"operator {operator!r} cannot be {kinds[0]!r} and {word!r}: {word!r} belongs to {' or '.join(sorted(allowed))}"
    if strange := [operator for operator in roles if operator not in operators]:
        return f"roles names {strange[0]!r}, which is none of the operators"
    return None


def describe(space: SearchSpace) -> list[RoleRow]:
    """The table of a space's roles, one row for each operator in their order. Raises `UserError` for a wrong declaration."""
    origin = "declared" if isinstance(space, HasRoles) else "name"
    return [RoleRow(operator, text_of(words), origin) for operator, words in roles_of(space).items()]


def text_of(words: Set[Role]) -> str:
    """Roles of one operator in a fixed order, separated by commas."""
    return ", ".join(word for word in (*KINDS, *PROPERTIES) if word in words)


def _roles_of_name(name: str) -> frozenset[Role]:
    """The roles that a name in lower case shows."""
    kind: Role = next((kind for pattern, kind in NAMED_KINDS.items() if re.search(pattern, name)), "layer")
    found = {kind, *(word for pattern, word in NAMED_PROPERTIES.items() if re.search(pattern, name))}
    if kind == "layer" and re.search(SPATIAL, name):
        found.add("spatial")
    return frozenset(found)
