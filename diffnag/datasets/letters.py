"""Simple grey images of letters, drawn with the fonts that come with matplotlib; they need no file."""

from __future__ import annotations

from pathlib import Path
from string import ascii_letters

import numpy as np

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol",
)  # fmt: skip
DRAWN_SIDE = 64
OF_EACH = 240
"""Number of images of each letter."""


def letter_images(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the 52 letters `OF_EACH` times: uint8 `(n, side, side)`, white on black, and labels `(n,)`. Always the same images.

    Each image has a random font, size, weight of the stroke, place and angle.
    """
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng(0)
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = {(name, size): ImageFont.truetype(str(folder / f"{name}.ttf"), size) for name in FONTS for size in range(36, 61, 4)}
    names = list(fonts)
    images = np.empty((len(ascii_letters), OF_EACH, side, side), dtype=np.uint8)
    for label, letter in enumerate(ascii_letters):
        for k in range(OF_EACH):
            page = Image.new("L", (DRAWN_SIDE, DRAWN_SIDE))
            middle = DRAWN_SIDE / 2 + rng.uniform(-6, 6, 2)
            font = fonts[names[rng.integers(len(names))]]
            ImageDraw.Draw(page).text(tuple(middle), letter, fill=255, font=font, anchor="mm", stroke_width=int(rng.integers(3)))
            turned = page.rotate(float(rng.normal(0, 12)), resample=Image.Resampling.BILINEAR)
            images[label, k] = np.asarray(turned.resize((side, side), Image.Resampling.BOX))
    return images.reshape(-1, side, side), np.repeat(np.arange(len(ascii_letters)), OF_EACH)
