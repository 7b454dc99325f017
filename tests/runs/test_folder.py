"""What a run folder holds, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
from older_versions import drop_checksums

from cpnas_cli.errors import CpnasError, RunError, UsageError
from cpnas_cli.runs.folder import RunFolder, open_run
from cpnas_cli.search_space import draw_uniform
from cpnas_cli.settings import Config, config_yaml, load_config
from cpnas_cli.storage.documents import read_json
from cpnas_cli.storage.genotype_file import genotype_document


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
    owned = {"training.json": {"networks": ["child"]}}
    run = start(tmp_path / "a" / "run", config, environment={"schema": "e", "torch": "2"}, owned=owned)
    assert visible(run.path) == ["config.yaml", "environment.json", "training.json"]
    assert run.config() == config
    assert run.file("config.yaml").read_text() == config_yaml(config)
    environment = read_json(run.file("environment.json"))
    assert len(environment.pop("config_blake2b")) == 32
    assert environment == {"schema": "e", "torch": "2"}
    assert read_json(run.file("training.json")) == {"networks": ["child"]}
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
    start(tmp_path, config, owned={"training.json": {"networks": ["child"]}}, environment={"first": True})
    run = start(
        tmp_path, config, owned={"training.json": {"networks": ["child"]}}, environment={"first": False}, resume=True
    )
    assert run == RunFolder(tmp_path)
    assert read_json(tmp_path / "environment.json")["first"] is True


def test_a_run_that_died_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    """config.yaml comes last; without it nothing was done yet."""
    start(tmp_path, owned={"training.json": {"networks": ["child"]}})
    (tmp_path / "config.yaml").unlink()
    start(tmp_path, owned={"training.json": {"networks": ["child"]}}, resume=True)
    assert (tmp_path / "config.yaml").exists()


def test_a_missing_folder_may_be_resumed(tmp_path: Path) -> None:
    """So that a job that is started again and again has one command line."""
    assert start(tmp_path / "run", resume=True).config() == load_config()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["search.beta_p=3"], "search.beta_p: 0.25 there, 3.0 now"),
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
    """Whoever found it."""
    one, other = (draw_uniform(seed=0, draw=draw) for draw in range(2))
    start(tmp_path, owned={"genotype.json": genotype_document(one, provenance={"seed": 0, "device": "cpu"})})
    start(tmp_path, owned={"genotype.json": genotype_document(one, provenance={"seed": 1})}, resume=True)
    message = refused(tmp_path, owned={"genotype.json": genotype_document(other, provenance={"seed": 0})}, resume=True)
    assert "another genotype.json" in message


def test_the_same_images_are_the_same_run_whatever_rounds_their_mean(tmp_path: Path) -> None:
    images = {"sha256": "abc", "classes": ["a", "b"], "mean": [0.5], "std": [0.25]}
    start(tmp_path, owned={"dataset.json": images})
    start(tmp_path, owned={"dataset.json": images | {"mean": [0.50000001], "std": [0.2499999]}}, resume=True)
    start(tmp_path, owned={"dataset.json": images | {"skipped": {"num_files": 1}}}, resume=True)  # a note beside them
    for other in ({"sha256": "abd"}, {"classes": ["a"]}, {"more": 1}):
        assert "other images" in refused(tmp_path, owned={"dataset.json": images | other}, resume=True)
    fewer = {key: value for key, value in images.items() if key != "sha256"}
    assert "other images" in refused(tmp_path, owned={"dataset.json": fewer}, resume=True)


def test_other_networks_are_another_run(tmp_path: Path) -> None:
    start(tmp_path, owned={"training.json": {"networks": ["child"]}})
    message = refused(tmp_path, owned={"training.json": {"networks": ["child", "parent"]}}, resume=True)
    assert "another training.json" in message


def test_a_search_is_not_resumed_as_a_training(tmp_path: Path) -> None:
    start(tmp_path)
    message = refused(tmp_path, owned={"networks.json": {}}, resume=True)
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
    names = [".result.json.x.tmp", ".model.safetensors.x.tmp", "..lock.json.x.tmp", ".config.yaml.x.tmp"]
    left = [*map(run.file, names), run.checkpoint.parent / ".state.safetensors.x.tmp"]
    others = [tmp_path / ".thesis.tex.x.tmp", tmp_path / ".tmp", run.checkpoint.parent / ".result.json.x.tmp"]
    for file in [*left, *others]:
        file.write_text("half")
    start(tmp_path, resume=True)
    assert not any(file.exists() for file in left)
    assert all(file.exists() for file in others)


def test_in_a_folder_without_a_run_nothing_is_a_leftover(tmp_path: Path) -> None:
    (tmp_path / ".result.json.x.tmp").write_text("half")
    start(tmp_path)
    assert (tmp_path / ".result.json.x.tmp").exists()


def test_settings_that_an_older_version_wrote_are_read_and_gone_on_with(tmp_path: Path) -> None:
    """They need not fit together as those of a new run must; a value out of range is refused as ever."""
    start(tmp_path)
    written = tmp_path / "config.yaml"
    text = written.read_text()
    for key, value in (("frozen_epochs: 15", "frozen_epochs: 50"), ("warmup_epochs: 0", "warmup_epochs: 40")):
        assert text.count(key) == 1
        text = text.replace(key, value)
    written.write_text(text)
    drop_checksums(tmp_path)
    config = RunFolder(tmp_path).config()
    assert (config.pcdarts.frozen_epochs, config.train.warmup_epochs) == (50, 40)
    start(tmp_path, config, resume=True)
    written.write_text(text.replace("frozen_epochs: 50", "frozen_epochs: -1"))
    with pytest.raises(UsageError, match=r"pcdarts\.frozen_epochs"):
        RunFolder(tmp_path).config()
