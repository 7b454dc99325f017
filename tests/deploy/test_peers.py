"""What is timed beside the packed engine: each computes what PyTorch or the engine does, or is left out, and why."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from c_programs import needed
from children import Child, every_operation, make_child, randomize

from cpnas_cli.deploy import c_program, openvino, runtimes, side_by_side, single_operations
from cpnas_cli.deploy.c_program import CProgram, compile_c, peak_memory_of_program
from cpnas_cli.deploy.engine import Engine
from cpnas_cli.deploy.measurement import fastest_peers
from cpnas_cli.deploy.onnx import onnx_bytes
from cpnas_cli.deploy.side_by_side import SideBySide, right_calls, why_wrong
from cpnas_cli.deploy.single_operations import MeasuredOperation, OperationTimes
from cpnas_cli.efficiency.timing import Timing
from cpnas_cli.errors import CpnasError
from cpnas_cli.networks.network import Network

WHOLE: dict[str, Any] = {"weight_format": "int8", "real_format": "float16"}  # its C compiles fastest


@pytest.fixture(scope="module")
def child() -> Child:
    return make_child(every_operation(), block="residual", num_channels=8, group_width=8, **WHOLE)


@pytest.fixture(scope="module")
def parent() -> tuple[Network, bytes]:
    network = make_child(every_operation(), num_channels=4).trained.untrained_parent()
    randomize(network, seed=1)
    return network, onnx_bytes(network, image_size=8)


def normal(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


# ---------------------------------------------------------------- OpenVINO


def installed(library: str) -> None:
    """The test is skipped by the library's name where it is not; importing it would let it report its use."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def test_openvino_computes_what_pytorch_does(parent: tuple[Network, bytes]) -> None:
    installed("openvino")
    network, model = parent
    x = normal(5)
    with torch.inference_mode():
        expected = network(x).logits.numpy()
    for shape in (None, tuple(x.shape)):
        scores = openvino.compile_openvino(openvino.read_model(model), precision="float32", num_threads=1, shape=shape)
        np.testing.assert_allclose(scores(x.numpy()), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_float32_is_not_computed_in_bfloat16(parent: tuple[Network, bytes]) -> None:
    """OpenVINO's own choice on a processor that has it."""
    installed("openvino")
    if openvino.why_not("bfloat16") is not None:
        pytest.skip("no bfloat16 on this processor")
    x = normal(2).numpy()
    float32, bfloat16 = (
        np.array(openvino.compile_openvino(openvino.read_model(parent[1]), precision=each, num_threads=1)(x))
        for each in ("float32", "bfloat16")
    )
    assert 1e-4 < np.abs(float32 - bfloat16).max() / np.abs(float32).max() < 0.5


def test_int8_is_quantized_with_the_images_that_are_given(parent: tuple[Network, bytes], tmp_path: Path) -> None:
    installed("openvino")
    installed("nncf")
    network, model = parent
    x = normal(40)
    quantized = openvino.quantized(model, x.split(20))
    kinds = [operation.get_type_name() for operation in quantized.get_ops()]
    assert kinds.count("FakeQuantize") > 10
    scores = openvino.compile_openvino(quantized, precision="int8", num_threads=1)
    with torch.inference_mode():
        expected = network(x).logits.numpy()
    assert np.corrcoef(np.array(scores(x.numpy())).ravel(), expected.ravel())[0, 1] > 0.9
    size = openvino.save_model(quantized, tmp_path / "int8.xml")
    assert size == sum(file.stat().st_size for file in tmp_path.iterdir()) > 1000
    assert {file.name for file in tmp_path.iterdir()} == {"int8.xml", "int8.bin"}


@pytest.mark.slow
def test_nobody_is_told_of_its_use(tmp_path: Path, parent: tuple[Network, bytes]) -> None:
    """openvino_telemetry makes a folder with an identity of the user as soon as it is imported."""
    installed("openvino")
    (tmp_path / "parent.onnx").write_bytes(parent[1])
    code = (
        "import sys, torch; from pathlib import Path; from cpnas_cli.deploy import openvino\n"
        "model = Path('parent.onnx').read_bytes(); openvino.read_model(model); openvino.capabilities()\n"
        "if openvino.why_not('int8') is None: openvino.quantized(model, [torch.zeros(1, 3, 8, 8)])\n"
        "print('openvino_telemetry' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)}, check=True, capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip
    assert answer.stdout == "False\n"
    assert not (tmp_path / "intel").exists()


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found: set[str] = set()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in found or None)
    line = "not installed; type: pip install 'cpnas[openvino]'"
    assert openvino.why_not("float32") == f"needs openvino, {line}"
    assert openvino.why_not("int8") == f"needs openvino and nncf, {line}"
    found.add("openvino")
    monkeypatch.setattr(openvino, "capabilities", lambda: ["INT8", "FP32"])
    assert openvino.why_not("float32") is None
    assert openvino.why_not("int8") == f"needs nncf, {line}"
    assert openvino.why_not("bfloat16") == "this processor has none: OpenVINO offers FP32, INT8"
    monkeypatch.setattr(openvino, "capabilities", lambda: ["BF16", "FP32"])
    assert openvino.why_not("bfloat16") is None


# ---------------------------------------------------------------- the C program


@pytest.mark.parametrize("flags", [c_program.PORTABLE, c_program.NATIVE])
def test_the_c_program_scores_as_the_engine_does(child: Child, flags: tuple[str, ...]) -> None:
    images = child.draw_images(7)
    program = CProgram(child.model, compiler=needed("gcc"), flags=flags)
    expected = Engine(child.model).logits(images)
    np.testing.assert_allclose(program.scores(images), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_array_equal(program.scores(images).argmax(axis=1), expected.argmax(axis=1))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's peak")
def test_the_memory_of_the_c_program_is_that_of_a_small_process(child: Child) -> None:
    peak = peak_memory_of_program(child.model, compiler=needed("gcc"), flags=("-O1",))
    assert peak is not None
    assert 200 << 10 < peak < 16 << 20


def test_a_compiler_that_fails_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(CpnasError, match=r"^gcc -O2 failed: .*error.*nothing.*$"):
        compile_c(tmp_path, ["bad.c"], compiler=needed("gcc"), flags=("-O2",))
    with pytest.raises(CpnasError, match=r"^no-such-compiler -O2 failed: .*No such file"):
        compile_c(tmp_path, ["bad.c"], compiler="no-such-compiler", flags=("-O2",))


def test_what_this_machine_has_not_is_said(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "onnx_bytes", lambda *_, **__: b"")
    monkeypatch.setattr(side_by_side, "int8_bytes", lambda *_: b"")
    monkeypatch.setattr(side_by_side, "calibration_batches", lambda *_: [])
    monkeypatch.setattr(openvino, "why_not", lambda precision: f"no {precision}")
    monkeypatch.setattr(side_by_side, "find_compiler", lambda: None)
    pair: Any = SimpleNamespace(parent=None, packed=child.model, pipeline=None, train_images=None)
    together = SideBySide(pair, say=lambda _: None)
    assert together.openvino_models == together.c_programs == {}
    assert together.not_measured == {
        "OpenVINO, Parent float32": "no float32",
        "OpenVINO, Parent bfloat16": "no bfloat16",
        "OpenVINO, Parent int8": "no int8",
        "C program, Child, -O3 -march=native": "needs a C compiler, and there is none of cc, gcc, clang",
        "C program, Child, -O2": "needs a C compiler, and there is none of cc, gcc, clang",
    }


# ---------------------------------------------------------------- what is timed


def test_scores_of_another_network_are_seen() -> None:
    expected = np.array([[1.0, -2.0], [10.0, 20.0]], np.float32)
    small = np.array([[0.0, 0.001], [0.01, -0.01]], np.float32)
    assert why_wrong(expected + small, expected) is None  # of 2 and of 20
    assert "differ by 2.0e-03" in (why_wrong(expected + 4 * small, expected) or "")
    assert "differ by nan" in (why_wrong(expected * np.nan, expected) or "")
    assert "shape (1, 2), expected (2, 2)" in (why_wrong(expected[:1], expected) or "")
    assert why_wrong(-expected, expected, close=False) is None
    assert "not finite" in (why_wrong(expected * np.inf, expected, close=False) or "")
    near = np.array([[1.0, 1.00001]], np.float32)
    assert why_wrong(near[:, ::-1], near) is None
    assert "another class" in (why_wrong(near[:, ::-1], near, same_class=True) or "")


def test_what_computes_something_else_is_not_timed() -> None:
    scores = {
        runtimes.PACKED: [[3.0, 1.0]],
        runtimes.EAGER_CHILD: [[9.0, 9.0]],  # that the engine agrees with PyTorch is measured elsewhere
        runtimes.EAGER: [[1.0, 2.0]],
        runtimes.ONNX: [[1.0, 2.0]],
        runtimes.ONNX_INT8: [[2.0, 1.0]],
        runtimes.OPENVINO["float32"]: [[1.0, 2.1]],
        runtimes.OPENVINO["bfloat16"]: [[1.0, np.nan]],
        runtimes.C_NATIVE: [[3.0, 1.0]],
        runtimes.C_PORTABLE: [[1.0, 2.0]],
    }
    calls: dict[str, Callable[[], Any]] = {
        name: lambda value=value: np.array(value, np.float32) for name, value in scores.items()
    }
    right, reasons = right_calls(calls)
    wrong = {runtimes.OPENVINO["float32"], runtimes.OPENVINO["bfloat16"], runtimes.C_PORTABLE}
    assert reasons.keys() == wrong
    assert list(right) == [name for name in scores if name not in wrong]


def row(runtime: str, seconds: float, *, threads: int = 1, batch_size: int = 1) -> dict[str, Any]:
    return {
        "runtime": runtime, "threads": threads, "batch_size": batch_size, "seconds_median": seconds,
        "times_packed": seconds / 2, "images_per_second": 0.0,
    }  # fmt: skip


def test_the_fastest_is_one_of_the_parents() -> None:
    rows = [
        row(runtimes.PACKED, 2.0),
        row(runtimes.C_NATIVE, 1.0),
        row(runtimes.EAGER_CHILD, 1.5),
        row(runtimes.ONNX, 8.0),
        row(runtimes.OPENVINO["int8"], 5.0),
        row(runtimes.OPENVINO["float32"], 6.0),
        row(runtimes.ONNX, 4.0, threads=2),
        row(runtimes.COMPILED, 3.0, threads=2),
    ]
    fastest = [(each["threads"], each["runtime"], each["times_packed"]) for each in fastest_peers(rows)]
    assert fastest == [(1, "OpenVINO, Parent int8", 2.5), (2, "torch.compile, Parent float32", 1.5)]


# ---------------------------------------------------------------- single operations


def test_an_operation_is_held_against_the_fastest() -> None:
    operation = MeasuredOperation("sep_conv_3x3", (), 1)
    names = runtimes.ONNX, runtimes.OPENVINO["float32"]

    def times(onnx: float, other: float) -> OperationTimes:
        timings = [Timing(seconds, seconds, seconds) for seconds in (onnx, other)]
        peers = dict(zip(names, timings, strict=True))
        return OperationTimes(operation, Timing(2.0, 2.0, 2.0), peers, dict.fromkeys(names, 0.5))

    assert times(8.0, 6.0).measured_speedup == 4.0
    assert times(8.0, 6.0).fastest == ("OpenVINO, Parent float32", 3.0)
    assert times(8.0, 9.0).fastest == ("ONNX Runtime, Parent float32", 4.0)
    assert times(8.0, 0.4).fastest is None  # faster than can be told
    assert times(0.4, 6.0).measured_speedup is None


def test_an_operation_that_computes_something_else_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = np.array([-4.0, -4.0], np.float32)
    monkeypatch.setattr(single_operations, "_session_call", lambda _: lambda: expected)

    def peers(float32: np.ndarray, bfloat16: np.ndarray) -> list[str]:
        calls = {runtimes.OPENVINO["float32"]: lambda: float32, runtimes.OPENVINO["bfloat16"]: lambda: bfloat16}
        monkeypatch.setattr(single_operations, "_openvino_calls", lambda *_: calls)
        return list(single_operations._peers(b"", ("float32", "bfloat16")))

    assert peers(expected, expected + 0.3) == [runtimes.ONNX, *runtimes.OPENVINO.values()][:3]
    assert peers(expected + 0.3, expected) == [runtimes.ONNX, runtimes.OPENVINO["bfloat16"]]
    assert peers(expected, expected[:1]) == [runtimes.ONNX, runtimes.OPENVINO["float32"]]
    assert peers(expected, expected + 0.5) == [runtimes.ONNX, runtimes.OPENVINO["float32"]]
