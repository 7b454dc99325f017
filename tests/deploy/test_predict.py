"""`cpnas predict`: PyTorch's answers for any image and any number of them, and what happens to those that are none."""

import contextlib
import csv
import dataclasses
import io
import json
import os
import re
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from children import Child, every_operation, make_child
from PIL import Image
from terminal import run_on_terminal
from typer.testing import CliRunner

from cpnas_cli.cli.app import app
from cpnas_cli.cli.console import COMPILING
from cpnas_cli.data.decoding import decode_image
from cpnas_cli.deploy import predict as module
from cpnas_cli.deploy.engine import Engine
from cpnas_cli.deploy.packed_file import PACKED_NAME, save_packed
from cpnas_cli.deploy.predict import Failure, Prediction, find_packed, predict_images, walk_images
from cpnas_cli.errors import CheckpointError, DataError
from cpnas_cli.settings import DataConfig
from cpnas_cli.training.evaluation import evaluate_run
from cpnas_cli.training.trained_network import write_trained

CLASSES = ["class 0", "class 1", "class 2"]
runner = CliRunner()


@pytest.fixture(autouse=True)
def _silent_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever test is the first to run a model compiles it, and says so."""
    monkeypatch.setattr("cpnas_cli.cli.commands.predict.said_if_slow", lambda _: contextlib.nullcontext())


def without_compiling(errors: str) -> str:
    """The same in a process of its own."""
    return errors.replace(f"{COMPILING}\n", "")


@pytest.fixture(scope="module")
def child() -> Child:
    return make_child(every_operation(), num_classes=len(CLASSES), seed=3)


@pytest.fixture
def model(child: Child, tmp_path: Path) -> Path:
    path = tmp_path / "model" / PACKED_NAME
    save_packed(child.model, path)
    return path


def draw_pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save_images(folder: Path, count: int, *, size: int = 8) -> list[Path]:
    """Images of different brightness, so that the network sees something in them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:04d}.png" for index in range(count)]
    for index, path in enumerate(paths):
        pixels = draw_pixels(size, size, 3, seed=index) // (1 + index % 5) + 25 * (index % 3)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return paths


def save_all_kinds(folder: Path) -> list[Path]:
    """Grey, colour, alpha, palette, 16 bits; tiny, narrow and large; PNG, JPEG, GIF, TIFF."""
    folder.mkdir()
    alpha = draw_pixels(9, 7, 4, seed=4)
    palette = Image.fromarray(draw_pixels(12, 10, 3, seed=6)).quantize(8)
    palette.info["transparency"] = 2
    kinds = {
        "colour.png": Image.fromarray(draw_pixels(20, 16, 3, seed=1)),
        "colour.jpg": Image.fromarray(draw_pixels(32, 32, 3, seed=2)),
        "grey.png": Image.fromarray(draw_pixels(8, 8, seed=3)),
        "alpha.png": Image.fromarray(alpha),
        "grey-alpha.png": Image.fromarray(draw_pixels(9, 7, 2, seed=5)),
        "palette.gif": palette,
        "bits.png": Image.fromarray(draw_pixels(30, 30, seed=7)).convert("1"),
        "16-bit.png": Image.fromarray(draw_pixels(11, 11, seed=8).astype(np.uint16) * 257),
        "16-bit.tif": Image.fromarray(draw_pixels(11, 11, seed=9).astype(np.uint16) * 251),
        "one-pixel.png": Image.fromarray(draw_pixels(1, 1, 3, seed=10)),
        "narrow.png": Image.fromarray(draw_pixels(300, 2, 3, seed=11)),
        "large.jpg": Image.fromarray(draw_pixels(30, 40, 3, seed=12)).resize((4000, 3000)),
    }
    for name, image in kinds.items():
        image.save(folder / name)
    return sorted(folder / name for name in kinds)


