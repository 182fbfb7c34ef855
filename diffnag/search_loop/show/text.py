"""Lines for a terminal or a log file: no longer than its width, and broken between words."""

from __future__ import annotations

import re

_PIECES = re.compile(r"[^/|+,;:=]*[/|+,;:=]+|[^/|+,;:=]+")
"""A part of a word, up to a character after which a long word, such as a path or an architecture, may be broken."""


def folded(text: str, *, width: int, label: str = "", indent: int = 0) -> str:
    """`text` in lines of at most `width` characters that begin after `indent` spaces; `label` stands in those of the first.

    A word that is too long for a line is broken behind one of `/|+,;:=`, or anywhere if it has none of them in time.
    """
    room = max(width - indent, 10)
    lines = [""]
    for word in text.split():
        if len(word) > room:
            parts = _broken(word, room)
            lines = [*lines, *parts] if lines[-1] else parts
        elif lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return f"{label:{indent}}" + ("\n" + " " * indent).join(lines)


def _broken(word: str, room: int) -> list[str]:
    """A long word in pieces of at most `room` characters."""
    lines = [""]
    for piece in _PIECES.findall(word):
        if len(lines[-1]) + len(piece) > room:
            lines.append("")
        while len(piece) > room:
            lines, piece = [*lines[:-1], piece[:room], ""], piece[room:]
        lines[-1] += piece
    return [line for line in lines if line]
