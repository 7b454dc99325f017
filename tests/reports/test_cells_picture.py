"""The picture of a genotype: what it shows, where it puts it, and the files."""

import itertools
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Polygon
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from cpnas_cli.errors import RunError, UsageError
from cpnas_cli.networks.operations.base import operation_of
from cpnas_cli.reports.cells import (
    CellCounts,
    EdgeInfo,
    cells_info,
    draw_cells,
    looks,
    save_cells,
)
from cpnas_cli.search_space import EDGES, NONE, NUM_EDGES, OPERATIONS, CellGenotype, Genotype, draw_uniform

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
WIDEST = "sep_conv_5x5"


def cell_of(operations: dict[tuple[int, int], str]) -> CellGenotype:
    return tuple(operations.get(edge, NONE) for edge in EDGES)


FULL: CellGenotype = tuple(
    ["sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"][i % 4] for i in range(NUM_EDGES)
)
SPARSE = cell_of({(0, 2): "skip_connect", (1, 3): "max_pool_3x3", (2, 5): "sep_conv_3x3"})
# no edge reaches node 2, and node 3 hears node 2 only: both are dead, nodes 4 and 5 are not
DEAD = cell_of(
    {
        (2, 3): "dil_conv_3x3",
        (0, 4): "avg_pool_3x3",
        (2, 4): "sep_conv_5x5",
        (3, 5): "skip_connect",
        (4, 5): "dil_conv_5x5",
    }
)
GENOTYPES = {
    "all convolutions": Genotype(FULL, FULL),
    "random": draw_uniform(seed=3),
    "many none": Genotype(SPARSE, cell_of({(1, 5): "avg_pool_3x3"})),
    "dead nodes": Genotype(DEAD, DEAD),
}


def rendered(genotype: Genotype, subtitle: str | None = None) -> tuple[Figure, FigureCanvasAgg]:
    figure = draw_cells(cells_info(genotype, subtitle=subtitle))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return figure, canvas


