"""Mixup and cutmix: an image of a batch and another one of it become one, with the labels of both."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cpnas_cli.randomness import derived_seed, python_generator


@dataclass(frozen=True)
class Mix:
    """How one batch is mixed: drawn once for all of its images.

    Attributes:
      shift: how many places behind an image its partner stands in the batch, cyclically; from 1 to B - 1.
      share: of the image itself, in [0, 1]; the partner has the rest.
      box: rows and columns (top, bottom, left, right), ends not included, that come from the partner; None: all pixels
        are blended.
    """

    shift: int
    share: float
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Mixing:
    """Whether and how the batches of a training are mixed.

    Attributes:
      mixup, cutmix: alpha of each Beta distribution; 0: not at all. With both, a fair coin decides for each batch.
      num_classes: K.
    """

    mixup: float
    cutmix: float
    num_classes: int

    def draw_epoch(self, num_batches: int, *, batch_size: int, image_size: int, seed: int) -> Iterator[Mix]:
        """How each batch of an epoch is mixed.

        Args:
          seed: of the epoch.
        """
        assert batch_size > 1, "one image has no partner; see `check_training`"
        for batch in range(num_batches):
            # betavariate rests on random(), the only sequence that Python guarantees
            generator = python_generator(seed, "mix", batch)
            shift = 1 + int(generator.random() * (batch_size - 1))
            cuts = self.cutmix > 0 and (self.mixup == 0 or generator.random() < 0.5)
            alpha = self.cutmix if cuts else self.mixup
            share = generator.betavariate(alpha, alpha)
            if not cuts:
                yield Mix(shift, share)
                continue
            row, column = (int(generator.random() * image_size) for _ in range(2))
            yield cut_mix(shift, share, row=row, column=column, image_size=image_size)


def epoch_seed(seed: int, purpose: str, epoch: int) -> int:
    """Of the mixing of an epoch's batches."""
    return derived_seed(seed, f"mixing of {purpose}", epoch)


def cut_mix(shift: int, share: float, *, row: int, column: int, image_size: int) -> Mix:
    """A box of about 1 - share of the image, about this pixel, clipped to the image; the share is what remains.

    side = int(S sqrt(1 - share)); from centre - side // 2 to centre + side // 2

    Source: Yun et al., "CutMix", 2019, arXiv 1905.04899, and its public code.
    """
    half = int(image_size * (1 - share) ** 0.5) // 2
    top, left = (max(centre - half, 0) for centre in (row, column))
    bottom, right = (min(centre + half, image_size) for centre in (row, column))
    area = (bottom - top) * (right - left)
    return Mix(shift, 1 - area / image_size**2, (top, bottom, left, right))


def mixed(x_BCHW: Tensor, labels_B: Tensor, mix: Mix, *, num_classes: int) -> tuple[Tensor, Tensor]:
    """Each image with its partner, and the share of every class (B, K).

    mixup: x~ = share x_i + (1 - share) x_j;  cutmix: x~ = x_j in the box, x_i elsewhere
    y~ = share onehot(y_i) + (1 - share) onehot(y_j)

    Source: Zhang et al., "mixup", 2018, arXiv 1710.09412, section 2; Yun et al., see `cut_mix`. Ours: the partner is
    another image of the batch always; a random permutation sometimes gives an image itself.
    """
    partner_BCHW, partner_labels_B = x_BCHW.roll(-mix.shift, 0), labels_B.roll(-mix.shift, 0)
    if mix.box is None:
        blended_BCHW = mix.share * x_BCHW + (1 - mix.share) * partner_BCHW
    else:
        top, bottom, left, right = mix.box
        blended_BCHW = x_BCHW.clone()
        blended_BCHW[:, :, top:bottom, left:right] = partner_BCHW[:, :, top:bottom, left:right]
    own_BK, partner_BK = (F.one_hot(labels, num_classes).to(torch.float32) for labels in (labels_B, partner_labels_B))
    return blended_BCHW, mix.share * own_BK + (1 - mix.share) * partner_BK