def torch_probabilities(child: Child, paths: list[Path]) -> np.ndarray:
    """What PyTorch says of the images, each decoded by itself: (N, classes)."""
    size, channels = child.trained.image_size, child.trained.num_image_channels
    images = np.stack([decode_image(path, image_size=size, num_channels=channels) for path in paths])
    return torch.from_numpy(child.logits(images)).double().softmax(dim=1).numpy()


def chosen(child: Child, paths: list[Path]) -> list[str]:
    return [child.trained.classes[index] for index in torch_probabilities(child, paths).argmax(axis=1)]


def fields_of(output: str) -> list[list[str]]:
    return [line.split("\t") for line in output.splitlines()]


def records_of(output: str) -> list[dict[str, Any]]:
    """A JSON document in every line."""
    return [json.loads(line) for line in output.splitlines()]


# ---------------------------------------------------------------- the answers


@pytest.mark.parametrize("num_image_channels", [1, 3])
def test_any_kind_of_image_is_classified_as_pytorch_does(num_image_channels: int, tmp_path: Path) -> None:
    child = make_child(every_operation(), num_image_channels=num_image_channels, seed=1)
    save_packed(child.model, tmp_path / "packed")
    paths = save_all_kinds(tmp_path / "images")
    answer = runner.invoke(app, ["predict", str(tmp_path / "packed"), str(tmp_path / "images"), "--json"])
    assert answer.exit_code == 0, answer.stderr
    predictions = records_of(answer.stdout)
    assert [entry["image"] for entry in predictions] == [str(path) for path in paths]
    expected = torch_probabilities(child, paths)
    assert len(set(expected.argmax(axis=1))) > 1
    for entry, probabilities in zip(predictions, expected, strict=True):
        assert entry["class"] == CLASSES[probabilities.argmax()]
        assert [entry["probabilities"][name] for name in CLASSES] == pytest.approx(probabilities.tolist(), abs=1e-5)
        assert entry["probability"] == max(entry["probabilities"].values())


def test_many_images_in_one_call(child: Child, model: Path, tmp_path: Path) -> None:
    paths = save_images(tmp_path / "many", 1500)
    paths[700].write_bytes(b"no image")
    answer = runner.invoke(app, ["predict", str(model), *map(str, paths)])
    assert answer.exit_code == 1
    lines = fields_of(answer.stdout)
    readable = paths[:700] + paths[701:]
    assert [line[:2] for line in lines] == [
        [str(path), name] for path, name in zip(readable, chosen(child, readable), strict=True)
    ]
    assert len({line[1] for line in lines}) > 1
    errors = answer.stderr.splitlines()
    assert len(errors) == 3
    assert str(paths[700]) in errors[0]
    said = re.fullmatch(r"cpnas: 1,500 images in (\d+\.\d) s, ([\d,]+) per second", errors[1])
    assert said is not None
    seconds, rate = float(said[1]), float(said[2].replace(",", ""))
    assert rate * (seconds - 0.06) <= 1500 <= (rate + 1) * (seconds + 0.06)
    assert errors[2] == "cpnas: no prediction for 1 of 1,500 images"


def test_the_accuracy_is_that_of_cpnas_evaluate(tmp_path: Path) -> None:
    """Over a test folder, with the run's packed model in its own folder."""
    child = make_child(every_operation(), seed=3)
    data = {"name": "folder", "dir": str(tmp_path / "data"), "image_size": 8, "num_channels": 3}
    config = child.trained.config.model_copy(update={"data": DataConfig.model_validate(data)})
    for name in CLASSES:
        save_images(tmp_path / "data/train" / name, 2)
        save_images(tmp_path / "data/test" / name, 17, size=11)
    (tmp_path / "data/test" / CLASSES[0] / ".hidden").touch()
    (tmp_path / "data/test" / CLASSES[0] / "Thumbs.db").touch()
    run = tmp_path / "run"
    write_trained(dataclasses.replace(child.trained, config=config), run / "model.safetensors")
    evaluation = evaluate_run(run, data_dir=None, device=torch.device("cpu"))
    save_packed(child.model, run / PACKED_NAME)
    answer = runner.invoke(app, ["predict", str(run), str(tmp_path / "data/test")])
    assert answer.exit_code == 0, answer.stderr
    lines = fields_of(answer.stdout)
    assert len(lines) == evaluation["num_test_images"] == 51
    num_right = sum(Path(path).parent.name == name for path, name, _ in lines)
    assert 0 < num_right < 51
    assert num_right / 51 == pytest.approx(evaluation["accuracy_test"], abs=1e-6)


