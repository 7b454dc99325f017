"""Evaluation of a trained network, and of a run, on a test set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.datasets import ImageSet, load_dataset
from cpnas_cli.distributed.collectives import add_over_processes, num_processes
from cpnas_cli.errors import DataError, RunError, shell_word
from cpnas_cli.networks.network import Network, build_stored
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import Config, DataConfig, config_from_document
from cpnas_cli.storage.documents import EVALUATION_SCHEMA, MODEL_SCHEMA, read_document
from cpnas_cli.storage.tensors import load_into, load_tensors
from cpnas_cli.training.epoch import EVALUATION_BATCH_SIZE, evaluated_fraction, evaluation_step


@torch.no_grad()
def evaluate_trained(network: Network, pipeline: Pipeline, images: ImageSet, *, rank: int = 0) -> float:
    """Accuracy of a trained network, with the batch norm statistics of its training.

    Args:
      rank: of this process among those that share the images.

    Raises:
      NonFiniteLossError: a score is NaN or infinite, so that no class is the largest.
    """
    first, end = (place * len(images) // num_processes() for place in (rank, rank + 1))
    share = ImageSet(images.images[first:end], images.labels[first:end])
    right_and_not_finite = torch.zeros(2, dtype=torch.int64, device=images.labels.device)
    network.eval()
    try:
        for x_BCHW, labels_B in pipeline.evaluation_batches(share, batch_size=EVALUATION_BATCH_SIZE):
            right, is_finite = evaluation_step(network, x_BCHW, labels_B)
            right_and_not_finite += torch.stack([right, 1 - is_finite])
    finally:
        network.train()
    add_over_processes([right_and_not_finite])
    right, not_finite = right_and_not_finite
    return evaluated_fraction(torch.stack([right, not_finite == 0])[None], num_images=len(images))


def evaluate_run(path: Path, *, data_dir: Path | None, device: torch.device) -> dict[str, Any]:
    """`cpnas.evaluation/1`: accuracies of the run's networks on the test set, a fraction in [0, 1].

    Args:
      data_dir: other images of the same classes, instead of the run's own.

    Raises:
      RunError: the folder holds no trained network. DataError: the classes differ. CheckpointError.
    """
    run = RunFolder(path)
    files = [file for file in (RunFolder.MODEL, RunFolder.PARENT_MODEL) if run.file(file).exists()]
    if not files:
        raise RunError(f"{path} holds no trained network; `cpnas train GENOTYPE --out {shell_word(path)}` makes one")
    trained = {file: load_trained(run, file) for file in files}
    state = trained[files[0]][1]
    dataset = load_dataset(data_settings(state, data_dir))
    if list(dataset.classes) != state["classes"]:
        raise DataError(f"the run knows the classes {state['classes']}, the data has {list(dataset.classes)}")
    test = dataset.test.to(device)
    # the statistics of the training images that the network knows, whatever the data is now
    pipeline = Pipeline(Config.model_validate(state["config"]).data, tuple(state["mean"]), tuple(state["std"]))
    accuracies: dict[str, float] = {
        state["precision"]: evaluate_trained(network.to(device), pipeline, test) for network, state in trained.values()
    }
    result = run.file(RunFolder.RESULT)
    recorded = read_document(result) if result.exists() else {}
    return {
        "schema": EVALUATION_SCHEMA,
        "run": str(path),
        "accuracy_test": accuracies[state["precision"]],
        "accuracy_parent_test": accuracies.get("full"),
        "recorded_accuracy_test": recorded.get("accuracy_test"),
        "num_test_images": len(test),
    }


def data_settings(state: Mapping[str, Any], data_dir: Path | None) -> DataConfig:
    """The data of a trained network: its own folder or another, with the channels that it was trained with.

    Raises:
      UsageError: the network's data set reads no folder.
    """
    values = {**state["config"]["data"], "num_channels": state["num_image_channels"]}
    if data_dir is not None:
        values["dir"] = str(data_dir.resolve())
    return config_from_document({**state["config"], "data": values}).data


def load_trained(run: RunFolder, name: str = RunFolder.MODEL) -> tuple[Network, dict[str, Any]]:
    """The trained network of a run, on the CPU in evaluation mode, and the state stored with it.

    Raises:
      CheckpointError: there is no such model, or it is damaged.
    """
    file = run.file(name)
    tensors, state = load_tensors(file, schema=MODEL_SCHEMA)
    network = build_stored(state)
    load_into(network, tensors, path=file)
    return network.eval(), state
