"""The plain CNN beside a Child: trained, quantized, both measured; what `cpnas train --baseline` adds to a result."""

from collections.abc import Mapping
from typing import Any

from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import Dataset
from cpnas_cli.deploy.deployed import (
    DEPLOYED,
    FLOAT32_CNN,
    INT8_CNN,
    Deployed,
    deploy_baseline,
    packed_bytes,
    read_deployed,
)
from cpnas_cli.deploy.packed_file import array_sizes, array_types
from cpnas_cli.deploy.packing import pack
from cpnas_cli.deploy.runtimes import onnx_call, packed_call
from cpnas_cli.efficiency.timing import Timing, time_interleaved
from cpnas_cli.networks.layers import layers_of
from cpnas_cli.networks.plain_cnn import plain_cnn_width
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.journal import Notify
from cpnas_cli.runs.opening import OpenedRun
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config
from cpnas_cli.storage.documents import read_document, write_json
from cpnas_cli.training.baseline import BaselineTraining, surroundings_of
from cpnas_cli.training.evaluation import pipeline_of
from cpnas_cli.training.trained_network import read_trained

BASELINE_FOLDER = "baseline"
REPETITIONS = 30


def baseline_width(config: Config, genotype: Genotype, dataset: Dataset) -> int:
    """The w of the plain CNN whose int8 bytes are nearest to those of the packed Child; known before any training."""
    shape = surroundings_of(dataset, config)
    layers = layers_of(config.network, genotype, shape, precision="binary")
    types = array_types(config.network)
    num_bytes = sum(types[name].itemsize * size for name, size in array_sizes(config.network, layers).items())
    return plain_cnn_width(num_bytes, shape)


def train_and_deploy_baseline(opened: OpenedRun, width: int, *, notify: Notify) -> dict[str, Any]:
    """Train a plain CNN to the end and quantize it; returns its result.

    Raises: see `Training.train` and `deploy_baseline`.
    """
    result = BaselineTraining(
        opened.run,
        opened.config,
        opened.dataset,
        width=width,
        fabric=opened.fabric,
        deadline=opened.deadline,
        notify=notify,
    ).train()
    if not opened.run.file(DEPLOYED).exists():
        pipeline = Pipeline(opened.config.data, opened.dataset.mean, opened.dataset.std)
        deploy_baseline(opened.run, opened.dataset, result, pipeline)
    return result


def compare_with_baseline(
    run: RunFolder, baseline: RunFolder, dataset: Dataset, result: Mapping[str, Any]
) -> dict[str, Any]:
    """Measure a Child and the int8 baseline beside it on this machine, one thread, batch 1, in turn.

    Returns the run's result with `baseline`, which is also written.

    Raises:
      RunError, CheckpointError: a file is gone or damaged.
    """
    forms: dict[str, Deployed] = {form.family: form for form in read_deployed(baseline) or ()}
    int8, float32 = forms[INT8_CNN], forms[FLOAT32_CNN]
    child = read_trained(run, "child")
    model, image = pack(child), dataset.test.images[:1].cpu()
    inputs = pipeline_of(child).normalize(image)
    times = time_interleaved(
        {
            "child": packed_call(model, image.numpy(), num_threads=1),
            "int8": onnx_call(baseline.file(int8.file).read_bytes(), inputs, num_threads=1),
            "float32": onnx_call(baseline.file(float32.file).read_bytes(), inputs, num_threads=1),
        },
        repetitions=REPETITIONS,
    )
    trained = read_document(baseline.file(RunFolder.RESULT))
    document = {
        **result,
        "baseline": {
            "width": trained["width"],
            "bytes": int8.bytes,
            "accuracy_test": int8.accuracy_test,
            "accuracy_float32_test": float32.accuracy_test,
            "seconds": trained["seconds"],
            "seconds_per_image": _rounded(times["int8"]),
            "seconds_per_image_float32": _rounded(times["float32"]),
            "child_bytes": packed_bytes(model),
            "child_seconds_per_image": _rounded(times["child"]),
        },
    }
    write_json(run.file(RunFolder.RESULT), document)
    return document


def _rounded(timing: Timing) -> float:
    """Seconds, to the microsecond's tenth: the rest is noise."""
    return round(timing.median, 7)
