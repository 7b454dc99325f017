"""Frontiers that grow, with tasks that are played: what is added, what stays, what is timed, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from played_experiments import DATASET, genotype
from played_frontiers import PlayedExecutor, play, play_timing

from cpnas_cli.errors import RunError
from cpnas_cli.experiments.frontier.growth import refusal
from cpnas_cli.experiments.frontier.plan import FrontierPlan, make_plan
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.networks.plain_cnn import plain_cnn_size_bytes, plain_cnn_width
from cpnas_cli.settings import load_config
from cpnas_cli.storage.genotype_file import genotype_document

FOUND = genotype_document(genotype(2), provenance={})
SHAPE = Surroundings(8, 1, 2)
SHOWN = DATASET | {"image_shape": [1, 8, 8]}


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many points were measured, each time."""
    return play_timing(monkeypatch)


def plan(widths: str = "1", cnns: str = "3", seeds: str = "0", *, found: Any = None, **settings: Any) -> FrontierPlan:
    sizes = [plain_cnn_size_bytes(int(width), SHAPE) for width in cnns.split(",")]
    config = load_config(overrides=[f"train.{name}={value}" for name, value in settings.items()])
    return make_plan(
        config,
        genotype=found,
        widths=[float(width) for width in widths.split(",")],
        baseline_bytes=sizes,
        seeds=[int(seed) for seed in seeds.split(",")],
        shape=SHAPE,
    )


# what is typed where widths 1, a CNN of 3 channels and seed 0 are there; the members that are added, points in all
GROWN = {
    "a seed": (plan(seeds="0,1"), ["width-1-seed-1", "cnn-3-seed-1"], 5),
    "a width": (plan("0.5,1"), ["width-0.5-seed-0"], 8),
    "a CNN": (plan(cnns="3,5"), ["cnn-5-seed-0"], 7),
    "all": (
        plan("1,2", "5,3", "0,4"),
        ["width-2-seed-0", "cnn-5-seed-0", "width-1-seed-4", "width-2-seed-4", "cnn-5-seed-4", "cnn-3-seed-4"],
        10,
    ),
}


def without_commands(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in ("environment", "grown_by")}


@pytest.mark.parametrize("name", GROWN)
def test_what_is_missing_is_added(name: str, tmp_path: Path, timed: list[int]) -> None:
    larger, added, num_points = GROWN[name]
    folder = tmp_path / "run"
    play(plan(), folder, PlayedExecutor())
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*/*")}
    document, said = play(larger, folder, second := PlayedExecutor())
    assert second.played == added
    has_new_points = num_points > 5
    words = f"adds {len(added)} member{'s' if len(added) > 1 else ''} to the 3 of {folder}"
    again = [f"{words}; all networks are timed again at the end", f"timing {num_points} networks in turn"]
    assert said == (again if has_new_points else [words])
    # more seeds make no new point, and times are of the network of the first seed
    assert timed == [5, num_points] if has_new_points else [5]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    at_once, _ = play(larger, tmp_path / "at-once", PlayedExecutor())
    assert without_commands(document) == without_commands(at_once)


@pytest.mark.parametrize("most", range(6))
def test_interrupted_it_grows_to_the_same(most: int, tmp_path: Path, timed: list[int]) -> None:
    larger, added, num_points = GROWN["all"]
    play(plan(), tmp_path / "run", PlayedExecutor())
    first = PlayedExecutor(most=most)
    with pytest.raises(KeyboardInterrupt):
        play(larger, tmp_path / "run", first)
    stopped = json.loads((tmp_path / "run/frontier.json").read_text())
    assert stopped["widths"] == [1, 2]  # and a bare --resume goes on with them
    document, said = play(larger, tmp_path / "run", second := PlayedExecutor())
    assert first.played + second.played == added
    assert said == [f"timing {num_points} networks in turn"]
    assert timed == [5, num_points]
    at_once, _ = play(larger, tmp_path / "at-once", PlayedExecutor())
    assert without_commands(document) == without_commands(at_once)


def test_the_same_words_change_no_bit(tmp_path: Path, timed: list[int]) -> None:
    larger = GROWN["all"][0]
    document, _ = play(plan(), tmp_path, PlayedExecutor())
    assert "grown_by" not in document
    document, _ = play(larger, tmp_path, PlayedExecutor())
    assert (document["environment"], document["grown_by"]) == ({"command": ["cpnas"]}, [{"command": ["cpnas"]}])
    written = (tmp_path / "frontier.json").read_bytes()
    _, said = play(larger, tmp_path, again := PlayedExecutor())
    assert (tmp_path / "frontier.json").read_bytes() == written
    assert (said, again.played, len(timed)) == ([], [], 2)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("there", "now", "words", "options"),
    [
        (plan("0.5,1"), plan("1,2"), "widths: 0.5,1 there, 1,2 now", "--widths 0.5,1,2"),
        (plan(seeds="0,1"), plan(seeds="1"), "seeds: 0,1 there, 1 now", "--seeds 0,1"),
        # int8 bytes of w, 2w, 2w, 4w, 4w channels and 2 classes: 9 (w + 30 w^2) + 8 w weights, 8 for each of 13 w + 2
        (plan(cnns="3,5"), plan(cnns="3"), "widths of the CNNs: 3,5 there, 3 now", "--baseline-bytes 2809,7371"),
        (plan("1,2", "3,5"), plan("1", "5"), "widths: 1,2 there, 1 now", "--widths 1,2 --baseline-bytes 2809,7371"),
    ],
)
def test_a_command_that_leaves_something_out_is_refused(
    there: FrontierPlan, now: FrontierPlan, words: str, options: str
) -> None:
    assert refusal(there, now, SHOWN) == (
        f"holds more than this command asks for ({words}); type {options}, or choose another --out"
    )


def test_the_sizes_to_type_are_those_of_the_same_cnns() -> None:
    for shape in (SHAPE, Surroundings(28, 1, 10), Surroundings(64, 3, 3)):
        for width in (*range(1, 40), 101, 256):
            assert plain_cnn_width(plain_cnn_size_bytes(width, shape), shape) == width


def test_a_genotype_is_searched_with_the_first_seed(tmp_path: Path, timed: list[int]) -> None:
    play(plan(seeds="1"), tmp_path / "searched", PlayedExecutor())
    with pytest.raises(RunError) as caught:
        play(plan(seeds="0,1"), tmp_path / "searched", PlayedExecutor())
    assert str(caught.value) == (
        f"{tmp_path / 'searched'} has searched with seed 1, the first of --seeds, and 0 is the first now; "
        "type --seeds 1,0, or choose another --out"
    )
    document, _ = play(plan(seeds="1,0"), tmp_path / "searched", PlayedExecutor())
    assert document["seeds"] == [1, 0]
    # of one that was given the order says nothing
    play(plan(seeds="1", found=FOUND), tmp_path / "given", PlayedExecutor())
    document, _ = play(plan(seeds="0,1", found=FOUND), tmp_path / "given", second := PlayedExecutor())
    assert second.played == ["width-1-seed-0", "cnn-3-seed-0"]
    assert document["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (plan(seeds="0,1", found=FOUND), "another genotype, or a search instead of one"),
        (plan(seeds="0,1", num_epochs=2), "train.num_epochs: 30 there, 2 now"),
    ],
)
def test_another_frontier_is_refused_also_where_it_is_larger(now: FrontierPlan, words: str) -> None:
    assert refusal(plan(), now, SHOWN) == f"holds another frontier ({words}); choose another --out"
