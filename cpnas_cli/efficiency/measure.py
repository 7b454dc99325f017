"""What 1 bit saves, measured on this machine: `cpnas.measurement/1`.

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

from cpnas_cli.batches import Pipeline
from cpnas_cli.config import Config
from cpnas_cli.data import load_dataset
from cpnas_cli.efficiency import runtimes
from cpnas_cli.efficiency.dataflow import dataflow_of
from cpnas_cli.efficiency.engine import Engine
from cpnas_cli.efficiency.estimate import compare, estimate
from cpnas_cli.efficiency.footprint import measure_footprint
from cpnas_cli.efficiency.onnx_export import check_onnx, int8_bytes, onnx_bytes
from cpnas_cli.efficiency.packed import PackedModel, header_bytes, save_packed
from cpnas_cli.efficiency.packing import pack
from cpnas_cli.efficiency.single_operations import OperationTimes, time_operations
from cpnas_cli.efficiency.timing import Timing, time_interleaved
from cpnas_cli.errors import RunError
from cpnas_cli.evaluation import data_settings, load_trained
from cpnas_cli.networks import Network, build_network
from cpnas_cli.records import MEASUREMENT_SCHEMA, RunFolder, parse_genotype

NUM_CALIBRATION_IMAGES = 256  # training images, for the int8 Parent

# Why a measured speed-up is not the estimated one.
WHY_THEY_DIFFER = (
    "The estimate counts 64 one-bit multiply-accumulates as one operation and takes everything else for free. "
    "Measured, a processor does several float32 multiply-accumulates at once too, so it has less to gain; and the "
    "real operations that 1 bit does not shorten (scales, sums, pooling, the stem) and moving their values take time."
)


@dataclass(frozen=True)
class Subject:
    """What is measured: a Child, its Parent, and real images."""

    path: Path
    child: Network
    state: Mapping[str, Any]
    parent: Network
    parent_is_trained: bool
    test_images: Tensor  # uint8 (N, C, S, S)
    train_images: Tensor

    @property
    def pipeline(self) -> Pipeline:
        config = Config.model_validate(self.state["config"])
        return Pipeline(config.data, tuple(self.state["mean"]), tuple(self.state["std"]))


def read_subject(path: Path, *, data_dir: Path | None) -> Subject:
    """A training's Child and its Parent; a run without one gets an untrained one, which takes as long.

    Raises:
      RunError: the folder holds no trained Child. CheckpointError, DataError, UsageError.
    """
    run = RunFolder(path)
    if not run.file(RunFolder.MODEL).exists():
        raise RunError(f"{path} holds no trained network; `cpnas train GENOTYPE --out {path}` makes one")
    child, state = load_trained(run)
    if child.precision != "binary":
        raise RunError(
            f"{path} holds a Parent only, there is no 1-bit network to measure; train without --precision full"
        )
    trained = run.file(RunFolder.PARENT_MODEL).exists()
    config = Config.model_validate(state["config"])
    if trained:
        parent, _ = load_trained(run, RunFolder.PARENT_MODEL)
    else:
        parent = build_network(
            config.network,
            precision="full",
            num_image_channels=state["num_image_channels"],
            num_classes=len(state["classes"]),
            seed=config.seed,
            genotype=parse_genotype(state["genotype"]),
        ).eval()
    dataset = load_dataset(data_settings(state, data_dir))
    return Subject(path, child, state, parent, trained, dataset.test.images, dataset.train.images)


def warm_up(subject: Subject, *, num_threads: int) -> None:
    """Compile what will be measured, if it is not compiled yet."""
    Engine(pack(subject.child, subject.state), num_threads=num_threads).warm_up(num_threads)


def measure(
    subject: Subject,
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
    model = pack(subject.child, subject.state)
    say("building the ONNX models of the Parent")
    size = model.image_size
    float_onnx = onnx_bytes(subject.parent, image_size=size)
    int8_onnx = int8_bytes(float_onnx, _calibration_batches(subject))
    latency, not_measured = list[dict[str, Any]](), dict[str, str]()
    for num_threads in threads:
        for batch_size in batch_sizes:
            say(f"batch {batch_size}, {num_threads} threads")
            calls = _calls(subject, model, float_onnx, int8_onnx, batch_size, num_threads, not_measured)
            times = time_interleaved(calls, repetitions=repetitions)
            latency += _latency_rows(times, batch_size=batch_size, num_threads=num_threads)
    say("single operations")
    operations = [_operation_row(each) for each in time_operations(model, repetitions=repetitions)]
    say("agreement with PyTorch, sizes and memory")
    child_flow, parent_flow = (
        dataflow_of(model.settings, model.genotype, model.surroundings, precision=precision)
        for precision in ("binary", "full")
    )
    return {
        "schema": MEASUREMENT_SCHEMA,
        "run": str(subject.path),
        "network": model.settings.model_dump(mode="json"),
        "genotype": subject.state["genotype"],
        "image_size": size,
        "parent_weights": "trained" if subject.parent_is_trained else "untrained",
        "repetitions": repetitions,
        "latency": latency,
        "not_measured": not_measured,
        "operations": operations,
        "agreement": _agreement(subject, model, num_agreement_images),
        "estimate": asdict(compare(estimate(child_flow), estimate(parent_flow))),
        "why_they_differ": WHY_THEY_DIFFER,
        **_sizes_and_memory(subject, model, float_onnx, int8_onnx),
        "environment": dict(environment),
    }


def _calibration_batches(subject: Subject) -> list[Tensor]:
    images = subject.train_images[:: max(len(subject.train_images) // NUM_CALIBRATION_IMAGES, 1)]
    return [subject.pipeline.normalize(part) for part in images[:NUM_CALIBRATION_IMAGES].split(64)]


def _calls(
    subject: Subject,
    model: PackedModel,
    float_onnx: bytes,
    int8_onnx: bytes,
    batch_size: int,
    num_threads: int,
    not_measured: dict[str, str],
) -> dict[str, runtimes.Call]:
    images = subject.test_images[:batch_size]
    images = images.repeat(-(-batch_size // len(images)), 1, 1, 1)[:batch_size]
    inputs = subject.pipeline.normalize(images)
    calls = {
        runtimes.PACKED: runtimes.packed_call(model, images.numpy(), num_threads=num_threads),
        runtimes.EAGER_CHILD: runtimes.eager_call(subject.child, inputs, num_threads=num_threads),
        runtimes.EAGER: runtimes.eager_call(subject.parent, inputs, num_threads=num_threads),
        runtimes.ONNX: runtimes.onnx_call(float_onnx, inputs, num_threads=num_threads),
        runtimes.ONNX_INT8: runtimes.onnx_call(int8_onnx, inputs, num_threads=num_threads),
    }
    try:
        calls[runtimes.COMPILED] = runtimes.compiled_call(subject.parent, inputs, num_threads=num_threads)
    except Exception as error:  # the compiler's errors have no common base; the report says what it was
        not_measured[runtimes.COMPILED] = " ".join(str(error).split())[:200] or type(error).__name__
    return calls


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
        "seconds_packed": times.packed_seconds,
        "seconds_float32": times.float_seconds,
    }


def _agreement(subject: Subject, model: PackedModel, count: int) -> dict[str, Any]:
    """Engine against the PyTorch Child in evaluation mode."""
    images = subject.test_images[:count]
    engine = Engine(model)
    same, largest, above = 0, 0.0, 0
    with torch.inference_mode():
        for part in images.split(128):
            expected = subject.child(subject.pipeline.normalize(part)).logits.numpy()
            found = engine.logits(part.numpy())
            difference = np.abs(found - expected).max(axis=1) / np.abs(expected).max(axis=1)
            same += int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
            above += int((difference > 1e-4).sum())
            largest = max(largest, float(difference.max()))
    return {
        "num_images": len(images),
        "same_class": same,
        "largest_relative_difference": largest,
        "num_above_1e-4": above,
    }


def _sizes_and_memory(subject: Subject, model: PackedModel, float_onnx: bytes, int8_onnx: bytes) -> dict[str, Any]:
    """Bytes of files and of processes."""
    model_file = RunFolder(subject.path).file(RunFolder.MODEL)
    parent_parameters = sum(parameter.numel() for parameter in subject.parent.parameters())
    with tempfile.TemporaryDirectory() as folder:
        packed, float_file, int8_file = (Path(folder) / name for name in ("packed", "float.onnx", "int8.onnx"))
        save_packed(model, packed)
        float_file.write_bytes(float_onnx)
        int8_file.write_bytes(int8_onnx)
        files = {
            "packed Child": packed.stat().st_size,
            "of it header": header_bytes(packed),
            "Child as float32 (safetensors)": model_file.stat().st_size,
            "Parent's float32 parameters": 4 * parent_parameters,
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
