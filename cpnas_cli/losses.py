"""The Child-Parent loss: (4.17) and (4.18) of "Binary Neural Architecture Search", section 4.3; and what may join it.

L    = L_CE + L_H^                                                                        (4.18)
L_H^ = sum_{l,c} MSE(H_c^l, H^_c^l) + lambda/2 sum_s ||f_s - mean_{class(s)}||^2          (4.17)

The labels of a batch are classes (B,), or, of blended images, the share of every class (B, K).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class LossTerms:
    """The terms of a loss as they enter the sum, scalar tensors: `total` is the sum of the others."""

    total: Tensor
    cross_entropy: Tensor
    kernel: Tensor
    compactness: Tensor
    teacher: Tensor
    auxiliary: Tensor


def only_cross_entropy(loss: Tensor) -> LossTerms:
    """The cross-entropy as the whole loss."""
    zero = torch.zeros_like(loss)
    return LossTerms(total=loss, cross_entropy=loss, kernel=zero, compactness=zero, teacher=zero, auxiliary=zero)


def balanced_weights(counts_K: Tensor) -> Tensor:
    """w_k = N / (K n_k), (K,): the same sum of weights for every class, and a mean over the N images of 1.

    where n_k > 0 images are of class k, and K is the number of such classes; a class without images has 0.

    Source: King and Zeng, "Logistic Regression in Rare Events Data", 2001, as scikit-learn's class_weight="balanced".
    """
    present_K = counts_K > 0
    weights_K = counts_K.sum() / (present_K.sum() * counts_K.clamp(min=1).double())
    return torch.where(present_K, weights_K, 0.0).float()


def image_weights(labels: Tensor, weights_K: Tensor) -> Tensor:
    """That of the class of each image, (B,); of a blended image the mean over its classes by their shares."""
    return weights_K[labels] if labels.dim() == 1 else labels.to(weights_K.dtype) @ weights_K


def cross_entropy_loss(
    logits_BK: Tensor, labels: Tensor, *, label_smoothing: float = 0.0, weights_B: Tensor | None = None
) -> Tensor:
    """mean_s w_s CE(s), a scalar; without weights every w is 1.

    The sum of weights of a batch does not divide it, so that an image counts the same in every batch, and parts of a
    batch add up to it.
    """
    if weights_B is None:
        return F.cross_entropy(logits_BK, labels, label_smoothing=label_smoothing)
    return (weights_B * F.cross_entropy(logits_BK, labels, label_smoothing=label_smoothing, reduction="none")).mean()


def teacher_loss(
    logits_BK: Tensor, teacher_logits_BK: Tensor, *, temperature: float, weights_B: Tensor | None = None
) -> Tensor:
    """T^2 KL(p || q) = T^2 mean_s w_s sum_k p_sk (log p_sk - log q_sk), a scalar; without weights every w is 1.

    where p = softmax(teacher's scores / T), which are constants, and q = softmax(scores / T). The gradient with
    respect to the scores is T (q - p) / B, so that T^2 keeps it at the size of the cross-entropy's.

    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531,
    section 2; ReActNet, arXiv 2003.03488, has T = 1.
    """
    log_q = F.log_softmax(logits_BK / temperature, dim=1)
    log_p = F.log_softmax(teacher_logits_BK.detach().to(log_q.dtype) / temperature, dim=1)
    if weights_B is not None:
        divergence_B = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)
        return temperature**2 * (weights_B * divergence_B).mean()
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


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


def compactness_loss(features_BCHW: Tensor, class_means_KCHW: Tensor, labels: Tensor) -> Tensor:
    """1/2 sum_s ||f_s - mean_{class(s)}||^2, a scalar; to be multiplied by lambda.

    where f_s is the feature map of sample s and the means are constants (no gradient). A blended image counts for
    each of its classes by its share t: 1/2 sum_s sum_k t_sk ||f_s - mean_k||^2.

    Source: (4.17), second term. Ours: the "feature map of the last convolutional layer" is the output
    of the last cell. The sum runs over samples and elements as published, so a useful lambda is small.
    """
    means_KCHW = class_means_KCHW.detach()
    if labels.dim() == 1:
        distance = features_BCHW - means_KCHW[labels]
        return 0.5 * distance.square().sum()
    # sum_k t_k ||f - m_k||^2 = ||f - m||^2 + sum_k t_k ||m_k||^2 - ||m||^2 with m = sum_k t_k m_k: no (B, K, C, H, W)
    means_KD = means_KCHW.flatten(1)
    shares_BK = labels.to(means_KD.dtype)
    blended_BD = shares_BK @ means_KD
    spread_B = shares_BK @ means_KD.square().sum(dim=1) - blended_BD.square().sum(dim=1)
    return 0.5 * ((features_BCHW.flatten(1) - blended_BD).square().sum() + spread_B.sum())


class ClassMeans(nn.Module):
    """A running mean of the feature map of each class, updated as in the center loss.

    delta_k = sum_{s: class(s)=k} (mean_k - f_s) / (1 + n_k);  mean_k <- mean_k - rate * delta_k

    where n_k counts the samples of class k in the batch, that of all processes together; classes that are not
    in the batch stay. A blended image counts for each of its classes by its share.

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
    def update(self, features_BCHW: Tensor, labels: Tensor) -> None:
        features_BCHW = features_BCHW.to(self.means.dtype)
        shares_BK = labels if labels.dim() == 2 else F.one_hot(labels, self.means.shape[0])
        shares_KB = shares_BK.T.to(self.means.dtype)
        counts_K1 = shares_KB.sum(dim=1, keepdim=True)
        flat_means = self.means.flatten(1)
        sums = shares_KB @ features_BCHW.flatten(1)
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
    teacher: Tensor | None = None,
    teacher_weight: float = 0.0,
    auxiliary: Tensor | None = None,
    auxiliary_weight: float = 0.0,
) -> LossTerms:
    """L = (1 - w) L_CE + w * teacher + kernel_weight * kernel + lambda * compactness + auxiliary_weight * auxiliary.

    where kernel is `kernel_loss`, compactness is `compactness_loss` (which holds the 1/2 of lambda/2), teacher is
    `teacher_loss`, and auxiliary is the cross-entropy of an auxiliary head; w = 0 without a teacher.

    Source: (4.18). `kernel_weight` is ours; the published loss has 1. The teacher's share: Hinton et al., see
    `teacher_loss`. The auxiliary head: DARTS, arXiv 1806.09055.
    """
    zero = torch.zeros_like(cross_entropy)
    teacher_term = auxiliary_term = zero
    kernel_term = kernel_weight * kernel
    compactness_term = lambda_compactness * compactness
    total = cross_entropy + kernel_term + compactness_term
    if teacher is not None:
        cross_entropy, teacher_term = (1 - teacher_weight) * cross_entropy, teacher_weight * teacher
        total = cross_entropy + teacher_term + kernel_term + compactness_term
    if auxiliary is not None:
        auxiliary_term = auxiliary_weight * auxiliary
        total = total + auxiliary_term
    return LossTerms(
        total=total,
        cross_entropy=cross_entropy,
        kernel=kernel_term,
        compactness=compactness_term,
        teacher=teacher_term,
        auxiliary=auxiliary_term,
    )
