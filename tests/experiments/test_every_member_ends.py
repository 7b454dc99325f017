"""At the end every member is finished by its own run, or failed and named; nothing is taken for what it is not."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from played_experiments import PlayedExecutor, errors, genotype, play, random_plan, states

from cpnas_cli.cli.views.experiments import ExperimentView
from cpnas_cli.experiments.tasks import Task, TaskEnd, TrainingTask
from cpnas_cli.storage.genotype_file import genotype_document

FIRST, SECOND, THIRD = (f"random-seed-0-draw-{draw}" for draw in range(3))
FAILED = TaskEnd("failed", "a reason")


def trainings_first(tasks: Sequence[Task]) -> int:
    return next((index for index, task in enumerate(tasks) if isinstance(task, TrainingTask)), 0)


def test_a_genotype_whose_training_failed_for_good_is_trained_by_the_next_that_finds_it(tmp_path):
    def ends(task: Task) -> TaskEnd | None:
        return FAILED if isinstance(task, TrainingTask) and task.member.name == FIRST else None

    # two at a time: the first one's training has failed twice when the second one's search ends
    executor = PlayedExecutor(ends=ends, choose=trainings_first, num_slots=2)
    document, _ = play(random_plan(2), tmp_path / "run", executor)
    assert errors(document) == {FIRST: "training: a reason"}
    assert states(document)[SECOND] == "finished"
    assert executor.trained == [FIRST, FIRST, SECOND]


def test_two_deleted_members_take_over_from_the_third_that_has_their_genotype(tmp_path):
    plan = random_plan(3)
    before, _ = play(plan, tmp_path / "run")
    for name in (FIRST, SECOND):
        shutil.rmtree(tmp_path / "run/members" / name)
    executor = PlayedExecutor()
    document, _ = play(plan, tmp_path / "run", executor)
    assert set(states(document).values()) == {"finished"}
    assert executor.trained == []
    assert [task.member.name for task in executor.tasks] == [FIRST, SECOND]
    accuracies = {member["accuracy_test"] for member in [*document["members"], *before["members"]]}
    assert len(accuracies) == 1


def edit(file: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON or YAML file by hand."""
    is_yaml = file.suffix == ".yaml"
    document = (yaml.safe_load if is_yaml else json.loads)(file.read_text())
    change(document)
    file.write_text(yaml.safe_dump(document) if is_yaml else json.dumps(document))


OTHER = genotype_document(genotype(1), provenance={})
GENOTYPE_LINE = "genotype: normal 0->2 max_pool_3x3 there, skip_connect now"


@pytest.mark.parametrize(
    ("file", "change", "difference"),
    [
        ("members/{}/result.json", {"genotype": OTHER}, GENOTYPE_LINE),
        ("members/{}/result.json", {"seed": 1}, "seed: 1 there, 0 now"),
        ("members/{}/result.json", {"network": "parent"}, "network: 'parent' there, 'child' now"),
        ("members/{}/genotype.json", OTHER, GENOTYPE_LINE),
        ("members/{}/config.yaml", {"seed": 1}, "seed: 1 there, 0 now"),
        ("members/{}/config.yaml", {"train": {"num_epochs": 7}}, "train.num_epochs: 7 there, 40 now"),
        ("members/{}/dataset.json", {"hash": "4567"}, "dataset.hash: '4567' there, '0123' now"),
        ("searches/{}/config.yaml", {"seed": 1}, "seed: 1 there, 0 now"),
        ("searches/{}/dataset.json", {"num_train_images": 30}, "dataset.num_train_images: 30 there, 40 now"),
    ],
)
def test_what_belongs_to_another_run_is_named_and_neither_used_nor_touched(tmp_path, file, change, difference):
    plan, folder = random_plan(2), tmp_path / "run"
    play(plan, folder)
    path = folder / file.format(FIRST)
    edit(path, lambda document: document.update(change))
    shutil.rmtree(folder / "members" / SECOND)
    before = contents(path.parent)
    executor = PlayedExecutor()
    document, said = play(plan, folder, executor)
    assert list(errors(document)) == [FIRST]
    line = errors(document)[FIRST]
    assert f"{path.parent} holds another run ({difference})" in line
    assert line.endswith("; remove it or choose another --out")
    assert any(line in text for text in said)
    assert contents(path.parent) == before
    assert states(document)[SECOND] == "finished"
    assert executor.trained == [SECOND]  # it takes nothing over from there
    assert "accuracy_test" not in document["members"][0]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_search_that_found_another_genotype_is_not_paired_with_the_old_accuracy(tmp_path):
    plan, folder = random_plan(2), tmp_path / "run"
    play(plan, folder)
    shutil.rmtree(folder / "searches" / FIRST)
    document, _ = play(plan, folder, PlayedExecutor(lambda _: 1))  # as on another processor
    difference = "genotype: normal 0->2 skip_connect there, max_pool_3x3 now"
    assert f"holds another run ({difference})" in errors(document)[FIRST]
    assert states(document)[SECOND] == "finished"


@pytest.mark.parametrize(
    "text",
    ["", '{"schema": "cpnas.result/1", "accu', "[]", "{}", '{"accuracy_test": "high"}', "\xff"],
)
def test_a_damaged_result_fails_its_member_alone_and_without_a_traceback(tmp_path, text):
    plan, folder = random_plan(3), tmp_path / "run"
    play(plan, folder)
    (folder / "members" / FIRST / "result.json").write_text(text, encoding="latin-1")
    shutil.rmtree(folder / "members" / THIRD)
    document, _ = play(plan, folder, watch=ExperimentView(plan).watch)
    assert list(errors(document)) == [FIRST]
    assert "result.json" in errors(document)[FIRST]
    assert states(document) == {FIRST: "failed", SECOND: "finished", THIRD: "finished"}
