"""Trained networks in the forms in which a device would run them, with bytes and accuracy of each.

A Child is packed; a Parent and a plain CNN are ONNX models, in float32 and quantized to int8 by ONNX Runtime. All forms
of a training lie in its folder, and `deployed.json` (`cpnas.deployed/1`) says what they are.

Conventions of `bytes`, of what a network itself takes, without names, shapes and graph:
  1-bit: the arrays of the packed model (bits, thresholds, real values), not its header;
  float32: 4 per parameter, after batch norms are folded;
  int8: 1 per weight, 4 per bias, other value and scale of a weight's output channel; not the scale of each activation.
`file_bytes` are those of the file as it lies there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import Dataset, ImageSet
from cpnas_cli.deploy.folding import folded
from cpnas_cli.deploy.onnx import INPUT, OUTPUT, int8_bytes, onnx_bytes
from cpnas_cli.deploy.packed_file import PACKED_NAME, PackedModel, save_packed
from cpnas_cli.deploy.packing import pack
from cpnas_cli.deploy.runtimes import onnx_session
from cpnas_cli.errors import RunError
from cpnas_cli.networks.modules.plain_cnn import PlainCnn
from cpnas_cli.networks.network import Network
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import DEPLOYED_SCHEMA, read_document, replacing, write_json
from cpnas_cli.training.baseline import BASELINE_MODEL, read_baseline
from cpnas_cli.training.evaluation import pipeline_of
from cpnas_cli.training.trained_network import read_all_trained

DEPLOYED = "deployed.json"

ONE_BIT = "1-bit"
INT8_PARENT, FLOAT32_PARENT = "int8 Parent", "float32 Parent"
INT8_CNN, FLOAT32_CNN = "int8 CNN", "float32 CNN"
FAMILIES = (ONE_BIT, INT8_PARENT, FLOAT32_PARENT, INT8_CNN, FLOAT32_CNN)

FLOAT32_FILE, INT8_FILE = "float32.onnx", "int8.onnx"
NUM_CALIBRATION_IMAGES = 256
_BATCH_SIZE = 256


@dataclass(frozen=True)
class Deployed:
    """One form of one network; `file` is in the run's folder, `accuracy_test` that of this form."""

    family: str
    file: str
    bytes: int
    file_bytes: int
    accuracy_test: float


def packed_bytes(model: PackedModel) -> int:
    """See the conventions above."""
    return sum(array.nbytes for array in model.arrays().values())


def float32_bytes(network: Network | PlainCnn) -> int:
    """See the conventions above."""
    return 4 * sum(tensor.numel() for tensor in folded(network).state_dict().values())


def quantized_bytes(network: Network | PlainCnn) -> int:
    """See the conventions above."""
    tensors = folded(network).state_dict()
    weights = [tensor for name, tensor in tensors.items() if name.endswith("weight") and tensor.ndim > 1]
    num_values = sum(tensor.numel() for tensor in tensors.values())
    num_weights = sum(tensor.numel() for tensor in weights)
    return num_weights + 4 * (num_values - num_weights) + 4 * sum(len(tensor) for tensor in weights)


def deploy_child_and_parent(run: RunFolder, dataset: Dataset, result: Mapping[str, Any]) -> list[Deployed]:
    """Pack the Child and quantize the Parent of a training that has both; writes their files and `deployed.json`.

    Raises:
      RunError: it has not both, or a file cannot be written. CheckpointError. CpnasError: no onnx extra.
    """
    networks = {trained.name: trained for trained in read_all_trained(run)}
    if networks.keys() != {"child", "parent"}:
        raise RunError(f"{run.path} holds no Child with its Parent; train with --with-parent")
    child, parent = networks["child"], networks["parent"]
    model, file = pack(child), run.file(PACKED_NAME)
    save_packed(model, file)
    packed = Deployed(ONE_BIT, PACKED_NAME, packed_bytes(model), file.stat().st_size, result["accuracy_test"])
    pipeline = pipeline_of(parent)
    accuracy = result["accuracy_parent_test"]
    forms = [packed, *_float_forms(run, parent.network, pipeline, dataset, accuracy, (INT8_PARENT, FLOAT32_PARENT))]
    return _written(run, forms)


def deploy_baseline(run: RunFolder, dataset: Dataset, result: Mapping[str, Any], pipeline: Pipeline) -> list[Deployed]:
    """Quantize the plain CNN of a training; writes its files and `deployed.json`.

    Raises:
      CheckpointError: there is none, or it is damaged. RunError, CpnasError: see `deploy_child_and_parent`.
    """
    network = read_baseline(run.file(BASELINE_MODEL)).network
    accuracy = result["accuracy_test"]
    return _written(run, _float_forms(run, network, pipeline, dataset, accuracy, (INT8_CNN, FLOAT32_CNN)))


def read_deployed(run: RunFolder) -> list[Deployed] | None:
    """What a training has been made into; None if it has not been.

    Raises:
      RunError: the document is damaged, or a file is gone.
    """
    path = run.file(DEPLOYED)
    if not path.exists():
        return None
    document = read_document(path)
    try:
        forms = [Deployed(**form) for form in document["networks"]]
    except (LookupError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error}); remove it and type the command again") from None
    for form in forms:
        if not run.file(form.file).exists():
            raise RunError(f"{run.file(form.file)} is gone; remove {path} and type the command again")
    return forms


def onnx_accuracy(model: bytes, pipeline: Pipeline, images: ImageSet) -> float:
    """The fraction of images that an ONNX model classifies right in ONNX Runtime; its input is normalized already."""
    session = onnx_session(model, num_threads=1)
    num_right = 0
    for x_BCHW, labels_B in pipeline.evaluation_batches(images, batch_size=_BATCH_SIZE):
        (logits_BK,) = session.run([OUTPUT], {INPUT: x_BCHW.contiguous().numpy()})
        num_right += int((np.asarray(logits_BK).argmax(axis=1) == labels_B.numpy()).sum())
    return num_right / len(images)


def calibration_batches(pipeline: Pipeline, images: ImageSet) -> Iterator[Tensor]:
    """At most 256 training images, evenly over all, as a network takes them."""
    step = max(len(images) // NUM_CALIBRATION_IMAGES, 1)
    chosen = images.at(torch.arange(0, len(images), step, device=images.labels.device)[:NUM_CALIBRATION_IMAGES])
    return (pipeline.normalize(part) for part in chosen.split(64))


def _float_forms(
    run: RunFolder,
    network: Network | PlainCnn,
    pipeline: Pipeline,
    dataset: Dataset,
    accuracy_float32: float,
    families: tuple[str, str],
) -> list[Deployed]:
    """int8 and float32."""
    float32 = onnx_bytes(network, image_size=pipeline.config.image_size)
    int8 = int8_bytes(float32, calibration_batches(pipeline, dataset.train))
    for name, model in ((INT8_FILE, int8), (FLOAT32_FILE, float32)):
        with replacing(run.file(name)) as temporary:
            temporary.write_bytes(model)
    accuracy_int8 = onnx_accuracy(int8, pipeline, dataset.test)
    return [
        Deployed(families[0], INT8_FILE, quantized_bytes(network), len(int8), accuracy_int8),
        Deployed(families[1], FLOAT32_FILE, float32_bytes(network), len(float32), accuracy_float32),
    ]


def _written(run: RunFolder, forms: Sequence[Deployed]) -> list[Deployed]:
    write_json(run.file(DEPLOYED), {"schema": DEPLOYED_SCHEMA, "networks": [asdict(form) for form in forms]})
    return list(forms)
