"""A fingerprint of a search space: files made for a space whose operators were renamed or reordered since are refused."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from diffnag.errors import UserError

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace


def space_fingerprint(space: SearchSpace) -> str:
    """SHA-256 over everything that gives a column of V, an entry of E or a parameter its meaning; 16 hexadecimal digits.

    That is the name, the number of nodes, the operators in their order, the parameters with their choices in their order, and the
    constant entries.
    """
    V, E = space.constant
    facts = {
        "name": space.name, "nodes": int(space.nodes), "operators": list(space.operators),
        "parameters": [[name, list(choices)] for name, choices in space.parameters.items()],
        "constant": [V.astype(int).tolist(), E.astype(int).tolist()],
    }  # fmt: skip
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def check_fingerprint(space: SearchSpace, stored: str, *, what: str) -> None:
    """Raise `UserError` where `what` was made for a space of the same name but with another fingerprint."""
    if stored != (present := space_fingerprint(space)):
        raise UserError(
            f"{what} was made for space {space.name!r} when its operators, nodes or parameters were others "
            f"(fingerprint {stored}, now {present}); make it again"
        )
