"""A small part of the fault suite; all of it: `python -m tests.faults` (docs/robustness.md)."""

import os
import shutil
import stat
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import torch

import cpnas_cli
from cpnas_cli.storage.documents import MODEL_SCHEMA
from cpnas_cli.storage.tensors import load_tensors, save_tensors

sys.path.insert(0, os.path.dirname(__file__))

import another_user
import changed_between
import changed_bytes
import killed_commands
import made_runs
import small_disks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `search/` and `training/`; a test leaves them as they are."""
    folder = tmp_path_factory.mktemp("faults")
    made_runs.make(folder, export=False)
    return folder


FILES = [name for name in changed_bytes.READERS if not name.endswith("packed.safetensors")]


@pytest.mark.parametrize("name", FILES)
def test_no_change_to_a_file_of_a_run_is_another_answer_in_silence(folder: Path, name: str) -> None:
    found = changed_bytes.outcomes(folder, name, seed=0, num_changes=12)
    assert found["WRONG"] == 0, found
    assert found["refused"] > 12
    assert found["noted"] == 0 or name.endswith("genotype.json")  # which people write by hand


def test_what_is_read_otherwise_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle sees a reader that takes whatever there is."""
    monkeypatch.setitem(changed_bytes.READERS, "training/config.yaml", lambda path: path.read_bytes().decode("latin-1"))
    found = changed_bytes.outcomes(folder, "training/config.yaml", seed=0, num_changes=5)
    assert found == Counter({"WRONG": 15})


HOSTILE = "[/x]\x1b[31m\u202e"


@pytest.mark.slow
def test_a_folder_whose_name_is_markup_and_commands_is_a_name(folder: Path) -> None:
    out = folder / "r" / HOSTILE
    ended = made_runs.run(folder / "log", *killed_commands.COMMANDS["train"].words(folder, out))
    printed = (folder / "log.out").read_text()
    assert ended.code == 0, ended.stderr
    assert killed_commands.digest(out) == killed_commands.digest(folder / "training")
    assert "[/x]\\x1b[31m\\u202e" in "".join(printed.split())
    assert not {"\x1b", "\u202e"} & set(printed + ended.stderr)


def test_the_name_of_a_tensor_commands_no_terminal(folder: Path) -> None:
    """In a file whose checksum is right."""
    run = folder / "hostile"
    shutil.copytree(folder / "training", run)
    model = run / "model.safetensors"
    tensors, state = load_tensors(model, schema=MODEL_SCHEMA)
    save_tensors(model, {**tensors, HOSTILE: torch.zeros(2)}, schema=MODEL_SCHEMA, state=state)
    for command in ("evaluate", "export", "report"):
        ended = made_runs.run(folder / "log", command, str(run))
        assert ended.code == (0 if command == "report" else 1), ended.stderr
        text = ended.stderr + (folder / "log.out").read_text()
        assert not {"\x1b", "\u202e"} & set(text)
        assert command == "report" or "model.safetensors" in text


@pytest.mark.slow
def test_a_clock_that_is_set_back_changes_nothing(folder: Path) -> None:
    assert killed_commands.clock_set_back(folder)


@pytest.mark.slow
def test_two_of_every_command_at_once(folder: Path) -> None:
    found = killed_commands.two_at_once(folder, ("search", "train", "report"))
    for name, counted in found.items():
        assert counted["worked"] + counted["refused"] == 2, (name, counted)
        assert counted["as undisturbed"] == counted["worked"] >= 1, (name, counted)


@pytest.mark.slow
def test_killed_search_and_training_go_on_to_the_same_bytes(folder: Path) -> None:
    for name, counted in killed_commands.kill_and_go_on(folder, seed=1, names=("search", "train") * 2).items():
        assert counted["as undisturbed"] == 2, (name, counted)
        assert counted["left behind"] == 0, (name, counted)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_killed_frontier_goes_on_to_the_same_bytes(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    found = killed_commands.kill_and_go_on(folder, seed=1, names=("frontier",))["frontier"]
    assert (found["as undisturbed"], found["left behind"]) == (1, 0), found


@pytest.mark.slow
def test_what_is_changed_before_a_resumption_is_refused_by_name(folder: Path) -> None:
    wrong = {name: outcome for name, outcome in changed_between.outcomes(folder).items() if "DIFFERENT" in outcome}
    assert not wrong


@pytest.mark.slow
def test_disks_without_room(folder: Path) -> None:
    try:
        found = small_disks.outcomes(folder, run_kibibytes=(32,))
    except PermissionError as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    assert not {name: outcome for name, outcome in found.items() if "DIFFERENT" in outcome}


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_user_who_owns_nothing_but_a_folder() -> None:
    if not all(parent.stat().st_mode & stat.S_IXOTH for parent in Path(cpnas_cli.__file__).parents):
        pytest.skip("the package lies where no other user may look")
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are for nobody else
        made_runs.make(Path(name), export=False)
        found = another_user.outcomes(Path(name))
    assert not {name: outcome for name, outcome in found.items() if "DIFFERENT" in outcome}
