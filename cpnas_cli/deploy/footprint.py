"""The peak memory of a fresh process that loads a model and classifies one image.

`python -m cpnas_cli.deploy.footprint packed|onnx|eager|nothing FILE` prints the bytes. Each kind
imports only what a program that does this and nothing else would import.
"""

import sys
from pathlib import Path

from cpnas_cli.efficiency.footprint import measure_process, peak_bytes

KINDS = ("nothing", "packed", "onnx", "eager")


def measure_footprint(kind: str, file: Path) -> int:
    """Bytes of the largest resident set of a process of its own.

    Raises:
      CpnasError: the process failed.
    """
    return measure_process("cpnas_cli.deploy.footprint", [kind, str(file)], what=kind)


def _packed(file: Path) -> None:
    import numpy as np

    from cpnas_cli.deploy.engine import Engine

    engine = Engine.load(file, num_threads=1)
    model = engine.model
    engine.logits(np.zeros((1, model.num_image_channels, model.image_size, model.image_size), np.uint8))


def _onnx(file: Path) -> None:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    session.run(None, {source.name: np.zeros((1, *source.shape[1:]), np.float32)})


def _eager(file: Path) -> None:
    import torch

    from cpnas_cli.training.trained_network import read_trained_file

    torch.set_num_threads(1)
    trained = read_trained_file(file)
    with torch.inference_mode():
        trained.network(torch.zeros(1, trained.num_image_channels, trained.image_size, trained.image_size))


def main() -> None:
    kind, file = sys.argv[1], Path(sys.argv[2])
    if kind != "nothing":
        {"packed": _packed, "onnx": _onnx, "eager": _eager}[kind](file)
    sys.stdout.write(f"{peak_bytes()}\n")


if __name__ == "__main__":
    main()
