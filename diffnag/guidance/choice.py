"""The one place that chooses the kind of guidance, from what the predictor allows and the generator supports."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

from diffnag.errors import UserError
from diffnag.guidance.checked import CheckedPredictor

Kind = Literal["gradient", "denoised", "entries", "pool", "particles"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""From the one that asks most of a predictor to those that need `predict` alone: exact entry by entry, a resampled pool, particles."""
AFTER_THE_DRAW = frozenset({"none", "pool", "particles"})
"""Kinds that only choose or move what was drawn, and `none`: no predictor takes part in the draw."""
NEEDED = {"gradient": "forward_noisy", "denoised": "forward"}
"""Kind -> the method of a predictor that it needs; the others need `predict` alone."""


def allowed(predictor: CheckedPredictor) -> tuple[Kind, ...]:
    """The kinds that a predictor allows, the strongest first."""
    lacking = {"gradient": not predictor.is_noisy, "denoised": not predictor.is_relaxed}
    return tuple(kind for kind in KINDS if not lacking.get(kind))


def choose(predictor: CheckedPredictor, asked: str, steers: Collection[str] = KINDS) -> Kind:
    """Resolve `auto` to the strongest kind that predictor and generator share.

    `steers` are the kinds that the generator supports. Raises `UserError` for a kind that does not exist, that the predictor has
    no method for, or that the generator lacks.
    """
    if asked != "auto" and asked not in KINDS:
        raise UserError(f"unknown guidance {asked!r}; there are: auto, {', '.join(KINDS)}")
    able = allowed(predictor)
    shared = [kind for kind in able if kind in steers]
    if asked == "auto":
        if not shared:
            raise UserError(f"the generator cannot be steered by predictor {predictor.name}; it has: {', '.join(steers) or 'none'}")
        return shared[0]
    for kind in KINDS:
        if kind == asked and kind not in able:
            raise UserError(f"predictor {predictor.name} has no {NEEDED[kind]}, which {kind} guidance needs; it allows {', '.join(shared)}")
        if kind == asked and kind not in steers:
            raise UserError(f"the generator has no {kind} guidance; its kinds of guidance are: {', '.join(steers) or 'none'}")
    return next(kind for kind in KINDS if kind == asked)
