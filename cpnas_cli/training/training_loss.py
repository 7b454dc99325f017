"""The loss of a network in training: (4.18), and what is switched on beside it."""

from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from cpnas_cli.binarization.filters import reconstruction
from cpnas_cli.data.dataset import Dataset
from cpnas_cli.losses import (
    LossTerms,
    balanced_weights,
    child_parent_loss,
    compactness_loss,
    cross_entropy_loss,
    image_weights,
    kernel_loss,
    teacher_loss,
)
from cpnas_cli.networks.network import Output
from cpnas_cli.settings import TrainConfig
from cpnas_cli.training.network_training import NetworkTraining


def class_weights_of(train: TrainConfig, dataset: Dataset) -> Tensor | None:
    """Of every class, on the device of the images; None where all count the same."""
    if train.class_weights == "none":
        return None
    labels_N = dataset.train.labels
    return balanced_weights(torch.bincount(labels_N.cpu(), minlength=dataset.num_classes)).to(labels_N.device)


@dataclass(frozen=True)
class TrainingLoss:
    """A `StepLoss`: of the images, what the network made of them, and their labels (as in `losses`).

    With class weights what is about the right class is weighted, by the class of the image whoever says what is right:
    the cross-entropies and the teacher's soft targets. The kernels' error is of no image, and compactness is about
    where an image lies among its own class.
    """

    training: NetworkTraining
    fabric: Fabric

    def __call__(self, x_BCHW: Tensor, output: Output, labels: Tensor) -> LossTerms:
        training, train = self.training, self.training.train
        weights_B = None if training.class_weights is None else image_weights(labels, training.class_weights)
        cross_entropy = cross_entropy_loss(
            output.logits, labels, label_smoothing=train.label_smoothing, weights_B=weights_B
        )
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
            teacher=self._teacher(x_BCHW, output, weights_B),
            teacher_weight=train.teacher_weight,
            auxiliary=self._auxiliary(output, labels, weights_B),
            auxiliary_weight=train.auxiliary_weight,
        )

    def _teacher(self, x_BCHW: Tensor, output: Output, weights_B: Tensor | None) -> Tensor | None:
        if self.training.teacher is None:
            return None
        with self.fabric.autocast():
            logits_BK = self.training.teacher.logits(x_BCHW)
        temperature = self.training.train.teacher_temperature
        return teacher_loss(output.logits, logits_BK, temperature=temperature, weights_B=weights_B)

    def _auxiliary(self, output: Output, labels: Tensor, weights_B: Tensor | None) -> Tensor | None:
        if self.training.auxiliary_head is None or output.auxiliary_features is None:
            return None
        with self.fabric.autocast():
            logits_BK = self.training.auxiliary_head(output.auxiliary_features)
        smoothing = self.training.train.label_smoothing
        return cross_entropy_loss(logits_BK.float(), labels, label_smoothing=smoothing, weights_B=weights_B)
