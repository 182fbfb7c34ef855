"""Which kind of guidance a predictor allows, and which one is used."""

from __future__ import annotations

from typing import Literal

from diffnag.errors import UserError
from diffnag.guidance.checked import CheckedPredictor

Kind = Literal["gradient", "denoised", "particles"]
KINDS: tuple[Kind, ...] = ("gradient", "denoised", "particles")


def strongest(predictor: CheckedPredictor) -> Kind:
    """The best kind that a predictor allows: `gradient`, then `denoised`, then `particles`."""
    return "gradient" if predictor.is_noisy else "denoised" if predictor.is_relaxed else "particles"


def choose(predictor: CheckedPredictor, asked: str) -> Kind:
    """Resolve `auto`; raises `UserError` for a kind that does not exist or that the predictor has no method for."""
    best = strongest(predictor)
    if asked == "auto":
        return best
    for kind in KINDS:
        if kind == asked:
            needed = {"gradient": "forward_noisy", "denoised": "forward"}.get(kind)
            if needed is not None and (KINDS.index(kind) < KINDS.index(best) or not hasattr(predictor.predictor, needed)):
                raise UserError(f"predictor {predictor.name} has no {needed}, which {kind} guidance needs; it allows {best}")
            return kind
    raise UserError(f"unknown guidance {asked!r}; there are: auto, {', '.join(KINDS)}")
