"""What 1 bit saves, measured on this machine: what `cpnas efficiency measure` runs, `cpnas.measurement/1`.

The packed Child, in the engine and as a C program, against its own Parent in the usual runtimes, side by side in
interleaved repetitions.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cpnas_cli.deploy import runtimes
from cpnas_cli.deploy.c_program import PORTABLE, peak_memory_of_program
from cpnas_cli.deploy.engine import Engine
from cpnas_cli.deploy.footprint import measure_footprint
from cpnas_cli.deploy.onnx import check_onnx
from cpnas_cli.deploy.openvino import save_model
from cpnas_cli.deploy.packed_file import PackedModel, header_bytes, save_packed
from cpnas_cli.deploy.side_by_side import SideBySide, relative_differences
from cpnas_cli.deploy.single_operations import OPENVINO_PRECISIONS, OperationTimes, time_operations
from cpnas_cli.deploy.trained_pair import TrainedPair
from cpnas_cli.efficiency.estimate import compare, estimate
from cpnas_cli.efficiency.timing import Timing, time_interleaved
from cpnas_cli.networks.dataflow import dataflow_of
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import MEASUREMENT_SCHEMA

PACKED_FILE, PARENT_PARAMETERS = "packed Child", "Parent's float32 parameters"
NUM_PEER_IMAGES = 500  # test images at most, on which the other runtimes are compared with PyTorch and the engine

# Why a measured speed-up is not the estimated one.
WHY_THEY_DIFFER = (
    "The estimate counts 64 one-bit multiply-accumulates as one operation and takes everything else for free. "
    "Measured, a processor does several float32 multiply-accumulates at once too, so it has less to gain; and the "
    "real operations that 1 bit does not shorten (scales, sums, pooling, the stem) and moving their values take time."
)


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
    together = SideBySide(pair, say=say)
    latency = list[dict[str, Any]]()
    for num_threads in threads:
        for batch_size in batch_sizes:
            say(f"batch {batch_size}, {num_threads} thread{'s' * (num_threads > 1)}")
            times = time_interleaved(
                together.calls(batch_size=batch_size, num_threads=num_threads), repetitions=repetitions
            )
            latency += _latency_rows(times, batch_size=batch_size, num_threads=num_threads)
    say("single operations")
    operations = [_operation_row(each) for each in time_operations(model, repetitions=repetitions)]
    say("agreement with PyTorch, sizes and memory")
    sizes = _sizes_and_memory(together)
    fastest = fastest_peers(latency)
    return {
        "schema": MEASUREMENT_SCHEMA,
        "run": str(pair.run.path),
        "network": model.settings.model_dump(mode="json"),
        "genotype": pair.child.genotype_document(),
        "image_size": model.image_size,
        "parent_weights": "trained" if pair.parent_is_trained else "untrained",
        "repetitions": repetitions,
        "latency": latency,
        "fastest_peers": fastest,
        "not_measured": together.not_measured,
        "operations": operations,
        "agreement": _agreement(pair, num_agreement_images),
        "peer_agreement": together.agreement(pair.test_images[: min(num_agreement_images, NUM_PEER_IMAGES)]),
        **sizes,
        "comparison": _comparison(model, latency, fastest, sizes),
        "why_they_differ": WHY_THEY_DIFFER,
        "environment": dict(environment),
    }


def fastest_peers(latency: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each number of threads and images, the runtime that runs the Parent in the least time, in any precision."""
    found = dict[tuple[int, int], Mapping[str, Any]]()
    for row in latency:
        key = row["threads"], row["batch_size"]
        if row["runtime"] in runtimes.PEERS and (
            key not in found or row["seconds_median"] < found[key]["seconds_median"]
        ):
            found[key] = row
    names = ("threads", "batch_size", "runtime", "seconds_median", "times_packed")
    return [{name: row[name] for name in names} for row in found.values()]