def test_the_number_of_threads_changes_nothing(model: Path, tmp_path: Path) -> None:
    save_images(tmp_path / "images", 20)
    outputs = [
        runner.invoke(app, ["predict", str(model), str(tmp_path / "images"), *words]).stdout
        for words in ([], ["--threads", "1"], ["--threads", "2"], ["--threads", "1000"])
    ]
    assert len(outputs[0].splitlines()) == 20
    assert outputs == outputs[:1] * 4


# ---------------------------------------------------------------- the output


def test_the_json_records(model: Path, tmp_path: Path) -> None:
    """One in a line, in the order of the images, also of one that cannot be read."""
    first, second = save_images(tmp_path / "images", 2)
    missing = tmp_path / "missing.png"
    answer = runner.invoke(app, ["predict", str(model), str(first), str(missing), str(second), "--json"])
    assert answer.exit_code == 1
    records = records_of(answer.stdout)
    assert [record["image"] for record in records] == [str(first), str(missing), str(second)]
    assert {(record["schema"], record["model"]) for record in records} == {("cpnas.prediction/1", str(model))}
    error = f"cannot read the image {missing}: No such file or directory"
    assert records[1] == {"schema": "cpnas.prediction/1", "model": str(model), "image": str(missing), "error": error}
    assert error in answer.stderr
    for record in (records[0], records[2]):
        assert list(record) == ["schema", "model", "image", "class", "probability", "unsure", "probabilities"]
        assert record["unsure"] is False
        assert sorted(record["probabilities"]) == CLASSES
        assert list(record["probabilities"].values()) == sorted(record["probabilities"].values(), reverse=True)
        assert record["class"] == next(iter(record["probabilities"]))
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("top", "count"), [(1, 1), (2, 2), (3, 3), (1000, 3)])
def test_the_best_classes(top: int, count: int, child: Child, model: Path, tmp_path: Path) -> None:
    paths = save_images(tmp_path / "images", 4)
    words = ["predict", str(model), str(tmp_path / "images"), "--top", str(top)]
    lines = fields_of(runner.invoke(app, words).stdout)
    entries = records_of(runner.invoke(app, [*words, "--json"]).stdout)
    header, *rows = csv.reader(io.StringIO(runner.invoke(app, [*words, "--csv"]).stdout))
    further = [f"{key}_{rank}" for rank in range(2, count + 1) for key in ("class", "probability")]
    assert header == ["path", "class", "probability", *further]
    assert rows == lines
    for line, entry, path, row in zip(lines, entries, paths, torch_probabilities(child, paths), strict=True):
        ranking = sorted(zip(CLASSES, row, strict=True), key=lambda pair: -pair[1])[:count]
        assert line[0] == entry["image"] == str(path)
        assert line[1::2] == list(entry["probabilities"]) == [name for name, _ in ranking]
        assert [float(text) for text in line[2::2]] == pytest.approx([p for _, p in ranking], abs=1e-5)


