"""A trained network for inference, as one file or a folder of C: what `cpnas export` runs.

A format is one entry of `FORMATS`: what it can hold, under which name, and who writes it.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cpnas_cli.deploy.c_source import C_FILES, write_c_source
from cpnas_cli.deploy.onnx import check_onnx, write_onnx
from cpnas_cli.deploy.packed_file import PACKED_NAME, header_bytes
from cpnas_cli.deploy.packing import pack, write_packed
from cpnas_cli.errors import UsageError, shell_word
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import EXPORT_SCHEMA
from cpnas_cli.training.trained_network import NETWORK_NAMES, TrainedNetwork, read_named


class Needed(NamedTuple):
    """What C source takes on a device, in bytes: its constants, and all static memory that it writes to."""

    flash: int
    ram: int


@dataclass(frozen=True)
class Export:
    """The file that was written, or the folder of C source.

    Attributes:
      num_bytes: of the file, or of all files in the folder that belong to it.
      header_bytes: how many of its `num_bytes` describe the model; None where the format does not tell.
      needed: of C source alone.
    """

    format: str
    network: NetworkName
    file: Path
    num_bytes: int
    header_bytes: int | None
    needed: Needed | None = None

    def document(self) -> dict[str, Any]:
        """`cpnas.export/1`."""
        needed = {} if self.needed is None else {"flash_bytes": self.needed.flash, "ram_bytes": self.needed.ram}
        return {
            "schema": EXPORT_SCHEMA,
            "format": self.format,
            "file": str(self.file),
            "bytes": self.num_bytes,
            "header_bytes": self.header_bytes,
            "network": self.network,
            **needed,
        }


@dataclass(frozen=True)
class _Format:
    """A kind of file.

    Attributes:
      names: of the file or folder in the run's folder, for each network that the format can hold.
      write: may replace the file; returns what the network takes on a device, where the format tells.
      header_bytes: of a file; None where there is no telling.
      check: raises, before anything is read, if a library is missing.
      refusal: of a network that is not in `names`, what to do instead.
    """

    names: Mapping[NetworkName, str]
    write: Callable[[TrainedNetwork, Path], Needed | None]
    header_bytes: Callable[[Path], int | None] = lambda _: None
    check: Callable[[], None] = lambda: None
    refusal: str = ""


def _write_c(child: TrainedNetwork, folder: Path) -> Needed:
    source = write_c_source(pack(child), folder)
    return Needed(source.flash_bytes, source.ram_bytes)


_NOT_1_BIT = "a Parent is not 1-bit and has no {} form; type --format onnx, or --network child where the run has one"

FORMATS: dict[str, _Format] = {
    "packed": _Format(
        {"child": PACKED_NAME},
        write_packed,
        header_bytes,
        refusal=_NOT_1_BIT.format("packed"),
    ),
    "onnx": _Format({"child": "model.onnx", "parent": "parent.onnx"}, write_onnx, check=check_onnx),
    "c": _Format({"child": "c"}, _write_c, refusal=_NOT_1_BIT.format("C")),
}


ONNX_SIZE = (
    "ONNX knows no 1-bit weights: each is a float32 in this file, and 1 bit saves neither bytes nor time there; "
    "--format packed and --format c do"
)
"""Of the Child."""


def export_run(path: Path, *, format_: str, network: str | None = None, out: Path | None = None) -> Export:
    """Write a network of a run.

    Args:
      path: of the run, or of a file with one of its networks, as best.safetensors.
      network: "child" or "parent"; without it the one that the run trained.
      out: the file, or the folder of C source; without it one in the run's folder.

    Raises:
      UsageError: an unknown format or network, one that the format cannot hold, or a file of the run's own.
      RunError: the run has no such network, or the file cannot be written. CheckpointError: the network is damaged.
      CpnasError: a library is missing.
    """
    kind = FORMATS.get(format_)
    if kind is None:
        raise UsageError(f"unknown --format {format_!r}; choose from {', '.join(FORMATS)}")
    if network not in (None, *NETWORK_NAMES):
        raise UsageError(f"unknown --network {network!r}; choose from {', '.join(NETWORK_NAMES)}")
    kind.check()
    trained = read_named(path, network)
    run = RunFolder(path.parent if os.path.isfile(path) else path)
    files = (RunFolder.MODEL, RunFolder.PARENT_MODEL, RunFolder.BEST_MODEL)
    own = {*(run.file(name).resolve() for name in files), path.resolve()}
    if out is not None and out.resolve() in own:
        raise UsageError(f"--out {shell_word(out)} would replace the trained network itself; choose another file")
    if trained.name not in kind.names:
        raise UsageError(kind.refusal)
    file = out or run.file(_name_of(path, kind.names[trained.name]))
    needed = kind.write(trained, file)
    num_bytes = file.stat().st_size if needed is None else sum((file / name).stat().st_size for name in C_FILES)
    return Export(format_, trained.name, file, num_bytes, kind.header_bytes(file), needed)


def _name_of(path: Path, usual: str) -> str:
    """In the run's folder; of a file with another name than the run's own networks have, after that name.

    best.safetensors becomes best.packed.safetensors, best.onnx and best-c.
    """
    if not os.path.isfile(path) or path.name in (RunFolder.MODEL, RunFolder.PARENT_MODEL):
        return usual
    _, dot, ending = usual.partition(".")
    return f"{path.stem}{dot}{ending}" if dot else f"{path.stem}-{usual}"
