"""A frontier on several worker processes and on Ray: the same networks as in one, to the last bit."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_OPTIONS, run_cpnas
from played_experiments import genotype, write

from cpnas_cli.storage.genotype_file import genotype_document

WORDS = [*TINY_OPTIONS, "--set", "train.num_epochs=1", "--widths", "1", "--baseline-bytes", "2KiB", "--seeds", "0,1"]


def run(folder: Path, *words: str) -> dict[str, Any]:
    write(folder / "genotype.json", genotype_document(genotype(2), provenance={}))
    answer = run_cpnas(folder, "frontier", "genotype.json", *WORDS, "--out", "run", "--json", *words, timeout=280)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def without_times(document: Any) -> Any:
    """Nor the advice on times, and where it ran."""
    if isinstance(document, dict):
        kept = {key: value for key, value in document.items() if not key.startswith("seconds")}
        return {key: without_times(kept[key]) for key in kept.keys() - {"environment", "timing", "advice"}}
    return [without_times(value) for value in document] if isinstance(document, list) else document


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Folder and document of the frontier on one worker."""
    folder = tmp_path_factory.mktemp("alone")
    return folder / "run", run(folder)


@pytest.mark.parametrize(
    "where",
    [
        pytest.param(["--workers", "2"], id="workers", marks=pytest.mark.slow(seconds=40)),
        pytest.param(["--ray", "local"], id="ray", marks=pytest.mark.long),
    ],
)
def test_wherever_members_run_the_frontier_is_the_same(
    where: list[str], alone: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    if "--ray" in where:
        pytest.importorskip("ray")
    folder, expected = alone
    document = run(tmp_path, *where)
    assert {member["state"] for member in document["members"]} == {"finished"}
    assert len(document["members"]) == 4
    assert without_times(document) == without_times(expected)
    assert all(point["seconds_median"] > 0 for point in document["points"])
    for model in sorted(folder.glob("members/*/*.safetensors")):
        assert (tmp_path / "run" / model.relative_to(folder)).read_bytes() == model.read_bytes()
