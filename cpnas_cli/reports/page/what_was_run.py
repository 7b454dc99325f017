"""The parts of a page that every run has: what was run, how to repeat it, on which images, and the cells."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpnas_cli.networks.operations.base import TIMES, operation_of
from cpnas_cli.reports.cells import CellInfo, cells_info, draw_cells
from cpnas_cli.reports.page import words
from cpnas_cli.reports.page.blocks import Block, Command, Details, Facts, Grid, Paragraph, Shade, Tile, Tiles
from cpnas_cli.reports.page.drawings import figure_drawing
from cpnas_cli.reports.page.reading import Blocks, document_of, text_of
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import EDGES, NUM_INPUT_NODES, NUM_NODES, Genotype
from cpnas_cli.settings import Config, config_yaml
from cpnas_cli.storage.genotype_file import provenance_of, read_genotype

# {key of a provenance: what it is called}; others are named as they are
_ORIGINS = {
    "strategy": "search strategy",
    "beta_p": "beta_P, the weight of the Parent's lead",
    "num_passes": "T, passes of a round",
    "dataset": "data set",
    "num_classes": "classes",
    "image_size": "image size (pixels)",
    "num_cells": "cells while searching",
    "num_channels": "channels while searching",
    "real_parts": "not 1-bit in the Child",
    "parent_slope": "b, what the Parent gains where its Child gains 1",
}


def environment_facts(environment: Mapping[str, Any]) -> Facts:
    """Versions and the machine, as the run wrote them down."""
    names = {
        "cpnas": "cpnas",
        "commit": "commit",
        "python": "Python",
        "platform": "system",
        "device_name": "processor or GPU",
        "device": "device",
        "num_threads": "threads",
        "num_processes": "processes",
    }
    rows = [(label, text_of(environment[key])) for key, label in names.items() if environment.get(key) is not None]
    libraries = environment.get("libraries")
    if isinstance(libraries, Mapping):
        there = [f"{name} {version}" for name, version in libraries.items() if version is not None]
        rows.append(("libraries", ", ".join(map(str, there))))
    return Facts(tuple(rows))


def repeat_blocks(environment: Mapping[str, Any] | None, again: str, *, what: str) -> Blocks:
    """The command as it was typed, and one that needs nothing but the folder."""
    blocks: list[Block] = []
    command = (environment or {}).get("command")
    if isinstance(command, list) and command:
        blocks.append(Command(words.shell_line(command), "As it was typed:"))
    blocks.append(Command(again, f"{what}, typed where the folder lies:"))
    if environment is not None:
        summary = "Versions and machine"
        blocks.append(Details(summary, (environment_facts(environment),)))
    return tuple(blocks)


def settings_details(config: Config) -> Details:
    return Details("All settings (config.yaml)", (Command(config_yaml(config), "As `--preset FILE` takes them:"),))


def data_blocks(run: RunFolder) -> Blocks | None:
    """The images that the run has seen."""
    found = document_of(run, RunFolder.DATASET)
    if found is None:
        return None
    config = run.config().data
    classes: Sequence[str] = found.get("classes", ())
    tiles = [Tile(words.number(len(classes)), "classes")] if classes else []
    for key, label in (("num_train_images", "training images"), ("num_test_images", "test images")):
        if key in found:
            tiles.append(Tile(words.number(found[key]), label))
    shape = found.get("image_shape")
    if shape:
        channels, height, width = shape
        tiles.append(Tile(f"{width} {TIMES} {height}", "pixels", "grey" if channels == 1 else "colour"))
    rows = [("data set", config.name)]
    if config.dir is not None:
        rows.append(("folder", config.dir))
    rows.append(("classes", words.listed([str(name) for name in classes])))
    varied = _variations(config.model_dump())
    rows.append(("varied in training", varied or "no"))
    rows += _split_rows(found)
    if "hash" in found:
        rows.append(("fingerprint", f"{found['hash']}, over all images and labels"))
    return Tiles(tuple(tiles)), Facts(tuple(rows))


def _split_rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    split, skipped = found.get("split"), found.get("skipped")
    if isinstance(split, Mapping) and "test_fraction" in split:
        rows.append(
            (
                "split",
                f"{words.percent(split['test_fraction'], digits=0)} of the files, by their names, are for testing",
            )
        )
    if isinstance(skipped, Mapping):
        reasons = text_of(skipped.get("reasons"))
        rows.append(
            ("files skipped", f"{words.number(skipped.get('num_files'))} ({reasons}): {text_of(skipped.get('first'))}")
        )
    return rows


def _variations(data: Mapping[str, Any]) -> str:
    """What is done to the images of a batch, of the settings that say so."""
    parts = []
    if data.get("crop_padding"):
        parts.append(f"shifted by up to {data['crop_padding']} pixels")
    if data.get("flip"):
        parts.append("mirrored")
    if data.get("rotation"):
        parts.append(f"turned by up to {data['rotation']:g}°")
    if data.get("colour"):
        parts.append("colours changed")
    if data.get("cutout"):
        parts.append(f"a square of {data['cutout']} pixels cut out")
    return ", ".join(parts)


# ---------------------------------------------------------------- the cells


def cells_blocks(run: RunFolder, *, name: str) -> Blocks | None:
    """The picture of a run's genotype, the same as a table, and where it comes from."""
    if not run.file(RunFolder.GENOTYPE).exists():
        return None
    genotype, document = read_genotype(run.path)
    return (
        Paragraph(
            "A network is a stack of these two cells; the reduction cell halves the image. An arrow is an operation "
            "that was chosen for this way; what enters a node is averaged, and nodes 2 to 5 together are what a cell "
            "gives."
        ),
        *genotype_drawing(genotype, name=name),
        Details("The cells as tables", tuple(_cell_grid(cell, kind) for kind, cell in genotype.cells().items())),
        *_origin(provenance_of(document)),
        *_precision(run),
    )


