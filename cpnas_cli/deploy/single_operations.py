"""The operations of a network one by one: estimated, run packed, and run by ONNX Runtime (float32) and by OpenVINO
(float32, and bfloat16 where the processor has it).

Each is timed alone: the packed one in a loop inside the compiled code, on an image of signs that lies in
the cache; those of the others with the time of an empty model taken off, which is what a call costs.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cpnas_cli.deploy import runtimes
from cpnas_cli.deploy.engine import Engine, Runner
from cpnas_cli.deploy.engine.compiler import compile_edge, compile_preprocessing
from cpnas_cli.deploy.engine.program import Program
from cpnas_cli.deploy.openvino import Precision, compile_openvino, read_model, why_not
from cpnas_cli.deploy.packed_file import PackedModel
from cpnas_cli.efficiency.timing import Timing, time_interleaved
from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.layers import cells_of, classifier_layer, stem_layers

OPENVINO_PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")

_LOOPS = 32  # of the packed operation in one call
_EMPTY = "empty, "
# How far from ONNX Runtime's, relative to its largest value: sums in another order, and of 8 significant bits.
_CLOSE = {runtimes.OPENVINO["float32"]: 1e-3, runtimes.OPENVINO["bfloat16"]: 0.1}


@dataclass(frozen=True)
class MeasuredOperation:
    """One kind of operation at one shape.

    Attributes:
      name: of the operation; `layers`: those of the first place where the network has it.
      count: how often the network has it.
      has_shortcut: of a preprocessing: the mean over groups of channels (and 2x2 pixels) that is added.
    """

    name: str
    layers: tuple[Layer, ...]
    count: int
    has_shortcut: bool = False

    @property
    def estimated_speedup(self) -> float | None:
        """XNOR-Net's S of the layers together; None where nothing is multiplied."""
        macs = sum(layer.macs for layer in self.layers)
        cost = sum(
            layer.macs / 64 + layer.out_channels * layer.out_size**2 if layer.binary else layer.macs
            for layer in self.layers
        )
        return macs / cost if macs else None


@dataclass(frozen=True)
class OperationTimes:
    """Seconds for one image; those of the peers without what an empty call takes.

    Attributes:
      peers: by runtime; ONNX Runtime's float32 among them.
      noise: of each, how far apart the 10th and the 90th percentile of its empty call lie, seconds.
    """

    operation: MeasuredOperation
    packed: Timing
    peers: Mapping[str, Timing]
    noise: Mapping[str, float]

    @property
    def measured_speedup(self) -> float | None:
        """Against ONNX Runtime's float32; None where that cannot be told from the noise."""
        return self._speedup(runtimes.ONNX)

    @property
    def fastest(self) -> tuple[str, float] | None:
        """The fastest peer and the speed-up against it; None where one cannot be told from the noise."""
        speedups = {name: self._speedup(name) for name in self.peers}
        known = {name: speedup for name, speedup in speedups.items() if speedup is not None}
        if len(known) < len(speedups):
            return None
        return min(known.items(), key=lambda item: item[1])

    def _speedup(self, name: str) -> float | None:
        seconds = self.peers[name].median
        return seconds / self.packed.median if seconds > self.noise[name] else None


def operations_of(model: PackedModel) -> list[tuple[MeasuredOperation, Callable[[], Callable[[], object]]]]:
    """Every distinct operation, with what makes the call that runs it packed `_LOOPS` times."""
    found = dict[object, tuple[MeasuredOperation, Callable[[], Callable[[], object]]]]()
    counts = Counter[object]()

    def add(operation: MeasuredOperation, program: Callable[[], Program]) -> None:
        shapes = ((layer.in_channels, layer.out_channels, layer.in_size, layer.stride) for layer in operation.layers)
        key = (operation.name, *shapes)
        counts[key] += 1
        found.setdefault(key, (operation, lambda: _loop(program())))

    stem = stem_layers(model.settings, model.surroundings, precision="binary")
    convolutions = tuple(layer for layer in stem if layer.kind == "convolution")
    found["stem"] = (MeasuredOperation("stem", convolutions, 1), lambda: _loop_of_engine(model, 0, len(convolutions)))
    for cell in cells_of(model.settings, model.genotype, model.surroundings, precision="binary"):
        for number, layers in enumerate(cell.preprocessing):
            name = "preprocessing" if len(layers) == 1 else "preprocessing, halves"
            operation = MeasuredOperation(name, layers, 1, cell.shortcuts[number])
            add(operation, lambda cell=cell, number=number: compile_preprocessing(model, cell, number))
        for edge in cell.edges:
            if edge.layers:
                operation = MeasuredOperation(edge.op, edge.layers, 1)
                add(operation, lambda cell=cell, edge=edge: compile_edge(model, cell, edge))
    classifier = classifier_layer(model.settings, model.surroundings, precision="binary")
    found["classifier"] = (MeasuredOperation("classifier", (classifier,), 1), lambda: _loop_of_engine(model, -1, None))
    return [(replace(operation, count=max(counts[key], 1)), make) for key, (operation, make) in found.items()]