def test_a_pipe_gets_fields_and_a_terminal_columns(cpnas, child: Child, model: Path, tmp_path: Path) -> None:
    paths = [path.relative_to(tmp_path) for path in save_images(tmp_path / "images", 2)]
    (tmp_path / "images" / "0001.png").rename(tmp_path / "images" / "a-longer-name.png")
    piped = cpnas("predict", model, "images")
    assert piped.returncode == 0, piped.stderr
    assert without_compiling(piped.stderr) == ""
    assert "\x1b" not in piped.stdout
    assert [line[0] for line in fields_of(piped.stdout)] == [str(paths[0]), "images/a-longer-name.png"]
    assert all(0 <= float(line[2]) <= 1 for line in fields_of(piped.stdout))
    code, shown = run_on_terminal(tmp_path, "predict", str(model), "images")
    assert code == 0
    first, second = (line for line in shown.splitlines() if line != COMPILING)
    assert "\t" not in shown
    assert first.index("class ") == second.index("class ") == len("images/a-longer-name.png") + 2
    assert first.endswith(" %")


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_defect(model: Path, tmp_path: Path) -> None:
    save_images(tmp_path / "images", 1)
    with subprocess.Popen(
        [sys.executable, "-m", "cpnas_cli", "predict", str(model), *[str(tmp_path / "images")] * 2000],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().count("\t") == 2
        process.stdout.close()
        assert without_compiling(process.stderr.read()) == ""
        assert process.wait() == 1


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\tb.png", "a\\tb.png"),
        ("a\nb.png", "a\\nb.png"),
        ("\x1b[31mred.png", "\\x1b[31mred.png"),
        (os.fsdecode(b"latin-\xe9.png"), "latin-\\udce9.png"),
        ("Umlaut ä\u202f日本.png", "Umlaut ä\u202f日本.png"),
    ],
)
def test_a_strange_name_breaks_no_line(name: str, shown: str, model: Path, tmp_path: Path) -> None:
    (path,) = save_images(tmp_path, 1)
    for words in ([str(model), str(path.rename(tmp_path / name))], [str(model), str(tmp_path / f"no {name}")]):
        answer = runner.invoke(app, ["predict", *words])
        assert answer.exception is None or isinstance(answer.exception, SystemExit)
        assert shown in answer.output.splitlines()[0]
    documents = runner.invoke(app, ["predict", str(model), str(tmp_path / name), "--json"])
    assert [record["image"] for record in records_of(documents.stdout)] == [str(tmp_path / name)]


@pytest.mark.parametrize("form", ["fields", "--csv", "--json"])
def test_below_the_threshold_it_is_unsure(form: str, child: Child, model: Path, tmp_path: Path) -> None:
    """By PyTorch's probabilities, some of them on either side."""
    paths = save_images(tmp_path / "images", 20)
    expected = torch_probabilities(child, paths).max(axis=1)
    threshold = float(np.sort(expected)[9:11].mean())
    words = ["predict", str(model), str(tmp_path / "images"), "--threshold", str(threshold), "--top", "2"]
    output = runner.invoke(app, [*words, form] if form.startswith("--") else words).stdout
    sure = [bool(probability >= threshold) for probability in expected]
    assert sum(sure) == 10
    names = [name if is_sure else "unsure" for name, is_sure in zip(chosen(child, paths), sure, strict=True)]
    if form == "--json":
        records = records_of(output)
        assert [record["unsure"] for record in records] == [not is_sure for is_sure in sure]
        assert [record["class"] for record in records] == chosen(child, paths)
        assert [len(record["probabilities"]) for record in records] == [2] * 20
    else:
        lines = list(csv.reader(io.StringIO(output)))[1:] if form == "--csv" else fields_of(output)
        assert [line[1] for line in lines] == names
        assert [float(line[2]) for line in lines] == pytest.approx(expected.tolist(), abs=1e-5)
        assert all(line[3] in CLASSES for line in lines)


def test_the_best_class_at_the_threshold_itself_is_sure(model: Path, tmp_path: Path) -> None:
    (path,) = save_images(tmp_path / "images", 1)
    (record,) = records_of(runner.invoke(app, ["predict", str(model), str(path), "--json"]).stdout)
    above = float(np.nextafter(record["probability"], 1))
    for threshold, unsure in ((record["probability"], False), (above, True), (0, False), (1, True)):
        words = ["predict", str(model), str(path), "--json", "--threshold", repr(threshold)]
        assert records_of(runner.invoke(app, words).stdout)[0]["unsure"] is unsure


