"""The peak memory of a fresh process that loads a model and classifies one image.

`python -m cpnas_cli.efficiency.footprint packed|onnx|eager|nothing FILE` prints the bytes. Each kind
imports only what a program that does this and nothing else would import.
"""

import subprocess
import sys
from pathlib import Path

from cpnas_cli.errors import CpnasError

KINDS = ("nothing", "packed", "onnx", "eager")


def measure_footprint(kind: str, file: Path) -> int:
    """Bytes of the largest resident set of a process of its own.

    Raises:
      CpnasError: the process failed.
    """
    command = [sys.executable, "-m", "cpnas_cli.efficiency.footprint", kind, str(file)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or ["no message"]
        raise CpnasError(f"the process that measures the memory of {kind} failed: {lines[-1]}")
    return int(answer.stdout)


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

    from cpnas_cli.networks.network import build_stored
    from cpnas_cli.storage.documents import MODEL_SCHEMA
    from cpnas_cli.storage.tensors import load_into, load_tensors

    torch.set_num_threads(1)
    tensors, state = load_tensors(file, schema=MODEL_SCHEMA)
    network = build_stored(state).eval()
    load_into(network, tensors, path=file)
    with torch.inference_mode():
        size = state["config"]["data"]["image_size"]
        network(torch.zeros(1, state["num_image_channels"], size, size))


def main() -> None:
    kind, file = sys.argv[1], Path(sys.argv[2])
    if kind != "nothing":
        {"packed": _packed, "onnx": _onnx, "eager": _eager}[kind](file)
    sys.stdout.write(f"{_peak_bytes()}\n")


def _peak_bytes() -> int:
    """Of this process since its program began; Linux's ru_maxrss still knows of the process that started it."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    import resource  # not on every platform

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main()
