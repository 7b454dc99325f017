"""`train.class_weights`: the weights, the losses with them, and a training of classes of unequal size."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from command_line import GENOTYPE
from sklearn.utils.class_weight import compute_class_weight

from cpnas_cli.data.dataset import Dataset, ImageSet
from cpnas_cli.distributed.device import open_device
from cpnas_cli.losses import balanced_weights, cross_entropy_loss, image_weights, teacher_loss
from cpnas_cli.networks.network import Output
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import load_config
from cpnas_cli.training.teacher import Teacher
from cpnas_cli.training.training import Training
from cpnas_cli.training.training_loss import TrainingLoss

COUNTS = [1, 5, 14]


def test_the_weights_are_those_of_scikit_learn() -> None:
    labels = np.repeat([0, 1, 2], COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    weights = balanced_weights(torch.tensor(COUNTS))
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-6)
    assert weights[torch.from_numpy(labels)].mean().item() == pytest.approx(1)
    assert balanced_weights(torch.tensor([3, 3, 3, 3])).tolist() == [1, 1, 1, 1]
    assert balanced_weights(torch.tensor([2, 0, 2])).tolist() == [1, 0, 1]


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    return logits, teacher, torch.tensor([0, 1, 2, 2, 2, 1])


def test_losses_are_means_of_weighted_images() -> None:
    logits, teacher, labels = batch()
    weights = torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64)
    per_image = weights[labels].numpy()
    log_q = logits.numpy() - np.log(np.exp(logits.numpy()).sum(axis=1, keepdims=True))
    smooth = 0.9 * np.eye(3)[labels.numpy()] + 0.1 / 3
    expected = np.mean(per_image * -(smooth * log_q).sum(axis=1))
    found = cross_entropy_loss(logits, labels, label_smoothing=0.1, weights_B=image_weights(labels, weights))
    assert found.item() == pytest.approx(expected, rel=1e-12)

    def log_softmax(scores: np.ndarray) -> np.ndarray:
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

    log_p, log_q = log_softmax(teacher.numpy() / 2), log_softmax(logits.numpy() / 2)
    expected = 4 * np.mean(per_image * (np.exp(log_p) * (log_p - log_q)).sum(axis=1))
    found = teacher_loss(logits, teacher, temperature=2, weights_B=image_weights(labels, weights))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_a_blended_image_has_the_mean_of_its_classes() -> None:
    shares = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    found = image_weights(shares, torch.tensor([4.0, 1.0, 0.5]))
    assert found.tolist() == [0.25 * 4 + 0.75, 0.5]


def test_parts_of_a_batch_add_up_to_it() -> None:
    """As gradient accumulation and several processes need it: no division by the weights of a batch."""
    logits, _, labels = batch()
    weights_B = image_weights(labels, torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64))
    whole = cross_entropy_loss(logits, labels, weights_B=weights_B)
    parts = [
        cross_entropy_loss(logits[part], labels[part], weights_B=weights_B[part]) for part in (slice(3), slice(3, 6))
    ]
    assert torch.stack(parts).mean().item() == pytest.approx(whole.item(), rel=1e-12)


def training(*settings: str) -> Training:
    labels = torch.from_numpy(np.repeat([0, 1, 2], COUNTS))
    generator = torch.Generator().manual_seed(0)
    images = ImageSet(torch.randint(256, (20, 1, 8, 8), dtype=torch.uint8, generator=generator), labels)
    overrides = ["network.num_channels=4", "network.stem_multiplier=1", "train.batch_size=20", *settings]
    return Training(
        RunFolder(Path("unused")),
        load_config(overrides=overrides),
        GENOTYPE,
        Dataset(images, images, ("a", "b", "c"), (0.5,), (0.2,)),
        fabric=open_device("cpu"),
        networks=("child",),
        provenance={},
        deadline=Deadline(),
    )


def test_what_is_about_the_right_class_is_weighted_and_nothing_else() -> None:
    terms = {}
    settings = ["train.auxiliary_weight=0.4", "train.teacher_weight=0.5", "train.lambda_compactness=0.01"]
    settings += ["train.kernel_weight=1", "train.teacher=unused"]
    labels = torch.tensor([0, 1, 2, 2])
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 1, 8, 8, generator=generator)
    for name in ("none", "balanced"):
        one = training(*settings, f"train.class_weights={name}")
        network_training = one._new_network_training("child")
        network_training.teacher = Teacher(one._new_network_training("child").network.eval())
        loss = TrainingLoss(network_training, one.fabric)
        output: Output = network_training.network(x)
        terms[name] = loss(x, output, labels)
        if name == "balanced":
            weights = torch.tensor([20 / (3 * count) for count in COUNTS])[labels]
            expected = (weights * F.cross_entropy(output.logits, labels, reduction="none")).mean() / 2
            torch.testing.assert_close(terms[name].cross_entropy, expected)
    for part in ("kernel", "compactness"):
        assert torch.equal(getattr(terms["none"], part), getattr(terms["balanced"], part)), part
    for part in ("cross_entropy", "teacher", "auxiliary"):
        assert not torch.isclose(getattr(terms["none"], part), getattr(terms["balanced"], part)), part
