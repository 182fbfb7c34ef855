"""A picture of one architecture: its operators as coloured boxes from input to output, its edges as arrows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.drawing.arrangement import TITLE, Arrangement, Box, arranged
from diffnag.drawing.layered import Point
from diffnag.errors import UserError
from diffnag.io.files import written_whole
from diffnag.protocols import Picture, Pictured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch, PathPatch

    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

SUFFIXES = (".svg", ".png", ".pdf")
BLOCKED = frozenset({"none", "zero", "zeroize"})
"""Names of the operator that passes nothing on; drawn pale, with its edges."""
ABSENT = "absent"
"""Name of the operator of a node that is not there; not drawn."""
ENDS = frozenset({"input", "output"})
"""Operators that only say where a graph begins and ends; drawn as other words are, grey and round."""
PALE, DARK, GREY, PANEL, PANEL_EDGE = "#b8b8b8", "#404040", "#e9e9e9", "#f6f6f4", "#dcdcd8"
LETTER = 0.125
"""Size of letters in units of the picture: 9 points where one is an inch."""
SMALL = 0.5
"""Inches a unit below which a legend names the operators, since the names in the boxes are hard to read."""
DPI = 200


def picture_of(arch: Arch, space: SearchSpace) -> Picture:
    """What is drawn of `arch`: what its space says, or its nodes and edges without absent ones."""
    if isinstance(space, Pictured):
        return space.picture(arch)
    there = [node for node, op in enumerate(arch.ops) if space.operators[op] != ABSENT]
    place = {node: k for k, node in enumerate(there)}
    edges = tuple((place[i], place[j]) for i, j in arch.edges if i in place and j in place)
    return Picture(tuple(space.operators[arch.ops[node]] for node in there), edges)


def arrangement_of(arch: Arch, space: SearchSpace) -> Arrangement:
    """The boxes and edges of the picture of `arch`, placed."""
    picture = picture_of(arch, space)
    return arranged(picture, words=frozenset(picture.texts) - (frozenset(space.operators) - ENDS))


def colours_of(space: SearchSpace) -> dict[str, tuple[float, float, float]]:
    """The colour of each operator that does something, the same in every picture of the space."""
    from matplotlib import colormaps

    named = [operator for operator in space.operators if operator not in BLOCKED | ENDS | {ABSENT}]
    few, many = (list(colormaps[name].colors) for name in ("Set2", "Set3"))  # type: ignore[attr-defined]
    del many[8]  # a grey
    return dict(zip(named, itertools.cycle(few if len(named) <= len(few) else many), strict=False))


def save(path: str | Path, arch: Arch, space: SearchSpace) -> None:
    """Write the picture of `arch` to `path`, `.svg`, `.png` or `.pdf` as its suffix says; the same bytes each time."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    check_suffix(path)
    left, bottom, right, top = arrangement_of(arch, space).bounds
    figure = Figure(figsize=(right - left, top - bottom))
    draw(arch, space, figure.add_axes((0, 0, 1, 1)))
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(Path(path).suffix.lower())
    with written_whole(path) as temporary, rc_context({"svg.hashsalt": "diffnag"}):
        figure.savefig(temporary, dpi=DPI, metadata=undated)


