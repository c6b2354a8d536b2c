# SPDX-License-Identifier: Apache-2.0
"""Plots as PNG files of at most 256 colours: a third of the bytes of full colour, and no word of who wrote them."""

import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image


def save_palette_png(figure: Figure, path: Path, dpi: int) -> None:
    """Save a figure on its own background.

    Args:
        figure: The plot.
        path: File to write.
        dpi: Pixels per inch of the figure's size.
    """
    whole = io.BytesIO()
    figure.savefig(whole, format="png", dpi=dpi)
    Image.open(whole).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, "PNG", optimize=True)
