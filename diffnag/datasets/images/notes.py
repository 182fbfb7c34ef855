"""Sentences about images that were converted, resized or skipped."""

from __future__ import annotations

from collections.abc import Sequence


def some(names: Sequence[str], shown: int = 3) -> str:
    """Join names as in `a, b, c and 4 more`."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def note(what: str, names: Sequence[str], total: int) -> list[str]:
    """A list with the sentence `2 of 60 images were skipped: a, b.`, empty if there are no names."""
    return [f"{len(names)} of {total} images {what}: {some(names)}."] if names else []
