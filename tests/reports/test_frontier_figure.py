"""The figure of a frontier: what it shows, from a document by hand, and that it can be drawn."""

import copy
from pathlib import Path
from typing import Any

import pytest

from cpnas_cli.errors import RunError
from cpnas_cli.reports.frontier import LOOKS, FrontierPoint, draw_frontier, frontier_info, save_frontier


def point(family: str, num_bytes: int, mean: float, std: float | None, seconds: float | None) -> dict[str, Any]:
    return {
        "family": family,
        "width": 1.0,
        "accuracy_test_mean": mean,
        "accuracy_test_std": std,
        "n": 2,
        "bytes": num_bytes,
        "seconds_median": seconds,
    }


DOCUMENT = {
    "config": {"data": {"name": "folder", "dir": "/photos/$flowers$"}, "train": {"num_epochs": 7}},
    "seeds": [0, 1],
    "points": [
        point("int8 CNN", 65536, 0.75, 0.02, 2e-4),
        point("int8 CNN", 16384, 0.5, None, 1e-4),
        point("1-bit", 32768, 0.625, 0.01, None),
    ],
    "advice": {"sentence": "Take what you like."},
}


def test_what_it_shows() -> None:
    """In percent, KiB and milliseconds; from the smallest to the largest; families in their fixed order."""
    info = frontier_info(DOCUMENT)
    assert list(info.families.items()) == [
        ("1-bit", (FrontierPoint(62.5, 1.0, 32.0, None),)),
        ("int8 CNN", (FrontierPoint(50.0, None, 16.0, 0.1), FrontierPoint(75.0, 2.0, 64.0, 0.2))),
    ]
    assert info.advice == "Take what you like."
    assert "$flowers$, last of 7 epochs" in info.caption
    assert "n = 2" in info.caption


def test_what_is_drawn() -> None:
    """Both axes are logarithmic; what has no time is not in the second."""
    figure = draw_frontier(frontier_info(DOCUMENT))
    by_size, by_time = figure.axes
    assert (by_size.get_xscale(), by_time.get_xscale()) == ("log", "log")
    drawn = {
        axes.get_xlabel().split()[0]: {
            str(box.get_label()): [tuple(row) for row in box[0].get_xydata().tolist()] for box in axes.containers
        }
        for axes in (by_size, by_time)
    }
    assert drawn == {
        "size": {"1-bit": [(32.0, 62.5)], "int8 CNN": [(16.0, 50.0), (64.0, 75.0)]},
        "time": {"1-bit": [], "int8 CNN": [(0.1, 50.0), (0.2, 75.0)]},
    }


def test_guessing_is_a_line_in_both_axes_and_in_the_caption() -> None:
    """One of two guesses is right."""
    info = frontier_info(DOCUMENT | {"num_classes": 2})
    assert "Guessing: 50 %." in info.caption
    by_size, by_time = draw_frontier(info).axes
    for axes in (by_size, by_time):
        assert [line.get_ydata()[0] for line in axes.lines if list(line.get_xdata()) == [0, 1]] == [50.0]  # type: ignore[arg-type, index]
    assert [[text.get_text() for text in axes.texts] for axes in (by_size, by_time)] == [[], ["guessing\n50.0 %"]]
    assert frontier_info(DOCUMENT).guessing is None


def test_families_differ_in_colour_and_in_marker() -> None:
    assert len({look.colour for look in LOOKS.values()}) == len({look.marker for look in LOOKS.values()}) == 5


def test_the_files_are_the_same_each_time(tmp_path: Path) -> None:
    first, second = save_frontier(DOCUMENT, tmp_path / "a"), save_frontier(DOCUMENT, tmp_path / "b")
    assert [file.name for file in first] == ["frontier.svg", "frontier.png"]
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    assert "Take what you like." in first[0].read_text()


@pytest.mark.parametrize("lacks", ["points", "advice", "config", "seeds"])
def test_an_incomplete_document_is_one_line(lacks: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    del document[lacks]
    with pytest.raises(RunError, match="the frontier's document is incomplete"):
        frontier_info(document)


def test_nothing_to_draw_and_an_unknown_family() -> None:
    with pytest.raises(RunError, match="no member of this frontier has finished"):
        frontier_info(DOCUMENT | {"points": []})
    with pytest.raises(RunError, match="unknown families"):
        frontier_info(DOCUMENT | {"points": [point("2-bit", 1, 0.5, None, None)]})
