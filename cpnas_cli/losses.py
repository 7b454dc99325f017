"""The Child-Parent loss: (4.17) and (4.18) of "Binary Neural Architecture Search", section 4.3.

L    = L_CE + L_H^                                                                        (4.18)
L_H^ = sum_{l,c} MSE(H_c^l, H^_c^l) + lambda/2 sum_s ||f_s - mean_{class(s)}||^2          (4.17)
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LossTerms:
    """The terms of (4.18) as they enter the sum, scalar tensors: `total` is the sum of the other three."""

    total: Tensor
    cross_entropy: Tensor
    kernel: Tensor
    compactness: Tensor


def kernel_loss(
    latents: Iterable[Tensor], *, reconstruct: Callable[[Tensor], Tensor], device: torch.device | None = None
) -> Tensor:
    """sum_{l,c} MSE(H_c^l, H^_c^l) over all filters c of the latent weights H^l, a scalar; 0 without any.

    where H^l is (C_out, C_in / groups, k, k), H^_c = alpha_c sign(H_c) its 1-bit reconstruction, and
    MSE the mean over the taps of one filter. The gradient is exact, 2/n (H - H^) for a filter of n
    taps: alpha minimizes the error, so its own derivative adds nothing.

    Args:
      reconstruct: H -> H^, the same shape, no gradient (`binarization.filters.reconstruction`).
      device: of the 0 where there is no filter.

    Source: (4.17), first term. Weights of one shape are stacked, so that a deep network costs a few
    operations and not a few per layer.
    """
    by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
    for latent in latents:
        by_shape[latent.shape].append(latent)
    terms = []
    for same_shape in by_shape.values():
        latent = torch.cat(same_shape)
        with torch.no_grad():
            reconstructed = reconstruct(latent)
        taps = latent[0].numel()
        terms.append((latent - reconstructed).square().sum() / taps)
    return torch.stack(terms).sum() if terms else torch.zeros((), device=device)


def compactness_loss(features_BCHW: Tensor, class_means_KCHW: Tensor, labels_B: Tensor) -> Tensor:
    """1/2 sum_s ||f_s - mean_{class(s)}||^2, a scalar; to be multiplied by lambda.

    where f_s is the feature map of sample s and the means are constants (no gradient).

    Source: (4.17), second term. Ours: the "feature map of the last convolutional layer" is the output
    of the last cell. The sum runs over samples and elements as published, so a useful lambda is small.
    """
    distance = features_BCHW - class_means_KCHW.detach()[labels_B]
    return 0.5 * distance.square().sum()


class ClassMeans(nn.Module):
    """A running mean of the feature map of each class, updated as in the center loss.

    delta_k = sum_{s: class(s)=k} (mean_k - f_s) / (1 + n_k);  mean_k <- mean_k - rate * delta_k

    where n_k counts the samples of class k in the batch, that of all processes together; classes that are not
    in the batch stay.

    Source: Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition",
    ECCV 2016, equation 4. That the mean is a running one is ours: (4.17) does not say.

    Args:
      feature_shape: (C, H, W). rate: of the update, in (0, 1].
      exchange: makes each tensor its sum over the processes that train together; without it there is one process.
    """

    means: Tensor

    def __init__(
        self,
        num_classes: int,
        feature_shape: tuple[int, int, int],
        *,
        rate: float,
        exchange: Callable[[Sequence[Tensor]], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self.rate, self.exchange = rate, exchange
        self.register_buffer("means", torch.zeros(num_classes, *feature_shape))

    @torch.no_grad()
    def update(self, features_BCHW: Tensor, labels_B: Tensor) -> None:
        num_classes = self.means.shape[0]
        features_BCHW = features_BCHW.to(self.means.dtype)
        one_hot_KB = nn.functional.one_hot(labels_B, num_classes).T.to(self.means.dtype)
        counts_K1 = one_hot_KB.sum(dim=1, keepdim=True)
        flat_means = self.means.flatten(1)
        sums = one_hot_KB @ features_BCHW.flatten(1)
        self.exchange([counts_K1, sums])
        delta = (flat_means * counts_K1 - sums) / (1 + counts_K1)
        self.means.sub_((self.rate * delta).view_as(self.means))


def child_parent_loss(
    *,
    cross_entropy: Tensor,
    kernel: Tensor,
    compactness: Tensor,
    kernel_weight: float,
    lambda_compactness: float,
) -> LossTerms:
    """L = L_CE + kernel_weight * kernel + lambda * compactness.

    where kernel is `kernel_loss` and compactness is `compactness_loss` (which holds the 1/2 of lambda/2).

    Source: (4.18). `kernel_weight` is ours; the published loss has 1.
    """
    kernel_term = kernel_weight * kernel
    compactness_term = lambda_compactness * compactness
    return LossTerms(
        total=cross_entropy + kernel_term + compactness_term,
        cross_entropy=cross_entropy,
        kernel=kernel_term,
        compactness=compactness_term,
    )