def words_of(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def labels_of(axes: Axes) -> dict[str, Text]:
    return {str(text.get_gid()): text for text in axes.texts if text.get_gid()}


def lines_of(axes: Axes) -> dict[str, PathPatch]:
    found = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    return {str(patch.get_gid()).removesuffix("-line"): patch for patch in found}


def pill_of(label: Text, canvas: FigureCanvasAgg) -> Bbox:
    pill = label.get_bbox_patch()
    assert pill is not None
    return pill.get_window_extent(canvas.get_renderer())


# --- what there is to see ---


def test_edges_that_are_not_none_are_listed_in_order_with_stride_and_life() -> None:
    info = cells_info(Genotype(normal=SPARSE, reduce=DEAD))
    assert info.normal.edges == (
        EdgeInfo(0, 2, "skip_connect", stride=1, live=True),
        EdgeInfo(1, 3, "max_pool_3x3", stride=1, live=True),
        EdgeInfo(2, 5, "sep_conv_3x3", stride=1, live=True),
    )
    assert info.reduce.edges == (
        EdgeInfo(2, 3, "dil_conv_3x3", stride=1, live=False),
        EdgeInfo(0, 4, "avg_pool_3x3", stride=2, live=True),
        EdgeInfo(2, 4, "sep_conv_5x5", stride=1, live=False),
        EdgeInfo(3, 5, "skip_connect", stride=1, live=False),
        EdgeInfo(4, 5, "dil_conv_5x5", stride=1, live=True),
    )
    assert info.normal.dead_nodes == (4,)
    assert info.reduce.dead_nodes == (2, 3)


def test_counts_are_of_all_edges_and_sum_to_fourteen() -> None:
    info = cells_info(Genotype(normal=SPARSE, reduce=DEAD))
    assert info.normal.counts == CellCounts(num_convolutions=1, num_pools=1, num_skips=1, num_none=11)
    assert info.reduce.counts == CellCounts(num_convolutions=3, num_pools=1, num_skips=1, num_none=9)
    assert cells_info(GENOTYPES["all convolutions"]).normal.counts == CellCounts(14, 0, 0, 0)


def test_only_edges_from_the_inputs_of_the_reduction_cell_have_stride_two() -> None:
    info = cells_info(GENOTYPES["all convolutions"])
    assert {edge.stride for edge in info.normal.edges} == {1}
    strided = [(edge.source, edge.node) for edge in info.reduce.edges if edge.stride == 2]
    assert strided == [(0, 2), (1, 2), (0, 3), (1, 3), (0, 4), (1, 4), (0, 5), (1, 5)]
    assert info.normal.edges[0].label == "sep 3\u00d73"
    assert info.reduce.edges[0].label == "sep 3\u00d73 \u21932"


def test_every_operation_but_none_has_a_line_and_a_name_of_its_own() -> None:
    drawn = [operation_of(op) for op in OPERATIONS if op != NONE]
    assert len({operation.label for operation in drawn}) == len({operation.short for operation in drawn}) == len(drawn)
    assert {operation.look for operation in drawn} == set(looks())
    assert [look.name for look in looks()] == ["separable", "dilated", "pool", "skip"]


# --- the drawing ---


@pytest.mark.parametrize("name", GENOTYPES)
def test_two_panels_show_every_edge_that_is_not_none_with_its_name(name: str) -> None:
    genotype = GENOTYPES[name]
    figure, _ = rendered(genotype)
    assert [words_of(axes)[0] for axes in figure.axes] == ["normal cell", "reduction cell"]
    for axes, (kind, cell) in zip(figure.axes, genotype.cells().items(), strict=True):
        expected = {f"{kind}-{i}-{j}": op for (i, j), op in zip(EDGES, cell, strict=True) if op != NONE}
        assert set(labels_of(axes)) == set(lines_of(axes)) == set(expected)
        for gid, label in labels_of(axes).items():
            strided = kind == "reduce" and gid.split("-")[1] in "01"
            assert label.get_text() == operation_of(expected[gid]).label + (" \u21932" if strided else "")
            assert lines_of(axes)[gid].get_linewidth() > 0


@pytest.mark.parametrize("name", GENOTYPES)
def test_an_edge_starts_at_its_source_and_ends_at_its_target(name: str) -> None:
    """Each end of a line touches one box only, the one in which the node's number stands."""
    figure, canvas = rendered(GENOTYPES[name])
    reach = 8 / 72 * figure.dpi  # the line stops where its arrowhead begins
    for axes in figure.axes:
        boxes = node_boxes(axes, canvas)
        for gid, line in lines_of(axes).items():
            vertices = np.asarray(line.get_path().vertices)
            ends = axes.transData.transform(vertices[[0, -1]])
            touched = [
                [node for node, box in boxes.items() if box.padded(margin).contains(*end)]
                for end, margin in zip(ends, (1.0, reach), strict=True)
            ]
            assert touched == [[node] for node in gid.split("-")[1:]]


def node_boxes(axes: Axes, canvas: FigureCanvasAgg) -> dict[str, Bbox]:
    """The box around each node's number: {"0": ..., ..., "5": ..., "c(k)": ...}."""
    names = {text.get_text(): text for text in axes.texts if text.get_text() in {*"012345", "c(k)"}}
    extents = [patch.get_window_extent(canvas.get_renderer()) for patch in axes.patches if patch.get_zorder() == 3]
    centres = {name: axes.transData.transform(text.get_position()) for name, text in names.items()}
    boxes = {name: [box for box in extents if box.contains(*centre)] for name, centre in centres.items()}
    assert [len(found) for found in boxes.values()] == [1] * 7
    return {name: found[0] for name, found in boxes.items()}


def test_no_label_touches_another_a_node_an_arrowhead_or_a_foreign_line() -> None:
    """With all 14 edges and the widest names, in pixels of the rendered picture."""
    figure, canvas = rendered(Genotype((WIDEST,) * NUM_EDGES, (WIDEST,) * NUM_EDGES), "cpnas, beta_P 2, seed 0, digits")
    for axes in figure.axes:
        pills = {gid: pill_of(label, canvas).padded(2) for gid, label in labels_of(axes).items()}
        assert len(pills) == NUM_EDGES
        for (first, pill), (second, other) in itertools.combinations(pills.items(), 2):
            assert not pill.overlaps(other), (first, second)
        for gid, pill in pills.items():
            assert axes.bbox.containsx(pill.x0)
            assert axes.bbox.containsx(pill.x1)
            for name, box in node_boxes(axes, canvas).items():
                assert not pill.overlaps(box), (gid, name)
            for words in axes.texts[:2]:  # the title and the counts
                assert not pill.overlaps(words.get_window_extent(canvas.get_renderer())), (gid, words)
            for head in (patch for patch in axes.patches if isinstance(patch, Polygon)):
                assert not pill.overlaps(head.get_window_extent(canvas.get_renderer())), (gid, head)
            for other, line in lines_of(axes).items():
                crossed = line.get_path().transformed(axes.transData).intersects_bbox(pill, filled=False)
                assert crossed == (other == gid), (gid, other)


def test_lines_cross_three_times_only() -> None:
    """Three is the least for six nodes on a line with ways above and below (the 2-page crossing number of K6)."""
    figure, _ = rendered(GENOTYPES["all convolutions"])
    lines = lines_of(figure.axes[0])
    crossing = {
        tuple(sorted(pair))
        for pair in itertools.combinations(lines, 2)
        if lines[pair[0]].get_path().intersects_path(lines[pair[1]].get_path(), filled=False)
    }
    assert crossing == {
        ("normal-0-3", "normal-1-4"),
        ("normal-0-2", "normal-1-5"),
        ("normal-2-4", "normal-3-5"),
    }


def test_families_differ_in_colour_and_in_grey() -> None:
    strokes = looks()
    assert len({stroke.colour for stroke in strokes}) == 4
    assert len({(stroke.dashes, stroke.width) for stroke in strokes}) == 4
    figure, _ = rendered(Genotype(SPARSE, SPARSE))
    lines = lines_of(figure.axes[0])
    assert to_hex(lines["normal-0-2"].get_edgecolor()) == "#333333"
    assert to_hex(lines["normal-1-3"].get_edgecolor()).upper() == "#009E73"
    assert to_hex(lines["normal-2-5"].get_edgecolor()).upper() == "#0072B2"


def test_a_dead_node_says_so_and_its_edges_are_faint() -> None:
    figure, _ = rendered(Genotype(normal=DEAD, reduce=FULL))
    axes = figure.axes[0]
    assert words_of(axes).count("dead") == 2
    colours = {gid: to_hex(line.get_edgecolor()) for gid, line in lines_of(axes).items()}
    faint = {gid for gid, colour in colours.items() if len({colour[1:3], colour[3:5], colour[5:7]}) == 1}
    assert faint == {"normal-2-3", "normal-2-4", "normal-3-5"}
    dashed_boxes = [patch for patch in axes.patches if patch.get_zorder() == 3 and patch.get_linestyle() != "solid"]
    assert len(dashed_boxes) == 2
    assert "dead" in " ".join(text.get_text() for text in figure.legends[0].get_texts())


def test_nothing_is_called_dead_where_nothing_is() -> None:
    figure, _ = rendered(GENOTYPES["all convolutions"])
    assert "dead" not in words_of(figure.axes[0])
    assert "dead" not in " ".join(text.get_text() for text in figure.legends[0].get_texts())


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        (FULL, "14 convolutions, 0 pools, 0 skips, 0 none"),
        (SPARSE, "1 convolution, 1 pool, 1 skip, 11 none"),
        (DEAD, "3 convolutions, 1 pool, 1 skip, 9 none; 3 edges carry nothing"),
        (
            cell_of({(0, 2): "skip_connect", (3, 5): "max_pool_3x3"}),
            "0 convolutions, 1 pool, 1 skip, 12 none; 1 edge carries nothing",
        ),
    ],
)
def test_counts_stand_under_the_panel(cell: CellGenotype, line: str) -> None:
    figure, _ = rendered(Genotype(normal=FULL, reduce=cell))
    assert words_of(figure.axes[1])[1] == line