def _comparison(
    model: PackedModel,
    latency: Sequence[Mapping[str, Any]],
    fastest: Sequence[Mapping[str, Any]],
    sizes: Mapping[str, Mapping[str, int]],
) -> list[dict[str, Any]]:
    """Estimate and measurement of the same saving, next to each other; what was not measured is None."""
    child, parent = (
        estimate(dataflow_of(model.settings, model.genotype, model.surroundings, precision=precision))
        for precision in ("binary", "full")
    )
    savings, files, memory = compare(child, parent), sizes["file_bytes"], sizes["peak_memory_bytes"]
    times = {row["runtime"]: row["times_packed"] for row in latency if (row["threads"], row["batch_size"]) == (1, 1)}
    best = next((row["runtime"] for row in fastest if (row["threads"], row["batch_size"]) == (1, 1)), None)
    against = dict.fromkeys(name for name in (best, runtimes.OPENVINO["float32"], runtimes.ONNX) if name is not None)
    return [
        *(
            {
                "saving": f"time, against {name}{', the fastest' * (name == best)}; 1 thread, batch 1",
                "estimated": savings.speedup,
                "estimated_with_elementwise": savings.speedup_with_elementwise,
                "measured": times.get(name),
            }
            for name in against
        ),
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
        "fastest": None if times.fastest is None else times.fastest[0],
        "speedup_fastest": None if times.fastest is None else times.fastest[1],
        "seconds_packed": asdict(times.packed),
        "seconds_float32": asdict(times.peers[runtimes.ONNX]),
        **{
            f"seconds_openvino_{precision}": _seconds(times.peers.get(runtimes.OPENVINO[precision]))
            for precision in OPENVINO_PRECISIONS
        },
    }


def _seconds(timing: Timing | None) -> dict[str, float] | None:
    return None if timing is None else asdict(timing)


def _agreement(pair: TrainedPair, count: int) -> dict[str, Any]:
    """Engine against the PyTorch Child in evaluation mode; differences relative to the largest logit of the image."""
    images = pair.test_images[:count]
    engine = Engine(pair.packed)
    same, largest, above = 0, 0.0, 0
    with torch.inference_mode():
        for part in images.split(128):
            expected = pair.child.network(pair.pipeline.normalize(part)).logits.numpy()
            found = engine.logits(part.numpy())
            difference = relative_differences(found, expected)
            same += int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
            above += int((difference > 1e-4).sum())
            largest = max(largest, float(difference.max()))
    return {
        "num_images": len(images),
        "same_class": same,
        "largest_relative_difference": largest,
        "num_above_1e-4": above,
    }


def _sizes_and_memory(together: SideBySide) -> dict[str, Any]:
    """Bytes of files and of processes."""
    pair = together.pair
    model_file = pair.run.file(RunFolder.MODEL)
    parent_parameters = sum(parameter.numel() for parameter in pair.parent.parameters())
    with tempfile.TemporaryDirectory() as folder:
        packed, float_file, int8_file = (Path(folder) / name for name in ("packed", "float.onnx", "int8.onnx"))
        save_packed(pair.packed, packed)
        float_file.write_bytes(together.float_onnx)
        int8_file.write_bytes(together.int8_onnx)
        files = {
            PACKED_FILE: packed.stat().st_size,
            "header of the packed Child": header_bytes(packed),
            "Child as float32 (safetensors)": model_file.stat().st_size,
            PARENT_PARAMETERS: 4 * parent_parameters,
            "Parent ONNX float32": len(together.float_onnx),
            "Parent ONNX int8": len(together.int8_onnx),
        }
        memory = {
            "Python and nothing else": measure_footprint("nothing", packed),
            runtimes.PACKED: measure_footprint("packed", packed),
            runtimes.ONNX: measure_footprint("onnx", float_file),
            runtimes.ONNX_INT8: measure_footprint("onnx", int8_file),
            runtimes.EAGER_CHILD: measure_footprint("eager", model_file.resolve()),
        }
        for precision, model in together.openvino_models.items():
            file = float_file
            if precision == "int8":
                file = Path(folder) / "openvino.xml"
                files["Parent OpenVINO int8, graph and weights"] = save_model(model, file)
            memory[runtimes.OPENVINO[precision]] = measure_footprint("openvino", file, precision)
    if runtimes.C_PORTABLE in together.c_programs:
        assert together.compiler is not None
        peak = peak_memory_of_program(pair.packed, compiler=together.compiler, flags=PORTABLE)
        memory |= {runtimes.C_PORTABLE: peak} if peak else {}
    return {"file_bytes": files, "peak_memory_bytes": memory}
