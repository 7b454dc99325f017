"""A trained network as one file for inference: what `cpnas export` runs.

A format is one entry of `FORMATS`: what it can hold, under which name, and who writes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpnas_cli.deploy.onnx import check_onnx, write_onnx
from cpnas_cli.deploy.packed_file import PACKED_NAME, header_bytes
from cpnas_cli.deploy.packing import write_packed
from cpnas_cli.errors import UsageError, shell_word
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import EXPORT_SCHEMA
from cpnas_cli.training.trained_network import NETWORK_NAMES, TrainedNetwork, read_trained


@dataclass(frozen=True)
class Export:
    """The file that was written.

    Attributes:
      header_bytes: how many of its `num_bytes` describe the model; None where the format does not tell.
    """

    format: str
    network: NetworkName
    file: Path
    num_bytes: int
    header_bytes: int | None

    def document(self) -> dict[str, Any]:
        """`cpnas.export/1`."""
        return {
            "schema": EXPORT_SCHEMA,
            "format": self.format,
            "file": str(self.file),
            "bytes": self.num_bytes,
            "header_bytes": self.header_bytes,
            "network": self.network,
        }


@dataclass(frozen=True)
class _Format:
    """A kind of file.

    Attributes:
      names: of the file in the run's folder, for each network that the format can hold.
      write: may replace the file.
      header_bytes: of a file; None where there is no telling.
      check: raises, before anything is read, if a library is missing.
      refusal: of a network that is not in `names`, what to do instead.
    """

    names: Mapping[NetworkName, str]
    write: Callable[[TrainedNetwork, Path], None]
    header_bytes: Callable[[Path], int | None] = lambda _: None
    check: Callable[[], None] = lambda: None
    refusal: str = ""


FORMATS: dict[str, _Format] = {
    "packed": _Format(
        {"child": PACKED_NAME},
        write_packed,
        header_bytes,
        refusal="a Parent is not 1-bit and has no packed form; type --format onnx, or --network child where the run "
        "has one",
    ),
    "onnx": _Format({"child": "model.onnx", "parent": "parent.onnx"}, write_onnx, check=check_onnx),
}


def export_run(path: Path, *, format_: str, network: str | None = None, out: Path | None = None) -> Export:
    """Write a network of a run.

    Args:
      network: "child" or "parent"; without it the one that the run trained.
      out: the file; without it one in the run's folder.

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
    run = RunFolder(path)
    trained = read_trained(run, network)
    own = {run.file(name).resolve() for name in (RunFolder.MODEL, RunFolder.PARENT_MODEL)}
    if out is not None and out.resolve() in own:
        raise UsageError(f"--out {shell_word(out)} would replace the trained network itself; choose another file")
    if trained.name not in kind.names:
        raise UsageError(kind.refusal)
    file = out or run.file(kind.names[trained.name])
    kind.write(trained, file)
    return Export(format_, trained.name, file, file.stat().st_size, kind.header_bytes(file))