def genotype_drawing(genotype: Genotype, *, name: str) -> Blocks:
    info = cells_info(genotype)
    return (
        figure_drawing(
            lambda: draw_cells(info),
            name=name,
            title="The normal cell and the reduction cell",
            description=" ".join(_in_words(cell) for cell in info.cells().values()),
        ),
    )


def _in_words(cell: CellInfo) -> str:
    edges = ", ".join(f"{edge.source} to {edge.node} {edge.operation}" for edge in cell.edges)
    return f"{cell.title}: {edges or 'no edges'}."


def _cell_grid(cell: Sequence[str], kind: str) -> Grid:
    """A row for each intermediate node, a column for each node that it may read."""
    operations = dict(zip(EDGES, cell, strict=True))
    rows = []
    for node in range(NUM_INPUT_NODES, NUM_NODES):
        names = [operations.get((source, node)) for source in range(NUM_NODES - 1)]
        rows.append((f"node {node}", tuple(Shade("" if op is None else operation_of(op).label) for op in names)))
    title = "Normal cell" if kind == "normal" else "Reduction cell"
    columns = tuple(f"from {source}" for source in range(NUM_NODES - 1))
    return Grid(f"{title}: the operation on each edge", "", columns, tuple(rows))


def _origin(provenance: Mapping[str, Any]) -> Blocks:
    rows = tuple((_ORIGINS.get(key, key), text_of(value)) for key, value in provenance.items() if key != "budgets")
    return () if not rows else (Details("Where the genotype comes from", (Facts(rows),)),)


def _precision(run: RunFolder) -> Blocks:
    from cpnas_cli.networks.size import precision_parts  # loads torch

    parts = precision_parts(run.config().network, "binary")
    rows = (("1-bit in the Child", ", ".join(parts["binary"])), ("real in the Child", ", ".join(parts["real"])))
    return (Facts(rows),)


def beside(path: Path, *names: str) -> str:
    """A file of a folder, or the folder, as it is typed beside it."""
    return str(Path(path.resolve().name, *names))
