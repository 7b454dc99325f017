"""`cpnas export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import print_json, reported_errors

if TYPE_CHECKING:
    from cpnas_cli.networks.network import Network

EXPORT_SCHEMA = "cpnas.export/1"
FORMATS = ("packed", "onnx")
# by what a trained network's state says of its precision
NETWORKS = {"binary": "child", "full": "parent"}


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a training.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="packed|onnx",
            help="packed: the 1-bit file that `cpnas predict` runs; onnx: for other runtimes.",
        ),
    ] = "packed",
    network: Annotated[
        str | None,
        typer.Option("--network", metavar="child|parent", help="Without it: the network that the run trained."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The file; without it model.packed.safetensors, model.onnx or parent.onnx in RUN."),
    ] = None,
    json_: options.Json = False,
) -> None:
    """Write a trained network as one file for inference: packed to 1 bit, or ONNX."""
    with reported_errors():
        from cpnas_cli.errors import UsageError

        if format_ not in FORMATS:
            raise UsageError(f"unknown --format {format_!r}; choose from {', '.join(FORMATS)}")
        if network not in (None, *NETWORKS.values()):
            raise UsageError(f"unknown --network {network!r}; choose from {', '.join(NETWORKS.values())}")
        if format_ == "onnx":
            from cpnas_cli.deploy.onnx import check_onnx

            check_onnx()
        trained, state = _load(run, network)
        kind = NETWORKS[state["precision"]]
        file = _write(trained, state, run, format_=format_, kind=kind, out=out)
        document = _document(file, format_=format_, kind=kind)
        if json_:
            print_json(document)
        else:
            header = "" if document["header_bytes"] is None else f", {document['header_bytes']:,} of them header"
            print(f"{file}: {document['bytes']:,} bytes{header} ({format_}, {kind})")


def _document(file: Path, *, format_: str, kind: str) -> "dict[str, Any]":
    """`cpnas.export/1`."""
    from cpnas_cli.deploy.packed_file import header_bytes

    return {
        "schema": EXPORT_SCHEMA,
        "format": format_,
        "file": str(file),
        "bytes": file.stat().st_size,
        "header_bytes": header_bytes(file) if format_ == "packed" else None,
        "network": kind,
    }


def _load(path: Path, wanted: str | None) -> "tuple[Network, dict[str, Any]]":
    """The run's own network, or the one that is wanted, with its state."""
    from cpnas_cli.errors import RunError, shell_word
    from cpnas_cli.runs.folder import RunFolder
    from cpnas_cli.training.evaluation import load_trained

    run = RunFolder(path)
    files = [file for file in (RunFolder.MODEL, RunFolder.PARENT_MODEL) if run.file(file).exists()]
    if not files:
        raise RunError(f"{path} holds no trained network; `cpnas train GENOTYPE --out {shell_word(path)}` makes one")
    for file in files:
        network, state = load_trained(run, file)
        if wanted in (None, NETWORKS[state["precision"]]):
            return network, state
    raise RunError(f"{path} holds no trained {wanted}; leave out --network, or name another run")


def _write(
    network: "Network", state: "dict[str, Any]", run: Path, *, format_: str, kind: str, out: Path | None
) -> Path:
    from cpnas_cli.errors import UsageError, shell_word
    from cpnas_cli.runs.folder import RunFolder

    if out is not None and out.resolve() in {
        (run / own).resolve() for own in (RunFolder.MODEL, RunFolder.PARENT_MODEL)
    }:
        raise UsageError(f"--out {shell_word(out)} would replace the trained network itself; choose another file")
    if format_ == "onnx":
        from cpnas_cli.deploy.onnx import export_onnx

        file = out or run / ("model.onnx" if kind == "child" else "parent.onnx")
        export_onnx(network, state, file)
        return file
    if kind != "child":
        raise UsageError(
            "a Parent is not 1-bit and has no packed form; type --format onnx, or --network child where the run has one"
        )
    from cpnas_cli.deploy.packed_file import PACKED_NAME
    from cpnas_cli.deploy.packing import write_packed

    file = out or run / PACKED_NAME
    write_packed(network, state, file)
    return file
