"""One image file to pixels: the same in a training and in `cpnas predict`."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cpnas_cli.data.reading import opened
from cpnas_cli.errors import DataError
from cpnas_cli.settings import FitName

GREY_MODES = {"1", "L", "LA", "I", "I;16", "I;16B", "I;16L"}

# What Pillow raises for a file that is no image or a damaged one: its readers of headers, EXIF and pixels check little.
DAMAGED = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    SyntaxError,
    RuntimeError,
    NotImplementedError,
    struct.error,
    zlib.error,
)


def unreadable(path: Path | str, error: Exception) -> DataError:
    """The error that says that a file is no image, or a too large one.

    Args:
      path: or, of an image in memory, what it is called.
      error: that Pillow raised.
    """
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return DataError(f"cannot read the image {path}: it has more than {most:,} pixels; make it smaller")
    if isinstance(error, PermissionError):
        return DataError(f"cannot read the image {path}: {error.strerror}; get the permission, or leave it out")
    return DataError(f"cannot read the image {path}: it is no image that Pillow knows, or it is damaged; leave it out")


def decode_image(path: Path, *, image_size: int, num_channels: int, fit: FitName = "squash") -> np.ndarray:
    """One image as uint8 (C, S, S): upright, transparent parts white, made square as `fitted` says.

    Raises:
      DataError: it cannot be read.
    """
    try:
        with opened(path) as found:
            return pixels_of(found, path, image_size=image_size, num_channels=num_channels, fit=fit)
    except DAMAGED as error:
        raise unreadable(path, error) from None


def pixels_of(
    image: Image.Image, path: Path | str, *, image_size: int, num_channels: int, fit: FitName = "squash"
) -> np.ndarray:
    """The same of an image that is open.

    Args:
      path: or what it is called.

    Raises:
      DataError: its pixels have no known range. See `DAMAGED` for what else Pillow raises.
    """
    square = fitted(upright(image, path).convert("L" if num_channels == 1 else "RGB"), image_size, fit)
    pixels = np.array(square, dtype=np.uint8)
    return pixels[None] if num_channels == 1 else pixels.transpose(2, 0, 1)


def small_image(path: Path, side: int) -> Image.Image | None:
    """In colour and upright, for a picture of `side` pixels; a large JPEG is decoded small. None: it cannot be read."""
    try:
        with opened(path) as found:
            found.draft("RGB", (2 * side, 2 * side))
            return upright(found, path).convert("RGB")
    except (*DAMAGED, DataError):
        return None


def fitted(image: Image.Image, size: int, fit: FitName) -> Image.Image:
    """The image with S x S pixels, by bilinear interpolation (Pillow's, which averages where it makes smaller).

    squash: width and height each become S. crop: the largest square about the centre. letterbox: the longer side
    becomes S, the rest is black, half of it on either side (the odd pixel below or on the right). A square image is the
    same in all three.
    """
    if image.size == (size, size):
        return image
    width, height = image.size
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    if fit == "letterbox" and width != height:
        longer = max(width, height)
        inner_width, inner_height = (max(round(side * size / longer), 1) for side in (width, height))
        canvas = Image.new(image.mode, (size, size))
        inner = image.resize((inner_width, inner_height), Image.Resampling.BILINEAR)
        canvas.paste(inner, ((size - inner_width) // 2, (size - inner_height) // 2))
        return canvas
    return image.resize((size, size), Image.Resampling.BILINEAR)


def upright(found: Image.Image, path: Path | str) -> Image.Image:
    """The image with 8 bits of each channel, upright, transparent parts white, in its own size.

    Raises:
      DataError: its pixels have no known range. See `DAMAGED` for what else Pillow raises.
    """
    image: Image.Image = ImageOps.exif_transpose(found)
    if image.mode == "F":
        raise DataError(f"{path} has floating-point pixels of unknown range; convert it to 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits, whichever way Pillow reads them
        values = np.asarray(image)
        least, most = int(values.min()), int(values.max())
        if least < 0 or most > 65535:
            raise DataError(
                f"{path} has pixels from {least} to {most}, and what is black and white in them is not known; convert "
                "it to 8 or 16 bits (0 to 65535)"
            )
        image = Image.fromarray((values / 257).round().astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image
