"""`import cpnas_cli as cpnas`: the same results as the commands, to the last bit."""

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import invoke
from conftest import TINY_SETTINGS
from PIL import Image

import cpnas_cli as cpnas
from cpnas_cli.deploy.predict import Failure
from cpnas_cli.library.stepwise import stepwise
from cpnas_cli.runs.lock import locked
from cpnas_cli.settings import load_config
from cpnas_cli.settings.config import flat_settings

NAMES = [setting.partition("=")[0] for setting in TINY_SETTINGS]
SETTINGS = {name: flat_settings(load_config(overrides=list(TINY_SETTINGS)))[name] for name in NAMES}


def without_seconds(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if not key.startswith("seconds")} for record in records]


def history_of(folder: Path) -> list[dict[str, Any]]:
    return without_seconds([json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()])


def is_record(event: Mapping[str, Any]) -> bool:
    """Of the history; others tell of progress, and are not kept."""
    return event["event"] in ("draw", "abandon")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> cpnas.Found:
    torch.set_num_threads(1)
    return cpnas.search(out=tmp_path_factory.mktemp("library") / "search", settings=SETTINGS)


@pytest.fixture(scope="module")
def trained(found: cpnas.Found) -> cpnas.Trained:
    torch.set_num_threads(1)
    return cpnas.train(
        found, out=found.folder.with_name("training"), with_parent=True, settings={"train.num_epochs": 1}
    )


def test_importing_it_and_loading_a_network_need_no_torch() -> None:
    code = "import sys, cpnas_cli as cpnas; cpnas.load; print(sorted(sys.modules.keys() & {'torch', 'numba', 'rich'}))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_its_names_are_those_it_has() -> None:
    assert set(cpnas.__all__) <= set(dir(cpnas))
    assert all(getattr(cpnas, name) is not None for name in cpnas.__all__)
    with pytest.raises(AttributeError, match="no attribute 'sarch'"):
        _ = cpnas.sarch  # pyright: ignore[reportAttributeAccessIssue]


def test_a_search_whose_indicator_turned_round_says_so(found: cpnas.Found) -> None:
    """As the command warns: printed, beta_P = 2, and a Parent that hardly follows its Child."""
    assert found.warning is None
    origin = {**found.document["provenance"], "indicator": "printed", "beta_p": 2.0, "parent_slope": 0.1}
    turned = cpnas.Found(found.folder, {**found.document, "provenance": origin})
    assert turned.warning is not None
    assert "prefers worse Children" in turned.warning


def test_a_search_is_that_of_the_command(found: cpnas.Found, tiny_search: Path) -> None:
    assert found.genotype_file.read_bytes() == (tiny_search / "genotype.json").read_bytes()
    assert without_seconds(found.history()) == history_of(tiny_search)
    assert found.genotype.normal == tuple(edge["op"] for edge in found.document["normal"])
    assert found._repr_svg_().lstrip().startswith("<?xml")
    assert found._repr_svg_() == found._repr_svg_()


def test_a_setting_counts_that_has_an_argument_of_its_own_which_is_not_given(tmp_path: Path) -> None:
    """The strategy and the seed among `settings` were lost behind arguments that nobody gave."""
    found = cpnas.search(out=tmp_path / "a", settings={**SETTINGS, "search.strategy": "random", "seed": 3})
    assert [record["event"] for record in found.history()] == ["draw"]
    assert found.document["provenance"]["strategy"] == "random"
    assert found.document["provenance"]["seed"] == 3
    other = cpnas.search(out=tmp_path / "b", strategy="random", seed=3, settings={**SETTINGS, "seed": 4})
    assert other.document["normal"] == found.document["normal"]


