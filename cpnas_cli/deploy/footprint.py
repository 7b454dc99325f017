"""The peak memory of a fresh process that loads a model and classifies one image.

Each kind imports only what a program that does this and nothing else would import.
"""

from pathlib import Path

from cpnas_cli.efficiency.process_memory import peak_memory_of


def measure_footprint(kind: str, file: Path, *arguments: str) -> int:
    """Bytes of the largest resident set of a process of its own.

    Args:
      arguments: of the kind, besides its file.

    Raises:
      CpnasError: the process failed.
    """
    if kind == "nothing":
        return peak_memory_of(None)
    return peak_memory_of(f"cpnas_cli.deploy.footprint:{kind}", str(file), *arguments)


def packed(file: str) -> None:
    import numpy as np

    from cpnas_cli.deploy.engine import Engine

    engine = Engine.load(Path(file), num_threads=1)
    model = engine.model
    engine.logits(np.zeros((1, model.num_image_channels, model.image_size, model.image_size), np.uint8))


def onnx(file: str) -> None:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    session.run(None, {source.name: np.zeros((1, *source.shape[1:]), np.float32)})


def openvino(file: str, precision: str) -> None:
    """See `openvino.compile_openvino`, whose module would import torch."""
    import importlib
    import sys
    from typing import Any

    import numpy as np

    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    library: Any = importlib.import_module("openvino")
    core = library.Core()
    model = core.read_model(file)
    shape = [1, *(dimension.get_length() for dimension in list(model.input(0).partial_shape)[1:])]
    model.reshape(shape)
    hints = {"float32": {"INFERENCE_PRECISION_HINT": "f32"}, "bfloat16": {"INFERENCE_PRECISION_HINT": "bf16"}}
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(model, "CPU", {**settings, **hints.get(precision, {})})
    compiled.create_infer_request().infer(np.zeros(shape, np.float32))


def eager(file: str) -> None:
    import torch

    from cpnas_cli.training.trained_network import read_trained_file

    torch.set_num_threads(1)
    trained = read_trained_file(Path(file))
    with torch.inference_mode():
        trained.network(torch.zeros(1, trained.num_image_channels, trained.image_size, trained.image_size))
