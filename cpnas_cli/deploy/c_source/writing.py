"""One value after the other as C: its buffers, its function and the steps of its rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cpnas_cli.deploy.c_source.constants import Constants, literal
from cpnas_cli.deploy.c_source.layout import num_lanes, num_words, padded
from cpnas_cli.deploy.c_source.memory import Buffer, plan
from cpnas_cli.deploy.packed_file import LayerArrays, PackedModel, unpack_layers
from cpnas_cli.networks.blocks.base import block_of
from cpnas_cli.networks.layer import Layer


@dataclass(eq=False)
class Value:
    """An image of values with their signs; a buffer that is None is not needed, and none exists of a dead node."""

    name: str
    channels: int
    size: int
    values: Buffer | None = None
    signs: Buffer | None = None

    @property
    def is_dead(self) -> bool:
        return self.values is None and self.signs is None


@dataclass
class Written:
    """The C of a network, without its kernels.

    Attributes:
      functions: of the values, in their order; calls: what calls them.
      kernels: the names of those that are used.
      buffers: planned; sizes: of the arrays that hold them.
    """

    lanes: int
    constants: Constants = field(default_factory=Constants)
    functions: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    kernels: set[str] = field(default_factory=set)
    buffers: list[Buffer] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    patch_words: int = 0
    patch_steps: int = 0
    patch_reals: int = 0
    padded_words: int = 0
    stem_filters: int = 0
    num_features: int = 0
    has_masks: bool = False


@dataclass
class Rows:
    """A value's function while it is written: the statements for a row, and how many values were added to it."""

    value: Value
    lines: list[str] = field(default_factory=list)
    is_begun: bool = False

    def add(self, call: str) -> None:
        """A statement, with `$keep` for whether there is something to add to."""
        self.lines.append(call.replace("$keep", str(int(self.is_begun))))

    def begun(self) -> None:
        self.is_begun = True


class Writer:
    """Collects functions, constants and buffers."""

    def __init__(self, model: PackedModel) -> None:
        self.model, self.arrays = model, unpack_layers(model)
        self.rectifies = block_of(model.settings).rectifies
        self.out = Written(num_lanes(model))
        self.lanes, self.constants = self.out.lanes, self.out.constants
        self.now = 0  # the instruction that is being written

    def finish(self) -> Written:
        out = self.out
        for array in ("values", "words", "bytes"):
            out.sizes[array] = plan([buffer for buffer in out.buffers if buffer.array == array])
        return out

    # ---------------------------------------------------------------- buffers and constants

    def buffer(self, name: str, array: str, size: int) -> Buffer:
        buffer = Buffer(name, array, size, self.now, self.now)
        self.out.buffers.append(buffer)
        return buffer

    def new_value(self, name: str, channels: int, size: int, *, keeps_values: bool, keeps_signs: bool) -> Value:
        """A value that this instruction writes; without its values there is room for one row of them."""
        rows = size if keeps_values else 1
        values = self.buffer(f"{name}_values", "values", channels * size * rows)
        signs = self.buffer(f"{name}_signs", "words", num_words(channels) * size**2) if keeps_signs else None
        return Value(name, channels, size, values, signs)

    def values_of(self, value: Value) -> str:
        """The name of its buffer, which is read now; NULL of a dead node."""
        if value.is_dead:
            return "0"
        assert value.values is not None
        value.values.read_at(self.now)
        return value.values.name

    def signs_of(self, value: Value) -> dict[str, object]:
        """Its signs as a structure's members, read now."""
        size = value.size
        if value.is_dead:
            return {"words": 0, "row": 0, "plane": 0, "channels": value.channels}
        assert value.signs is not None
        value.signs.read_at(self.now)
        return {"words": value.signs.name, "row": size, "plane": size**2, "channels": value.channels}

    def affine(self, name: str, own: LayerArrays) -> dict[str, object]:
        return {
            "scale": self.constants.array(f"{name}_scale", padded(own.scale, self.model)),
            "shift": self.constants.array(f"{name}_shift", padded(own.shift, self.model)),
        }

    def reads_patch(self, words: int) -> None:
        self.out.kernels.add("counts")
        self.out.patch_words = max(self.out.patch_words, words)

    # ---------------------------------------------------------------- a value's function

    def function(self, rows: Rows, shift: np.ndarray | None, *, keeps_values: bool) -> None:
        """Write the function of a value whose steps are listed, and go on to the next instruction."""
        value = rows.value
        name, channels, size = value.name, value.channels, value.size
        assert value.values is not None
        place = f" + y * {channels * size}" if keeps_values else ""
        lines = [f"float *out = {value.values.name}{place};", *rows.lines]
        if value.signs is not None:
            shifts = "0" if shift is None else self.constants.array(f"{name}_sign_shift", padded(shift, self.model))
            lines.append(f"pack_row(out, {shifts}, {channels}, {size}, {value.signs.name} + y * {size}, {size**2});")
        signs = "0" if value.signs is None else value.signs.name
        self.emit(name, [f"for (y = 0; y < {size}; ++y) {{", *(f"    {line}" for line in lines), "}"])
        values = value.values.name if keeps_values else "0"
        self.out.calls[-1] += f"\n    OBSERVE({name}, {values}, {signs}, {channels}, {size});"

    def emit(self, name: str, lines: Sequence[str], arguments: str = "") -> None:
        declared = "const uint8_t *image" if arguments else "void"
        body = "\n".join(f"    {line}" for line in ("int y;", *lines))
        self.out.functions.append(f"static void {name}({declared})\n{{\n{body}\n}}\n")
        self.out.calls.append(f"    {name}({arguments});")
        self.now += 1

    def ending(self, rows: Rows, layer: Layer | None, *, num_edges: int = 1) -> np.ndarray | None:
        """The statement of an ending, if there is one, and what it adds before the sign."""
        values = np.zeros((0, 0), np.float32) if layer is None else self.arrays[layer.name].ending
        shift = values[-1] if len(values) and self.model.settings.sign_shift else None
        activation = values[: len(values) - (shift is not None)]
        if not len(activation) and num_edges == 1:
            return shift
        self.out.kernels.add("ending")
        name, value = f"{rows.value.name}_ending", rows.value
        parts = [
            self.constants.array(f"{name}{index}", padded(row, self.model)) for index, row in enumerate(activation)
        ]
        before, slope, after = parts if len(parts) == 3 else ("0", parts[0] if parts else "0", "0")
        part = literal(np.float32(1 / num_edges))
        rows.add(f"end_row(out, {value.channels}, {value.size}, {before}, {slope}, {after}, {part});")
        return shift
