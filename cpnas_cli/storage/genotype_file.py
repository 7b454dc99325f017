"""A genotype as a document: cpnas.genotype/1."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpnas_cli.errors import GenotypeError
from cpnas_cli.search_space import CELL_KINDS, EDGES, CellGenotype, Genotype, check_cell
from cpnas_cli.storage.checksum import CHECKSUM_KEY, ChangedError, without_checksum
from cpnas_cli.storage.documents import GENOTYPE_SCHEMA, parse_json

GENOTYPE_FILE = "genotype.json"
"""Its name in the folder of a run."""

MOST_BYTES = 1 << 22
"""Of a file: what is larger is no genotype, whatever it is."""

_LOGGER = logging.getLogger(__name__)


def genotype_document(genotype: Genotype, *, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """`cpnas.genotype/1`: the edges of both cells in the order of `search_space.EDGES`."""
    cells = {
        kind: [{"from": source, "to": node, "op": op} for (source, node), op in zip(EDGES, cell, strict=True)]
        for kind, cell in genotype.cells().items()
    }
    return {"schema": GENOTYPE_SCHEMA, **cells, "provenance": dict(provenance)}


def parse_genotype(document: Any) -> Genotype:
    """The genotype of a `cpnas.genotype/1` document.

    Raises:
      GenotypeError: another schema, an unknown operation, an edge that is missing, repeated or
        backwards, or a disconnected cell.
    """
    if not isinstance(document, dict):
        raise GenotypeError(f"expected a JSON object with schema {GENOTYPE_SCHEMA}, got {type(document).__name__}")
    if document.get("schema") != GENOTYPE_SCHEMA:
        raise GenotypeError(f"expected schema {GENOTYPE_SCHEMA!r}, got {document.get('schema')!r}")
    return Genotype(**{kind: _parse_cell(document.get(kind), kind) for kind in CELL_KINDS})


def _parse_cell(entries: Any, kind: str) -> CellGenotype:
    if not isinstance(entries, list):
        raise GenotypeError(f"{kind!r} must be a list of {len(EDGES)} edges, got {type(entries).__name__}")
    operations: dict[tuple[int, int], str] = {}
    for entry in entries:
        if not isinstance(entry, dict) or {"from", "to", "op"} - entry.keys():
            raise GenotypeError(f"an edge of the {kind} cell must have from, to and op, got {entry!r}")
        edge = entry["from"], entry["to"]
        if any(type(node) is not int for node in edge):
            raise GenotypeError(f"from and to of an edge of the {kind} cell must be whole numbers, got {entry!r}")
        if edge not in EDGES:
            backwards = "it runs backwards; " if edge[::-1] in EDGES else ""
            raise GenotypeError(
                f"edge {edge[0]}->{edge[1]} of the {kind} cell does not exist: {backwards}"
                "edges run from a node (0..4) to a later intermediate node (2..5)"
            )
        if edge in operations:
            raise GenotypeError(f"edge {edge[0]}->{edge[1]} of the {kind} cell is given twice")
        if not isinstance(entry["op"], str):
            raise GenotypeError(f"op of edge {edge[0]}->{edge[1]} of the {kind} cell must be a text")
        operations[edge] = entry["op"]
    for edge in EDGES:
        if edge not in operations:
            raise GenotypeError(f"edge {edge[0]}->{edge[1]} of the {kind} cell is missing")
    return check_cell([operations[edge] for edge in EDGES], kind=kind)


def provenance_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Where a genotype comes from, as its document says; empty if it does not say in the usual way."""
    provenance = document.get("provenance")
    return provenance if isinstance(provenance, dict) else {}


def read_genotype(path: Path) -> tuple[Genotype, dict[str, Any]]:
    """Genotype and document of a genotype file, or of a run folder that holds one.

    Raises:
      GenotypeError: missing, truncated, too large, or not a valid genotype; the message names the file.
    """
    try:
        if path.is_dir():
            path = path / GENOTYPE_FILE
        if path.stat().st_size > MOST_BYTES:
            raise GenotypeError(f"{path} has {path.stat().st_size:,} bytes; a genotype takes some 3,000")
        document = parse_json(path)
    except FileNotFoundError:
        raise GenotypeError(f"no genotype at {path}; `cpnas search` writes one") from None
    except OSError as error:
        raise GenotypeError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise GenotypeError(f"{path} is not complete JSON ({error}); it may be truncated") from None
    try:
        genotype = parse_genotype(document)
        json.dumps(document, allow_nan=False)  # it goes on into the files of runs
    except GenotypeError as error:
        raise GenotypeError(f"{path}: {error}") from None
    except RecursionError:
        raise GenotypeError(f"{path} is nested too deeply; leave out what is in its provenance") from None
    except ValueError:
        raise GenotypeError(f"{path}: it holds NaN or Infinity; write null, or leave it out") from None
    return genotype, _unchanged(path, document)


def _unchanged(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Without its checksum; people may write genotypes by hand, so that one that does not match is noted."""
    try:
        return without_checksum(document)
    except ChangedError as error:
        _LOGGER.warning("%s was edited or is damaged: %s", path, error)
        return {key: value for key, value in document.items() if key != CHECKSUM_KEY}
