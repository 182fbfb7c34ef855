"""HTML that cannot be broken by what stands in it: text is escaped unless it was made here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Cells = Sequence[str | int | float | None]
"""A row of a table."""
VOID = frozenset({"img"})
"""Elements without an end."""


def tag(name: str, *children: str | int | float | None, attributes: Mapping[str, str | int] | None = None) -> Html:
    """An element; children and attributes are escaped, except for children that are `Html`. A child None is left out."""
    written = "".join(f' {key}="{escape(str(value))}"' for key, value in (attributes or {}).items())
    return Html(f"<{name}{written}>" if name in VOID else f"<{name}{written}>{joined(*children)}</{name}>")


def joined(*children: str | int | float | None) -> Html:
    """The children one after another, escaped as those of an element."""
    return Html("".join(child if isinstance(child, Html) else escape(str(child)) for child in children if child is not None))


def table(
    heads: Sequence[str], rows: Sequence[Cells], *, caption: str, attributes: Mapping[str, str | int] | None = None
) -> Html:
    """A table that scrolls sideways where it is too wide; the first cell of each row is its head."""
    head = tag("tr", *(tag("th", text, attributes={"scope": "col"}) for text in heads))
    lines = [tag("tr", tag("th", first, attributes={"scope": "row"}), *(tag("td", "" if cell is None else cell) for cell in rest))
             for first, *rest in rows]  # fmt: skip
    made = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *lines), attributes=attributes)
    return scrolled(made, label=caption)


def scrolled(content: Html, *, label: str) -> Html:
    """Wide content in a box of its own that the keyboard reaches, too."""
    return tag("div", content, attributes={"class": "scroll", "role": "region", "tabindex": 0, "aria-label": label})


def code(text: str, *, wrapped: bool = False) -> Html:
    """A block of code with a button that copies it; its lines scroll sideways, or are `wrapped` at any letter."""
    button = tag("button", "Copy", attributes={"type": "button", "class": "copy"})
    block = tag("pre", tag("code", text), attributes={"tabindex": 0})
    return tag("div", button, block, attributes={"class": "code wrapped" if wrapped else "code"})


def script_data(value: Any) -> Html:
    """JSON to stand within a `<script>` element, which ends at the first `</`."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Html(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
