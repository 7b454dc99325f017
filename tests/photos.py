"""Photos that are made up: coloured shapes on noise, a folder for each class."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"disc": (220, 60, 50), "box": (60, 200, 70), "cross": (70, 80, 220)}


def make_photos(root: Path, *, classes: tuple[str, ...] = ("disc", "box"), count: int = 20, size: int = 20) -> Path:
    """`count` pictures of each class in `root/CLASS/`."""
    generator = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for index in range(count):
            image = Image.fromarray(generator.integers(0, 120, (size, size, 3), dtype=np.uint8))
            draw = ImageDraw.Draw(image)
            left, top = generator.integers(0, size // 3, 2).tolist()
            box = (left, top, left + size // 2, top + size // 2)
            colour = COLOURS.get(name, (200, 200, 200))
            if name == "disc":
                draw.ellipse(box, fill=colour)
            elif name == "box":
                draw.rectangle(box, fill=colour)
            else:
                draw.line((box[0], box[1], box[2], box[3]), fill=colour, width=3)
            image.save(root / name / f"{index:03d}.png")
    return root
