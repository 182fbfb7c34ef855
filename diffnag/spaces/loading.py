"""Loading of search spaces by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from diffnag.errors import UserError
from diffnag.plugins import is_dotted, make, refuse_without

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

SPACE_MEMBERS = (
    "name", "nodes", "operators", "attention", "constant", "datasets", "skeletons", "to_str", "from_str", "encode", "decode",
    "canonical", "random", "neighbours", "enumerate", "parameters", "to_parameters", "from_parameters", "size", "build",
)  # fmt: skip


def load_space(name: str) -> SearchSpace:
    """Make the search space with a registered name, of a class given as `package.module:Class`, or as `own-model:package.module:function`.

    A class of the user is tried on a few architectures. `UserError` names the first rule that it breaks; `SearchSpaceContract` in
    `diffnag.testing` checks more. An unknown name raises `UserError` as well.
    """
    space = cast("SearchSpace", make("space", name, ()))
    own = getattr(space, "__dict__", ())
    missing = [member for member in SPACE_MEMBERS if not hasattr(type(space), member) and member not in own]
    refuse_without(missing, "space", name, SPACE_MEMBERS)
    if is_dotted("space", name):
        from diffnag.spaces.rules import broken_rule  # loads torch

        if broken := broken_rule(space):
            raise UserError(f"space {name!r} breaks a rule: {broken}")
    return space