def test_its_events_are_its_history_and_it_can_be_left_and_resumed(tiny_search: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with cpnas.start_search(out=out, settings=SETTINGS) as running:
        first = list(itertools.islice(filter(is_record, running), 3))
        assert running.result is None
    assert without_seconds([dict(event) for event in first]) == history_of(tiny_search)[:3]
    with locked(out):  # nobody has it any more
        pass
    later = cpnas.start_search(out=out, resume=True)
    events = [dict(event) for event in later if is_record(event)]
    assert history_of(out) == history_of(tiny_search)
    told_again = [event.pop("resumed", False) for event in events]
    assert without_seconds(events) == history_of(tiny_search)
    assert told_again == [True] * told_again.count(True) + [False] * told_again.count(False)
    assert told_again.count(True) in (2, 3)  # the third may not have been saved yet
    assert later.result is not None
    assert later.result.genotype_file.read_bytes() == (tiny_search / "genotype.json").read_bytes()


def test_what_is_typed_wrongly_is_said_to_whoever_iterates(tmp_path: Path) -> None:
    with pytest.raises(cpnas.CpnasError, match=r"search\.beta_p: input should be greater than or equal to 0, got -1"):
        cpnas.search(out=tmp_path / "a", settings={"search.beta_p": -1})
    with pytest.raises(cpnas.CpnasError, match=r"search\.beta_p"):
        list(cpnas.start_search(out=tmp_path / "b", settings={"search.beta_p": -1}))
    assert not list(tmp_path.iterdir())


def test_settings_that_were_changed_since_are_refused(tiny_search: Path, tmp_path: Path) -> None:
    """As by the commands: of a run that is to go on, and of the search that a genotype lies beside."""
    run = tmp_path / "run"
    shutil.copytree(tiny_search, run)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text[: text.index("train:")])
    for call in (lambda: cpnas.search(out=run, resume=True), lambda: cpnas.train(run, out=tmp_path / "training")):
        with pytest.raises(cpnas.CpnasError, match="was changed since the run was started"):
            call()
    assert not (tmp_path / "training").exists()


def test_work_stands_still_until_it_is_asked_on() -> None:
    done = []

    def work(notify: Any) -> str:
        for number in range(3):
            done.append(number)
            notify(number)
        return "all"

    steps = stepwise(work)
    assert next(steps) == 0
    assert done == [0]
    assert next(steps) == 1
    assert done == [0, 1]
    steps.close()
    assert done == [0, 1]
    whole = stepwise(work)
    assert [next(whole), next(whole), next(whole)] == [0, 1, 2]
    with pytest.raises(StopIteration) as end:
        next(whole)
    assert end.value.value == "all"


def test_a_training_and_what_follows_are_those_of_the_commands(trained: cpnas.Trained, tiny_search: Path) -> None:
    by_hand = trained.folder.with_name("by-hand")
    words = ["--with-parent", "--set", "train.num_epochs=1", "--out", by_hand, "--json"]
    expected = json.loads(invoke("train", tiny_search, *words).stdout)
    assert trained.accuracy == expected["accuracy_test"]
    assert trained.accuracy_parent == expected["accuracy_parent_test"]
    for file in ("model.safetensors", "parent.safetensors"):
        assert (trained.folder / file).read_bytes() == (by_hand / file).read_bytes()
    evaluated = trained.evaluate()
    assert dict(evaluated.document) | {"run": 0} == json.loads(invoke("evaluate", by_hand, "--json").stdout) | {
        "run": 0
    }
    assert evaluated.accuracy == trained.accuracy
    assert sum(map(sum, evaluated.confusion)) == 20


def test_a_loaded_network_predicts_as_the_command(trained: cpnas.Trained, tmp_path: Path) -> None:
    for level in (0, 90, 255):
        Image.new("L", (9, 7), level).save(tmp_path / f"{level}.png")
    classifier = trained.load()
    assert (classifier.image_size, classifier.classes) == (8, tuple("0123456789"))
    predictions = classifier.predict(tmp_path)
    lines = invoke("predict", trained.folder, tmp_path, "--json").stdout.splitlines()
    assert [dict(each.ranking) for each in predictions] == [json.loads(line)["probabilities"] for line in lines]
    assert [Path(str(each.image)).name for each in predictions] == ["0.png", "255.png", "90.png"]
    assert classifier.predict([tmp_path / "90.png"], top=1)[0].ranking == predictions[2].ranking[:1]
    (tmp_path / "damaged.png").write_bytes(b"no image")
    with pytest.raises(cpnas.CpnasError, match=r"damaged\.png"):
        classifier.predict(tmp_path)
    assert [type(answer).__name__ for answer in classifier.stream(tmp_path)].count("Failure") == 1