def test_subtitle_is_shown_as_it_is_and_stays_in_the_picture() -> None:
    figure, _ = rendered(GENOTYPES["random"], "random, seed 3, folder $a_1\x07$")
    assert [text.get_text() for text in figure.texts] == ["random, seed 3, folder $a_1 $"]
    assert not figure.texts[0].get_parse_math()
    assert not rendered(GENOTYPES["random"])[0].texts

    figure, canvas = rendered(GENOTYPES["random"], "many words " * 100)
    assert len(figure.texts) == 2
    assert figure.texts[-1].get_text().endswith(" ...")
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in figure.texts]
    title = figure.axes[0].texts[0].get_window_extent(canvas.get_renderer())
    assert all(box.x0 > 0 and box.x1 < figure.bbox.width and box.y1 < figure.bbox.height for box in boxes)
    assert boxes[0].y0 > boxes[1].y1 > boxes[1].y0 > title.y1


def test_the_picture_is_1200_pixels_wide() -> None:
    _, canvas = rendered(GENOTYPES["random"])
    assert canvas.get_width_height()[0] == 1200


# --- the files ---


@pytest.mark.parametrize("name", GENOTYPES)
def test_svg_is_well_formed_and_keeps_text_as_text(name: str, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "cells.svg"
    save_cells(cells_info(GENOTYPES[name], subtitle="folder <a&b>"), path)
    assert path.read_bytes().startswith(b"<?xml")
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"normal cell", "reduction cell", "c(k-2)", "c(k-1)", "folder <a&b>"} <= set(words)
    assert [entry.name for entry in path.parent.iterdir()] == ["cells.svg"]


