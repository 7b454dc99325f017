"""A table of architectures, `cpnas.architecture-table/1`: each trained in full with several seeds, and its size."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpnas_cli.errors import CpnasError, RunError
from cpnas_cli.search_space import CELL_KINDS, Genotype, check_cell
from cpnas_cli.storage.documents import ARCHITECTURE_TABLE_SCHEMA, read_document

FEWEST_GENOTYPES = 10
FEWEST_SEEDS = 2


@dataclass(frozen=True)
class ArchitectureTable:
    """Rows are genotypes that were trained with every seed; the order is the file's.

    Attributes:
      accuracy_child_GS, accuracy_parent_GS: of fully trained networks on images that no search sees, in [0, 1].
      loss_child_GSE: mean training loss of every epoch of the Child.
      size_bits_G, ops_G, macs_G: see `efficiency.estimate`.
      num_parameters_G: see `networks.size`; None in tables of older versions.
      num_incomplete: how many rows of the file were left out because a seed is missing.
    """

    genotypes: tuple[Genotype, ...]
    seeds: tuple[int, ...]
    accuracy_child_GS: NDArray[np.float64]
    accuracy_parent_GS: NDArray[np.float64]
    loss_child_GSE: NDArray[np.float64]
    size_bits_G: NDArray[np.float64]
    ops_G: NDArray[np.float64]
    macs_G: NDArray[np.float64]
    num_parameters_G: NDArray[np.float64] | None
    num_incomplete: int


def read_table(path: Path) -> ArchitectureTable:
    """The table of a file.

    Raises:
      RunError: there is none, it is damaged, of another schema or search space, or has too few genotypes or seeds.
    """
    if not path.is_file():
        raise RunError(f"no table at {path}; expected the JSON file of a table of architectures")
    document = read_document(path)
    if document.get("schema") != ARCHITECTURE_TABLE_SCHEMA:
        raise RunError(f"{path}: expected schema {ARCHITECTURE_TABLE_SCHEMA!r}, got {document.get('schema')!r}")
    try:
        return _table_of(document["genotypes"])
    except CpnasError as error:
        raise RunError(f"{path}: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({type(error).__name__}: {error})") from None


def _table_of(rows: list[Mapping[str, Any]]) -> ArchitectureTable:
    genotypes = [_genotype_of(row, index) for index, row in enumerate(rows)]
    runs = [{run["seed"]: run for run in row["runs"]} for row in rows]
    seeds = tuple(sorted({seed for by_seed in runs for seed in by_seed}))
    whole = [index for index, by_seed in enumerate(runs) if len(by_seed) == len(seeds)]
    if len(seeds) < FEWEST_SEEDS or len(whole) < FEWEST_GENOTYPES:
        raise RunError(
            f"{len(whole)} genotypes were trained with each of {len(seeds)} seeds; expected {FEWEST_GENOTYPES} or more "
            f"genotypes and {FEWEST_SEEDS} or more seeds"
        )

    def column(name: str) -> NDArray[np.float64]:
        values = np.array([rows[index][name] for index in whole], dtype=np.float64)
        return _finite(values, name)

    def of_runs(name: str) -> NDArray[np.float64]:
        values = np.array([[runs[index][seed][name] for seed in seeds] for index in whole], dtype=np.float64)
        return _finite(values, name)

    return ArchitectureTable(
        genotypes=tuple(genotypes[index] for index in whole),
        seeds=seeds,
        accuracy_child_GS=of_runs("accuracy_child"),
        accuracy_parent_GS=of_runs("accuracy_parent"),
        loss_child_GSE=of_runs("loss_child"),
        size_bits_G=column("size_bits"),
        ops_G=column("ops"),
        macs_G=column("macs"),
        num_parameters_G=column("num_parameters") if all("num_parameters" in row for row in rows) else None,
        num_incomplete=len(rows) - len(whole),
    )


def _genotype_of(row: Mapping[str, Any], index: int) -> Genotype:
    try:
        return Genotype(**{kind: check_cell(row[kind], kind=kind) for kind in CELL_KINDS})
    except CpnasError as error:
        raise RunError(f"row {index} is of another search space: {error}") from None


def _finite(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has values that are no finite numbers")
    return values
