"""Pictures and pages beside results: one that fails costs itself, not the run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from diffnag.errors import in_a_line


def try_to_draw(path: Path, draw: Callable[[Path], object], *, on_note: Callable[[str], object]) -> bool:
    """Call `draw(path)` and return whether there is a picture.

    Any failure becomes a note; the picture of an earlier run is then deleted, because it shows something else.
    """
    try:
        draw(path)
    except Exception as failure:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        reason = in_a_line(failure).encode("utf-8", "backslashreplace").decode()
        on_note(f"{path.name} could not be made: {reason}")
        return False
    return True
