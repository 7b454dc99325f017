"""What a run folder holds, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest

from cpnas_cli.errors import CpnasError, RunError
from cpnas_cli.runs.folder import RunFolder, open_run
from cpnas_cli.settings import Config, config_yaml, load_config
from cpnas_cli.storage.documents import read_json


def one_line(error: BaseException) -> str:
    message = str(error)
    assert isinstance(error, CpnasError)
    assert message
    assert "\n" not in message
    return message


def start(path: Path, config: Config | None = None, **options: Any) -> RunFolder:
    """Opened, and left again."""
    options = {"resume": False, "environment": {"schema": "cpnas.environment/1"}} | options
    with open_run(path, config or load_config(), **options) as run:
        return run


def visible(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir() if not file.name.startswith("."))


def refused(path: Path, config: Config | None = None, **options: Any) -> str:
    """The message; the folder is as it was."""

    def contents() -> dict[Path, bytes | None]:
        return {p: p.read_bytes() if p.is_file() else None for p in [path, *path.rglob("*")]}

    before = contents()
    with pytest.raises(RunError) as caught:
        start(path, config, **options)
    assert contents() == before
    message = one_line(caught.value)
    assert str(path) in message
    assert "--out" in message
    return message


def test_a_new_run_holds_its_settings(tmp_path: Path) -> None:
    config = load_config(overrides=["seed=3"])
    owned = {"genotype.json": "{}\n"}
    run = start(tmp_path / "a" / "run", config, environment={"schema": "e", "torch": "2"}, owned=owned)
    assert visible(run.path) == ["config.yaml", "environment.json", "genotype.json"]
    assert run.config() == config
    assert run.file("config.yaml").read_text() == config_yaml(config)
    assert read_json(run.file("environment.json")) == {"schema": "e", "torch": "2"}
    assert run.file("genotype.json").read_text() == "{}\n"
    assert run.history() == []


@pytest.mark.parametrize("hidden", [None, ".gitkeep"])
def test_an_empty_folder_will_do(tmp_path: Path, hidden: str | None) -> None:
    if hidden:
        (tmp_path / hidden).touch()
    assert start(tmp_path).config() == load_config()


def test_a_folder_with_a_run_is_not_started_again(tmp_path: Path) -> None:
    start(tmp_path)
    message = refused(tmp_path)
    assert "already holds a run" in message
    assert "--resume" in message


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert "is not empty and holds no run" in refused(tmp_path)


@pytest.mark.parametrize("resume", [False, True])
def test_a_file_is_no_folder(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refused(tmp_path / "file", resume=resume)


def test_the_same_run_goes_on(tmp_path: Path) -> None:
    config = load_config(overrides=["train.learning_rate=1e-5", "network.real_parts=[preprocessing]"])
    start(tmp_path, config, owned={"genotype.json": "{}"}, environment={"first": True})
    run = start(tmp_path, config, owned={"genotype.json": "{}"}, environment={"first": False}, resume=True)
    assert run == RunFolder(tmp_path)
    assert read_json(tmp_path / "environment.json") == {"first": True}


def test_a_run_that_died_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    """config.yaml comes last; without it nothing was done yet."""
    start(tmp_path, owned={"genotype.json": "{}"})
    (tmp_path / "config.yaml").unlink()
    start(tmp_path, owned={"genotype.json": "{}"}, resume=True)
    assert (tmp_path / "config.yaml").exists()


def test_a_missing_folder_may_be_resumed(tmp_path: Path) -> None:
    """So that a job that is started again and again has one command line."""
    assert start(tmp_path / "run", resume=True).config() == load_config()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["search.beta_p=3"], "search.beta_p: 2.0 there, 3.0 now"),
        (["seed=1"], "seed: 0 there, 1 now"),
        (["network.real_parts=[preprocessing]"], "network.real_parts: [] there, ['preprocessing'] now"),
        (["seed=1", "train.num_epochs=7", "train.batch_size=8"], "seed: 0 there, 1 now (and 2 more)"),
    ],
)
def test_other_settings_are_another_run(tmp_path: Path, overrides: list[str], expected: str) -> None:
    start(tmp_path)
    message = refused(tmp_path, load_config(overrides=overrides), resume=True)
    assert f"was started with other settings: {expected}; " in message


def test_another_genotype_is_another_run(tmp_path: Path) -> None:
    start(tmp_path, owned={"genotype.json": "one"})
    assert "another genotype.json" in refused(tmp_path, owned={"genotype.json": "two"}, resume=True)


def test_a_search_is_not_resumed_as_a_training(tmp_path: Path) -> None:
    start(tmp_path)
    message = refused(tmp_path, owned={"networks.json": "[]"}, resume=True)
    assert "a run of another kind (it has no networks.json)" in message


def test_what_is_refused_is_not_made(tmp_path: Path) -> None:
    """Not even a lock: the folder may be of something else."""
    (tmp_path / "thesis.tex").write_text("mine")
    refused(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(RunError, match="choose another --out") as caught:
            start(path)
        assert str(path) in one_line(caught.value)


def test_what_a_killed_save_left_behind_goes(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.checkpoint.parent.mkdir()
    left = [tmp_path / ".result.json.x.tmp", run.checkpoint.parent / ".state.safetensors.x.tmp"]
    for file in left:
        file.write_text("half")
    start(tmp_path, resume=True)
    assert not any(file.exists() for file in left)
