"""All runtimes that this machine has, made ready once: to be timed in turn, after it is seen that each computes what
PyTorch does.

What it has not, and what computes something else, is not timed; `not_measured` says why.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cpnas_cli.deploy import openvino, runtimes
from cpnas_cli.deploy.c_program import COMPILERS, NATIVE, PORTABLE, CProgram, find_compiler
from cpnas_cli.deploy.deployed import calibration_batches
from cpnas_cli.deploy.engine import Engine
from cpnas_cli.deploy.onnx import INPUT, OUTPUT, int8_bytes, onnx_bytes
from cpnas_cli.deploy.trained_pair import TrainedPair
from cpnas_cli.errors import CpnasError

# Float32 sums in another order differ by some 1e-6 of an image's largest score; a wrongly loaded network by much more.
CLOSE = 1e-3
C_FLAGS = {runtimes.C_NATIVE: NATIVE, runtimes.C_PORTABLE: PORTABLE}

_BATCH_SIZE = 50
_Scores = Callable[[Tensor], np.ndarray]


class SideBySide:
    """See the module's text.

    Attributes:
      float_onnx, int8_onnx: the Parent's ONNX models.
      openvino_models: by precision, of those that there are.
      c_programs: by runtime, likewise.
      not_measured: {runtime: why, in one line}.

    Raises:
      CpnasError: the onnx extra is not installed.
    """

    def __init__(self, pair: TrainedPair, *, say: Callable[[str], None]) -> None:
        self.pair = pair
        self.not_measured = dict[str, str]()
        say("building the ONNX models of the Parent")
        self.float_onnx = onnx_bytes(pair.parent, image_size=pair.packed.image_size)
        self.int8_onnx = int8_bytes(self.float_onnx, calibration_batches(pair.pipeline, pair.train_images))
        self.openvino_models = dict(self._openvino_models(say))
        self.c_programs = dict(self._c_programs(say))

    def _openvino_models(self, say: Callable[[str], None]) -> Iterator[tuple[openvino.Precision, openvino.Model]]:
        reasons: dict[openvino.Precision, str | None] = {
            precision: openvino.why_not(precision) for precision in openvino.PRECISIONS
        }
        if not all(reasons.values()):
            say("building the OpenVINO models of the Parent")
        for precision, reason in reasons.items():
            if reason is not None:
                self.not_measured[runtimes.OPENVINO[precision]] = reason
            elif precision == "int8":
                batches = calibration_batches(self.pair.pipeline, self.pair.train_images)
                yield precision, openvino.quantized(self.float_onnx, batches)
            else:
                yield precision, openvino.read_model(self.float_onnx)

    def _c_programs(self, say: Callable[[str], None]) -> Iterator[tuple[str, CProgram]]:
        self.compiler = find_compiler()
        if self.compiler is None:
            reason = f"needs a C compiler, and there is none of {', '.join(COMPILERS)}"
            self.not_measured |= dict.fromkeys(C_FLAGS, reason)
            return
        say("compiling the C program of the Child")
        for name, flags in C_FLAGS.items():
            try:
                yield name, CProgram(self.pair.packed, compiler=self.compiler, flags=flags)
            except CpnasError as error:
                self.not_measured[name] = str(error)

    # ---------------------------------------------------------------- to be timed

    def calls(self, *, batch_size: int, num_threads: int) -> dict[str, runtimes.Call]:
        """A call of each runtime for the same images; the C program computes on one thread and has none on more."""
        pair = self.pair
        images = pair.test_images[:batch_size]
        images = images.repeat(-(-batch_size // len(images)), 1, 1, 1)[:batch_size]
        inputs = pair.pipeline.normalize(images)
        calls = {
            runtimes.PACKED: runtimes.packed_call(pair.packed, images.numpy(), num_threads=num_threads),
            runtimes.EAGER_CHILD: runtimes.eager_call(pair.child.network, inputs, num_threads=num_threads),
            runtimes.EAGER: runtimes.eager_call(pair.parent, inputs, num_threads=num_threads),
            runtimes.ONNX: runtimes.onnx_call(self.float_onnx, inputs, num_threads=num_threads),
            runtimes.ONNX_INT8: runtimes.onnx_call(self.int8_onnx, inputs, num_threads=num_threads),
        }
        for precision, model in self.openvino_models.items():
            name = runtimes.OPENVINO[precision]
            calls[name] = runtimes.openvino_call(model, inputs, precision=precision, num_threads=num_threads)
        try:
            calls[runtimes.COMPILED] = runtimes.compiled_call(pair.parent, inputs, num_threads=num_threads)
        except Exception as error:  # the compiler's errors have no common base; the report says what it was
            self.not_measured[runtimes.COMPILED] = " ".join(str(error).split())[:200] or type(error).__name__
        if num_threads == 1:
            calls |= {name: runtimes.c_call(program, images.numpy()) for name, program in self.c_programs.items()}
        right, reasons = right_calls(calls)
        self.not_measured |= reasons
        return right

    # ---------------------------------------------------------------- agreement

    def agreement(self, images: Tensor) -> list[dict[str, Any]]:
        """How far each runtime agrees: those of the Parent with PyTorch, the C program with the packed engine.

        Args:
          images: uint8 (N, C, S, S); differences are relative to the largest score of the image.
        """
        functions = dict(self._functions())
        engine = Engine(self.pair.packed, num_threads=1)
        found = {name: list[np.ndarray]() for name in functions}
        parent_scores, engine_scores = list[np.ndarray](), list[np.ndarray]()
        self.pair.parent.eval()
        with torch.inference_mode():
            for part in images.split(_BATCH_SIZE):
                parent_scores.append(self.pair.parent(self.pair.pipeline.normalize(part)).logits.numpy())
                engine_scores.append(engine.logits(part.numpy()))
                for name, function in functions.items():
                    found[name].append(np.array(function(part)))
        parent, packed = np.concatenate(parent_scores), np.concatenate(engine_scores)
        return [
            _agreement_row(name, np.concatenate(scores), packed if name in C_FLAGS else parent)
            for name, scores in found.items()
        ]

    def _functions(self) -> Iterator[tuple[str, _Scores]]:
        """Of those that are measured and are neither PyTorch nor the engine: from pixels to scores."""
        pipeline = self.pair.pipeline

        def normalize(images: Tensor) -> np.ndarray:
            return pipeline.normalize(images).contiguous().numpy()

        for name, model in ((runtimes.ONNX, self.float_onnx), (runtimes.ONNX_INT8, self.int8_onnx)):
            session = runtimes.onnx_session(model, num_threads=1)
            yield name, lambda images, run=session.run: run([OUTPUT], {INPUT: normalize(images)})[0]
        for precision, model in self.openvino_models.items():
            scores = openvino.compile_openvino(model, precision=precision, num_threads=1)
            yield runtimes.OPENVINO[precision], lambda images, scores=scores: scores(normalize(images))
        for name, program in self.c_programs.items():
            yield name, lambda images, program=program: program.scores(images.numpy())


def right_calls(calls: Mapping[str, runtimes.Call]) -> tuple[dict[str, runtimes.Call], dict[str, str]]:
    """The calls without those that compute something else, and why these are left out.

    Those of the Parent are held against PyTorch's, the C program against the packed engine.
    """
    parent, engine = _scores_of(calls[runtimes.EAGER]), _scores_of(calls[runtimes.PACKED])
    reasons = dict[str, str | None]()
    for name, call in calls.items():
        if name in runtimes.PEERS:
            reasons[name] = why_wrong(_scores_of(call), parent, close=name in runtimes.FLOAT32_PEERS)
        elif name in C_FLAGS:
            reasons[name] = why_wrong(_scores_of(call), engine, same_class=True)
    wrong = {name: reason for name, reason in reasons.items() if reason is not None}
    return {name: call for name, call in calls.items() if name not in wrong}, wrong


def why_wrong(
    found_BK: np.ndarray, expected_BK: np.ndarray, *, close: bool = True, same_class: bool = False
) -> str | None:
    """Why scores are not those of the network, in one line; None if they are.

    Args:
      close: without it, as in a lower precision, they have to be numbers and no more.
      same_class: the classes have to be equal, too.
    """
    if found_BK.shape != expected_BK.shape:
        return f"it gives scores of shape {found_BK.shape}, expected {expected_BK.shape}; not timed"
    if not close:
        return None if np.isfinite(found_BK).all() else "its scores are not finite; not timed"
    difference = relative_differences(found_BK, expected_BK).max()
    if not difference <= CLOSE:
        return f"its scores differ by {difference:.1e} of an image's largest, expected at most {CLOSE:g}; not timed"
    if same_class and (found_BK.argmax(axis=1) != expected_BK.argmax(axis=1)).any():
        return "it chooses another class; not timed"
    return None


def relative_differences(found_BK: np.ndarray, expected_BK: np.ndarray) -> np.ndarray:
    """(B,), the largest difference of a score of each image, relative to its largest score."""
    largest = np.maximum(np.abs(expected_BK).max(axis=1), np.finfo(np.float32).tiny)
    return np.abs(found_BK - expected_BK).max(axis=1) / largest


def _scores_of(call: runtimes.Call) -> np.ndarray:
    """Kept when the call is made again."""
    return np.array(call(), np.float32)


def _agreement_row(name: str, found_BK: np.ndarray, expected_BK: np.ndarray) -> dict[str, Any]:
    largest = float(relative_differences(found_BK, expected_BK).max())
    return {
        "runtime": name,
        "with": runtimes.PACKED if name in C_FLAGS else runtimes.EAGER,
        "num_images": len(found_BK),
        "same_class": int((found_BK.argmax(axis=1) == expected_BK.argmax(axis=1)).sum()),
        "largest_relative_difference": largest if np.isfinite(largest) else None,
    }