def check_suffix(path: str | Path) -> None:
    """Raise `UserError` where `path` has no suffix of a picture."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UserError(f"{path} is no name of a picture; it has to end in {', '.join(SUFFIXES)}")


def draw(arch: Arch, space: SearchSpace, axes: Axes) -> None:
    """Draw `arch` into `axes`, which lose their frame; with a legend where they are small."""
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
    from matplotlib.path import Path as Curve

    found, colours = arrangement_of(arch, space), colours_of(space)
    scale = _scale(axes, found)
    for title, (left, bottom, right, top) in found.frames.items():
        frame = FancyBboxPatch((left, bottom), right - left, top - bottom, boxstyle="round,pad=0,rounding_size=0.12", zorder=0)
        frame.set(facecolor=PANEL, edgecolor=PANEL_EDGE, linewidth=scale)
        axes.add_patch(frame)
        axes.add_patch(_letters([title], ((left + right) / 2, top + TITLE / 2), right - left, color=DARK))
    for (i, j), way in found.ways.items():
        vertices, codes = [way[0]], [Curve.MOVETO]
        for (x0, y0), (x1, y1) in itertools.pairwise(way):
            level = [((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1)]
            vertices += [*(level if x0 != x1 else [(x0, (y0 + y1) / 2)] * 2), (x1, y1)]
            codes += [Curve.CURVE4] * 3
        arrow = FancyArrowPatch(path=Curve(vertices, codes), arrowstyle="-|>", mutation_scale=10 * scale, zorder=1)
        dead = BLOCKED & {found.boxes[i].text, found.boxes[j].text}
        arrow.set(color=PALE if dead else DARK, linestyle=":" if dead else "-", linewidth=1.1 * scale)
        axes.add_patch(arrow)
    for box in found.boxes:
        shape, blocked = _outline(box, word=box.text not in space.operators or box.text in ENDS), box.text in BLOCKED
        shape.set(facecolor="white" if blocked else colours.get(box.text, GREY), edgecolor=PALE if blocked else DARK, linewidth=scale, zorder=2)
        axes.add_patch(shape)
        axes.add_patch(_letters(_lines(box.text), box.centre, box.size[0] - 0.1, color="#808080" if blocked else "black"))
    if scale < SMALL:
        shown = {operator: colour for operator, colour in colours.items() if any(box.text == operator for box in found.boxes)}
        handles = [Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor=DARK, label=operator) for operator, colour in shown.items()]
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncol=4, frameon=False, fontsize=8)


def _scale(axes: Axes, found: Arrangement) -> float:
    """Fit `axes` around the picture; inches a unit, which are never more than 1."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    inches = axes.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    left, bottom, right, top = found.bounds
    scale = min(1.0, inches.width / (right - left), inches.height / (top - bottom))
    aside = max(0.0, inches.width / scale - (right - left)) / 2
    above = max(0.0, inches.height / scale - (top - bottom)) / 2
    axes.set(xlim=(left - aside, right + aside), ylim=(bottom - above, top + above), aspect="equal")
    axes.set_axis_off()
    return scale


def _outline(box: Box, *, word: bool) -> Patch:
    from matplotlib.patches import Ellipse, FancyBboxPatch

    width, height = box.size
    if width == height:
        return Ellipse(box.centre, width, height)
    corner = (box.centre[0] - width / 2, box.centre[1] - height / 2)
    return FancyBboxPatch(corner, width, height, boxstyle=f"round,pad=0,rounding_size={height / 2 if word else 0.08}")


def _lines(text: str) -> list[str]:
    """One line, or two where the text is long and can be parted."""
    cuts = [k for k, letter in enumerate(text) if letter in "_-"]
    if len(text) <= 7 or not cuts or "$" in text:
        return [text]
    cut = min(cuts, key=lambda k: abs(2 * k - len(text)))
    return [text[:cut], text[cut + 1 :]]


def _letters(lines: Sequence[str], centre: Point, width: float, *, color: str) -> PathPatch:
    """The lines as shapes in units of the picture, so that they fit at any size; smaller where they are wider than `width`."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    written = [TextPath((0, 0), line, size=100) for line in lines]
    extents = [shape.get_extents() for shape in written]
    size = min([LETTER / 100, *(width / extent.width for extent in extents)])
    shapes = []
    for row, (shape, extent) in enumerate(zip(written, extents, strict=True)):
        y = 62 * (len(lines) - 1 - 2 * row) - 36  # lines 124 apart; the middle of letters lies 36 above the line they stand on
        moved = Affine2D().translate(-(extent.x0 + extent.x1) / 2, y).scale(size).translate(*centre)
        shapes.append(shape.transformed(moved))
    return PathPatch(Curve.make_compound_path(*shapes), facecolor=color, linewidth=0, zorder=3)
