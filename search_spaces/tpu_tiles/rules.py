"""Rules of the graphs of TPU programs: the operators by their codes, and how many inputs each takes.

The codes are those of the file, which names none of them. Numbers of inputs are the fewest and the most that any of its programs has.
"""

from __future__ import annotations

from collections.abc import Mapping

MOST_NODES = 160
"""The largest program of the file has 154."""
FIXED: Mapping[int, tuple[int, ...]] = {
    0: (7, 12, 19, 29),
    1: (0, 2, 3, 4, 8, 10, 16, 17, 20, 27, 32, 34, 39, 41, 42, 44, 46),
    2: (1, 6, 9, 13, 21, 22, 23, 24, 25, 28, 33, 36, 37, 38, 43),
    3: (5, 14, 35),
}
"""Number of inputs -> codes of the operators that take so many."""
VARIED: Mapping[int, tuple[int, int]] = {15: (3, 4), 18: (1, 21), 26: (1, 2), 31: (3, 5), 45: (2, 6)}
"""Code -> fewest and most inputs, of the other operators."""
INPUTS: Mapping[int, tuple[int, int]] = dict(sorted({**VARIED, **{code: (k, k) for k, codes in FIXED.items() for code in codes}}.items()))
"""Code -> fewest and most inputs, in the order of the codes."""
