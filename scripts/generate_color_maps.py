"""Generate the client's table of colours from matplotlib, which the client itself does not need.

`python scripts/generate_color_maps.py` writes an image of 256 x 3 pixels: a row for each colour map.
"""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from whylight_client.drawing import COLOR_MAPS, TABLE

TARGET = Path(__file__).resolve().parent.parent / "client" / "whylight_client" / TABLE


def main() -> None:
    """Run the command line."""
    rows = [matplotlib.colormaps[name](np.arange(256))[:, :3] for name in COLOR_MAPS]
    Image.fromarray(np.rint(np.stack(rows) * 255).astype(np.uint8)).save(TARGET)


if __name__ == "__main__":
    main()
