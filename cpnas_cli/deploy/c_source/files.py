"""The files of the C source: `model.h`, `model.c`, `example.c`, `Makefile` and `README.md`.

Nothing in them depends on when, where and from which path they are written; the names of classes stand in strings
alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from cpnas_cli.deploy.c_source.constants import strings
from cpnas_cli.deploy.c_source.network import write_network
from cpnas_cli.deploy.c_source.writing import Written
from cpnas_cli.deploy.packed_file import PackedModel
from cpnas_cli.networks.stem_arithmetic import VALUE_STEPS
from cpnas_cli.settings import FitName
from cpnas_cli.storage.documents import replacing

C_FILES = ("model.h", "model.c", "example.c", "Makefile", "README.md")

_HERE = Path(__file__).parent
# In the order in which they stand in the file: some use what is before them.
_KERNELS = (
    "whole_stem", "real_stem", "counts", "pointwise", "grouped", "depthwise", "real_product", "identity", "pool",
    "shortcut", "ending",
)  # fmt: skip
_BYTES = {"values": ("float", 4), "words": ("uint32_t", 4), "bytes": ("uint8_t", 1)}


@dataclass(frozen=True)
class CSource:
    """The files by name, and what the network in them takes.

    Attributes:
      flash_bytes: of its constants. ram_bytes: of its static memory, in the build without vectors.
    """

    files: Mapping[str, str]
    flash_bytes: int
    ram_bytes: int


def write_c_source(model: PackedModel, folder: Path) -> CSource:
    """Write the files into a folder, which is made if need be; what else is in it stays.

    Raises:
      RunError: one cannot be written.
    """
    source = c_source(model)
    for name, text in source.files.items():
        with replacing(folder / name, advice="choose another --out") as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return source


def c_source(model: PackedModel) -> CSource:
    """See the module's text."""
    written = write_network(model)
    layers = model.layers()
    ram = _scratch_bytes(written) + sum(_BYTES[array][1] * size for array, size in written.sizes.items())
    flash = written.constants.num_bytes
    fields = {
        "size": model.image_size,
        "channels": model.num_image_channels,
        "classes": len(model.classes),
        "image_bytes": model.num_image_channels * model.image_size**2,
        "ram": ram,
        "flash": flash,
        "binary_macs": sum(layer.macs for layer in layers if layer.binary),
        "real_macs": sum(layer.macs for layer in layers if not layer.binary),
    }
    counts = {f"{name}_text": f"{value:,}" for name, value in fields.items()}
    doubles = sorted(written.kernels & {"real_stem", "real_product"})
    words = {**fields, **counts, "doubles": _DOUBLES if doubles else _NO_DOUBLES, "order": _ORDER[fields["channels"]]}
    words["fit"] = _FITS[model.fit]
    files = {name: Template(_text(f"{name}.in")).substitute(words) for name in ("model.h", "README.md")}
    files |= {name: _text(name) for name in ("example.c", "Makefile")}
    return CSource({**files, "model.c": _model_c(model, written)}, flash, ram)


_DOUBLES = (
    "The stem's filters, or other filters of this network, are stored as real numbers: their sums are computed in\n"
    "`double`, as in PyTorch. A processor without it does that in software, to the same bits but slowly; train with\n"
    "`network.weight_format=int8` and no `network.real_parts` for a program without any."
)
_NO_DOUBLES = "There is no `double` anywhere: a processor with single precision alone computes all of it."
_ORDER = {1: "one byte per pixel, 0 black", 3: "three bytes per pixel: red, green, blue"}
_FITS: Mapping[FitName, str] = {
    "squash": "resized before (bilinear, without regard to its aspect",
    "crop": "cut before to the largest square about its centre and resized (bilinear",
    "letterbox": "resized before with its aspect, until the longer side fits, and centred on black (bilinear",
}


def _text(name: str) -> str:
    return (_HERE / "kernels" / name).read_text(encoding="utf-8")


def _scratch_bytes(written: Written) -> int:
    """Of the patches and the features, in the build without vectors."""
    patches = 4 * written.patch_words * (2 if written.has_masks else 1)
    return patches + 2 * written.patch_steps + 4 * written.num_features


def _model_c(model: PackedModel, written: Written) -> str:
    kernels = [_text(f"{name}.c") for name in _KERNELS if name in written.kernels]
    memory = [f"static {_BYTES[array][0]} {array}[{size} + ROOM];" for array, size in written.sizes.items() if size]
    memory.insert(0, "#define ROOM (WIDE ? LANES : 0) /* vectors are read whole */")
    memory += [f"static uint32_t patch[(WIDE ? 16 : 1) * {written.patch_words}];"] if written.patch_words else []
    memory += [f"static uint32_t mask[{written.patch_words}];"] if written.has_masks else []
    memory += [f"static float features[{written.num_features}];"]
    if written.padded_words:
        memory.append(f"#if WIDE\nstatic uint32_t padded_lines[{written.padded_words}];\n#endif")
    if written.patch_reals:
        memory.append(f"#if WIDE\nstatic double reals_of_patch[{4 * written.patch_reals}];\n#endif")
    if written.patch_steps:
        size = written.patch_steps
        memory.append(
            f"#if WIDE\ntypedef float step;\nstatic step steps_of_patch[{4 * size}];\n"
            f"static float wide_filters[{written.stem_filters}];"
        )
        memory.append(f"#else\ntypedef int16_t step;\nstatic step steps_of_patch[{size}];\n#endif")
        memory.append(f"#define STEPS_OF_1 {VALUE_STEPS}.0f")
    places = [f"#define {buffer.name} ({buffer.array} + {buffer.offset})" for buffer in written.buffers]
    parts = [
        _text("head.c"),
        f"#define LANES {written.lanes}\n#define HAS_GROUPED {int('grouped' in written.kernels)}",
        _text("common.c"),
        _part("Memory: everything that is written to, laid over one another where it is not needed at once"),
        "\n".join(memory),
        "\n".join(places),
        _part("Kernels"),
        *kernels,
        _part("Constants, in the order in which they are read"),
        strings("model_classes", model.classes),
        "\n".join(written.constants.parts),
        _text("classify.c"),
        _part("The network, value by value"),
        *written.functions,
        "void model_scores(const uint8_t *image, float *scores)\n{\n" + "\n".join(written.calls) + "\n}\n",
        _text("tail.c"),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _part(title: str) -> str:
    return f"/* ---- {title} ---- */"
