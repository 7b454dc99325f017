"""Evaluation of a trained network, and of a run, on a test set."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import ImageSet, load_dataset
from cpnas_cli.distributed.collectives import add_over_processes, num_processes
from cpnas_cli.errors import DataError
from cpnas_cli.networks.network import Network
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import EVALUATION_SCHEMA, read_document
from cpnas_cli.training.classification import Answers, classification_document
from cpnas_cli.training.epoch import EVALUATION_BATCH_SIZE, check_finite_scores, evaluation_step
from cpnas_cli.training.trained_network import TrainedNetwork, read_all_named


@torch.no_grad()
def evaluate_trained(network: Network, pipeline: Pipeline, images: ImageSet, *, rank: int = 0) -> float:
    """Accuracy of a trained network, with the batch norm statistics of its training.

    Args:
      rank: of this process among those that share the images.

    Raises:
      NonFiniteLossError: a score is NaN or infinite, so that no class is the largest.
    """
    first, end = (place * len(images) // num_processes() for place in (rank, rank + 1))
    share = images.part(first, end)
    right_and_not_finite = torch.zeros(2, dtype=torch.int64, device=images.labels.device)
    network.eval()
    try:
        for x_BCHW, labels_B in pipeline.evaluation_batches(share, batch_size=EVALUATION_BATCH_SIZE):
            right, is_finite = evaluation_step(network, x_BCHW, labels_B)[:2].long()
            right_and_not_finite += torch.stack([right, 1 - is_finite])
    finally:
        network.train()
    add_over_processes([right_and_not_finite])
    num_right, num_not_finite = right_and_not_finite.tolist()
    check_finite_scores(num_not_finite == 0)
    return num_right / len(images)


@torch.no_grad()
def answers_of(
    network: Network, pipeline: Pipeline, images: ImageSet, *, classes: Sequence[str], files: Sequence[Path] | None
) -> Answers:
    """What a trained network says of every image, with the batch norm statistics of its training.

    Raises:
      NonFiniteLossError: see `evaluate_trained`.
    """
    network.eval()
    predicted, confidences = [], []
    for x_BCHW, _ in pipeline.evaluation_batches(images, batch_size=EVALUATION_BATCH_SIZE):
        logits_BK = network(x_BCHW).logits
        predicted_B = logits_BK.argmax(dim=1)  # on the device, as in `evaluation_step`
        check_finite_scores(bool(logits_BK.isfinite().all()))
        probabilities_BK = logits_BK.cpu().double().softmax(dim=1)
        predicted.append(predicted_B.cpu())
        confidences.append(probabilities_BK.gather(1, predicted[-1][:, None])[:, 0])
    return Answers(
        tuple(classes),
        images.labels.cpu().numpy(),
        torch.cat(predicted).numpy(),
        torch.cat(confidences).numpy(),
        None if files is None else tuple(files),
    )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A run's networks on a test set.

    Attributes:
      document: `cpnas.evaluation/1`, see `evaluate_run`.
      answers: of the network that was trained.
    """

    document: dict[str, Any]
    answers: Answers


def evaluate_run(path: Path, *, data_dir: Path | None, device: torch.device) -> dict[str, Any]:
    """`cpnas.evaluation/1`: accuracies of the run's networks on the test set, a fraction in [0, 1].

    Keys: accuracy_test, of the network that was trained, which `network` names ("child" or "parent");
    accuracy_parent_test, of the full-precision Parent, null without one: that beside the Child, or, after
    `--precision full`, the network itself, so that it is then the same as accuracy_test; recorded_accuracy_test, of
    the network at the end of its training, null if there is no record of it, as of best.safetensors. What else
    there is of the network that was trained: see `classification_document`.

    Args, Raises: see `evaluation_of`.
    """
    return evaluation_of(path, data_dir=data_dir, device=device).document


def evaluation_of(path: Path, *, data_dir: Path | None, device: torch.device) -> Evaluation:
    """The evaluation of the networks of a run.

    Args:
      path: of the run, or of a file with one of its networks, as best.safetensors.
      data_dir: other images of the same classes, instead of the run's own.

    Raises:
      RunError: the folder holds no trained network. DataError: the classes differ. CheckpointError.
    """
    networks = read_all_named(path)
    main = networks[0]
    dataset = load_dataset(main.data_settings(data_dir))
    if dataset.classes != main.classes:
        raise DataError(f"the run knows the classes {list(main.classes)}, the data has {list(dataset.classes)}")
    test = dataset.test.to(device)
    pipeline = pipeline_of(main)
    answers = answers_of(main.network.to(device), pipeline, test, classes=dataset.classes, files=dataset.test_files)
    accuracies: dict[str, float] = {
        trained.name: evaluate_trained(trained.network.to(device), pipeline, test) for trained in networks[1:]
    }
    accuracies[main.name] = int(answers.right.sum()) / len(test)
    recorded = _record_of(path)
    document = {
        "schema": EVALUATION_SCHEMA,
        "run": str(path),
        "network": main.name,
        "accuracy_test": accuracies[main.name],
        "accuracy_parent_test": accuracies.get("parent"),
        "recorded_accuracy_test": recorded.get("accuracy_test"),
        "num_test_images": len(test),
        **classification_document(answers),
    }
    return Evaluation(document, answers)


def _record_of(path: Path) -> Mapping[str, Any]:
    """The result of the training of the network that a path names; empty without one."""
    if os.path.isfile(path):
        if path.name != RunFolder.MODEL:
            return {}
        path = path.parent
    result = RunFolder(path).file(RunFolder.RESULT)
    return read_document(result) if result.exists() else {}


def pipeline_of(trained: TrainedNetwork) -> Pipeline:
    """Images as the network knows them: with the statistics of its training images, whatever the data is now."""
    return Pipeline(trained.config.data, *trained.normalization)