def _loop(program: Program) -> Callable[[], object]:
    runner, nothing = Runner(program, num_threads=1), np.zeros((_LOOPS, 1), np.uint8)
    return lambda: runner.run(nothing)


def _loop_of_engine(model: PackedModel, first: int, last: int | None) -> Callable[[], object]:
    """The instructions from `first` to before `last`; -1 is the last one."""
    runner = Engine(model, num_threads=1).runner
    images = np.zeros((_LOOPS, model.num_image_channels, model.image_size, model.image_size), np.uint8)
    runner.run(images)
    first %= len(runner.program.instructions)
    return lambda: runner.run(images, first, last)


def time_operations(model: PackedModel, *, repetitions: int) -> list[OperationTimes]:
    """Packed and its peers side by side, one thread, one image.

    Raises:
      CpnasError: the onnx extra is not installed.
    """
    precisions: list[Precision] = [precision for precision in OPENVINO_PRECISIONS if why_not(precision) is None]
    nothing: dict[str, Callable[[], object]] = {_EMPTY + runtimes.ONNX: _session_call(_empty_model())}
    nothing |= {_EMPTY + name: call for name, call in _openvino_calls(_empty_model(), precisions).items()}
    features_size = model.image_size // model.settings.stem_stride // 4
    results = list[OperationTimes]()
    for operation, make in operations_of(model):
        peers = _peers(float_model(operation, features_size=features_size), precisions)
        times = time_interleaved({runtimes.PACKED: make(), **peers, **nothing}, repetitions=repetitions)
        empty = {name: times[_EMPTY + name] for name in peers}
        results.append(
            OperationTimes(
                operation,
                times[runtimes.PACKED].scaled(1 / _LOOPS),
                {name: times[name].less(empty[name].median) for name in peers},
                {name: timing.p90 - timing.p10 for name, timing in empty.items()},
            )
        )
    return results


def _peers(model: bytes, precisions: Sequence[Precision]) -> dict[str, Callable[[], Any]]:
    """A call of each runtime; without those that compute something else than ONNX Runtime."""
    calls = {runtimes.ONNX: _session_call(model)}
    expected = calls[runtimes.ONNX]()
    scale = np.abs(expected).max()
    for name, call in _openvino_calls(model, precisions).items():
        found = call()
        if found.shape == expected.shape and np.abs(found - expected).max() <= _CLOSE[name] * scale:
            calls[name] = call
    return calls


def _openvino_calls(model: bytes, precisions: Sequence[Precision]) -> dict[str, Callable[[], Any]]:
    calls = dict[str, Callable[[], Any]]()
    for precision in precisions:
        scores = compile_openvino(read_model(model), precision=precision, num_threads=1)
        inputs = _inputs_of(model)
        calls[runtimes.OPENVINO[precision]] = lambda scores=scores, inputs=inputs: scores(inputs)
    return calls


def _inputs_of(model: bytes) -> np.ndarray:
    import onnx

    (source,) = onnx.load_from_string(model).graph.input
    shape = [dimension.dim_value for dimension in source.type.tensor_type.shape.dim]
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _session_call(model: bytes) -> Callable[[], Any]:
    session = runtimes.onnx_session(model, num_threads=1)
    (source,) = session.get_inputs()
    feed = {source.name: _inputs_of(model)}
    return lambda: session.run(None, feed)[0]


def _empty_model() -> bytes:
    from onnx import TensorProto, helper

    shape = [1, 1]
    return _model(
        [helper.make_node("Identity", ["x"], ["y"])],
        helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, shape),
        [],
    )


def _model(nodes: list[Any], source: Any, result: Any, constants: list[Any]) -> bytes:
    from onnx import helper

    graph = helper.make_graph(nodes, "operation", [source], [result], constants)
    opset = helper.make_opsetid("", 20)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()


def float_model(operation: MeasuredOperation, *, features_size: int) -> bytes:
    """The operation as the Parent has it, batch norms folded into the convolutions, at batch 1.

    `features_size`: rows and columns that the classifier takes the mean of.
    """
    from onnx import TensorProto, helper

    first, last = operation.layers[0], operation.layers[-1]
    builder = _GraphBuilder()
    if first.kind == "linear":
        in_shape, out_shape = [1, first.in_channels, features_size, features_size], [1, first.out_channels]
        builder.gemm(first)
    else:
        in_shape = [1, first.in_channels, first.in_size, first.in_size]
        channels = (
            sum(layer.out_channels for layer in operation.layers) if last.stride == 2 and first.groups == 1 else 0
        )
        out_shape = [1, channels or last.out_channels, last.out_size, last.out_size]
        if first.pooling == "halving":
            builder.add("AveragePool", ["x"], "y", kernel_shape=[2, 2], strides=[2, 2])
        elif first.kind == "pool":
            builder.pool(first, is_max=first.pooling == "max")
        elif operation.name == "stem":
            builder.stem(operation.layers)
        elif first.residual:
            builder.residual(first)
        else:
            result = "unshortened" if operation.has_shortcut else "y"
            if len(operation.layers) == 2 and first.groups == 1:
                builder.reduction(operation.layers, result)
            else:
                builder.chain(operation.layers, result)
            if operation.has_shortcut:
                builder.shortcut(result, in_shape, out_shape)
    return _model(
        builder.nodes,
        helper.make_tensor_value_info("x", TensorProto.FLOAT, in_shape),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, out_shape),
        builder.constants,
    )


