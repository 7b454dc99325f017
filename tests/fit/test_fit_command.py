"""`cpnas fit`: from a folder of photos to a packed file and C source, by the real command."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import error_of, invoke
from conftest import PUBLISHED_RULES
from killing import kill, start, wait_for_lines
from photos import make_photos
from PIL import Image

from cpnas_cli.cli.render.fit import fit_lines
from cpnas_cli.errors import UsageError
from cpnas_cli.fit.folder import Asked
from cpnas_cli.fit.run import SearchClock
from cpnas_cli.search_space import OPERATIONS
from cpnas_cli.storage.documents import read_document

TINY = ["--set", "data.image_size=16", "--set", "network.stem_stride=2", "--set", "network.stem_multiplier=1"]
EPOCHS = ["--set", "train.num_epochs=2"]
TIME = ["--time", "1h"]  # never too short, however busy the machine is; nothing takes that long
PAGE = "report.html"
C_FILES = {"model.h", "model.c", "example.c", "Makefile", "README.md"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("made") / "shapes", classes=("disc", "box", "cross"), count=15)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """The folder of a finished fit; read it, never write to it."""
    folder = tmp_path_factory.mktemp("fits") / "fit"
    answer = invoke("fit", photos, *TIME, *TINY, *EPOCHS, "--max-size", "9KiB", "--out", folder)
    assert answer.exit_code == 0, answer.output
    (folder.parent / "stdout.txt").write_text(answer.stdout)
    (folder.parent / "stderr.txt").write_text(answer.stderr)
    return folder


def document_of(folder: Path) -> dict[str, Any]:
    return read_document(folder / "fit.json")


def value_of(document: dict[str, Any], setting: str) -> Any:
    (choice,) = (choice for choice in document["choices"] if choice["setting"] == setting)
    return choice["value"]


# ---------------------------------------------------------------- from photos to a device


def test_the_packed_file_answers_as_the_record_says(fitted: Path, photos: Path) -> None:
    """The packed engine over the very test files, beside what PyTorch found."""
    document = document_of(fitted)
    assert (document["data"]["num_train_images"], document["data"]["num_test_images"]) == (36, 9)
    split = json.loads(invoke("data", photos, "--json").stdout)["split"]["test_files"]
    assert len(split) == 9
    packed = fitted / "model.packed.safetensors"
    answer = invoke("predict", packed, *(photos / name for name in split), "--json")
    found = [json.loads(line) for line in answer.stdout.splitlines()]
    right = [each["class"] == Path(each["image"]).parent.name for each in found]
    assert sum(right) / 9 == pytest.approx(document["result"]["accuracy_test"])
    assert document["result"]["accuracy_test"] == document["evaluation"]["accuracy_test"]


def test_sizes_are_those_of_the_files_and_within_the_budget(fitted: Path) -> None:
    document = document_of(fitted)
    size = (fitted / "model.packed.safetensors").stat().st_size
    assert document["result"]["file_bytes"] == size <= 9 * 1024
    assert value_of(document, "network.num_channels") == 4  # 8 channels have four times the bits of a convolution
    assert {file.name for file in (fitted / "c").iterdir()} == C_FILES
    page = (fitted / PAGE).read_text(encoding="utf-8")
    assert all(name in page for name in ("disc", "box", "cross"))
    assert PAGE in (fitted.parent / "stdout.txt").read_text()
    assert document["result"]["c"]["flash_bytes"] > 0


def test_the_training_stands_alone(fitted: Path) -> None:
    """The other commands find it, with what was chosen in its settings."""
    evaluation = json.loads(invoke("evaluate", fitted / "train", "--json").stdout)
    assert evaluation["accuracy_test"] == document_of(fitted)["result"]["accuracy_test"]
    listed = json.loads(invoke("runs", fitted.parent, "--json").stdout)["runs"]
    assert [(run["folder"], run["state"], run["kind"]) for run in listed] == [("fit/train", "done", "train")]
    config = (fitted / "train/config.yaml").read_text(encoding="utf-8")
    for line in ("num_channels: 4", "crop_padding: 1", "num_epochs: 2", "max_size: 9KiB"):
        assert f"  {line}\n" in config
    genotype = Path(__file__).parents[2] / "cpnas_cli/genotypes/fashion-mnist-small.json"
    assert read_document(fitted / "train/genotype.json") == read_document(genotype)


def test_the_summary_says_what_was_done_and_what_to_type_next(fitted: Path, photos: Path) -> None:
    said = (fitted.parent / "stdout.txt").read_text()
    size = (fitted / "model.packed.safetensors").stat().st_size
    for words in ("per class", "disc", f"{size:,} bytes", "by chance 33.33 %", "train.num_epochs=2", "fashion-mnist"):
        assert words in said
    next_commands = said.partition("next:\n")[2].split("\n")
    assert f"  cpnas predict {fitted}/model.packed.safetensors IMAGE..." in next_commands
    assert f"  cpnas evaluate {fitted}/train --csv answers.csv" in next_commands
    notes = (fitted.parent / "stderr.txt").read_text()
    assert f"looking at the photos in {photos}" in notes


def test_the_summary_admits_what_was_not_kept(fitted: Path) -> None:
    document = document_of(fitted)
    document["seconds"] |= {"check": 10.0, "finish": 5.0, "training_planned": 50.0}
    document["result"]["seconds_training"] = 59.0
    assert "time: 1 min 14 s of --time 1h: photos and measuring 10.0 s, training 59.0 s, the rest 5.0 s" in list(
        fit_lines(document, fitted)
    )
    document["asked"]["time"] = "70s"
    assert [line for line in fit_lines(document, fitted) if "(planned 50.0 s: the machine was slower" in line]
    document["asked"]["time"] = "1h"
    document["result"] |= {"seconds_training": 61.0, "seconds_per_image": 0.0021, "c": None, "c_error": "no room"}
    document["asked"]["max_latency"] = "2ms"
    lines = list(fit_lines(document, fitted))
    (packed,) = (line for line in lines if line.startswith("packed: "))
    assert packed.endswith("over --max-latency 2ms when it was measured")
    assert [
        line for line in lines if "training 1 min 01 s, the rest 5.0 s (planned 50.0 s: the machine was slower" in line
    ]
    assert "no C source: no room" in lines
    assert not [line for line in lines if "make -C" in line]


def test_typed_again_a_finished_fit_prints_the_same_and_trains_nothing(fitted: Path, photos: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (fitted / "train").rglob("*") if not path.name.startswith(".")}
    for words in ([photos, *TIME, *TINY, *EPOCHS, "--max-size", "9KiB"], ["--resume"]):
        answer = invoke("fit", *words, "--out", fitted)
        assert answer.exit_code == 0, answer.output
        assert answer.stdout == (fitted.parent / "stdout.txt").read_text()
    after = {path: path.stat().st_mtime_ns for path in (fitted / "train").rglob("*") if not path.name.startswith(".")}
    assert after == before
    assert json.loads(invoke("fit", "--resume", "--out", fitted, "--json").stdout) == document_of(fitted)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--max-size", "10KiB"], "max_size: '9KiB' there, '10KiB' now"),
        (["--max-size", "9KiB", "--time", "2h"], "time: '1h' there, '2h' now"),
        (["--max-size", "9KiB", "--seed", "1"], "seed: 0 there, 1 now"),
    ],
)
def test_what_was_asked_for_cannot_change(words: list[str], part: str, fitted: Path, photos: Path) -> None:
    answer = invoke("fit", photos, *TIME, *TINY, *EPOCHS, *words, "--out", fitted)
    assert part in error_of(answer, code=1)


# ---------------------------------------------------------------- killed


def as_planned(fitted: Path, folder: Path) -> None:
    """A fit with the choices of the finished one, before it has trained anything."""
    folder.mkdir()
    document = document_of(fitted) | {"result": None, "evaluation": None}
    (folder / "fit.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.slow
def test_killed_and_typed_again_it_comes_to_the_same_bytes(fitted: Path, photos: Path, tmp_path: Path) -> None:
    as_planned(fitted, tmp_path / "fit")
    words = ["fit", photos, *TIME, *TINY, *EPOCHS, "--max-size", "9KiB", "--out", "fit"]
    process = start(tmp_path, *words)
    wait_for_lines(process, tmp_path / "fit/train/history.jsonl", 1)
    assert kill(process, signal.SIGKILL)[0] == -signal.SIGKILL
    assert not (tmp_path / "fit/model.packed.safetensors").exists()
    answer = invoke("fit", "--out", tmp_path / "fit", "--resume")
    assert answer.exit_code == 0, answer.output
    for name in ("model.packed.safetensors", "c/model.c", "train/model.safetensors"):
        assert (tmp_path / "fit" / name).read_bytes() == (fitted / name).read_bytes(), name
    again, once = document_of(tmp_path / "fit"), document_of(fitted)
    assert again["choices"] == once["choices"]
    assert again["widths"] == once["widths"]
    assert again["result"]["accuracy_test"] == once["result"]["accuracy_test"]


@pytest.mark.slow
def test_a_teacher_that_takes_too_long_leaves_the_child_fewer_epochs(
    fitted: Path, photos: Path, tmp_path: Path
) -> None:
    """As if its steps had been measured a million times as quick as they are: there is time for one epoch only."""
    as_planned(fitted, tmp_path / "fit")
    document = document_of(tmp_path / "fit")
    document["asked"]["settings"] = TINY[1::2]
    for choice in document["choices"]:
        if choice["setting"] == "train.num_epochs":
            choice |= {"value": 4, "by": "cpnas fit"}
    for width in document["widths"]:
        width["seconds_of_step"] = {"parent": 1e-7, "child": 1e-2}
    (tmp_path / "fit/fit.json").write_text(json.dumps(document), encoding="utf-8")
    answer = invoke("fit", "--out", tmp_path / "fit", "--resume")
    assert answer.exit_code == 0, answer.output
    assert "1 epoch of the Child instead of 4, to keep --time 1h" in answer.stderr.replace("\n", " ")
    assert "epochs of the Child: 1, fewer, because" in answer.stdout
    after = document_of(tmp_path / "fit")
    assert (after["child_epochs"], after["choices"]) == (1, document["choices"])
    records = [json.loads(line) for line in (tmp_path / "fit/train/history.jsonl").read_text().splitlines()]
    assert [record["network"] for record in records if record["event"] == "epoch"] == 4 * ["parent"] + ["child"]
    assert read_document(tmp_path / "fit/train/result.json")["num_epochs"] == 1
    assert document_of(fitted)["child_epochs"] is None


def test_what_lacks_at_the_end_is_made_again(fitted: Path, tmp_path: Path) -> None:
    """As if killed while it packed: the training is done, nothing else is."""
    shutil.copytree(fitted, tmp_path / "fit")
    (tmp_path / "fit/model.packed.safetensors").unlink()
    shutil.rmtree(tmp_path / "fit/c")
    answer = invoke("fit", "--out", tmp_path / "fit", "--resume")
    assert answer.exit_code == 0, answer.output
    for name in ("model.packed.safetensors", "c/model.c"):
        assert (tmp_path / "fit" / name).read_bytes() == (fitted / name).read_bytes()


@pytest.mark.slow
def test_a_child_that_learns_alone(photos: Path, tmp_path: Path) -> None:
    """As where there is no time for a teacher."""
    words = [*TIME, *TINY, *EPOCHS, "--set", "train.teacher_weight=0", "--max-size", "9KiB", "--out", tmp_path / "fit"]
    answer = invoke("fit", photos, *words)
    assert answer.exit_code == 0, answer.output
    document = document_of(tmp_path / "fit")
    assert document["result"]["accuracy_parent_test"] is None
    assert not (tmp_path / "fit/train/parent.safetensors").exists()
    assert "by chance 33.33 %)\n" in answer.stdout
    assert "an epoch of the Child has 1 step of" in answer.stdout
    assert (tmp_path / "fit/model.packed.safetensors").exists()


@pytest.mark.slow
def test_the_line_of_the_readme_gives_the_board_what_the_network_reads(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo that is not square, cut as in training; the C program then says what `cpnas predict` says."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"(?ms)^python -c \".*?new\.raw$", readme)
    assert " runs/photos-fit new.jpg > new.raw" in line
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    shutil.copytree(fitted, "runs/photos-fit")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 61, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("new.jpg")
    python = shlex.quote(sys.executable)
    subprocess.run(["sh", "-c", line.replace("python", python, 1)], check=True)
    subprocess.run(["make", "-s", "-C", "runs/photos-fit/c", "CFLAGS=-O1 -ffp-contract=off"], check=True)
    said = subprocess.run(["runs/photos-fit/c/example", "new.raw"], check=True, capture_output=True, text=True).stdout
    name, *scores = said.split("\t")
    shares = np.exp(np.array(scores, dtype=np.float64))
    (record,) = map(json.loads, invoke("predict", "runs/photos-fit", "new.jpg", "--json").stdout.splitlines())
    assert name == record["class"]
    by_name = [record["probabilities"][each] for each in ("box", "cross", "disc")]
    assert by_name == pytest.approx(list(shares / shares.sum()), rel=1e-4)


# ---------------------------------------------------------------- with a search


def test_photos_are_searched_by_the_recommended_strategy(photos: Path, tmp_path: Path) -> None:
    """It is typed nowhere here; its own settings make it short."""
    short = ["--set", "spos.num_epochs=1", "--set", "spos.num_scored=4", "--set", "spos.num_parents=2"]
    words = ["--search", *short, *TIME, *TINY, "--set", "network.num_channels=4", "--set", "train.num_epochs=1"]
    answer = invoke("fit", photos, *words, "--out", tmp_path / "fit")
    assert answer.exit_code == 0, answer.output
    trained = json.loads((tmp_path / "fit/train/genotype.json").read_text())
    assert trained["provenance"]["strategy"] == "spos"
    (choice,) = [each for each in document_of(tmp_path / "fit")["choices"] if each["setting"] == "search.strategy"]
    assert (choice["value"], choice["by"]) == ("spos", "cpnas fit")


def test_a_search_is_within_the_budgets_and_what_it_finds_is_trained(photos: Path, tmp_path: Path) -> None:
    words = ["--search", "--set", "search.strategy=random", "--max-size", "9KiB", *TIME, *TINY]
    answer = invoke("fit", photos, *words, "--set", "train.num_epochs=1", "--out", tmp_path / "fit")
    assert answer.exit_code == 0, answer.output
    searched = json.loads((tmp_path / "fit/search/genotype.json").read_text())
    assert searched["provenance"]["strategy"] == "random"
    assert searched["provenance"]["budgets"]["max_size"]["asked"] == "9KiB"
    assert json.loads((tmp_path / "fit/train/genotype.json").read_text()) == searched
    document = document_of(tmp_path / "fit")
    assert (tmp_path / "fit/model.packed.safetensors").stat().st_size <= 9 * 1024
    assert [choice["setting"] for choice in document["choices"]][-1] == "train.num_epochs"
    assert document["genotype"] == "searched on these photos"
    assert document["seconds"]["search"] == 0.0  # it only draws


def played_clock(asked: Asked, told: list[Any], *rules: str) -> SearchClock:
    config = replace(asked, settings=rules).config()
    return SearchClock(config, asked, told.append, num_images=1000)


def drawn(seconds: float, *, resumed: bool = False) -> dict[str, Any]:
    cells = {kind: [*OPERATIONS, *OPERATIONS][:14] for kind in ("normal", "reduce")}  # each equally often
    return {"event": "draw", "seconds": seconds, "resumed": resumed, **cells}


def test_a_search_that_would_take_too_long_is_stopped_early() -> None:
    """35 draws of 10 s, where half of 10 minutes is for them; 35 of 8 s are 280 s."""
    told = list[Any]()
    asked = Asked("/photos", time="10m", search=True)
    quick = played_clock(asked, told, *PUBLISHED_RULES)
    for _ in range(5):
        quick.notify(drawn(8.0))
    slow = played_clock(asked, told, *PUBLISHED_RULES)
    slow.notify({"event": "progress"})
    for _ in range(2):
        slow.notify(drawn(10.0))
    with pytest.raises(UsageError, match=r"about 5m50s here.*at least --time 11m40s"):
        slow.notify(drawn(10.0))
    assert len(told) == 9


def test_a_search_that_goes_on_is_judged_by_its_first_draws_as_before() -> None:
    """Nothing that was let pass is refused when it goes on slower, and what was refused is refused again at once."""
    asked = Asked("/photos", time="10m", search=True)
    passed = played_clock(asked, [], *PUBLISHED_RULES)
    for seconds in (8.0, 8.0, 8.0, 90.0):
        passed.notify(drawn(seconds, resumed=True))
    for _ in range(3):
        passed.notify(drawn(90.0))
    refused = played_clock(asked, [], *PUBLISHED_RULES)
    for _ in range(2):
        refused.notify(drawn(10.0, resumed=True))
    with pytest.raises(UsageError, match=r"about 5m50s"):
        refused.notify(drawn(10.0, resumed=True))


def test_a_search_is_timed_with_all_that_is_not_a_draw() -> None:
    """12 epochs of both networks at 4.5 s, 64 and again 64 draws that take 0.3 of a trained one, 26 of these, and their
    validation, a quarter more: 24 * 4.5 + (128 * 0.3 + 26 * 1.25) * 9 = 746 s.
    """
    clock = played_clock(Asked("/photos", time="10m", search=True), [])
    for seconds in (4.0, 5.0):
        clock.notify({"event": "epoch", "seconds": seconds})
    with pytest.raises(UsageError, match=r"about 12m2\ds here"):
        clock.notify({"event": "epoch", "seconds": 4.5})


# ---------------------------------------------------------------- what cannot work


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        ([], 2, ["expected PHOTOS"]),
        (["--resume"], 2, ["--resume needs --out FOLDER"]),
        (["nowhere"], 1, ["no data folder at", "nowhere"]),
        (["few"], 1, ["the class box has 4 images", "at least 5"]),
        (["one"], 1, ["one class", "at least two"]),
        (["empty"], 1, ["no class folders"]),
        (["shapes", "--out", "full"], 1, ["full is not empty and holds no fit"]),
        (["--resume", "--out", "full"], 2, ["no fit to resume in full"]),
        (["shapes", "--time", "soon"], 2, ["--time expects a duration", "'soon'"]),
        (["shapes", "--max-size", "big"], 2, ["search.max_size", "'big'"]),
        (["shapes", "--seed", "x"], 2, ["--seed", "'x'"]),
        (["shapes", "--max-size", "1KiB"], 2, ["--max-size 1KiB", "of 4 channels", "type at least --max-size"]),
        (["shapes", "--max-latency", "1ns"], 2, ["--max-latency 1ns", "of 4 channels", "for an image here"]),
        (["shapes", "--time", "0.1s", "--max-size", "9KiB"], 2, ["--time 1s is too short: one epoch", "type at least"]),
    ],
)
def test_what_cannot_work_is_one_line_and_leaves_nothing(
    words: list[str], code: int, parts: list[str], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shapes").symlink_to(photos)
    make_photos(Path("few"), count=5)  # one of each five tests
    make_photos(Path("one"), classes=("disc",), count=5)
    for name in ("empty", "full"):
        Path(name).mkdir()
    Path("full/notes.txt").write_text("mine")
    answer = invoke("fit", *words, *TINY)
    assert answer.exit_code == code, answer.output
    message = answer.stderr.splitlines()[-1]
    for part in parts:
        assert part in message
    assert not Path("runs").exists()
    assert [path.name for path in Path("full").iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_the_least_size_that_a_message_names_will_do(photos: Path, tmp_path: Path) -> None:
    message = invoke("fit", photos, *TINY, "--max-size", "1KiB", "--out", tmp_path / "fit").stderr
    least = message.split()[-1]
    answer = invoke(
        "fit", photos, *TIME, *TINY, "--set", "train.num_epochs=1", "--max-size", least, "--out", tmp_path / "fit"
    )
    assert answer.exit_code == 0, answer.output
    assert f"{(tmp_path / 'fit/model.packed.safetensors').stat().st_size}B" == least