@pytest.mark.parametrize("text", ["-0.1", "1.5", "nan", "inf", "much", ""])
def test_a_threshold_that_is_no_probability(text: str, model: Path) -> None:
    answer = runner.invoke(app, ["predict", str(model), "image.png", f"--threshold={text}"])
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert answer.stderr == f"cpnas: error: --threshold expects a probability from 0 to 1, got {text!r}\n"


def test_a_class_with_the_name_unsure(child: Child, tmp_path: Path) -> None:
    """JSON tells it from an answer that is not sure; the other forms say that they cannot."""
    save_packed(dataclasses.replace(child.model, classes=("unsure", *CLASSES[1:])), tmp_path / "packed")
    save_images(tmp_path / "images", 20)
    words = ["predict", str(tmp_path / "packed"), str(tmp_path / "images"), "--threshold"]
    records = records_of(runner.invoke(app, [*words, "0", "--json"]).stdout)
    assert "unsure" in {record["class"] for record in records}
    assert not any(record["unsure"] for record in records)
    assert all(record["unsure"] for record in records_of(runner.invoke(app, [*words, "1", "--json"]).stdout))
    said = "cpnas: a class of this model is called 'unsure' too; --json tells the two apart\n"
    assert runner.invoke(app, [*words, "1"]).stderr == said
    assert runner.invoke(app, [*words[:-1]]).stderr == ""


def test_csv_holds_any_name(child: Child, tmp_path: Path) -> None:
    strange = ('a,b "c"', "line\nbreak", "carriage\rreturn")
    save_packed(dataclasses.replace(child.model, classes=strange), tmp_path / "packed")
    (path,) = save_images(tmp_path, 1)
    names = ["a,b.png", 'say "x".png', "line\nbreak.png", "carriage\rreturn.png", "tab\t.png", "Umlaut ä.png"]
    paths = [tmp_path / name for name in names]
    for each in paths:
        each.write_bytes(path.read_bytes())
    unwritable = path.rename(tmp_path / os.fsdecode(b"latin-\xe9.png"))
    words = ["predict", str(tmp_path / "packed"), *map(str, [*paths, unwritable]), "--csv", "--top", "3"]
    answer = runner.invoke(app, words)
    assert answer.exit_code == 0, answer.output
    header, *rows = csv.reader(io.StringIO(answer.stdout, newline=""))
    assert header == ["path", "class", "probability", "class_2", "probability_2", "class_3", "probability_3"]
    assert [row[0] for row in rows] == [*map(str, paths), str(tmp_path / "latin-\\udce9.png")]
    assert all(sorted(row[1::2]) == sorted(strange) for row in rows)


def test_two_forms_at_once(model: Path) -> None:
    answer = runner.invoke(app, ["predict", str(model), "image.png", "--csv", "--json"])
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert answer.stderr == "cpnas: error: --csv and --json are two forms of the same; leave out one of them\n"