class _GraphBuilder:
    """Nodes from "x" to "y", with random constants."""

    def __init__(self) -> None:
        self.nodes, self.constants = list[Any](), list[Any]()
        self._generator = np.random.default_rng(0)

    def constant(self, *shape: int) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        values = self._generator.normal(size=shape).astype(np.float32)
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def convolution(self, source: str, result: str, layer: Layer) -> None:
        size = layer.kernel_size
        weights = self.constant(layer.out_channels, layer.inputs_per_filter, size, size)
        bias = [self.constant(layer.out_channels)] if layer.ending != "threshold" else []  # the Parent's has no norm
        self.add(
            "Conv",
            [source, weights, *bias],
            result,
            strides=[layer.stride] * 2,
            pads=[layer.padding] * 4,
            dilations=[layer.dilation] * 2,
            group=layer.groups,
        )

    def stem(self, layers: Sequence[Layer]) -> None:
        source = "x"
        for index, layer in enumerate(layers):
            last = index == len(layers) - 1
            self.convolution(source, "y" if last else f"s{index}", layer)
            if not last:
                self.add("Relu", [f"s{index}"], f"r{index}")
                source = f"r{index}"

    def residual(self, layer: Layer) -> None:
        self.convolution("x", "h", layer)
        source = "x"
        if layer.stride == 2:
            source = "halved"
            self.add("AveragePool", ["x"], source, kernel_shape=[2, 2], strides=[2, 2])
        self.add("Add", ["h", source], "y")

    def chain(self, layers: Sequence[Layer], result: str) -> None:
        self.add("Relu", ["x"], "h0")
        for index, layer in enumerate(layers):
            self.convolution(f"h{index}", result if index == len(layers) - 1 else f"h{index + 1}", layer)

    def shortcut(self, result: str, in_shape: Sequence[int], out_shape: Sequence[int]) -> None:
        """The mean over groups of input channels, and over 2x2 pixels where the image shrinks, added."""
        from onnx import numpy_helper

        source = "x"
        if in_shape[2] != out_shape[2]:
            source = "halved"
            self.add("AveragePool", ["x"], source, kernel_shape=[2, 2], strides=[2, 2])
        grouped = np.array([1, in_shape[1] // out_shape[1], *out_shape[1:]], np.int64)
        self.constants.append(numpy_helper.from_array(grouped, "grouped"))
        self.constants.append(numpy_helper.from_array(np.array([1], np.int64), "groups"))
        self.add("Reshape", [source, "grouped"], "parts")
        self.add("ReduceMean", ["parts", "groups"], "mean", keepdims=0)
        self.add("Add", [result, "mean"], "y")

    def reduction(self, layers: Sequence[Layer], result: str) -> None:
        """Two strided 1x1 convolutions, the second one of the image moved by a pixel, side by side."""
        from onnx import numpy_helper

        for name, value in (("starts", [1, 1]), ("ends", [1 << 30] * 2), ("axes", [2, 3])):
            self.constants.append(numpy_helper.from_array(np.array(value, np.int64), name))
        self.add("Relu", ["x"], "h")
        self.add("Slice", ["h", "starts", "ends", "axes"], "moved")
        for source, half, layer in zip(("h", "moved"), ("even", "odd"), layers, strict=True):
            self.convolution(source, half, layer)
        self.add("Concat", ["even", "odd"], result, axis=1)

    def pool(self, layer: Layer, *, is_max: bool) -> None:
        shape = {"kernel_shape": [3, 3], "strides": [layer.stride] * 2, "pads": [1] * 4}
        self.add("MaxPool" if is_max else "AveragePool", ["x"], "h", **shape)
        self.add("Mul", ["h", self.constant(1, layer.out_channels, 1, 1)], "scaled")
        self.add("Add", ["scaled", self.constant(1, layer.out_channels, 1, 1)], "y")

    def gemm(self, layer: Layer) -> None:
        self.add("GlobalAveragePool", ["x"], "means")
        self.add("Flatten", ["means"], "h")
        constants = [self.constant(layer.in_channels, layer.out_channels), self.constant(layer.out_channels)]
        self.add("Gemm", ["h", *constants], "y")
