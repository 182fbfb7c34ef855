"""Refusal of spaces of language models by what needs images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffnag.errors import UserError
from diffnag.protocols import TakesTokens

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace


def refuse_tokens(space: SearchSpace, what: str) -> None:
    """Raise `UserError` if the networks of `space` take tokens; `what` names the part of the package that gives them images."""
    if isinstance(space, TakesTokens):
        raise UserError(f"{what} is for networks that take images, and those of space {space.name!r} take tokens")
