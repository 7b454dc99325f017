"""What 1 bit saves, measured on this machine: what `cpnas efficiency measure` runs, `cpnas.measurement/1`.

The packed Child against its own Parent in the usual runtimes, side by side in interleaved repetitions.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import load_dataset
from cpnas_cli.deploy import runtimes
from cpnas_cli.deploy.engine import Engine
from cpnas_cli.deploy.footprint import measure_footprint
from cpnas_cli.deploy.onnx import check_onnx, int8_bytes, onnx_bytes
from cpnas_cli.deploy.packed_file import PackedModel, header_bytes, save_packed
from cpnas_cli.deploy.packing import pack
from cpnas_cli.deploy.single_operations import OperationTimes, time_operations
from cpnas_cli.efficiency.estimate import compare, estimate
from cpnas_cli.efficiency.timing import Timing, time_interleaved
from cpnas_cli.errors import RunError
from cpnas_cli.networks.dataflow import dataflow_of
from cpnas_cli.networks.network import Network
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import MEASUREMENT_SCHEMA
from cpnas_cli.training.evaluation import pipeline_of
from cpnas_cli.training.trained_network import TrainedNetwork, read_all_trained

PACKED_FILE, PARENT_PARAMETERS = "packed Child", "Parent's float32 parameters"
NUM_CALIBRATION_IMAGES = 256  # training images, for the int8 Parent

# Why a measured speed-up is not the estimated one.
WHY_THEY_DIFFER = (
    "The estimate counts 64 one-bit multiply-accumulates as one operation and takes everything else for free. "
    "Measured, a processor does several float32 multiply-accumulates at once too, so it has less to gain; and the "
    "real operations that 1 bit does not shorten (scales, sums, pooling, the stem) and moving their values take time."
)


@dataclass(frozen=True)
class TrainedPair:
    """What is measured: a Child, also packed, its Parent, and real images."""

    run: RunFolder
    child: TrainedNetwork
    packed: PackedModel
    parent: Network
    parent_is_trained: bool
    test_images: Tensor  # uint8 (N, C, S, S)
    train_images: Tensor

    @property
    def pipeline(self) -> Pipeline:
        return pipeline_of(self.child)


def read_pair(path: Path, *, data_dir: Path | None) -> TrainedPair:
    """A training's Child and its Parent; a run without one gets an untrained one, which takes as long.

    Raises:
      RunError: the folder holds no trained Child. CheckpointError, DataError, UsageError.
    """
    run = RunFolder(path)
    child, *parents = read_all_trained(run)
    if child.name != "child":
        raise RunError(
            f"{path} holds a Parent only, there is no 1-bit network to measure; train without --precision full"
        )
    parent = parents[0].network if parents else child.untrained_parent()
    dataset = load_dataset(child.data_settings(data_dir))
    return TrainedPair(run, child, pack(child), parent, bool(parents), dataset.test.images, dataset.train.images)


def warm_up(pair: TrainedPair, *, num_threads: int) -> None:
    """Compile what will be measured, if it is not compiled yet."""
    Engine(pair.packed, num_threads=num_threads).warm_up(num_threads)


def measure(
    pair: TrainedPair,
    *,
    threads: Sequence[int],
    batch_sizes: Sequence[int],
    repetitions: int,
    num_agreement_images: int,
    environment: Mapping[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """`cpnas.measurement/1`.

    Args:
      threads, batch_sizes: every pair of them is measured.
      num_agreement_images: test images on which the engine is compared with PyTorch; the first ones.
      say: told what is being done.

    Raises:
      CpnasError: the onnx extra is not installed.
    """
    check_onnx()
    runtimes.quiet_compiler()
    model = pair.packed
    say("building the ONNX models of the Parent")
    float_onnx = onnx_bytes(pair.parent, image_size=model.image_size)
    int8_onnx = int8_bytes(float_onnx, _calibration_batches(pair))
    latency, not_measured = list[dict[str, Any]](), dict[str, str]()
    for num_threads in threads:
        for batch_size in batch_sizes:
            say(f"batch {batch_size}, {num_threads} thread{'s' * (num_threads > 1)}")
            calls, failed = _calls(pair, float_onnx, int8_onnx, batch_size=batch_size, num_threads=num_threads)
            not_measured |= failed
            times = time_interleaved(calls, repetitions=repetitions)
            latency += _latency_rows(times, batch_size=batch_size, num_threads=num_threads)
    say("single operations")
    operations = [_operation_row(each) for each in time_operations(model, repetitions=repetitions)]
    say("agreement with PyTorch, sizes and memory")
    sizes = _sizes_and_memory(pair, float_onnx, int8_onnx)
    return {
        "schema": MEASUREMENT_SCHEMA,
        "run": str(pair.run.path),
        "network": model.settings.model_dump(mode="json"),
        "genotype": pair.child.genotype_document(),
        "image_size": model.image_size,
        "parent_weights": "trained" if pair.parent_is_trained else "untrained",
        "repetitions": repetitions,
        "latency": latency,
        "not_measured": not_measured,
        "operations": operations,
        "agreement": _agreement(pair, num_agreement_images),
        **sizes,
        "comparison": _comparison(model, latency, sizes),
        "why_they_differ": WHY_THEY_DIFFER,
        "environment": dict(environment),
    }


def _comparison(
    model: PackedModel, latency: Sequence[Mapping[str, Any]], sizes: Mapping[str, Mapping[str, int]]
) -> list[dict[str, Any]]:
    """Estimate and measurement of the same saving, next to each other; what was not measured is None."""
    child, parent = (
        estimate(dataflow_of(model.settings, model.genotype, model.surroundings, precision=precision))
        for precision in ("binary", "full")
    )
    savings, files, memory = compare(child, parent), sizes["file_bytes"], sizes["peak_memory_bytes"]
    times = {(row["runtime"], row["threads"], row["batch_size"]): row["times_packed"] for row in latency}
    return [
        {
            "saving": "time, against the Parent in ONNX Runtime float32, 1 thread, batch 1",
            "estimated": savings.speedup,
            "estimated_with_elementwise": savings.speedup_with_elementwise,
            "measured": times.get((runtimes.ONNX, 1, 1)),
        },
        {
            "saving": "stored, against the Parent's float32 parameters",
            "estimated": savings.memory,
            "estimated_with_elementwise": None,
            "measured": files[PARENT_PARAMETERS] / files[PACKED_FILE],
        },
        {
            "saving": "memory of values (estimated), of the whole process (measured against ONNX Runtime float32)",
            "estimated": savings.activation_memory,
            "estimated_with_elementwise": None,
            "measured": memory[runtimes.ONNX] / memory[runtimes.PACKED],
        },
    ]


def _calibration_batches(pair: TrainedPair) -> list[Tensor]:
    images = pair.train_images[:: max(len(pair.train_images) // NUM_CALIBRATION_IMAGES, 1)]
    return [pair.pipeline.normalize(part) for part in images[:NUM_CALIBRATION_IMAGES].split(64)]


def _calls(
    pair: TrainedPair, float_onnx: bytes, int8_onnx: bytes, *, batch_size: int, num_threads: int
) -> tuple[dict[str, runtimes.Call], dict[str, str]]:
    """A call of each runtime, and why there is none of some."""
    images = pair.test_images[:batch_size]
    images = images.repeat(-(-batch_size // len(images)), 1, 1, 1)[:batch_size]
    inputs = pair.pipeline.normalize(images)
    calls = {
        runtimes.PACKED: runtimes.packed_call(pair.packed, images.numpy(), num_threads=num_threads),
        runtimes.EAGER_CHILD: runtimes.eager_call(pair.child.network, inputs, num_threads=num_threads),
        runtimes.EAGER: runtimes.eager_call(pair.parent, inputs, num_threads=num_threads),
        runtimes.ONNX: runtimes.onnx_call(float_onnx, inputs, num_threads=num_threads),
        runtimes.ONNX_INT8: runtimes.onnx_call(int8_onnx, inputs, num_threads=num_threads),
    }
    failed = dict[str, str]()
    try:
        calls[runtimes.COMPILED] = runtimes.compiled_call(pair.parent, inputs, num_threads=num_threads)
    except Exception as error:  # the compiler's errors have no common base; the report says what it was
        failed[runtimes.COMPILED] = " ".join(str(error).split())[:200] or type(error).__name__
    return calls, failed


def _latency_rows(times: Mapping[str, Timing], *, batch_size: int, num_threads: int) -> list[dict[str, Any]]:
    return [
        {
            "runtime": name,
            "threads": num_threads,
            "batch_size": batch_size,
            "seconds_median": timing.median,
            "seconds_p10": timing.p10,
            "seconds_p90": timing.p90,
            "images_per_second": batch_size / timing.median,
            "times_packed": timing.median / times[runtimes.PACKED].median,
        }
        for name, timing in times.items()
    ]


def _operation_row(times: OperationTimes) -> dict[str, Any]:
    first, last = times.operation.layers[0], times.operation.layers[-1]
    return {
        "operation": times.operation.name,
        "count": times.operation.count,
        "in_channels": first.in_channels,
        "out_channels": sum(layer.out_channels for layer in times.operation.layers)
        if first.groups == 1 and len(times.operation.layers) == 2
        else last.out_channels,
        "in_size": first.in_size,
        "stride": first.stride,
        "speedup_estimated": times.operation.estimated_speedup,
        "speedup_measured": times.measured_speedup,
        "seconds_packed": asdict(times.packed),
        "seconds_float32": asdict(times.float32),
    }


def _agreement(pair: TrainedPair, count: int) -> dict[str, Any]:
    """Engine against the PyTorch Child in evaluation mode; differences relative to the largest logit of the image."""
    images = pair.test_images[:count]
    engine = Engine(pair.packed)
    same, largest, above = 0, 0.0, 0
    with torch.inference_mode():
        for part in images.split(128):
            expected = pair.child.network(pair.pipeline.normalize(part)).logits.numpy()
            found = engine.logits(part.numpy())
            largest_logit = np.maximum(np.abs(expected).max(axis=1), np.finfo(np.float32).tiny)
            difference = np.abs(found - expected).max(axis=1) / largest_logit
            same += int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
            above += int((difference > 1e-4).sum())
            largest = max(largest, float(difference.max()))
    return {
        "num_images": len(images),
        "same_class": same,
        "largest_relative_difference": largest,
        "num_above_1e-4": above,
    }


def _sizes_and_memory(pair: TrainedPair, float_onnx: bytes, int8_onnx: bytes) -> dict[str, Any]:
    """Bytes of files and of processes."""
    model_file = pair.run.file(RunFolder.MODEL)
    parent_parameters = sum(parameter.numel() for parameter in pair.parent.parameters())
    with tempfile.TemporaryDirectory() as folder:
        packed, float_file, int8_file = (Path(folder) / name for name in ("packed", "float.onnx", "int8.onnx"))
        save_packed(pair.packed, packed)
        float_file.write_bytes(float_onnx)
        int8_file.write_bytes(int8_onnx)
        files = {
            PACKED_FILE: packed.stat().st_size,
            "header of the packed Child": header_bytes(packed),
            "Child as float32 (safetensors)": model_file.stat().st_size,
            PARENT_PARAMETERS: 4 * parent_parameters,
            "Parent ONNX float32": len(float_onnx),
            "Parent ONNX int8": len(int8_onnx),
        }
        memory = {
            "Python and nothing else": measure_footprint("nothing", packed),
            runtimes.PACKED: measure_footprint("packed", packed),
            runtimes.ONNX: measure_footprint("onnx", float_file),
            runtimes.ONNX_INT8: measure_footprint("onnx", int8_file),
            runtimes.EAGER_CHILD: measure_footprint("eager", model_file.resolve()),
        }
    return {"file_bytes": files, "peak_memory_bytes": memory}
