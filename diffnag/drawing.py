"""A picture of one architecture: its operators as coloured boxes from input to output, its edges as arrows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx
    from matplotlib.axes import Axes

    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

ABSENT = frozenset({"none", "zero", "zeroize"})
"""Names of the operator that passes nothing on; drawn pale, with its edges."""
PALE, DARK = "#c8c8c8", "#404040"
WIDTH, HEIGHT = 0.66, 0.42
"""Of a box; layers and the nodes in one are 1 apart."""


def graph(arch: Arch, space: SearchSpace) -> networkx.DiGraph:
    """Nodes 0 ... with attributes `operator` and `layer` (the longest way from a source); edges as in `arch`."""
    import networkx

    drawn = networkx.DiGraph(list(arch.edges))
    drawn.add_nodes_from((node, {"operator": space.operators[op]}) for node, op in enumerate(arch.ops))
    for layer, nodes in enumerate(networkx.topological_generations(drawn)):
        for node in nodes:
            drawn.nodes[node]["layer"] = layer
    return drawn


def draw(arch: Arch, space: SearchSpace, axes: Axes) -> None:
    """Draw `arch` into `axes`, which lose their frame."""
    from matplotlib import colormaps
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    drawn = graph(arch, space)
    colours = dict(zip(space.operators, colormaps["Set2"].colors * 8, strict=False))  # type: ignore[attr-defined]
    place = _places(drawn)
    boxes = {}
    for node, operator in drawn.nodes(data="operator"):
        absent = operator in ABSENT
        x, y = place[node]
        boxes[node] = FancyBboxPatch(
            (x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.08", zorder=2,
            facecolor="white" if absent else colours[operator], edgecolor=PALE if absent else DARK,
        )  # fmt: skip
        axes.add_patch(boxes[node])
        text = operator.replace("_", "\n", 1)  # two lines, so that names such as nor_conv_3x3 fit
        axes.text(x, y, text, ha="center", va="center", fontsize=9, zorder=3, color="#808080" if absent else "black")
    for i, j in drawn.edges:
        dead = ABSENT & {drawn.nodes[i]["operator"], drawn.nodes[j]["operator"]}
        axes.add_patch(FancyArrowPatch(
            place[i], place[j], patchA=boxes[i], patchB=boxes[j], zorder=1, arrowstyle="-|>", mutation_scale=12, linewidth=1.2,
            color=PALE if dead else DARK, linestyle=":" if dead else "-", connectionstyle=f"arc3,rad={_bend(i, j, place)}",
        ))  # fmt: skip
    columns, rows = zip(*place.values(), strict=True)
    axes.set_xlim(min(columns) - 0.45, max(columns) + 0.45)
    axes.set_ylim(min(rows) - 0.6, max(rows) + 0.6)
    axes.set_axis_off()


def _bend(i: int, j: int, place: dict[int, tuple[float, float]]) -> float:
    """Curvature of the arrow `i -> j` (positive: downwards) that leads it past the box nearest to the straight line."""
    (x0, y0), (x1, y1) = place[i], place[j]
    above = [y - (y0 + (y1 - y0) * (x - x0) / (x1 - x0)) for x, y in place.values() if x0 < x < x1]
    nearest = min(above, key=abs, default=HEIGHT)
    return 0.0 if abs(nearest) > 0.75 * HEIGHT else 0.22 if nearest > 0 else -0.22


def _places(drawn: networkx.DiGraph) -> dict[int, tuple[float, float]]:
    """Layers from left to right, the nodes of a layer spread evenly, the first on top."""
    layers: dict[int, list[int]] = {}
    for node, layer in sorted(drawn.nodes(data="layer")):
        layers.setdefault(layer, []).append(node)
    return {
        node: (float(layer), (len(nodes) - 1) / 2 - row)
        for layer, nodes in layers.items()
        for row, node in enumerate(nodes)
    }
