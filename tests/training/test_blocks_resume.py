"""A training of either block that is stopped after every epoch ends like an uninterrupted one."""

from pathlib import Path

import pytest
from conftest import RESIDUAL_SETTINGS, TINY_OPTIONS, CpnasRun
from killing import without_seconds

from cpnas_cli.search_space import draw_uniform
from cpnas_cli.storage.documents import write_json
from cpnas_cli.storage.genotype_file import genotype_document

RESIDUAL = [*RESIDUAL_SETTINGS, "train.num_epochs=2"]
SEPARABLE = [
    "network.block=separable",
    "train.num_epochs=2",
    "train.first_stage_epochs=1",
    "train.kernel_weight=0.001",
    "train.lambda_compactness=0.00001",
]
"""The published block and loss, in two stages."""


@pytest.mark.slow
@pytest.mark.parametrize("settings", [RESIDUAL, SEPARABLE], ids=["residual", "separable"])
def test_it_resumes_to_the_same_bits(cpnas: CpnasRun, tmp_path: Path, settings: list[str]) -> None:
    write_json(tmp_path / "genotype.json", genotype_document(draw_uniform(seed=0), provenance={}))
    options = [*TINY_OPTIONS, *(word for setting in settings for word in ("--set", setting))]
    words = ["train", "genotype.json", "--with-parent", *options]
    answer = cpnas(*words, "--out", "whole")
    assert answer.returncode == 0, answer.stderr
    codes = [cpnas(*words, "--out", "run", "--max-time", "0.01s").returncode]
    while codes[-1] == 75:
        codes.append(
            cpnas(
                "train", "genotype.json", "--with-parent", "--out", "run", "--resume", "--max-time", "0.01s"
            ).returncode
        )
    assert codes == [75, 75, 75, 0]
    run, whole = tmp_path / "run", tmp_path / "whole"
    for name in ("model.safetensors", "parent.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert without_seconds(run / "history.jsonl") == without_seconds(whole / "history.jsonl")
