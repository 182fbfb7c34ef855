"""Colours of operators: fixed by the family that an operator's name shows, so that they are the same in every space.

Hue is the family. Lightness is what has an order: larger kernels and larger expansions are darker. All pairs of one space stay
apart for readers with red-green colour blindness, because they differ in lightness or on the blue-yellow axis.
"""

from __future__ import annotations

import colorsys
import itertools
import re
from collections.abc import Iterator, Sequence

import numpy as np

Colour = tuple[float, float, float]
"""Red, green and blue in [0, 1]."""

BLOCKED = frozenset({"none", "zero", "zeroize"})
"""Names of the operator that passes nothing on; it has no colour."""
ABSENT = "absent"
"""Name of the operator of a node that is not there; it is not drawn."""
ENDS = frozenset({"input", "output"})
"""Operators that only mark where a graph begins and ends; drawn grey and round."""

KERNELS, BY_KERNEL = (1, 3, 5, 7, 11), (0.87, 0.72, 0.56, 0.42, 0.30)
"""Lightness of convolutions by kernel size."""
EXPANSIONS, BY_EXPANSION = (1, 2, 3, 4, 6, 10), (0.98, 0.96, 0.82, 0.66, 0.48, 0.38)
"""Lightness of inverted bottlenecks (MBConv) by expansion."""
PALE = 0.07
"""How much darker those of an expansion below 3 are with a large kernel: pale hues cannot be told apart."""
MBCONV_HUES = (0.14, 0.14, 0.075, 0.0, 0.94)
"""Their hue by kernel size: yellow, orange, red."""
HEADS, BY_HEADS = (4, 8, 12, 16, 20), ((0.70, 0.70), (0.17, 0.31), (0.22, 0.60), (0.70, 0.70), (0.16, 0.55))
"""Hue and saturation of a language model's layers by their heads; at every scale three of these that can be told apart."""
RATIOS, BY_RATIO = (2, 3, 4), (0.70, 0.50, 0.27)
"""Their lightness by MLP ratio."""
WIDTHS, BY_WIDTH = (192, 1280), (0.80, 0.30)
"""Lightness of embeddings by the logarithm of their width; grey, blue-grey with biases."""
SIDES, BY_SIDE = (96, 224), (0.86, 0.26)
"""Lightness of the resolutions of an input, violet, by their pixels a side."""
POOLINGS: tuple[tuple[re.Pattern[str], Colour], ...] = (
    (re.compile(r"avg|average|mean_?pool"), (0.69, 0.84, 0.50)),  # light green
    (re.compile(r"pool"), (0.20, 0.50, 0.32)),  # dark green
)
CONVOLUTIONS = (
    (re.compile(r"sep|depth|dw_?conv"), 0.76, 0.45),  # violet
    (re.compile(r"dil|atrous"), 0.94, 0.65),  # rose
    (re.compile(r"conv"), 0.58, 0.62),  # blue
)
"""What the name contains, hue and saturation; the first that fits."""
OTHERS: tuple[tuple[re.Pattern[str], Colour], ...] = (
    (re.compile(r"skip|identity|^id$|shortcut"), (0.91, 0.87, 0.71)),  # grey-yellow
    (re.compile(r"double.*halve|halve.*double"), (0.42, 0.24, 0.45)),  # dark plum
    (re.compile(r"double"), (0.24, 0.62, 0.62)),  # teal
    (re.compile(r"halve"), (0.85, 0.60, 0.78)),  # mauve
    (re.compile(r"^normal$"), (0.78, 0.85, 0.89)),  # grey-blue
)
SPARE = ("#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#882255", "#44aa99", "#999933", "#aa4499", "#117733")
"""Colours for operators of no known family, safe for colour-blind readers (Okabe and Ito, 2008; Tol's muted scheme), without blues."""
GOLDEN = 0.618034
"""Step between the hues that come after those: each falls into the widest gap that the ones before it leave."""


def colours_of(operators: Sequence[str]) -> dict[str, Colour]:
    """The colour of each operator that does something.

    A known family has its colour; an operator of no known family, or a second one of the same family and size, gets the next
    of a fixed list that none before it has. Thus the colours of one space are all different, and the same each time.
    """
    named = [operator for operator in dict.fromkeys(operators) if operator not in BLOCKED | ENDS | {ABSENT}]
    found: dict[str, Colour] = {}
    for operator in named:
        colour = _of_family(operator)
        if colour is not None and colour not in found.values():
            found[operator] = colour
    spare = (colour for colour in _spare() if colour not in found.values())
    return {operator: found.get(operator) or next(spare) for operator in named}


def letters_on(colour: Colour) -> str:
    """Black or white, whichever reads better on `colour` (relative luminance, WCAG 2)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return "black" if np.dot((0.2126, 0.7152, 0.0722), linear) > 0.179 else "white"


def _of_family(operator: str) -> Colour | None:
    """The colour of the operator's family and size; None where the name shows no family."""
    name = operator.lower()
    kernel = _kernel(name)
    if found := re.search(r"mb_?conv(?:_?e)?(\d*)", name):
        expansion = int(found[1]) if found[1] else 6
        pale = PALE if expansion < 3 and kernel > 3 else 0.0
        return _shade(np.interp(kernel, KERNELS, MBCONV_HUES), np.interp(expansion, EXPANSIONS, BY_EXPANSION) - pale, 0.78)
    if found := re.fullmatch(r"heads(\d+)_mlp(\d+)", name):
        by_hue, by_saturation = zip(*BY_HEADS, strict=True)
        heads, ratio = map(int, found.groups())
        return _shade(np.interp(heads, HEADS, by_hue), np.interp(ratio, RATIOS, BY_RATIO), float(np.interp(heads, HEADS, by_saturation)))
    if found := re.fullmatch(r"width(\d+)_(no)?bias", name):
        return _shade(0.67, np.interp(np.log(int(found[1])), np.log(WIDTHS), BY_WIDTH), 0.0 if found[2] else 0.35)
    if found := re.fullmatch(r"(\d+)px", name):
        return _shade(0.68, np.interp(int(found[1]), SIDES, BY_SIDE), 0.5)
    for pattern, colour in POOLINGS:
        if pattern.search(name):
            return colour
    for pattern, hue, saturation in CONVOLUTIONS:
        if pattern.search(name):
            return _shade(hue, np.interp(kernel, KERNELS, BY_KERNEL), saturation)
    return next((colour for pattern, colour in OTHERS if pattern.search(name)), None)


def _kernel(name: str) -> int:
    """The larger side of `3x3`, or the number in `conv3`, `pool_3` or `k3`; 3 without any."""
    sides = [side for pair in re.findall(r"(\d+)x(\d+)", name) for side in pair]
    return max(map(int, sides or re.findall(r"(?:conv|pool|_k)_?(\d+)(?![\dd])", name)), default=3)


def _shade(hue: float, lightness: float, saturation: float) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(float(hue), float(lightness), saturation)
    return round(red, 4), round(green, 4), round(blue, 4)


def _spare() -> Iterator[Colour]:
    """Colours without end."""
    for text in SPARE:
        red, green, blue = (int(text[k : k + 2], 16) / 255 for k in (1, 3, 5))
        yield round(red, 4), round(green, 4), round(blue, 4)
    for k in itertools.count():
        hue = 0.64 + 0.88 * (k * GOLDEN % 1)  # not the blue of convolutions
        yield _shade(hue % 1, (0.78, 0.34, 0.56)[k % 3], (0.35, 0.55, 0.75)[k % 3])
