"""The ways to run a network that are measured side by side; each gives a call without arguments.

All inputs but those of the packed engine and the C program are normalized beforehand; these two normalize their own:
what differs is not in their favour. A call returns class scores, which the next one may overwrite.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cpnas_cli.deploy.c_program import CProgram, pixels_of
from cpnas_cli.deploy.engine import Engine
from cpnas_cli.deploy.onnx import INPUT, OUTPUT, check_onnx
from cpnas_cli.deploy.openvino import PRECISIONS, Model, Precision, compile_openvino
from cpnas_cli.deploy.packed_file import PackedModel
from cpnas_cli.networks.network import Network

PACKED = "packed engine, Child"
EAGER_CHILD = "PyTorch eager, Child"
EAGER = "PyTorch eager, Parent float32"
COMPILED = "torch.compile, Parent float32"
ONNX = "ONNX Runtime, Parent float32"
ONNX_INT8 = "ONNX Runtime, Parent int8"
OPENVINO: dict[Precision, str] = {precision: f"OpenVINO, Parent {precision}" for precision in PRECISIONS}
C_NATIVE, C_PORTABLE = "C program, Child, -O3 -march=native", "C program, Child, -O2"

# All ways to run the Parent: with the fastest of them the packed engine is compared.
PEERS = (EAGER, COMPILED, ONNX, ONNX_INT8, *OPENVINO.values())
FLOAT32_PEERS = (EAGER, COMPILED, ONNX, OPENVINO["float32"])

Call = Callable[[], Any]


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch computes with this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def packed_call(model: PackedModel, images_BCHW: np.ndarray, *, num_threads: int) -> Call:
    engine = Engine(model, num_threads=num_threads)
    return lambda: engine.logits(images_BCHW)


def eager_call(network: Network, inputs_BCHW: Tensor, *, num_threads: int) -> Call:
    network.eval()

    def call() -> Tensor:
        with torch_threads(num_threads), torch.inference_mode():
            return network(inputs_BCHW).logits

    return call


def compiled_call(network: Network, inputs_BCHW: Tensor, *, num_threads: int) -> Call:
    """Compiled here and now.

    Raises:
      Exception: whatever torch.compile meets, e.g. that there is no C++ compiler.
    """
    network.eval()
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: network(x).logits)

    def call() -> Tensor:
        with torch_threads(num_threads), torch.inference_mode():
            return compiled(inputs_BCHW)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call()
    return call


def onnx_call(model: bytes, inputs_BCHW: Tensor, *, num_threads: int) -> Call:
    """With all graph optimizations of ONNX Runtime.

    Raises:
      CpnasError: the extra is not installed.
    """
    session = onnx_session(model, num_threads=num_threads)
    feed = {INPUT: inputs_BCHW.contiguous().numpy()}
    return lambda: session.run([OUTPUT], feed)[0]


def onnx_session(model: bytes, *, num_threads: int) -> Any:
    check_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # between two calls its threads would take a core from whatever is timed next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def openvino_call(model: Model, inputs_BCHW: Tensor, *, precision: Precision, num_threads: int) -> Call:
    """With the number of images fixed, and inputs and outputs that are not copied."""
    inputs = inputs_BCHW.contiguous().numpy()
    scores = compile_openvino(model, precision=precision, num_threads=num_threads, shape=inputs.shape)
    return lambda: scores(inputs)


def c_call(program: CProgram, images_BCHW: np.ndarray) -> Call:
    """One image after the other, on one thread."""
    pixels_BHWC = pixels_of(images_BCHW)
    return lambda: program.scores_of_pixels(pixels_BHWC)


def quiet_compiler() -> None:
    """torch.compile's log lines are about its own insides."""
    for name in ("torch._inductor", "torch._dynamo", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)
