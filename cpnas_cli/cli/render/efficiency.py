"""What 1 bit saves, as text for people, on standard output."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cpnas_cli.cli.styled_console import StyledConsole

FULL_WIDTH, MAX_WIDTH = 120, 160

# An estimate is easily read as a promise.
WHAT_IT_SAYS = (
    "These are counts, not times: S and OPs take 64 one-bit multiply-accumulates for one operation and moving data "
    "for nothing, and a processor may gain less (cpnas efficiency measure RUN takes the time). The ratios compare "
    "sizes and operations, not accuracies; the ratio of multiply-accumulates is due to a smaller or larger "
    "network, not to 1 bit."
)


def amount(number: float) -> str:
    """At most four figures: 12, 3.46 k, 55.5 M, 1.2 G."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {unit}" if number < 999.5 * factor else f"{number / factor:.0f} {unit}"
    return f"{number:.3g}" if number < 999.5 else f"{number:.0f}"


def size(bits: float) -> str:
    """In bytes, with binary units: 12 B, 3.4 KiB, 10.2 MiB."""
    num_bytes = bits / 8
    for factor, unit in ((2**20, "MiB"), (2**10, "KiB")):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def print_estimate(document: Mapping[str, Any], *, layers: bool) -> None:
    """The totals of Child and baseline side by side, the ratios, what they do not say, and `layers`, one by one."""
    console = StyledConsole()
    if not console.is_terminal:  # a file or a pager has room for whole lines
        console = StyledConsole(width=MAX_WIDTH)
    console.print(totals_table(document))
    console.print(savings_table(document), highlight=False)
    console.print(f"\n{WHAT_IT_SAYS}", highlight=False)
    if not layers:
        console.print(f"\n{len(document['layers'])} layers: --layers shows them, --csv and --json too", highlight=False)
        return
    wide = console.width >= FULL_WIDTH
    console.print(layer_table(document, wide=wide))
    if not wide:
        console.print(f"{FULL_WIDTH} columns show shapes and values too; so do --csv and --json", style="dim")


def layer_table(document: Mapping[str, Any], *, wide: bool) -> Table:
    """A row per layer; `wide` with its shape and the values that it reads and gives."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0) if wide else 0)
    table.add_column("layer", no_wrap=True)
    table.add_column("bits", no_wrap=True)
    titles = ["shape"] if wide else []
    titles += ["MACs", "OPs", "elementwise", "S", "stored", *(["values in", "out"] if wide else [])]
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for layer in document["layers"]:
        cells = [
            *([_shape(layer)] if wide else []),
            *(amount(layer[key]) if layer[key] else "" for key in ("macs", "ops", "elementwise")),
            "" if layer["xnor_speedup"] is None else f"{layer['xnor_speedup']:.2f}",
            size(layer["size_bits"]) if layer["size_bits"] else "",
            *([size(layer["activation_bits_in"]), size(layer["activation_bits_out"])] if wide else []),
        ]
        table.add_row(_short(layer["name"]), _bits(layer), *cells)
    return table


def _bits(layer: Mapping[str, Any]) -> str:
    """Of a weight: 1, or what a real one is stored in."""
    if layer["precision"] != "real":
        return {"1-bit": "1", "none": ""}[layer["precision"]]
    num_weights = layer["macs"] // layer["out_size"] ** 2
    return str(layer["weight_bits"] // num_weights)


def totals_table(document: Mapping[str, Any]) -> Table:
    """A row per quantity, a column for the Child and one for the baseline."""
    child, baseline = document["totals"], document["baseline"]["totals"]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("for one image", no_wrap=True)
    table.add_column("1-bit Child", justify="right")
    table.add_column(document["baseline"]["name"], justify="right")
    counts = {
        "multiply-accumulates (MACs)": "macs",
        "of them 1-bit (BOPs)": "bops",
        "of them real (FLOPs)": "flops",
        "OPs = FLOPs + BOPs / 64": "ops",
        "element-wise operations": "elementwise",
        "OPs with the element-wise ones": "ops_with_elementwise",
    }
    for title, key in counts.items():
        table.add_row(title, amount(child[key]), amount(baseline[key]))
    parts = {
        "binary_weights": "1-bit weights",
        "real_weights": "real weights",
        "thresholds": "thresholds",
        "scales_and_shifts": "scales and shifts",
        "stem": "stem",
        "classifier": "classifier",
    }
    table.add_section()
    for key, title in parts.items():
        table.add_row(title, size(child["size_bits_parts"][key]), size(baseline["size_bits_parts"][key]))
    table.add_row("stored in all", size(child["size_bits"]), size(baseline["size_bits"]))
    table.add_row(
        "values at once, at most", size(child["peak_activation_bits"]), size(baseline["peak_activation_bits"])
    )
    return table


def savings_table(document: Mapping[str, Any]) -> Table:
    savings = document["savings"]
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row(f"{document['baseline']['description']}, divided by the 1-bit Child:")
    rows = {
        "bits stored": "memory",
        "values at once": "activation_memory",
        "multiply-accumulates, 1-bit or not": "macs",
        "operations (OPs)": "speedup",
        "operations as XNOR-Net counts them": "speedup_xnor",
        "operations with the element-wise ones": "speedup_with_elementwise",
    }
    for title, key in rows.items():
        table.add_row(f"  {title}", f"{savings[key]:.2f} x")
    return table


def _short(name: str) -> str:
    """`cells.0.edges.3.sep_conv_3x3.depthwise` -> `0.3 sep_conv_3x3.depthwise`; a preprocessing: `0.in0 pointwise`."""
    match name.split("."):
        case ["cells", cell, "edges", edge, *rest]:
            return f"{cell}.{edge} {'.'.join(rest)}"
        case ["cells", cell, "preprocessing", index, "convolution", *rest]:
            return f"{cell}.in{index} {'.'.join(rest)}"
    return name


def _shape(layer: Mapping[str, Any]) -> str:
    """Channels and size before and after: 16x32² > 32x16²."""
    if layer["in_channels"] is None:
        return ""
    before, after = (f"{layer[f'{end}_channels']}x{layer[f'{end}_size']}²" for end in ("in", "out"))
    return f"{before} > {after}"
