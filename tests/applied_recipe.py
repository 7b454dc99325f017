"""A recipe of docs/recipes.md carried out on a copy of the package, and the commands of that copy."""

import json
import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

from forks import fork

import cpnas_cli
from cpnas_cli.settings import presets_folder

RECIPES = Path(__file__).parents[1] / "docs" / "recipes.md"
REGISTRY = "cpnas_cli/registry.py"

Run = Callable[..., subprocess.CompletedProcess[str]]


def blocks_of(section: str) -> dict[str, str]:
    """{what the first line's comment says: the lines below} of the Python blocks of a section."""
    text = RECIPES.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    blocks = (textwrap.dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```$", text, re.S | re.M))
    return {head.removeprefix("# "): rest for head, _, rest in (block.partition("\n") for block in blocks)}


def apply_recipe(section: str, *, table: str, folder: Path) -> Path:
    """A copy of the package in the folder, with the recipe's one file and its one line at the end of the table.

    Returns the path of the new file.
    """
    copy = folder / "copy"
    shutil.copytree(Path(cpnas_cli.__file__).parent, copy / "cpnas_cli")
    shutil.copytree(presets_folder(), copy / "presets", dirs_exist_ok=True)
    blocks = blocks_of(section)
    line = blocks.pop(f"{REGISTRY}, in {table}")
    ((name, source),) = blocks.items()
    assert line.count("\n") == 1
    assert not (copy / name).exists()
    (copy / name).write_text(source, encoding="utf-8")
    before, opening, after = (copy / REGISTRY).read_text(encoding="utf-8").partition(f"{table}: dict[str, str] = {{\n")
    entries, closing, rest = after.partition("\n}\n")
    assert opening
    assert closing
    (copy / REGISTRY).write_text(f"{before}{opening}{entries}\n{line.rstrip()}{closing}{rest}", encoding="utf-8")
    return copy / name


def runner_of(folder: Path) -> Run:
    """`cpnas WORDS` of the copy in the folder, which must succeed unless `code` says otherwise.

    With `program` that Python text, for which `import cpnas_cli` is the copy, in place of `cpnas`.
    """

    def run(
        *words: str | Path,
        code: int = 0,
        timeout: float = 240,
        program: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        own = {"PYTHONPATH": str(folder / "copy"), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        whole = {**os.environ, **own, **(environment or {})}
        process = fork(folder, words, environment=whole, program=program)
        stdout, stderr = process.communicate(timeout=timeout)
        assert process.returncode == code, stderr
        return subprocess.CompletedProcess(words, code, stdout, stderr)

    return run


# Writes the test images of a trained Child as files, and prints the class that PyTorch gives each of them.
BY_PYTORCH = """
import sys
from pathlib import Path

import torch
from PIL import Image

from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import load_dataset
from cpnas_cli.networks.network import build_network
from cpnas_cli.settings import Config
from cpnas_cli.storage.documents import MODEL_SCHEMA
from cpnas_cli.storage.genotype_file import parse_genotype
from cpnas_cli.storage.tensors import load_tensors

torch.set_num_threads(1)
tensors, state = load_tensors(Path("training/model.safetensors"), schema=MODEL_SCHEMA)
config = Config.model_validate(state["config"])
shape = {"num_image_channels": state["num_image_channels"], "num_classes": len(state["classes"])}
genotype = parse_genotype(state["genotype"])
network = build_network(config.network, precision="binary", **shape, seed=0, genotype=genotype)
network.load_state_dict(tensors)
test = load_dataset(config.data).test
pipeline = Pipeline(config.data, tuple(state["mean"]), tuple(state["std"]))
with torch.no_grad():
    logits = network.eval()(pipeline.normalize(test.images)).logits
Path("images").mkdir()
for index, (image, label) in enumerate(zip(test.images, logits.argmax(dim=1).tolist())):
    Image.fromarray(image[0].numpy()).save(f"images/{index:03d}.png")
    print(state["classes"][label])
print(*[state["classes"][label] for label in test.labels.tolist()], file=sys.stderr)
"""


def check_prediction(run: Run, folder: Path) -> None:
    """The packed model of `training` gives every test image, read from a file, the class that PyTorch gives it.

    And as many of them are right as `cpnas evaluate` says.
    """
    run("export", "training", "--out", "model.safetensors")
    answer = run(program=BY_PYTORCH)
    by_pytorch, labels = answer.stdout.split(), answer.stderr.split()
    predicted = [line.split("\t")[1] for line in run("predict", "model.safetensors", "images").stdout.splitlines()]
    assert predicted == by_pytorch
    assert len(set(predicted)) > 1  # or nothing was learnt, and any two networks could agree
    evaluation = json.loads(run("evaluate", "training", "--json").stdout)
    num_right = sum(name == label for name, label in zip(predicted, labels, strict=True))
    assert evaluation["accuracy_test"] == num_right / len(labels)
