"""An ONNX model as plain float C, in the way of onnx2c: a loop nest for each node, static memory, no library.

Convolutions are naive loops, channel by channel (NCHW), one sum at a time, with a test for every tap at the border. The
buffers of values lie over one another where they are not needed at once, as in the 1-bit program. Pointers are
`restrict` and all bounds are constants, so that the compiler may do what it can.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cpnas_cli.deploy.c_source.memory import Buffer, plan

_HEADER = """\
#include <float.h>
void float_scores(const float *image, float *scores);
"""


class FloatC:
    """The C file of a model, for one image.

    Attributes:
      text: defines `float_scores`, from an image (C, rows, columns) to the scores.
      ram_bytes: of its static memory. flash_bytes: of its constants.

    Raises:
      ValueError: a node that is not known here.
    """

    def __init__(self, model_bytes: bytes) -> None:
        import onnx
        from onnx import numpy_helper

        model = onnx.load_from_string(model_bytes)
        graph = model.graph
        (source,), (result,) = graph.input, graph.output
        source.type.tensor_type.shape.dim[0].dim_value = 1
        del graph.value_info[:]
        result.type.tensor_type.shape.dim[0].dim_value = 1
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        self._constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        self._shapes = {
            each.name: tuple(dimension.dim_value for dimension in each.type.tensor_type.shape.dim)
            for each in (*model.graph.input, *model.graph.output, *model.graph.value_info)
        }
        self._names: dict[str, str] = {source.name: "image", result.name: "scores"}
        self._buffers = dict[str, Buffer]()
        self._texts, self._functions, self._calls = list[str](), list[str](), list[str]()
        self.flash_bytes = 0
        for index, node in enumerate(model.graph.node):
            self._write(index, node)
        size = plan(list(self._buffers.values()))
        self.ram_bytes = 4 * size
        places = [f"#define {buffer.name} (memory + {buffer.offset})" for buffer in self._buffers.values()]
        self.text = "\n".join(
            [
                _HEADER,
                f"static float memory[{max(size, 1)}];",
                *places,
                *self._texts,
                *self._functions,
                "void float_scores(const float *image, float *scores)\n{",
                *self._calls,
                "}\n",
            ]
        )

    # ---------------------------------------------------------------- values and constants

    def _read(self, name: str, index: int) -> str:
        if name in self._buffers:
            self._buffers[name].read_at(index)
        return self._names[name]

    def _written(self, name: str, index: int) -> str:
        if name not in self._names:
            self._buffers[name] = Buffer(f"value{len(self._buffers)}", "values", self._size(name), index, index)
            self._names[name] = self._buffers[name].name
        return self._names[name]

    def _size(self, name: str) -> int:
        return int(np.prod(self._shapes[name]))

    def _constant(self, name: str) -> str:
        """Its name in C."""
        if name not in self._names:
            values = self._constants[name].astype(np.float32).ravel()
            self._names[name] = f"constant{len(self._names)}"
            numbers = ", ".join(f"{value:.9g}" for value in values.tolist())
            self._texts.append(f"static const float {self._names[name]}[{len(values)}] = {{{numbers}}};")
            self.flash_bytes += values.nbytes
        return self._names[name]

    # ---------------------------------------------------------------- nodes

    def _write(self, index: int, node: Any) -> None:
        """A function of a node that computes: inputs that are not constants, then outputs."""
        from onnx.helper import get_attribute_value

        writers: Mapping[str, Callable[[Any, Mapping[str, Any]], str]] = {
            "Conv": self._convolution,
            "MaxPool": self._pool,
            "AveragePool": self._pool,
            "Add": self._binary,
            "Mul": self._binary,
            "Sub": self._binary,
            "Relu": self._relu,
            "PRelu": self._prelu,
            "Slice": self._slice,
            "Split": self._split,
            "Concat": self._concat,
            "ReduceMean": self._mean,
            "Gemm": self._gemm,
        }
        if node.op_type not in writers:
            raise ValueError(f"no loop nest for {node.op_type}; known: {', '.join(writers)}")
        attributes = {each.name: get_attribute_value(each) for each in node.attribute}
        read = list(dict.fromkeys(name for name in node.input if name and name not in self._constants))
        body = writers[node.op_type](node, attributes)
        declared = [f"const float *restrict {_input(read, name)}" for name in read]
        declared += [f"float *restrict y{number}" for number in range(len(node.output))]
        given = [self._read(name, index) for name in read] + [self._written(name, index) for name in node.output]
        self._functions.append(f"static void node{index}({', '.join(declared)})\n{{\n{body}\n}}")
        self._calls.append(f"    node{index}({', '.join(given)});")

    def _source(self, node: Any, number: int) -> str:
        """The pointer from which a node reads its input of this number."""
        name = node.input[number]
        if name in self._constants:
            return self._constant(name)
        return _input(list(dict.fromkeys(each for each in node.input if each and each not in self._constants)), name)

    def _convolution(self, node: Any, attributes: Mapping[str, Any]) -> str:
        _, channels, rows, columns = self._shapes[node.input[0]]
        _, out_channels, out_rows, out_columns = self._shapes[node.output[0]]
        group, (stride, _), (dilation, _) = attributes["group"], attributes["strides"], attributes["dilations"]
        (top, left, *_), (height, width) = attributes["pads"], self._constants[node.input[1]].shape[2:]
        inputs, filters = channels // group, self._constant(node.input[1])
        bias = f"{self._constant(node.input[2])}[o]" if len(node.input) > 2 else "0.0f"
        return f"""\
    for (int o = 0; o < {out_channels}; ++o)
        for (int i = 0; i < {out_rows}; ++i)
            for (int j = 0; j < {out_columns}; ++j) {{
                float sum = {bias};
                for (int c = 0; c < {inputs}; ++c)
                    for (int k = 0; k < {height}; ++k) {{
                        const int r = i * {stride} - {top} + k * {dilation};
                        if (r < 0 || r >= {rows}) continue;
                        for (int l = 0; l < {width}; ++l) {{
                            const int s = j * {stride} - {left} + l * {dilation};
                            if (s < 0 || s >= {columns}) continue;
                            sum += {self._source(node, 0)}[((o / {out_channels // group} * {inputs} + c) * {rows} + r) * {columns} + s]
                                * {filters}[((o * {inputs} + c) * {height} + k) * {width} + l];
                        }}
                    }}
                y0[(o * {out_rows} + i) * {out_columns} + j] = sum;
            }}"""  # noqa: E501

    def _pool(self, node: Any, attributes: Mapping[str, Any]) -> str:
        _, channels, rows, columns = self._shapes[node.input[0]]
        _, _, out_rows, out_columns = self._shapes[node.output[0]]
        (height, width), (stride, _) = attributes["kernel_shape"], attributes["strides"]
        top, left, *_ = attributes.get("pads", (0, 0, 0, 0))
        value = f"x0[(c * {rows} + r) * {columns} + s]"
        if node.op_type == "MaxPool":
            start, step, result = "-FLT_MAX", f"if ({value} > found) found = {value};", "found"
        else:
            count = str(height * width) if attributes.get("count_include_pad") else "count"
            start, step, result = "0.0f", f"found += {value}; ++count;", f"found / (float){count}"
        return f"""\
    for (int c = 0; c < {channels}; ++c)
        for (int i = 0; i < {out_rows}; ++i)
            for (int j = 0; j < {out_columns}; ++j) {{
                float found = {start};
                int count = 0;
                (void)count;
                for (int k = 0; k < {height}; ++k) {{
                    const int r = i * {stride} - {top} + k;
                    if (r < 0 || r >= {rows}) continue;
                    for (int l = 0; l < {width}; ++l) {{
                        const int s = j * {stride} - {left} + l;
                        if (s < 0 || s >= {columns}) continue;
                        {step}
                    }}
                }}
                y0[(c * {out_rows} + i) * {out_columns} + j] = {result};
            }}"""

    def _operand(self, node: Any, number: int) -> str:
        """An element of an input, at channel c and pixel p."""
        name, source = node.input[number], self._source(node, number)
        shape = self._constants[name].shape if name in self._constants else self._shapes[name]
        out_shape = self._shapes[node.output[0]]
        pixels = int(np.prod(out_shape[2:]))
        size = int(np.prod(shape))
        if size == 1:
            return f"{source}[0]"
        if size == int(np.prod(out_shape)):
            return f"{source}[c * {pixels} + p]"
        if size == out_shape[1] and len(shape) >= 3:
            return f"{source}[c]"
        raise ValueError(f"no loop nest for {node.op_type} of {shape} and {out_shape}")

    def _elementwise(self, node: Any, value: str) -> str:
        _, channels, *size = self._shapes[node.output[0]]
        pixels = int(np.prod(size))
        return (
            f"    for (int c = 0; c < {channels}; ++c)\n        for (int p = 0; p < {pixels}; ++p)\n"
            f"            y0[c * {pixels} + p] = {value};"
        )

    def _binary(self, node: Any, _: Mapping[str, Any]) -> str:
        sign = {"Add": "+", "Mul": "*", "Sub": "-"}[node.op_type]
        return self._elementwise(node, f"{self._operand(node, 0)} {sign} {self._operand(node, 1)}")

    def _relu(self, node: Any, _: Mapping[str, Any]) -> str:
        value = self._operand(node, 0)
        return self._elementwise(node, f"{value} > 0.0f ? {value} : 0.0f")

    def _prelu(self, node: Any, _: Mapping[str, Any]) -> str:
        value = self._operand(node, 0)
        return self._elementwise(node, f"{value} > 0.0f ? {value} : {self._operand(node, 1)} * {value}")

    def _slice(self, node: Any, __: Mapping[str, Any]) -> str:
        """Of channels, rows and columns: every n-th from a first one on."""
        _, _, rows, columns = self._shapes[node.input[0]]
        _, out_channels, out_rows, out_columns = self._shapes[node.output[0]]
        starts, _, axes, *given = (self._constants[name].tolist() for name in node.input[1:])
        steps = given[0] if given else [1] * len(axes)
        if not set(axes) <= {1, 2, 3} or min(steps) < 1 or min(starts) < 0:
            raise ValueError(f"no loop nest for a Slice of axes {axes} from {starts} in steps of {steps}")
        c, i, j = (
            f"{name} * {dict(zip(axes, steps, strict=True)).get(axis, 1)}"
            f" + {dict(zip(axes, starts, strict=True)).get(axis, 0)}"
            for axis, name in enumerate("cij", start=1)
        )
        return f"""\
    for (int c = 0; c < {out_channels}; ++c)
        for (int i = 0; i < {out_rows}; ++i)
            for (int j = 0; j < {out_columns}; ++j)
                y0[(c * {out_rows} + i) * {out_columns} + j] = x0[(({c}) * {rows} + {i}) * {columns} + {j}];"""

    def _split(self, node: Any, __: Mapping[str, Any]) -> str:
        """Of channels."""
        lines, begin = list[str](), 0
        for number, name in enumerate(node.output):
            size = self._size(name)
            lines.append(f"    for (int p = 0; p < {size}; ++p) y{number}[p] = x0[p + {begin}];")
            begin += size
        return "\n".join(lines)

    def _concat(self, node: Any, _: Mapping[str, Any]) -> str:
        """Of channels."""
        lines, begin = list[str](), 0
        for number, name in enumerate(node.input):
            size = self._size(name)
            lines.append(f"    for (int p = 0; p < {size}; ++p) y0[p + {begin}] = {self._source(node, number)}[p];")
            begin += size
        return "\n".join(lines)

    def _mean(self, node: Any, __: Mapping[str, Any]) -> str:
        """Over the pixels."""
        _, channels, *size = self._shapes[node.input[0]]
        pixels = int(np.prod(size))
        return f"""\
    for (int c = 0; c < {channels}; ++c) {{
        float sum = 0.0f;
        for (int p = 0; p < {pixels}; ++p) sum += x0[c * {pixels} + p];
        y0[c] = sum / {pixels}.0f;
    }}"""

    def _gemm(self, node: Any, _: Mapping[str, Any]) -> str:
        classes, features = self._constants[node.input[1]].shape
        filters, bias = (self._constant(name) for name in node.input[1:])
        return f"""\
    for (int o = 0; o < {classes}; ++o) {{
        float sum = {bias}[o];
        for (int c = 0; c < {features}; ++c) sum += x0[c] * {filters}[o * {features} + c];
        y0[o] = sum;
    }}"""


def _input(read: list[str], name: str) -> str:
    return f"x{read.index(name)}"
