"""What a task tells the experiment beside its end, and taking over from a member that has lost its checkpoint."""

import json
from pathlib import Path

import pytest
import torch
from conftest import TINY_SETTINGS
from played_experiments import PlayedExecutor, play, random_plan
from safetensors.torch import load_file

from cpnas_cli.experiments.plan import ExperimentFolder
from cpnas_cli.experiments.tasks import Circumstances, SearchTask, Task, TaskEnd, TrainingTask, run_task
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import load_config
from cpnas_cli.storage.documents import write_json
from cpnas_cli.training import training

CONFIG = load_config(overrides=[*TINY_SETTINGS, "train.num_epochs=2"])
FIRST, SECOND = random_plan(2, config=CONFIG).members


@pytest.fixture
def place(tmp_path: Path) -> ExperimentFolder:
    """Two real searches that have found the same, and the training of the first."""
    folder = ExperimentFolder(tmp_path / "run")
    for member in (FIRST, SECOND):
        assert run_task(SearchTask(circumstances(folder), member)) == TaskEnd("done")
    genotypes = [folder.search(member.name).file(RunFolder.GENOTYPE) for member in (FIRST, SECOND)]
    genotypes[1].write_bytes(genotypes[0].read_bytes())
    assert run_task(TrainingTask(circumstances(folder), FIRST)) == TaskEnd("done")
    return folder


def circumstances(folder: ExperimentFolder, **values: float) -> Circumstances:
    return Circumstances(folder.path, "cpu", ("cpnas",), **values)


@pytest.mark.parametrize("damage", ["gone", "damaged", "killed while it was taken over"])
def test_without_a_checkpoint_to_take_over_it_trains_to_the_same_bits(place, damage):
    task = TrainingTask(circumstances(place), SECOND, same_as=FIRST.name)
    source, target = place.training(FIRST.name), place.training(SECOND.name)
    if damage == "damaged":
        source.checkpoint.write_bytes(b"not a checkpoint")
    else:
        source.checkpoint.unlink()
    if damage == "killed while it was taken over":
        run_task(TrainingTask(circumstances(place, stop_at=0.0), SECOND))  # makes the folder
        target.checkpoint.unlink()
        history = source.file(RunFolder.HISTORY).read_text()
        target.file(RunFolder.HISTORY).write_text(history + history)
        target.file(RunFolder.BRANCH).write_text(json.dumps({"from": FIRST.name}))
    end = run_task(task)
    assert end.state == "done", end.reason
    (note,) = end.notes
    assert note.startswith(f"it trains what {FIRST.name} has trained: ")
    assert ("is gone" in note) == (damage != "damaged")
    weights, expected = (load_file(run.file(RunFolder.MODEL)) for run in (target, source))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert not target.file(RunFolder.BRANCH).exists()
    epochs = [json.loads(line)["epoch"] for line in target.file(RunFolder.HISTORY).read_text().splitlines()]
    assert epochs == [0, 1]


def test_what_a_run_notes_is_in_the_end_of_its_task(place, monkeypatch):
    def not_compiled(network, *_, **__):
        return network, "no compiler"

    monkeypatch.setattr(training, "compile_network", not_compiled)
    compiled = load_config(overrides=[*TINY_SETTINGS, "train.num_epochs=2", "train.compile=true"])
    (member,) = random_plan(1, config=compiled).members
    folder = ExperimentFolder(place.path.parent / "compiled")
    run_task(SearchTask(circumstances(folder), member))
    end = run_task(TrainingTask(circumstances(folder, stop_at=0.0), member))
    assert end.state == "stopped"
    assert end.notes == ("the child is trained without torch.compile: no compiler",)  # and not that it is compiling
    file = folder.training(member.name).file(RunFolder.ENVIRONMENT)
    write_json(file, {**json.loads(file.read_text()), "num_threads": 64})
    end = run_task(TrainingTask(circumstances(folder), member))
    assert end.notes[0] == "num_threads differs from the start of the run, so the bits will too (64)"


# ---------------------------------------------------------------- what the user is told


class NotingExecutor(PlayedExecutor):
    """All trainings note one thing, the second one's another thing too."""

    def _play(self, task: Task) -> TaskEnd:
        end = super()._play(task)
        if isinstance(task, SearchTask):
            return end
        return TaskEnd("done", notes=("all", "one") if task.member.name == SECOND.name else ("all",))


def different(member) -> int:
    return int(member.name[-1])


def test_a_note_is_said_once_and_counted_and_kept_in_the_document(tmp_path):
    document, said = play(random_plan(3), tmp_path / "run", NotingExecutor(different))
    assert said == [f"note: {FIRST.name}: all", f"note: {SECOND.name}: one", "note: 3 members: all"]
    assert [member["notes"] for member in document["members"]] == [["all"], ["all", "one"], ["all"]]
    again, said = play(random_plan(3), tmp_path / "run")
    assert said == []
    assert again == document


def test_notes_go_with_the_folder_they_are_about(tmp_path):
    play(random_plan(3), tmp_path / "run", NotingExecutor(different))
    for file in (tmp_path / "run/members" / SECOND.name).rglob("*.*"):
        file.unlink()
    document, _ = play(random_plan(3), tmp_path / "run", PlayedExecutor(different))
    assert [member.get("notes") for member in document["members"]] == [["all"], None, ["all"]]


def test_a_member_that_trains_again_what_is_lost_says_so(tmp_path):
    play(random_plan(2), tmp_path / "run")
    members = tmp_path / "run/members"
    (members / FIRST.name / "checkpoint/state.safetensors").unlink()
    for file in (members / SECOND.name).rglob("*.*"):
        file.unlink()
    executor = PlayedExecutor()
    document, said = play(random_plan(2), tmp_path / "run", executor)
    note = f"it trains what {FIRST.name} has trained: the checkpoint of {FIRST.name} is gone"
    assert said == [f"note: {SECOND.name}: {note}"]
    assert executor.trained == [SECOND.name]
    assert document["members"][1]["notes"] == [note]
    assert document["members"][1]["state"] == "finished"
