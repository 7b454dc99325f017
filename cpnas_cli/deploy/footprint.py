"""The peak memory of a fresh process that loads a model and classifies one image.

Each kind imports only what a program that does this and nothing else would import.
"""

from pathlib import Path

from cpnas_cli.efficiency.process_memory import peak_memory_of


def measure_footprint(kind: str, file: Path) -> int:
    """Bytes of the largest resident set of a process of its own.

    Raises:
      CpnasError: the process failed.
    """
    if kind == "nothing":
        return peak_memory_of(None)
    return peak_memory_of(f"cpnas_cli.deploy.footprint:{kind}", str(file))


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


def eager(file: str) -> None:
    import torch

    from cpnas_cli.training.trained_network import read_trained_file

    torch.set_num_threads(1)
    trained = read_trained_file(Path(file))
    with torch.inference_mode():
        trained.network(torch.zeros(1, trained.num_image_channels, trained.image_size, trained.image_size))
