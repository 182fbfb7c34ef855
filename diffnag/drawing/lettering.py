"""Text in pictures, whatever users name things: no formula is read into it, and letters that no font has become code points."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"
"""Fonts that come with matplotlib."""
NO_LETTERS = re.compile(r"cm\w+10$|\.?Last ?Resort|DejaVu|STIXSize|STIXNonUnicode")
"""Font families that are not searched for a letter: other code points, equal boxes, or nothing beyond `SANS`."""


@dataclass(frozen=True)
class Lettering:
    """The fonts of one picture: `families` in the order they are tried, and the code points that one of them has."""

    families: tuple[str, ...]
    known: frozenset[int]

    @property
    def monospace(self) -> list[str]:
        """The families with one of equal widths in front."""
        return [MONO, *self.families]

    def shows(self, text: str) -> bool:
        """Whether the fonts have all letters of `text`; bytes that are no letters can be written without."""
        return all(letter.isspace() or ord(letter) in self.known or _is_byte(letter) for letter in text)

    def plain(self, text: str) -> str:
        """`text` for matplotlib, in one line: `$` starts no formula, letters without a font are written as `U+4E2D`.

        Bytes of a name that is not UTF-8, which Python keeps as surrogates, are written as `\\xe9`.
        """
        written = ""
        for letter in text:
            code = ord(letter)
            if letter.isspace():
                written += " "
            elif _is_byte(letter):
                written += f"\\x{code - 0xDC00:02x}"
            elif code in self.known:
                written += letter
            else:
                written += f"{' ' if re.search('U.[0-9A-F]{4,6}$', written) else ''}U+{code:04X}"
        return written.replace("$", r"\$")


@contextmanager
def lettering(texts: Iterable[str]) -> Iterator[Lettering]:
    """Draw with matplotlib's own settings, not the user's, and with fonts for `texts` as far as the system has them."""
    import matplotlib

    families, known = [SANS], set(_letters(_path(SANS)))
    missing = {ord(letter) for letter in "".join(texts) if _is_letter(letter)} - known
    for family in _others() if missing else ():
        if missing & _letters(_path(family)):
            families.append(family)
            known |= _letters(_path(family))
            missing -= known
        if not missing:
            break
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["font.family"] = families
        yield Lettering(tuple(families), frozenset(known))


def _is_letter(letter: str) -> bool:
    """Whether a font could have it: spaces, control characters and surrogates are none."""
    return not letter.isspace() and unicodedata.category(letter) not in ("Cc", "Cs")


def _is_byte(letter: str) -> bool:
    """Whether it stands for a byte of a name that is not UTF-8 (PEP 383)."""
    return 0xDC80 <= ord(letter) <= 0xDCFF


def _others() -> list[str]:
    """The font families that the system has besides `SANS`, in a fixed order."""
    from matplotlib.font_manager import fontManager

    return sorted({font.name for font in fontManager.ttflist if not NO_LETTERS.match(font.name)})


@cache
def _path(family: str) -> str:
    """The file that matplotlib takes for a family."""
    from matplotlib.font_manager import findfont

    return findfont(family)


@cache
def _letters(path: str) -> frozenset[int]:
    """Code points of the font in a file; none where it cannot be read, or is of one size only."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (RuntimeError, OSError):
        return frozenset()
