"""`cpnas train` without a genotype: the shipped one, which it says, and which its folder keeps."""

import json
from pathlib import Path

import pytest
from command_line import error_of, invoke
from conftest import TINY_OPTIONS
from older_versions import without_checksum

SHIPPED = Path(__file__).parents[2] / "cpnas_cli" / "genotypes" / "fashion-mnist-small.json"
OPTIONS = [*TINY_OPTIONS, "--set", "train.num_epochs=2"]


def test_the_shipped_genotype_is_trained_and_kept_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stopped = invoke("train", *OPTIONS, "--max-time", "0.01s")
    assert stopped.exit_code == 75, stopped.output
    said = [line for line in stopped.stderr.splitlines() if line.startswith("genotype: ")]
    assert len(said) == 1
    for words in ("fashion-mnist-small", "88.40 %", "33.9 KiB", "cpnas search"):
        assert words in said[0]
    (folder,) = Path("runs").iterdir()
    assert folder.name == "digits-seed0-train"
    assert without_checksum(folder / "genotype.json") == json.loads(SHIPPED.read_text())
    answer = invoke("train", "--out", folder, "--resume", "--json")
    assert answer.exit_code == 0, answer.output
    assert "genotype: " not in answer.stderr
    result = json.loads(answer.stdout)
    assert result["num_epochs"] == 2
    assert result["genotype"] == json.loads(SHIPPED.read_text())


def test_resume_without_a_folder_still_asks_for_one() -> None:
    assert "--out FOLDER" in error_of(invoke("train", "--resume"), code=2)
