"""Renders the templates of pages, `experiments/templates/*.md.j2`: they hold the text, experiments supply the values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parents[1] / "templates"


def render(name: str, values: Mapping[str, Any]) -> str:
    """Text of the template `<name>.md.j2` with these values; a value that is missing raises `UndefinedError`."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"fixed": fixed, "signed": signed, "count": count, "percent": percent, "span": span, "figure": figure, "general": general}
    return environment.get_template(f"{name}.md.j2").render(values)


def fixed(value: float, digits: int) -> str:
    """A number with so many digits after the point."""
    return f"{value:.{digits}f}"


def signed(value: float, digits: int) -> str:
    """A number with its sign."""
    return f"{value:+.{digits}f}"


def general(value: float | None) -> str | None:
    """A number in its shortest form; None stays."""
    return None if value is None else f"{value:g}"


def count(value: float) -> str:
    """A whole number with commas between thousands."""
    return f"{value:,.0f}"


def percent(share: float) -> str:
    """A share in %, without the sign."""
    return f"{100 * share:.1f}"


def span(counts: Sequence[int]) -> str:
    """The smallest to the largest of whole numbers, or the one that all are equal to."""
    return " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))


def figure(value: float | None, best: float) -> str:
    """A value of a benchmark: two digits for accuracies in %, four for losses, whose `best` is below 1; empty for None."""
    return "" if value is None else f"{value:.{2 if abs(best) >= 1 else 4}f}"
