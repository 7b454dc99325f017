"""cpnas-runtime: the package for a device that only predicts, without torch."""

import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from command_line import invoke
from PIL import Image

ROOT = Path(__file__).parents[2]


def project(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


LEFT_OUT = [
    requirement.partition(">")[0]
    for requirement in project(ROOT)["dependencies"]
    if requirement not in project(ROOT / "runtime")["dependencies"]
]
MODULES = {"lightning-fabric": "lightning_fabric", "scikit-learn": "sklearn"}

WITHOUT = """
import sys
left_out = {names!r}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in left_out:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
from cpnas_cli.cli.app import app
app(sys.argv[1:], prog_name="cpnas")
"""


@pytest.fixture(scope="module")
def run(tiny_search: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runtime") / "run"
    words = ["--set", "train.num_epochs=1", "--out", folder]
    assert invoke("train", tiny_search, *words).exit_code == 0
    assert invoke("export", folder).exit_code == 0
    Image.new("L", (9, 7), 200).save(folder.with_name("image.png"))
    return folder


def test_it_asks_for_the_same_versions_and_for_less() -> None:
    assert set(project(ROOT / "runtime")["dependencies"]) < set(project(ROOT)["dependencies"])
    assert {"torch", "torchvision", "lightning-fabric", "matplotlib", "scikit-learn"} <= set(LEFT_OUT)
    assert project(ROOT / "runtime")["scripts"] == project(ROOT)["scripts"]


def without(*words: str | Path) -> subprocess.CompletedProcess[str]:
    code = WITHOUT.format(names={MODULES.get(name, name) for name in LEFT_OUT} - {"rich"})
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=120, check=False
    )


def test_prediction_needs_nothing_of_the_rest(run: Path) -> None:
    answer = without("predict", run, run.with_name("image.png"), "--json")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == invoke("predict", run, run.with_name("image.png"), "--json").stdout


@pytest.mark.parametrize("words", [["search"], ["show", "RUN"], ["evaluate", "RUN"], ["runs"]])
def test_what_does_names_what_is_missing(words: list[str], run: Path) -> None:
    answer = without(*[run if word == "RUN" else word for word in words])
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith("cpnas: error: this command needs ")
    assert line.endswith("which cpnas-runtime leaves out; in a copy of the source type: pip install .")


@pytest.mark.slow(seconds=40)
def test_installed_into_an_empty_environment_it_predicts(run: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    installed = subprocess.run(
        [programs / "pip", "install", "--quiet", "--no-compile", ROOT / "runtime"],
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    words = ["predict", run, run.with_name("image.png"), "--json"]
    answer = subprocess.run(
        [programs / "cpnas", *words], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == json.loads(invoke(*words).stdout)
    there = subprocess.run([programs / "pip", "list"], env=clean, capture_output=True, text=True, check=True).stdout
    assert "cpnas-runtime" in there
    assert "torch" not in there
