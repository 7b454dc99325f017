"""The loss of a network in training: (4.18), and what is switched on beside it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from cpnas_cli.binarization.filters import reconstruction
from cpnas_cli.losses import LossTerms, child_parent_loss, compactness_loss, kernel_loss, teacher_loss
from cpnas_cli.networks.network import Output
from cpnas_cli.training.network_training import NetworkTraining


@dataclass(frozen=True)
class TrainingLoss:
    """A `StepLoss`: of the images, what the network made of them, and their labels (as in `losses`)."""

    training: NetworkTraining
    fabric: Fabric

    def __call__(self, x_BCHW: Tensor, output: Output, labels: Tensor) -> LossTerms:
        training, train = self.training, self.training.train
        cross_entropy = F.cross_entropy(output.logits, labels, label_smoothing=train.label_smoothing)
        zero = torch.zeros_like(cross_entropy)
        kernel = zero
        if training.name == "child" and train.kernel_weight > 0 and training.stage.binarizes_weights:
            kernel = kernel_loss(training.network.latent_filters(), reconstruct=reconstruction, device=zero.device)
        compactness = zero
        if training.class_means is not None:
            # a sum over images, where the other terms are means; the parts are averaged, so each stands for all
            num_parts = train.gradient_accumulation_steps * self.fabric.world_size
            compactness = num_parts * compactness_loss(output.features, training.class_means.means, labels)
            training.class_means.update(output.features, labels)
        return child_parent_loss(
            cross_entropy=cross_entropy,
            kernel=kernel,
            compactness=compactness,
            kernel_weight=train.kernel_weight,
            lambda_compactness=train.lambda_compactness,
            teacher=self._teacher(x_BCHW, output),
            teacher_weight=train.teacher_weight,
            auxiliary=self._auxiliary(output, labels),
            auxiliary_weight=train.auxiliary_weight,
        )

    def _teacher(self, x_BCHW: Tensor, output: Output) -> Tensor | None:
        if self.training.teacher is None:
            return None
        with self.fabric.autocast():
            logits_BK = self.training.teacher.logits(x_BCHW)
        return teacher_loss(output.logits, logits_BK, temperature=self.training.train.teacher_temperature)

    def _auxiliary(self, output: Output, labels: Tensor) -> Tensor | None:
        if self.training.auxiliary_head is None or output.auxiliary_features is None:
            return None
        with self.fabric.autocast():
            logits_BK = self.training.auxiliary_head(output.auxiliary_features)
        return F.cross_entropy(logits_BK.float(), labels, label_smoothing=self.training.train.label_smoothing)
