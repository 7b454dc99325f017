"""OpenVINO: the Parent compiled for this machine's processor, in float32, in bfloat16 where there is that, and in int8.

It reads the Parent's ONNX model. int8 is NNCF's static quantization of it, calibrated on real images; what is left of
the network then computes in the processor's fastest format.

openvino and nncf report their use over the network through their package openvino_telemetry, unless it cannot be
imported. Here it cannot.
"""

import contextlib
import importlib
import importlib.util
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from cpnas_cli.deploy.onnx import silent

Precision = Literal["float32", "bfloat16", "int8"]
Model = Any
"""`openvino.Model`; the library need not be installed."""

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")

_LIBRARIES: dict[Precision, tuple[str, ...]] = {
    "float32": ("openvino",),
    "bfloat16": ("openvino",),
    "int8": ("openvino", "nncf"),
}
_BFLOAT16 = "BF16"
# Without a hint a processor with bfloat16 would compute float32 models in it.
_HINTS: dict[Precision, dict[str, str]] = {
    "float32": {"INFERENCE_PRECISION_HINT": "f32"},
    "bfloat16": {"INFERENCE_PRECISION_HINT": "bf16"},
    "int8": {},
}


def why_not(precision: Precision) -> str | None:
    """Why there is no OpenVINO of a precision here, in one line; None where there is."""
    missing = [name for name in _LIBRARIES[precision] if importlib.util.find_spec(name) is None]
    if missing:
        return f"needs {' and '.join(missing)}, not installed; type: pip install 'cpnas[openvino]'"
    if precision == "bfloat16":
        offered = capabilities()
        if _BFLOAT16 not in offered:
            return f"this processor has none: OpenVINO offers {', '.join(sorted(offered))}"
    return None


def capabilities() -> Sequence[str]:
    """What OpenVINO says that it can compute well on this processor, e.g. FP32, BF16, INT8."""
    return _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@contextlib.contextmanager
def _unreported() -> Iterator[None]:
    """What is imported meanwhile does not find openvino_telemetry."""
    name = "openvino_telemetry"
    if name in sys.modules:  # somebody else's business
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # Python's own mark of what cannot be imported
    try:
        yield
    finally:
        del sys.modules[name]


def _openvino() -> Any:
    with _unreported():
        return importlib.import_module("openvino")


def read_model(model_bytes: bytes) -> Model:
    """An ONNX model that takes any number of images."""
    return _openvino().Core().read_model(io.BytesIO(model_bytes))


def quantized(model_bytes: bytes, calibration_batches: Iterable[Tensor]) -> Model:
    """The model in 8 bits: NNCF's static quantization, with its defaults.

    Args:
      model_bytes: a float ONNX model.
      calibration_batches: real images, as the model takes them.
    """
    _openvino()
    with silent():
        with _unreported():
            nncf: Any = importlib.import_module("nncf")
        images = [batch.contiguous().numpy() for batch in calibration_batches]
        return nncf.quantize(read_model(model_bytes), nncf.Dataset(images), subset_size=max(len(images), 1))


def compile_openvino(
    model: Model, *, precision: Precision, num_threads: int, shape: Sequence[int] | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """The model compiled for latency, as one stream; gives class scores, which the next call overwrites.

    Args:
      shape: of all inputs, which is faster; without it any number of images.
    """
    library = _openvino()
    if shape is not None:
        model = model.clone()
        model.reshape(list(shape))
    settings = {"INFERENCE_NUM_THREADS": num_threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = library.Core().compile_model(model, "CPU", {**settings, **_HINTS[precision]})
    request = compiled.create_infer_request()
    return lambda inputs: request.infer(inputs, share_inputs=True, share_outputs=True)[0]


def save_model(model: Model, path: Path) -> int:
    """Write graph and weights, as two files of OpenVINO's own, `path` (.xml) and .bin beside it; their bytes."""
    _openvino().serialize(model, str(path), str(path.with_suffix(".bin")))
    return sum(file.stat().st_size for file in (path, path.with_suffix(".bin")))
