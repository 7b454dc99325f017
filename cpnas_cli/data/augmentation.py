"""How training images are varied: colour, rotation, crop, mirror, cutout; in batches, on the device of the images.

What is random is drawn for a whole epoch up front, as whole numbers with a row for every image (`draw_augmentation`);
everything else here is a pure function of images and their rows.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cpnas_cli.settings import DataConfig

# Columns of the noise. The last four are only there where rotation or colour is on.
ROW, COLUMN, MIRRORED, HOLE_ROW, HOLE_COLUMN, ANGLE, BRIGHTNESS, CONTRAST, SATURATION = range(9)

_FINE = 2**24
"""What stands for a number in [0, 1) among the noise: that many equal steps, each exact in float32."""

_GREY = (0.2989, 0.587, 0.114)
"""Of red, green and blue in the brightness of a pixel (ITU-R 601-2, as torchvision rounds it)."""


def draw_augmentation(config: DataConfig, num_images: int, generator: torch.Generator) -> Tensor:
    """Whole numbers (N, 5): row and column of the crop, mirrored or not, row and column of the cutout.

    With rotation or colour (N, 9): then also, in steps of 2^-24 from 0 to 1, the angle and the factors of brightness,
    contrast and saturation. The first five are the same numbers then.
    """
    size, crop = config.image_size, 2 * config.crop_padding + 1
    highs = [crop, crop, 2, size, size]
    if config.rotation or config.colour:
        highs += [_FINE] * 4
    return torch.stack([torch.randint(high, (num_images,), generator=generator) for high in highs], dim=1)


def _between(noise_B: Tensor, low: float, high: float) -> Tensor:
    """Uniform in [low, high)."""
    return low + (high - low) * (noise_B / _FINE)


def varied_colours(pixels_BCHW: Tensor, noise_BA: Tensor, config: DataConfig) -> Tensor:
    """Brightness, contrast and saturation of pixels in [0, 1], each changed by a factor within 1 +- `data.colour`.

    brightness: b p;  contrast: c p + (1 - c) mean(grey(p));  saturation: s p + (1 - s) grey(p)

    where grey is the weighted sum of red, green and blue and the mean runs over the image; every result is clipped to
    [0, 1]. A grey image has no saturation.

    Source: torchvision's `ColorJitter`. Differs from it: always in this order.
    """
    if not config.colour:
        return pixels_BCHW
    brightness, contrast, saturation = (
        _between(noise_BA[:, column], 1 - config.colour, 1 + config.colour)[:, None, None, None]
        for column in (BRIGHTNESS, CONTRAST, SATURATION)
    )
    pixels_BCHW = (brightness * pixels_BCHW).clamp_(0, 1)
    mean_B111 = _grey(pixels_BCHW).mean(dim=(1, 2, 3), keepdim=True)
    pixels_BCHW = (contrast * pixels_BCHW + (1 - contrast) * mean_B111).clamp_(0, 1)
    if pixels_BCHW.shape[1] == 1:
        return pixels_BCHW
    return (saturation * pixels_BCHW + (1 - saturation) * _grey(pixels_BCHW)).clamp_(0, 1)


def _grey(pixels_BCHW: Tensor) -> Tensor:
    """(B, 1, H, W)."""
    if pixels_BCHW.shape[1] == 1:
        return pixels_BCHW
    red, green, blue = (weight * pixels_BCHW[:, index] for index, weight in enumerate(_GREY))
    return (red + green + blue)[:, None]


def rotated(x_BCHW: Tensor, noise_BA: Tensor, config: DataConfig) -> Tensor:
    """Each image turned about its centre, by an angle within +- `data.rotation`.

    Every pixel is read at its place before the turn, by bilinear interpolation; what lies outside is 0, as in the
    border of a crop.
    """
    if not config.rotation:
        return x_BCHW
    size = x_BCHW.shape[-1]
    bound = math.radians(config.rotation)
    angle_B11 = _between(noise_BA[:, ANGLE], -bound, bound)[:, None, None]
    # between the outer edges of the image from -1 to 1; each value by itself, so that no batch changes its rounding
    centre_S = (2 * torch.arange(size, device=x_BCHW.device) + 1) / size - 1
    row_S1, column_1S = centre_S[:, None], centre_S[None, :]
    cosine, sine = angle_B11.cos(), angle_B11.sin()
    source_BSS2 = torch.stack([cosine * column_1S - sine * row_S1, sine * column_1S + cosine * row_S1], dim=-1)
    return F.grid_sample(x_BCHW, source_BSS2, mode="bilinear", padding_mode="zeros", align_corners=False)


def cropped(x_BCHW: Tensor, noise_BA: Tensor, config: DataConfig) -> Tensor:
    """A crop of each image in its border of `data.crop_padding` zeros, mirrored or not with `data.flip`."""
    size, padding = config.image_size, config.crop_padding
    if not padding and not config.flip:
        return x_BCHW
    pixel = torch.arange(size, device=x_BCHW.device)
    rows_BS = pixel + noise_BA[:, ROW, None]
    columns_BS = pixel.expand(len(x_BCHW), -1)
    if config.flip:
        columns_BS = torch.where(noise_BA[:, MIRRORED, None] == 1, columns_BS.flip(1), columns_BS)
    columns_BS = columns_BS + noise_BA[:, COLUMN, None]
    batch_B11 = torch.arange(len(x_BCHW), device=x_BCHW.device)[:, None, None]
    padded_BHWC = F.pad(x_BCHW, (padding,) * 4).permute(0, 2, 3, 1)
    return padded_BHWC[batch_B11, rows_BS[:, :, None], columns_BS[:, None, :]].permute(0, 3, 1, 2)


def cut_out(x_BCHW: Tensor, noise_BA: Tensor, config: DataConfig) -> Tensor:
    """A square of `data.cutout` zeros in each image, about a centre anywhere in it.

    Source: DeVries and Taylor, 2017, arXiv 1708.04552.
    """
    if not config.cutout:
        return x_BCHW
    pixel = torch.arange(config.image_size, device=x_BCHW.device)
    half = config.cutout // 2
    start_B2 = noise_BA[:, HOLE_ROW : HOLE_COLUMN + 1] - half
    inside = (pixel >= start_B2[..., None]) & (pixel < start_B2[..., None] + config.cutout)  # (B, 2, S)
    hole_BHW = inside[:, 0, :, None] & inside[:, 1, None, :]
    return x_BCHW.masked_fill(hole_BHW[:, None], 0)
