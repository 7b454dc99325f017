"""A frontier whose tasks are played: what is left after a kill goes on, and a member that fails takes no other."""

import json
from pathlib import Path
from typing import Any

import pytest
from played_experiments import genotype, write
from played_frontiers import FAMILIES, PlayedExecutor, accuracy_of, play, play_timing

from cpnas_cli.errors import MaxTimeReached, RunError
from cpnas_cli.experiments.frontier.plan import FrontierPlan, make_plan
from cpnas_cli.experiments.tasks import TaskEnd
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.settings import load_config
from cpnas_cli.storage.genotype_file import genotype_document

FOUND = genotype_document(genotype(2), provenance={})


def plan(*, found: Any = None, seeds: tuple[int, ...] = (0, 1)) -> FrontierPlan:
    shape = Surroundings(8, 1, 2)
    return make_plan(load_config(), genotype=found, widths=(1, 2), baseline_bytes=(4096,), seeds=seeds, shape=shape)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many points were measured, each time."""
    return play_timing(monkeypatch)


ALL = ["search", "width-1-seed-0", "width-2-seed-0", "cnn-3-seed-0", "width-1-seed-1", "width-2-seed-1", "cnn-3-seed-1"]


def test_every_point_has_its_seeds(tmp_path: Path, timed: list[int]) -> None:
    executor = PlayedExecutor()
    document, said = play(plan(), tmp_path / "run", executor)
    assert executor.played == ALL
    assert said == ["timing 8 networks in turn"]
    assert timed == [8]
    assert document["genotype"] == FOUND | {"provenance": {"seed": 0}}
    points = {(point["family"], point["width"]): point for point in document["points"]}
    assert list(points) == [(family, width) for family in FAMILIES["genotype"] for width in (1.0, 2.0)] + [
        (family, 3.0) for family in FAMILIES["cnn"]
    ]
    by_name = {member.name: member for member in plan().members}
    for (family, width), point in points.items():
        stem = f"width-{width:g}" if family in FAMILIES["genotype"] else f"cnn-{width:g}"
        first, second = (accuracy_of(by_name[f"{stem}-seed-{seed}"], family) for seed in (0, 1))
        assert [row["accuracy_test"] for row in point["accuracies"]] == [first, second]
        assert point["accuracy_test_mean"] == pytest.approx((first + second) / 2)
        assert point["accuracy_test_std"] == pytest.approx(abs(first - second) / 2**0.5)
        assert (point["n"], point["seconds_median"], point["seconds_p90"]) == (2, 1e-3, 2e-3)
    assert {point["num_channels"] for point in document["points"]} == {3, 16, 32}
    assert {member["seconds"] for member in document["members"]} == {None, 1.0, 3.0}


@pytest.mark.parametrize("most", range(len(ALL)))
def test_a_frontier_that_is_interrupted_goes_on_to_the_same_document(
    most: int, tmp_path: Path, timed: list[int]
) -> None:
    whole, _ = play(plan(), tmp_path / "whole", PlayedExecutor())
    first, second = PlayedExecutor(most=most), PlayedExecutor()
    with pytest.raises(KeyboardInterrupt):
        play(plan(), tmp_path / "run", first)
    document, _ = play(plan(), tmp_path / "run", second)
    assert (first.played, second.played) == (ALL[:most], ALL[most:])
    assert document == whole


def test_nothing_is_trained_or_measured_twice(tmp_path: Path, timed: list[int]) -> None:
    asked, again = plan(found=FOUND, seeds=(0,)), PlayedExecutor()
    document, _ = play(asked, tmp_path / "run", PlayedExecutor())
    assert play(asked, tmp_path / "run", again)[0] == document
    assert (again.played, timed) == ([], [8])
    play(asked, tmp_path / "run", again, measure_again=True)
    assert (again.played, timed) == ([], [8, 8])


def test_a_member_that_fails_takes_no_other_with_it(tmp_path: Path, timed: list[int]) -> None:
    bad = "width-2-seed-0"
    executor = PlayedExecutor(ends=lambda name: TaskEnd("failed", "no memory") if name == bad else None)
    document, said = play(plan(), tmp_path / "run", executor)
    assert executor.played == [*ALL[:3], bad, *ALL[3:]]
    assert {m["name"]: m["error"] for m in document["members"] if m["state"] == "failed"} == {bad: "no memory"}
    assert said[:2] == [f"{bad} failed and is tried again: no memory", f"{bad}: given up: no memory"]
    assert [point["n"] for point in document["points"] if point["width"] == 2] == [1, 1, 1]
    assert f"1 of 7 members failed and are missing: {bad}" in document["warnings"]
    play(plan(), tmp_path / "run", second := PlayedExecutor())
    assert second.played == [bad]


def test_without_a_genotype_the_cnns_are_trained_all_the_same(tmp_path: Path, timed: list[int]) -> None:
    executor = PlayedExecutor(ends=lambda name: TaskEnd("failed", "gone") if name == "search" else None)
    document, _ = play(plan(seeds=(0,)), tmp_path / "run", executor)
    assert executor.played == ["search", "search", "cnn-3-seed-0"]
    assert [point["family"] for point in document["points"]] == FAMILIES["cnn"]
    errors = {member["name"]: member["error"] for member in document["members"] if member["error"]}
    assert errors == {
        "search": "gone",
        "width-1-seed-0": "the search has found no genotype",
        "width-2-seed-0": "the search has found no genotype",
    }


def test_max_time_is_handed_on(tmp_path: Path, timed: list[int]) -> None:
    executor = PlayedExecutor(
        ends=lambda name: TaskEnd("stopped", "stopped: no time") if name == "width-1-seed-0" else None
    )
    with pytest.raises(MaxTimeReached, match="stopped: no time"):
        play(plan(), tmp_path / "run", executor)
    assert executor.played == ["search", "width-1-seed-0"]
    assert timed == []
    play(plan(), tmp_path / "run", second := PlayedExecutor())
    assert second.played == ALL[1:]


def test_a_folder_of_another_run_is_refused_and_left_as_it_was(tmp_path: Path, timed: list[int]) -> None:
    play(plan(found=FOUND, seeds=(0,)), tmp_path / "run", PlayedExecutor())
    before = (tmp_path / "run/frontier.json").read_bytes()
    with pytest.raises(RunError, match=r"holds another frontier \(another genotype, or a search.*choose another --out"):
        play(plan(seeds=(0,)), tmp_path / "run", PlayedExecutor())
    assert (tmp_path / "run/frontier.json").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other/experiment.json").write_text("{}")
    with pytest.raises(RunError, match="is not empty and holds no frontier; choose another --out"):
        play(plan(), tmp_path / "other", PlayedExecutor())


def test_what_lies_in_a_members_folder_must_be_its_own(tmp_path: Path, timed: list[int]) -> None:
    asked = plan(found=FOUND, seeds=(0,))
    play(asked, tmp_path / "run", PlayedExecutor())
    for name, file, key, value in (
        ("width-1-seed-0", "dataset.json", "hash", "4567"),
        ("cnn-3-seed-0", "training.json", "width", 4),
    ):
        path = tmp_path / "run/members" / name / file
        write(path, json.loads(path.read_text()) | {key: value})
    document, _ = play(asked, tmp_path / "run", again := PlayedExecutor())
    assert again.played == []
    errors = {member["name"]: member["error"] for member in document["members"] if member["error"]}
    assert "width-1-seed-0 holds another run (dataset.hash: '4567' there, '0123' now)" in errors["width-1-seed-0"]
    assert "cnn-3-seed-0 holds another run (training.width: 4 there, 3 now)" in errors["cnn-3-seed-0"]
    assert {point["width"] for point in document["points"]} == {2.0}


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": "cpnas.experiment/1"}', '{"schema": "cpnas.frontier/1"}'])
def test_a_damaged_document_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "frontier.json").write_text(text)
    with pytest.raises(RunError) as caught:
        play(plan(), tmp_path, PlayedExecutor())
    assert "\n" not in str(caught.value)
