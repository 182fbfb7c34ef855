"""Letters drawn with the fonts that come with matplotlib: a source of simple grey images that needs no file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from string import ascii_letters

import numpy as np

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol",
)  # fmt: skip
SIDE, DRAWN_SIDE = 16, 64
OF_EACH = 240
"""Images of a letter."""


@lru_cache(maxsize=1)
def letter_images() -> tuple[np.ndarray, np.ndarray]:
    """uint8 `(n, 16, 16)`, white on black, and labels `(n,)`: the 52 letters `OF_EACH` times, always the same.

    Font, size, weight of the stroke, place and angle are drawn for each image.
    """
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng(0)
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = {(name, size): ImageFont.truetype(str(folder / f"{name}.ttf"), size) for name in FONTS for size in range(36, 61, 4)}
    names = list(fonts)
    images = np.empty((len(ascii_letters), OF_EACH, SIDE, SIDE), dtype=np.uint8)
    for label, letter in enumerate(ascii_letters):
        for k in range(OF_EACH):
            page = Image.new("L", (DRAWN_SIDE, DRAWN_SIDE))
            middle = DRAWN_SIDE / 2 + rng.uniform(-6, 6, 2)
            font = fonts[names[rng.integers(len(names))]]
            ImageDraw.Draw(page).text(tuple(middle), letter, fill=255, font=font, anchor="mm", stroke_width=int(rng.integers(3)))
            turned = page.rotate(float(rng.normal(0, 12)), resample=Image.Resampling.BILINEAR)
            images[label, k] = np.asarray(turned.resize((SIDE, SIDE), Image.Resampling.BOX))
    return images.reshape(-1, SIDE, SIDE), np.repeat(np.arange(len(ascii_letters)), OF_EACH)