def test_images_in_memory_are_classified_as_the_files_of_them(trained: cpnas.Trained, tmp_path: Path) -> None:
    """Grey and colour, with a transparent part, of other sizes than the network's."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 9, 7, 4), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        Image.fromarray(image[..., 0]).save(tmp_path / f"grey-{number}.png")
    classifier = trained.load()
    files = {each.image: each.ranking for each in classifier.predict(tmp_path)}
    of_colour = [files[tmp_path / f"{number}.png"] for number in range(5)]
    of_grey = [files[tmp_path / f"grey-{number}.png"] for number in range(5)]
    assert len(set(of_colour + of_grey)) == 10  # none is mistaken for another
    found = classifier.predict(pixels)
    assert [each.ranking for each in found] == of_colour
    assert [each.image for each in found] == [0, 1, 2, 3, 4]
    assert [each.ranking for each in classifier.predict(pixels[..., :1])] == of_grey
    assert [each.ranking for each in classifier.predict(list(pixels[..., 0]))] == of_grey
    assert classifier.predict(pixels[2], top=1)[0].ranking == of_colour[2][:1]
    assert classifier.predict(Image.fromarray(pixels[3]))[0].ranking == of_colour[3]
    mixed = classifier.predict([tmp_path / "4.png", pixels[:2], Image.fromarray(pixels[3])])
    assert [each.ranking for each in mixed] == [of_colour[number] for number in (4, 0, 1, 3)]
    assert [each.image for each in mixed] == [tmp_path / "4.png", 1, 2, 3]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((2, 8, 8, 3)), r"uint8 pixels of shape .*, got float64 of shape \(2, 8, 8, 3\)"),
        (np.zeros((3, 8, 8), np.uint8), r"C = 1, 3 or 4, got uint8 of shape \(3, 8, 8\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"got uint8 of shape \(0, 8, 8, 3\)"),
        (7, "got int"),
        (Image.new("F", (8, 8)), "image 0 has floating-point pixels"),
    ],
)
def test_what_is_no_image_in_memory_is_refused(image: object, words: str, trained: cpnas.Trained) -> None:
    with pytest.raises(cpnas.CpnasError, match=words):
        trained.load().predict([image])  # pyright: ignore[reportArgumentType]


def test_the_pixels_for_a_c_program_are_those_that_the_network_reads(trained: cpnas.Trained, tmp_path: Path) -> None:
    """A picture without anything to resize is itself; a wide one is brought to a square, as the model's `fit` says."""
    exact = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    classifier = trained.load()
    assert np.array_equal(classifier.pixels(exact), exact[..., None])
    Image.fromarray(np.repeat(exact, 2, axis=1)).save(tmp_path / "wide.png")
    wide = classifier.pixels(tmp_path / "wide.png")
    assert (wide.shape, wide.dtype, wide.flags.c_contiguous) == ((8, 8, 1), np.uint8, True)
    assert classifier.predict(wide)[0].ranking == classifier.predict(tmp_path / "wide.png")[0].ranking
    with pytest.raises(cpnas.CpnasError, match="expected one image, got 2"):
        classifier.pixels(np.zeros((2, 8, 8, 1), np.uint8))
    with pytest.raises(cpnas.CpnasError, match=r"nothing\.png"):
        classifier.pixels(tmp_path / "nothing.png")


def test_a_closed_picture_does_not_stop_the_others(trained: cpnas.Trained, tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as closed:
        pass
    answers = list(trained.load().stream([closed, Image.new("L", (8, 8))]))
    assert [type(answer).__name__ for answer in answers] == ["Failure", "Prediction"]
    assert isinstance(answers[0], Failure)
    assert answers[0].error.startswith("cannot read the image 0: ")


def test_a_table_of_a_notebook_is_escaped(trained: cpnas.Trained) -> None:
    document = {"accuracy_test": 0.5, "confusion": [[1, 0], [1, 0]], "run": "<script>"}
    shown = cpnas.Evaluated(document, ("<b>", "a & b"))._repr_html_()
    assert "<script>" not in shown
    assert "&lt;b&gt;</th><td>1 of 1 right" in shown
    assert "a &amp; b</th><td>0 of 1 right" in shown
    assert f"{100 * trained.accuracy:.2f} %" in trained._repr_html_()
