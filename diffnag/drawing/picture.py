"""A picture of one architecture: its operators as coloured boxes from input to output, its edges as arrows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.drawing.arrangement import TITLE, Arrangement, Box, arranged
from diffnag.drawing.colours import ABSENT, BLOCKED, ENDS, colours_of, letters_on
from diffnag.drawing.layered import Point
from diffnag.drawing.lettering import Lettering, lettering
from diffnag.errors import UserError
from diffnag.io.files import written_whole
from diffnag.protocols import Picture, Pictured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch, PathPatch

    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

SUFFIXES = (".svg", ".png", ".pdf")
PALE, DARK, GREY, PANEL, PANEL_EDGE = "#b8b8b8", "#404040", "#e9e9e9", "#f6f6f4", "#dcdcd8"
LETTER = 0.125
"""Size of letters in units of the picture: 9 points if a unit is an inch."""
SMALL = 0.5
"""Inches per unit below which a legend names the operators, because the names in the boxes are hard to read."""
DPI = 200


def picture_of(arch: Arch, space: SearchSpace) -> Picture:
    """The nodes and edges to draw: those that the space gives, else the architecture's own without absent nodes."""
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


def save(path: str | Path, arch: Arch, space: SearchSpace) -> None:
    """Write the picture of `arch` to `path`, as `.svg`, `.png` or `.pdf` by its suffix; the same bytes each time."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    check_suffix(path)
    left, bottom, right, top = arrangement_of(arch, space).bounds
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(Path(path).suffix.lower())
    with lettering(()), rc_context({"svg.hashsalt": "diffnag"}), written_whole(path) as temporary:
        figure = Figure(figsize=(right - left, top - bottom))
        draw(arch, space, figure.add_axes((0, 0, 1, 1)))
        figure.savefig(temporary, dpi=DPI, metadata=undated)


def check_suffix(path: str | Path) -> None:
    """Raise `UserError` if `path` does not end like a picture."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UserError(f"{path} is not the name of a picture; it has to end in {', '.join(SUFFIXES)}")


def draw(arch: Arch, space: SearchSpace, axes: Axes) -> None:
    """Draw `arch` into `axes`, which lose their frame; with a legend if the boxes are small."""
    found = arrangement_of(arch, space)
    scale = _scale(axes, found)
    with lettering([box.text for box in found.boxes] + list(found.frames)) as letters:
        _draw_frames(axes, found, scale, letters)
        _draw_edges(axes, found, scale)
        _draw_boxes(axes, found, space, scale, letters)
        if scale < SMALL:
            _draw_legend(axes, found, space, letters)


def _draw_frames(axes: Axes, found: Arrangement, scale: float, letters: Lettering) -> None:
    from matplotlib.patches import FancyBboxPatch

    for title, (left, bottom, right, top) in found.frames.items():
        frame = FancyBboxPatch((left, bottom), right - left, top - bottom, boxstyle="round,pad=0,rounding_size=0.12", zorder=0)
        frame.set(facecolor=PANEL, edgecolor=PANEL_EDGE, linewidth=scale)
        axes.add_patch(frame)
        axes.add_patch(_shapes([letters.plain(title)], ((left + right) / 2, top + TITLE / 2), right - left, color=DARK))


def _draw_edges(axes: Axes, found: Arrangement, scale: float) -> None:
    """Arrows that are level where they pass a point; dotted at a node that passes nothing on."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

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


def _draw_boxes(axes: Axes, found: Arrangement, space: SearchSpace, scale: float, letters: Lettering) -> None:
    colours = colours_of(space.operators)
    for box in found.boxes:
        word, blocked, colour = box.text not in space.operators, box.text in BLOCKED, colours.get(box.text)
        shape = _outline(box, word=word or box.text in ENDS)
        shape.set(facecolor="white" if blocked else colour or GREY, edgecolor=PALE if blocked else DARK, linewidth=scale, zorder=2)
        axes.add_patch(shape)
        lines = [box.text] if word and _is_formula(box.text) else [letters.plain(line) for line in text_lines(box.text)]
        written = "#808080" if blocked else letters_on(colour) if colour else "black"
        axes.add_patch(_shapes(lines, box.centre, box.size[0] - 0.1, color=written))


def _draw_legend(axes: Axes, found: Arrangement, space: SearchSpace, letters: Lettering) -> None:
    from matplotlib.patches import Rectangle

    shown = {operator: colour for operator, colour in colours_of(space.operators).items() if any(box.text == operator for box in found.boxes)}
    handles = [Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor=DARK, label=letters.plain(operator)) for operator, colour in shown.items()]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncol=4, frameon=False, fontsize=8)


def _scale(axes: Axes, found: Arrangement) -> float:
    """Fit `axes` around the picture; returns inches per unit, at most 1."""
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


def _is_formula(text: str) -> bool:
    """Whether a word that a space draws, such as `$c_k$`, is a formula that matplotlib can read."""
    from matplotlib.mathtext import MathTextParser

    if text.count("$") != 2:
        return False
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return False
    return True


def text_lines(text: str) -> list[str]:
    """One line, or two if the text is long and has a place to break."""
    cuts = [k for k, letter in enumerate(text) if letter in "_-"]
    if len(text) <= 7 or not cuts:
        return [text]
    cut = min(cuts, key=lambda k: abs(2 * k - len(text)))
    return [text[:cut], text[cut + 1 :]]


def _shapes(lines: Sequence[str], centre: Point, width: float, *, color: str) -> PathPatch:
    """The lines as shapes in units of the picture, so that they fit at any size; smaller if they are wider than `width`."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    written = {row: TextPath((0, 0), line, size=100) for row, line in enumerate(lines) if line.strip()}
    extents = {row: shape.get_extents() for row, shape in written.items()}
    size = min([LETTER / 100, *(width / extent.width for extent in extents.values() if extent.width > 0)])
    shapes = []
    for row, shape in written.items():
        y = 62 * (len(lines) - 1 - 2 * row) - 36  # lines 124 apart; the middle of letters lies 36 above the line they stand on
        moved = Affine2D().translate(-(extents[row].x0 + extents[row].x1) / 2, y).scale(size).translate(*centre)
        shapes.append(shape.transformed(moved))
    outline = Curve.make_compound_path(*shapes)
    return PathPatch(outline, facecolor=color, linewidth=0, zorder=3)
