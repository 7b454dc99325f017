"""`cpnas export`."""

from pathlib import Path
from typing import Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import COMPILING, print_json, printable, reported_errors, said_if_slow, say


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a training, or its best.safetensors.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="packed|onnx|c",
            help="packed: the 1-bit file that `cpnas predict` runs; onnx: for other runtimes; "
            "c: C source for a device.",
            autocompletion=options.complete("packed", "onnx", "c"),
        ),
    ] = "packed",
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            metavar="child|parent",
            help="Without it: the network that the run trained.",
            autocompletion=options.complete("child", "parent"),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The file, or the folder of C source; without it model.packed.safetensors, model.onnx, parent.onnx "
            "or c in RUN.",
        ),
    ] = None,
    json_: options.Json = False,
) -> None:
    """Write a trained network for inference: packed to 1 bit, ONNX, or C source for a device."""
    with reported_errors():
        from cpnas_cli.deploy.export import export_run

        exported = export_run(run, format_=format_, network=network, out=out)
        if json_:
            print_json(exported.document())
        else:
            needed = exported.needed
            device = "" if needed is None else f"; flash {needed.flash:,} and RAM {needed.ram:,} bytes"
            header = "" if exported.header_bytes is None else f", {exported.header_bytes:,} of them header"
            print(
                f"{printable(str(exported.file))}: "
                f"{exported.num_bytes:,} bytes{header} ({exported.format}, {exported.network}){device}"
            )
        if (exported.format, exported.network) == ("onnx", "child"):
            from cpnas_cli.deploy.export import ONNX_SIZE

            say(f"note: {ONNX_SIZE}")
        if exported.format == "packed":
            from cpnas_cli.deploy.engine import machine_code

            with said_if_slow(COMPILING):  # so that the first `cpnas predict` need not
                machine_code.prepare()