@pytest.mark.parametrize("suffix", [".png", ".PNG"])
def test_png_has_its_magic_and_width(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"cells{suffix}"
    save_cells(cells_info(GENOTYPES["random"]), path)
    content = path.read_bytes()
    assert content.startswith(PNG_MAGIC)
    assert int.from_bytes(content[16:20], "big") == 1200


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_same_picture_gives_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    info = cells_info(GENOTYPES["dead nodes"], subtitle="seed 0")
    contents = []
    for name in ("a", "b"):
        save_cells(info, tmp_path / f"{name}{suffix}")
        contents.append((tmp_path / f"{name}{suffix}").read_bytes())
    save_cells(cells_info(GENOTYPES["random"], subtitle="seed 0"), tmp_path / f"other{suffix}")
    assert contents[0] == contents[1]
    assert contents[0] != (tmp_path / f"other{suffix}").read_bytes()
    assert b"dc:date" not in contents[0]


@pytest.mark.parametrize("name", ["cells.pdf", "cells", "cells.svg.txt", "cells."])
def test_another_suffix_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        save_cells(cells_info(GENOTYPES["random"]), tmp_path / name)
    message = str(caught.value)
    assert repr(name) in message
    assert ".svg or .png" in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cells.svg"
    path.write_bytes(b"old")

    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises(RunError, match=r"No space left on device; choose another --out$"):
        save_cells(cells_info(GENOTYPES["random"]), path)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_drawing_needs_no_display_and_leaves_no_global_state(tmp_path: Path) -> None:
    """In a process of its own: pyplot would register every figure and choose a window system."""
    code = f"""
import sys, matplotlib
from pathlib import Path
before = matplotlib.rcParams.copy()  # as a plain dict it would choose a backend
from cpnas_cli.reports.cells import cells_info, save_cells
from cpnas_cli.search_space import draw_uniform
for suffix in ("svg", "png"):
    save_cells(cells_info(draw_uniform(seed=0)), Path({str(tmp_path)!r}) / f"cells.{{suffix}}")
assert "matplotlib.pyplot" not in sys.modules
assert matplotlib.rcParams.copy() == before, before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.iterdir())) == 2
