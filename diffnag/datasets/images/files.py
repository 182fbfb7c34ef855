"""Read one image file: its pixels, or the reason why it cannot be read."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.datasets.images.squares import square
from diffnag.errors import in_a_line

if TYPE_CHECKING:
    from PIL import Image

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff")
ACCEPTED = "PNG, JPEG, BMP, GIF, WebP and TIFF"
DARK = 1 << 12
"""A file of 16 bits whose values are all below this has few levels left when it is cut to 8 bits."""
DARK_REMARK = f"had 16 bits, all values below {DARK:,}, and few levels were left in 8 bits: as arrays in an .npz file they are kept as they are"
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")


def read_sides(path: Path) -> tuple[int, int] | str:
    """Width and height from the header of an image file, or the reason why it cannot be read."""
    from PIL import Image

    try:
        with Image.open(_regular(path), formats=_FORMATS) as image:
            return image.size
    except Exception as error:  # a decoder fails in any way on a damaged file
        return _reason(path, error)


def decode(path: Path, size: int) -> tuple[np.ndarray, list[str]] | str:
    """Pixels `(size, size, 3)` and remarks on what was converted, or the reason why the image cannot be read."""
    from PIL import Image

    try:
        with Image.open(_regular(path), formats=_FORMATS) as image:
            several = ["held several pictures, and only the first is used"] if getattr(image, "is_animated", False) else []
            image.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded at a fraction of its size
            pixels, remarks = _upright_square(image, size)
            return pixels, remarks + several
    except Exception as error:  # a decoder fails in any way on a damaged file
        return _reason(path, error)


def _regular(path: Path) -> Path:
    """Return the path of a regular file; raises `ValueError` for others, since reading a pipe may never end."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError("a directory, not a file" if stat.S_ISDIR(mode) else "not a regular file")
    return path


def decode_picture(image: Image.Image, size: int) -> tuple[np.ndarray, list[str]] | str:
    """`decode` for a Pillow image; the image itself is not changed."""
    try:
        return _upright_square(image.copy(), size)
    except Exception as error:  # Pillow decodes an opened file only here
        return in_a_line(error)


def _upright_square(image: Image.Image, size: int) -> tuple[np.ndarray, list[str]]:
    from PIL import ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    rgb, remarks = _as_rgb(image)
    return square(rgb, size), remarks


def _as_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    from PIL import Image

    if image.mode.startswith("I;16"):
        levels = np.asarray(image)
        remark = "had 16 bits and were cut to 8" if levels.max() >= DARK else DARK_REMARK
        return Image.fromarray((levels >> 8).astype(np.uint8)).convert("RGB"), [remark]
    if image.mode in ("I", "F"):
        raise ValueError("pixels of 32 bits; accepted are 1, 8 and 16")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema()[0] == 255:
            return rgba.convert("RGB"), []
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB"), ["had transparent parts, which were made white"]
    remarks = [] if image.mode in ("RGB", "L", "P", "1") else [f"had the mode {image.mode} and were converted to RGB"]
    return image.convert("RGB"), remarks


def _reason(path: Path, error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, UnidentifiedImageError):
        return "empty" if path.stat().st_size == 0 else f"not {ACCEPTED.replace('and', 'or')}"
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
