"""A small SVG of one architecture to stand within an HTML page, whose style sheet gives lines and letters their colours."""

from __future__ import annotations

import itertools
import re
from html import escape
from typing import TYPE_CHECKING

from diffnag.drawing.arrangement import TITLE, Box
from diffnag.drawing.colours import BLOCKED, ENDS, colours_of, letters_on
from diffnag.drawing.layered import Point
from diffnag.drawing.picture import LETTER, arrangement_of, text_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diffnag.arch import Arch
    from diffnag.drawing.colours import Colour
    from diffnag.protocols import SearchSpace

UNIT = 80
"""Pixels of one unit of the picture."""
WIDE = 10.0
"""Width in units from which a picture cannot be read on a phone's screen."""
HEAD = 0.09
"""Length of an arrow's head, in units."""
LETTER_WIDTH = 0.6
"""Mean width of a letter by its size, in the fonts of browsers."""


def inline_svg(arch: Arch, space: SearchSpace, *, title: str) -> str:
    """The picture as an `<svg>` element with `title` for readers who do not see it. All text in it is escaped.

    Classes for the style sheet: `drawing`, `wide`, `frame`, `edge`, `head` (of an arrow), `box`, `end` (input, output, words), and
    `dead` (passes nothing on).
    """
    found, colours = arrangement_of(arch, space), colours_of(space.operators)
    left, bottom, right, top = found.bounds
    parts = []
    for text, (x0, y0, x1, y1) in found.frames.items():
        parts.append(f'<rect class="frame" {_rectangle((x0, y0, x1, y1))} rx="{_px(0.12)}"/>')
        parts.append(_text([text], ((x0 + x1) / 2, y1 + TITLE / 2), x1 - x0, fill=None))
    for (i, j), way in found.ways.items():
        dead = " dead" if BLOCKED & {found.boxes[i].text, found.boxes[j].text} else ""
        parts += [f'<path class="edge{dead}" d="{_curve(way)}"/>', f'<path class="head{dead}" d="{_head(way)}"/>']
    for box in found.boxes:
        parts += _box(box, colours.get(box.text), word=box.text not in space.operators)
    width, height = _px(right - left), _px(top - bottom)
    kind = "drawing wide" if right - left > WIDE else "drawing"
    return (
        f'<svg class="{kind}" role="img" aria-label="{escape(title)}" viewBox="{_px(left)} {_px(-top)} {width} {height}" '
        f'width="{width}" height="{height}">{"".join(parts)}</svg>'
    )


def _px(length: float) -> str:
    return f"{UNIT * length:.1f}".removesuffix(".0")


def _at(point: Point) -> str:
    """A point in pixels; they are counted downwards."""
    return f"{_px(point[0])} {_px(-point[1])}"


def _rectangle(bounds: tuple[float, float, float, float]) -> str:
    x0, y0, x1, y1 = bounds
    return f'x="{_px(x0)}" y="{_px(-y1)}" width="{_px(x1 - x0)}" height="{_px(y1 - y0)}"'


def _curve(way: tuple[Point, ...]) -> str:
    """The path of an edge, level where it passes a point."""
    drawn = [f"M{_at(way[0])}"]
    for (x0, y0), (x1, y1) in itertools.pairwise(way):
        level = [((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1)] if x0 != x1 else [(x0, (y0 + y1) / 2)] * 2
        drawn.append(f"C{' '.join(map(_at, [*level, (x1, y1)]))}")
    return "".join(drawn)


def _head(way: tuple[Point, ...]) -> str:
    """The head of an arrow: edges arrive from the left, or from above."""
    (x0, _), (x, y) = way[-2:]
    sides = [(x - HEAD, y + HEAD / 2), (x - HEAD, y - HEAD / 2)] if x0 != x else [(x - HEAD / 2, y + HEAD), (x + HEAD / 2, y + HEAD)]
    return f"M{_at((x, y))}L{_at(sides[0])}L{_at(sides[1])}Z"


def _box(box: Box, colour: Colour | None, *, word: bool) -> Iterator[str]:
    (x, y), (width, height) = box.centre, box.size
    dead = box.text in BLOCKED
    kind = " dead" if dead else "" if colour else " end"
    fill = f' fill="{_hex(colour)}"' if colour and not dead else ""
    corner = height / 2 if word or box.text in ENDS else 0.08
    bounds = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    yield f'<rect class="box{kind}"{fill} {_rectangle(bounds)} rx="{_px(corner)}"/>'
    lines = [_formula(box.text)] if word else text_lines(box.text)
    yield _text(lines, box.centre, width - 0.1, fill=letters_on(colour) if colour and not dead else None)


def _hex(colour: Colour) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


def _formula(text: str) -> str:
    """The formulas that spaces write, such as `$c_{k-2}$`, as plain letters."""
    return re.sub(r"[${}\\]", "", text)


def _text(lines: list[str], centre: Point, width: float, *, fill: str | None) -> str:
    size = min([LETTER, *(width / (LETTER_WIDTH * len(line)) for line in lines if line)])
    attribute = f' fill="{fill}"' if fill else ""
    written = []
    for row, line in enumerate(lines):
        y = centre[1] + LETTER * 1.24 * ((len(lines) - 1) / 2 - row) - 0.36 * size
        written.append(f'<text x="{_px(centre[0])}" y="{_px(-y)}" font-size="{_px(size)}"{attribute}>{escape(line)}</text>')
    return "".join(written)