@pytest.mark.parametrize("words", [[], ["--csv"], ["--json"]])
def test_answers_are_there_before_the_last_image_is_read(words: list[str], model: Path, tmp_path: Path) -> None:
    """The last one is a pipe that nobody has written to yet."""
    content = save_images(tmp_path / "images", 200)[0].read_bytes()
    last = tmp_path / "last.png"
    os.mkfifo(last)
    with subprocess.Popen(
        [sys.executable, "-m", "cpnas_cli", "predict", str(model), "images", "last.png", "--threads", "1", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(100)]
        assert all("images" in line for line in lines[1:])
        last.write_bytes(content)
        lines += process.stdout.readlines()
        assert process.wait() == 0
        assert len(lines) == 201 + (words == ["--csv"])
        assert "last.png" in lines[-1]


# ---------------------------------------------------------------- which images


def test_files_and_folders_keep_their_order(child: Child, model: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for folder in (root, root / "b", root / "b/deep", root / "empty"):
        folder.mkdir()
    (single,) = save_images(tmp_path / "elsewhere", 1)
    content = single.read_bytes()
    for name in ("c.png", "a.PNG", "b/2.jpg", "b/1", "b/deep/x.webp", ".hidden.png", "b/Thumbs.db", "desktop.ini"):
        (root / name).write_bytes(content)
    (root / ".git").mkdir()
    (root / ".git/image.png").write_bytes(content)
    (root / "b/loop").symlink_to(root)
    (root / "linked").symlink_to(single.parent)
    answer = runner.invoke(app, ["predict", str(model), str(single), str(root), str(single), str(root / ".hidden.png")])
    assert answer.exit_code == 0, answer.stderr
    below = ["a.PNG", "b/1", "b/2.jpg", "b/deep/x.webp", "c.png", "linked/0000.png"]
    expected = [single, *(root / name for name in below), single, root / ".hidden.png"]
    assert [line[0] for line in fields_of(answer.stdout)] == [str(path) for path in expected]
    assert {line[1] for line in fields_of(answer.stdout)} == set(chosen(child, [single]))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG file that only claims to have this many pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def test_what_cannot_be_read_does_not_stop_the_others(child: Child, model: Path, tmp_path: Path) -> None:
    first, second = save_images(tmp_path / "images", 2)
    bad = tmp_path / "bad"
    bad.mkdir()
    contents = {
        "bomb.png": png_of_size(60_000, 60_000),
        "cut.png": first.read_bytes()[:60],
        "empty.png": b"",
        "text.jpg": b"not an image at all",
    }
    for name, content in contents.items():
        (bad / name).write_bytes(content)
    (tmp_path / "nothing").mkdir()
    others = [tmp_path / "nothing", tmp_path / "missing.png", tmp_path / ("x" * 5000), tmp_path / "images/0000.png/x"]
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    others.append(tmp_path / "broken")
    paths = [first, bad, *others, second]
    answer = runner.invoke(app, ["predict", str(model), *map(str, paths), "--json"])
    assert answer.exit_code == 1
    records = records_of(answer.stdout)
    failed = [bad / name for name in sorted(contents)] + others
    assert [record["image"] for record in records] == [str(path) for path in (first, *failed, second)]
    assert [record["class"] for record in (records[0], records[-1])] == chosen(child, [first, second])
    errors = answer.stderr.splitlines()
    assert len(errors) == len(failed) + 1
    for path, entry, line in zip(failed, records[1:-1], errors, strict=False):
        assert str(path) in entry["error"]
        assert line == f"cpnas: {entry['error']}"
    assert errors[-1] == f"cpnas: no prediction for {len(failed)} of {len(failed) + 2} images"


def test_a_damaged_image_of_a_rare_format_is_reported(tmp_path: Path) -> None:
    """Pillow raises RuntimeError for it, and its subclass NotImplementedError for what it does not know."""
    header = bytearray(128)
    header[:8] = b"DDS " + struct.pack("<I", 124)
    header[76:84] = struct.pack("<II", 32, 0x80000000)
    (tmp_path / "image.dds").write_bytes(header)
    with pytest.raises(NotImplementedError):
        Image.open(tmp_path / "image.dds")
    with pytest.raises(DataError, match="cannot read the image"):
        decode_image(tmp_path / "image.dds", image_size=8, num_channels=3)


def test_no_readable_image_at_all(model: Path, tmp_path: Path) -> None:
    answer = runner.invoke(app, ["predict", str(model), str(tmp_path / "missing.png")])
    assert answer.exit_code == 1
    assert answer.stdout == ""
    (record,) = records_of(runner.invoke(app, ["predict", str(model), str(tmp_path / "missing.png"), "--json"]).stdout)
    assert "error" in record


def test_folders_without_images(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty/deeper").mkdir(parents=True)
    (tmp_path / "empty/.hidden.png").touch()
    answer = runner.invoke(app, ["predict", str(model), str(tmp_path / "empty")])
    assert answer.exit_code == 1
    assert answer.stdout == ""
    assert answer.stderr == (
        f"cpnas: error: no images in {tmp_path / 'empty'}; name image files, or folders that hold some\n"
    )


def test_listing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    files = [tmp_path / "missing.png", tmp_path / "empty"]
    assert list(walk_images(files, [])) == files
    with pytest.raises(DataError, match="no images in"):
        walk_images(files[1:], [])


def test_what_is_no_image_in_a_folder_is_counted(child: Child, model: Path, tmp_path: Path) -> None:
    """What was named itself is reported, see above; of a folder it was not meant."""
    first, second = save_images(tmp_path / "images", 2)
    (tmp_path / "images/notes.txt").write_text("none")
    (tmp_path / "images/gone.png").symlink_to(tmp_path / "nowhere")
    answer = runner.invoke(app, ["predict", str(model), str(tmp_path / "images"), "--json"])
    assert answer.exit_code == 0, answer.stderr
    records = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [record["image"] for record in records if "class" in record] == [str(first), str(second)]
    notes, gone = tmp_path / "images/notes.txt", tmp_path / "images/gone.png"
    assert [(record["image"], record["skipped"]) for record in records[2:]] == [
        (str(gone), "dangling link"),
        (str(notes), "no image"),
    ]
    assert answer.stderr == f"note: skipped: 1 is a link without a target ({gone}); 1 is no image ({notes})\n"


def test_memory_is_bounded(child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most two chunks are taken and decoded before the first result is; large images make smaller chunks."""
    decoded = []

    def decode(path: Path, *, image_size: int, num_channels: int, fit: str) -> np.ndarray:
        decoded.append(path)
        return np.zeros((num_channels, image_size, image_size), np.uint8)

    monkeypatch.setattr(module, "decode_image", decode)
    (path,) = save_images(tmp_path / "images", 1)
    remaining = iter([path] * 10_000)
    results = predict_images(Engine(child.model, num_threads=1), remaining)
    assert isinstance(next(results), Prediction)
    assert 32 <= len(decoded) <= 64
    for _ in range(4000):
        next(results)
    results.close()
    assert 4001 <= len(decoded) <= 10_000 - len(list(remaining)) <= 4001 + 2 * 256
    large = make_child(every_operation(), image_size=1024)
    assert module._CHUNK_BYTES // module._image_bytes(large.model) == 10


@pytest.mark.parametrize("words", [[], ["--csv"], ["--json"]])
def test_memory_does_not_grow_with_the_images(
    words: list[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 2,000 more images the command holds their names, of some 70 bytes each, and nothing else."""
    (path,) = save_images(tmp_path, 1)
    for count in (1200, 3200):
        (tmp_path / str(count)).mkdir()
        for index in range(count):
            (tmp_path / str(count) / f"{index:05d}.png").hardlink_to(path)
    pixels = decode_image(path, image_size=8, num_channels=3)
    monkeypatch.setattr(module, "decode_image", lambda *_, **__: pixels)

    def peak(count: int) -> int:
        words_of_all = ["predict", str(model), str(tmp_path / str(count)), "--threads", "2", *words]
        with (tmp_path / "out").open("w") as out, contextlib.redirect_stdout(out):
            tracemalloc.start()
            try:
                app(words_of_all, standalone_mode=False)
                size = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert len((tmp_path / "out").read_text().splitlines()) == count + (words == ["--csv"])
        return size

    peak(1200)
    assert peak(3200) - peak(1200) < 2000 * 150


def test_what_has_begun_ends_where_answers_are_left(
    child: Child, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an interruption no more images are decoded, and no thread is left."""
    num_decoded = 0

    def decode(*_: Any, **__: Any) -> np.ndarray:
        nonlocal num_decoded
        num_decoded += 1
        return np.zeros((3, 8, 8), np.uint8)

    def interrupted(text: str, **_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "decode_image", decode)
    monkeypatch.setattr("cpnas_cli.cli.commands.predict.print", interrupted, raising=False)
    before = set(threading.enumerate())  # those of an engine of another test end when they like
    (path,) = save_images(tmp_path / "images", 1)
    answer = runner.invoke(app, ["predict", str(model), *[str(path)] * 5000, "--threads", "1"])
    assert (answer.exit_code, answer.stderr) == (130, "cpnas: interrupted\n")
    assert num_decoded <= 64
    assert set(threading.enumerate()) <= before


# ---------------------------------------------------------------- models and usage


def test_a_network_whose_scores_are_not_finite(child: Child, tmp_path: Path) -> None:
    packed = child.model
    values = packed.values.copy()
    values[-packed.layers()[-1].num_real_values :] = 3e38  # finite, as the file must be, but no sum of them is
    (path,) = save_images(tmp_path / "images", 1)
    engine = Engine(dataclasses.replace(packed, values=values), num_threads=1)
    (failure,) = predict_images(engine, [path])
    assert isinstance(failure, Failure)
    assert "not finite" in failure.error


def test_the_folder_of_a_run(cpnas, model: Path, tmp_path: Path) -> None:
    assert find_packed(model.parent) == find_packed(model) == model
    (tmp_path / "run").mkdir()
    with pytest.raises(CheckpointError, match=r"run holds no model\.packed\.safetensors; `cpnas export .*run` makes"):
        find_packed(tmp_path / "run")
    answer = runner.invoke(app, ["predict", str(tmp_path / "run"), "image.png"])
    assert answer.exit_code == 1
    assert answer.stderr.count("\n") == 1


def test_what_is_no_packed_model(child: Child, model: Path, tmp_path: Path) -> None:
    paths = save_images(tmp_path / "images", 1)
    (tmp_path / "cut").write_bytes(model.read_bytes()[:-5])
    write_trained(child.trained, tmp_path / "trained")
    for bad in (tmp_path / "cut", tmp_path / "trained", paths[0], tmp_path / "missing"):
        answer = runner.invoke(app, ["predict", str(bad), str(paths[0])])
        assert answer.exit_code == 1
        assert answer.stdout == ""
        assert answer.stderr.startswith("cpnas: error: ")
        assert answer.stderr.count("\n") == 1
        assert "export" in answer.stderr


@pytest.mark.parametrize("words", [[], ["--json"], ["--csv"]])
def test_an_interruption(words: list[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there before has been printed."""

    def interrupted(*_: Any, **__: Any) -> Iterator[Prediction]:
        yield Prediction(Path("a.png"), (("class 0", 1.0),))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "predict_images", interrupted)
    paths = save_images(tmp_path / "images", 2)
    answer = runner.invoke(app, ["predict", str(model), *map(str, paths), *words])
    assert answer.exit_code == 130
    assert answer.stdout.count("\n") == (2 if words == ["--csv"] else 1)
    assert "a.png" in answer.stdout
    assert answer.stderr == "cpnas: interrupted\n"


@pytest.mark.parametrize("words", [[], ["image.png", "--top", "0"], ["image.png", "--threads", "0"]])
def test_wrong_usage(words: list[str], model: Path) -> None:
    answer = runner.invoke(app, ["predict", str(model), *words])
    assert answer.exit_code == 2
    assert answer.stdout == ""


def test_help_says_what_the_probabilities_are() -> None:
    answer = runner.invoke(app, ["predict", "--help"])
    assert answer.exit_code == 0
    assert "not calibrated" in " ".join(answer.stdout.split())


def test_it_needs_no_torch(model: Path, tmp_path: Path) -> None:
    save_images(tmp_path / "images", 2)
    code = (
        "import sys\n"
        "from cpnas_cli.cli.app import app\n"
        "try:\n    app(['predict', *sys.argv[1:]])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'torchvision', 'lightning_fabric', 'sklearn', 'matplotlib', 'rich.table'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(model), str(tmp_path / "images")], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert len(answer.stdout.splitlines()) == 2
