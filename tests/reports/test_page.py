"""The page of a run: what stands in it, from folders written by hand; what a file says is text and nothing else."""

import base64
import io
import itertools
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from command_line import error_of, invoke
from PIL import Image
from played_experiments import play, random_plan
from written_runs import (
    EVIL,
    KINDS,
    SCRIPT,
    dataset_document,
    death_order,
    environment_document,
    epoch_record,
    result_document,
    search_history,
    write,
    write_search,
    write_training,
    write_training_with_mistakes,
)

from cpnas_cli.errors import RunError
from cpnas_cli.networks.operations.base import operation_of
from cpnas_cli.reports.page import make_page, write_page
from cpnas_cli.reports.page.answers_part import are_at_hand, confusion_grid
from cpnas_cli.reports.page.blocks import (
    Block,
    Chapter,
    Command,
    Details,
    Drawing,
    Drawings,
    Facts,
    Grid,
    Page,
    Paragraph,
    Table,
    Tiles,
)
from cpnas_cli.reports.page.rendering import render
from cpnas_cli.reports.page.search_part import draws_of
from cpnas_cli.reports.page.words import link, shell_line, visible
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import EDGES, OPERATIONS

RESULTS = Path(__file__).parents[2] / "docs" / "results"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Elements(HTMLParser):
    """What a browser makes of the text: elements in their order, each with its attributes, and the texts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def blocks_of(page: Page | Chapter) -> Iterator[Block]:
    """All blocks, also those within others."""
    chapters = page.chapters if isinstance(page, Page) else (page,)
    sections = [each for chapter in chapters for each in chapter.sections]

    def inside(blocks: tuple[Block, ...]) -> Iterator[Block]:
        for block in blocks:
            yield block
            yield from inside(getattr(block, "blocks", ()))

    for section in sections:
        yield from inside(section.blocks)


def section_of(page: Page, name: str) -> tuple[Block, ...]:
    (found,) = (each for chapter in page.chapters for each in chapter.sections if each.name == name)
    return found.blocks


def table_of(page: Page, caption: str) -> Table:
    (found,) = (block for block in blocks_of(page) if isinstance(block, Table) and block.caption.startswith(caption))
    return found


def assert_tables_are_whole(page: Page) -> None:
    tables = [block for block in blocks_of(page) if isinstance(block, Table)]
    assert tables
    for table in tables:
        assert {len(row) for row in table.rows} <= {len(table.columns)}, table.caption


def paragraphs(page: Page) -> list[str]:
    return [block.text for block in blocks_of(page) if isinstance(block, Paragraph)]


def page_of(folder: Path, **options: Any) -> Page:
    return make_page(folder, folder / "report.html", **options)


# ---------------------------------------------------------------- a search


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_search(tmp_path_factory.mktemp("runs") / "search", search_history())


@pytest.fixture(scope="module")
def search_page(search: Path) -> Page:
    return page_of(search)


def test_which_operation_died_when(search_page: Page) -> None:
    """The history was made from the order in which operations die."""
    grids = [block for block in blocks_of(search_page) if isinstance(block, Grid) and "died" in block.caption]
    assert len(grids) == len(KINDS)
    columns = tuple(operation_of(op).short for op in OPERATIONS)
    for grid in grids:
        assert grid.columns == columns
        assert [name for name, _ in grid.rows] == [f"{source}→{node}" for source, node in EDGES]
        for index, (_, shades) in enumerate(grid.rows):
            *dead, last = death_order(index)
            expected = {op: str(round_) for round_, op in enumerate(dead, start=1)} | {last: "●"}
            assert {op: shade.text for op, shade in zip(OPERATIONS, shades, strict=True)} == expected


def test_an_unfinished_search_shows_what_is_alive(tmp_path: Path) -> None:
    history = search_history()
    first_end = next(index for index, record in enumerate(history) if record["event"] == "abandon")
    page = page_of(write_search(tmp_path / "s", history[: first_end + 1], done=False))
    grid = next(block for block in blocks_of(page) if isinstance(block, Grid) and "died" in block.caption)
    assert Counter(shade.text for _, shades in grid.rows for shade in shades) == {"1": len(EDGES), "·": 7 * len(EDGES)}
    assert "not finished" in page.subtitle


def test_what_was_chosen_as_a_whole_is_marked_among_what_was_left(tmp_path: Path) -> None:
    """Four operations are left on every edge; of these one is filled, the others are only alive."""
    history = search_history()
    ends = [index for index, record in enumerate(history) if record["event"] == "abandon"]
    left = [death_order(index)[4:] for index in range(len(EDGES))]
    cells = {"normal": [ops[0] for ops in left], "reduce": [ops[3] for ops in left]}
    last = {**history[0], **cells, "num_candidates": 4, "trained": False, "z": 0.9}
    choice = {"event": "choice", "num_candidates": 4, "draw": 1, **cells, "z": 0.9}
    page = page_of(write_search(tmp_path / "s", [*history[: ends[3] + 1], {**last, "z": 0.8}, last, choice]))
    grids = [block for block in blocks_of(page) if isinstance(block, Grid) and "died" in block.caption]
    for grid, kind in zip(grids, ("normal", "reduce"), strict=True):
        for index, (_, shades) in enumerate(grid.rows):
            marks = {op: shade.text for op, shade in zip(OPERATIONS, shades, strict=True)}
            assert [op for op in OPERATIONS if marks[op] == "●"] == [cells[kind][index]]
            assert {op for op in OPERATIONS if marks[op] == "·"} == set(left[index]) - {cells[kind][index]}
    (story,) = (text for text in paragraphs(page) if "architectures judged" in text)
    assert "until 4 are left. The best of 2 whole architectures of these" in story


def test_the_draws_are_those_of_the_history(search: Path, search_page: Page) -> None:
    history = [json.loads(line) for line in (search / "history.jsonl").read_text().splitlines()]
    draws = [record for record in history if record["event"] == "draw"]
    found = draws_of(history)
    assert [each.accuracy_child for each in found] == [record["accuracy_child"] for record in draws]
    assert [each.number for each in found] == list(range(1, 36))
    best = table_of(search_page, "The most accurate Children")
    highest = sorted((record["accuracy_child"] for record in draws), reverse=True)[:20]
    assert [row[2].text for row in best.rows] == [f"{100 * value:.2f} %" for value in highest]


def test_a_pass_is_judged_when_it_ends() -> None:
    draw = {"event": "draw", "num_candidates": 2, "accuracy_child": None, "accuracy_parent": None, "z": None}
    history = [{**draw, "pass": pass_, "draw": index} for pass_ in range(2) for index in range(2)]
    first = {"event": "pass", "accuracy_child": [0.1, 0.2], "accuracy_parent": [0.5, 0.6], "z": [1, 2]}
    second = {"event": "pass", "accuracy_child": [0.3, 0.4], "accuracy_parent": None, "z": [3, 4]}
    found = draws_of([*history[:2], first, *history[2:], second])
    assert [each.accuracy_child for each in found] == [0.1, 0.2, 0.3, 0.4]
    assert [each.accuracy_parent for each in found] == [0.5, 0.6, None, None]
    assert [each.z for each in found] == [1, 2, 3, 4]


def test_a_random_search_says_that_nothing_was_trained(tmp_path: Path) -> None:
    record = {**search_history()[0], "accuracy_child": None, "accuracy_parent": None, "z": None}
    page = page_of(write_search(tmp_path / "s", [record], done=False, **{"search.strategy": "random"}))
    assert "drawn at random: nothing was trained" in " ".join(paragraphs(page))
    assert not [block for block in section_of(page, "search") if isinstance(block, Drawing)]


def test_thousands_of_draws_fit_a_page(tmp_path: Path) -> None:
    history = search_history(num_passes=300, accuracy=lambda n: n % 97 / 100)
    folder = write_search(tmp_path / "s", history, done=False)
    assert len((folder / "history.jsonl").read_text().splitlines()) == 10507
    page = page_of(folder)
    assert len(render(page)) < 700_000
    assert len(table_of(page, "The passes of the search").rows) == 500


# ---------------------------------------------------------------- a training


def test_curves_of_every_term_and_of_validation(tmp_path: Path) -> None:
    history = [epoch_record(epoch, "parent") for epoch in range(3)]
    more = {"validation_accuracy": 0.5, "validation_of_ours": 7}
    history += [epoch_record(epoch, stage=1 + epoch // 2, **more) for epoch in range(3)]
    page = page_of(write_training(tmp_path / "t", history, with_genotype=False))
    (charts,) = (block for block in section_of(page, "training") if isinstance(block, Drawings))
    titles = [re.findall(r"<title[^>]*>([^<]*)", str(each.svg))[0] for each in charts.drawings]
    losses = ["Loss: the sum of all terms", "Cross entropy", "Kernel term"]
    assert titles == ["Accuracy", *losses, "Validation of ours", "Learning rate"]
    assert [each.name for each in charts.drawings[0].legend] == [
        "Child, in training",
        "Child, validation",
        "Parent, in training",
    ]
    assert "1-bit from here" in str(charts.drawings[0].svg)
    assert "Switched off, 0 in every epoch: compactness term, teacher term, auxiliary head." in paragraphs(page)
    table = next(block for block in blocks_of(page) if isinstance(block, Table) and block.caption == "Every epoch")
    assert [row[0].text for row in table.rows] == ["1", "2", "3", "1", "2", "3"]
    assert "validation accuracy" in [column.title for column in table.columns]


def test_the_result_is_seen_first(tmp_path: Path) -> None:
    best = {"epoch": 1, "accuracy": 0.75, "loss": 0.5, "file": "best.safetensors"}
    validation = {"num_images": 8, "accuracy": 0.5, "loss": 1.0, "best": best}
    result = result_document(("a", "b"), accuracy_test=0.875, accuracy_parent_test=0.90625, validation=validation)
    page = page_of(write_training(tmp_path / "t", [epoch_record(0)], result=result, with_genotype=False))
    first = page.chapters[0].sections[0]
    (tiles,) = (block for block in first.blocks if isinstance(block, Tiles))
    found = {tile.label: (tile.value, tile.note) for tile in tiles.tiles}
    assert found["test accuracy, 1-bit Child"] == ("87.50 %", "of 20 test images; guessing gives 50.0 %")
    assert found["test accuracy, its Parent"] == ("90.62 %", "1 bit costs 3.12 points")
    assert found["size for inference"] == ("1.0 KiB", "the Parent 10.0 KiB")
    assert found["of training"] == ("1 min 05 s", "3 epochs")
    facts = dict(row for block in first.blocks if isinstance(block, Facts) for row in block.rows)
    assert facts["on validation images"] == "50.00 % after the last epoch"
    assert facts["the best epoch there"] == "75.00 % after epoch 2, kept as best.safetensors"


def test_an_unfinished_training_says_how_far_it_is(tmp_path: Path) -> None:
    history = [epoch_record(0, "parent"), epoch_record(0), epoch_record(1)]
    page = page_of(write_training(tmp_path / "t", history, with_genotype=False))
    assert "Not finished. Parent: 1 of 3 epochs; Child: 2 of 3 epochs" in paragraphs(page)


@pytest.mark.parametrize(
    ("networks", "teacher", "options"),
    [
        (("child",), 0.0, []),
        (("child", "parent"), 0.0, ["--with-parent"]),
        (("child", "parent"), 0.5, []),  # the Parent is there because it teaches
        (("parent",), 0.0, ["--precision", "full"]),
    ],
)
def test_the_command_that_repeats_it(
    tmp_path: Path, networks: tuple[str, ...], teacher: float, options: list[str]
) -> None:
    values: dict[str, Any] = {"train.teacher_weight": teacher}
    folder = write_training(tmp_path / "t t", [epoch_record(0)], networks=networks, with_genotype=False, **values)
    commands = [block.line for block in blocks_of(page_of(folder)) if block.kind == "command"]  # type: ignore[union-attr]
    again = ["cpnas", "train", "t t/genotype.json", "--preset", "t t/config.yaml", *options, "--out", "t t-again"]
    assert shlex.split(commands[1]) == again
    assert shlex.split(commands[0]) == ["cpnas", "train", "g.json", "--out", SCRIPT]


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mistaken")
    return write_training_with_mistakes(root / "run", root / "photos")


@pytest.fixture(scope="module")
def mistaken_page(mistaken: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(mistaken, tmp_path_factory.mktemp("page") / "p.html").read_text(encoding="utf-8")


def test_mistakes_and_confusion_are_those_of_evaluate(mistaken: Path) -> None:
    answer = invoke("evaluate", mistaken, "--device", "cpu", "--json")
    evaluation = json.loads(answer.stdout)
    page = page_of(mistaken)
    (grid,) = (block for block in blocks_of(page) if isinstance(block, Grid) and "Confusion" in block.caption)
    counts = [[int(shade.text.replace("·", "0")) for shade in shades] for _, shades in grid.rows]
    assert counts == evaluation["confusion"]
    photos = next(block.photos for block in blocks_of(page) if block.kind == "photos")  # type: ignore[union-attr]
    assert [photo.title for photo in photos] == [
        f"{row['class']}, taken for {row['predicted']}" for row in evaluation["mistakes"]
    ]
    assert all(photo.address.startswith("data:image/png;base64,") for photo in photos)
    assert len(photos) == min(evaluation["num_mistakes"], 20) > 0


def test_photos_of_many_pixels_can_be_seen(tmp_path: Path) -> None:
    """Noise, which hardly any format makes smaller."""
    folder = write_training_with_mistakes(tmp_path / "t", tmp_path / "photos", ("a", "b"), side=128)
    page = Elements(write_page(folder, tmp_path / "p.html").read_text(encoding="utf-8"))
    addresses = [str(attributes["src"]) for attributes in page.all("img")]
    assert addresses
    for address in addresses:
        kind, _, text = address.partition(",")
        assert kind == "data:image/jpeg;base64"
        image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
        image.load()
        assert min(image.size) > 64


def test_the_darkest_cell_is_the_whole_row() -> None:
    grid = confusion_grid(["a", "b"], [[4, 0], [3, 1]])
    assert [[shade.level for shade in shades] for _, shades in grid.rows] == [[10, 0], [8, 3]]


def test_a_network_is_run_only_where_that_is_wanted(mistaken: Path, tmp_path: Path) -> None:
    run = RunFolder(mistaken)
    assert are_at_hand(run)
    without = page_of(mistaken, images=False)
    assert "answers" in [each.name for each in without.chapters[0].sections]
    assert not [block for block in blocks_of(without) if block.kind == "photos"]
    for change in ({"num_test_images": 2001}, {"num_train_images": 20001}):
        many = tmp_path / str(len(change))
        many.mkdir(exist_ok=True)
        for file in mistaken.iterdir():
            (many / file.name).write_bytes(file.read_bytes())
        document = json.loads((mistaken / "dataset.json").read_text())
        write(many / "dataset.json", {**document, **change})
        assert not are_at_hand(RunFolder(many))


def test_a_set_that_would_be_downloaded_is_not_looked_for(tmp_path: Path) -> None:
    values: dict[str, Any] = {"data.name": "cifar10", "data.image_size": 32}
    folder = write_training(
        tmp_path / "t", [epoch_record(0)], result=result_document(("a", "b")), with_genotype=False, **values
    )
    write(folder / "model.safetensors", "there")
    assert not are_at_hand(RunFolder(folder))
    assert "cpnas report --images does it" in " ".join(paragraphs(page_of(folder)))


def test_images_that_are_gone_are_said(mistaken: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    for file in mistaken.iterdir():
        (gone / file.name).write_bytes(file.read_bytes())
    config = (gone / "config.yaml").read_text()
    (gone / "config.yaml").write_text(re.sub("dir: .*", f"dir: {tmp_path / 'nowhere'}", config))
    assert not are_at_hand(RunFolder(gone))


# ---------------------------------------------------------------- what a file says is text


def test_names_are_text_and_nothing_else(mistaken_page: str) -> None:
    page = Elements(mistaken_page)
    assert len(page.all("script")) == 1
    assert not page.all("b")
    assert {str(attributes["src"])[:5] for attributes in page.all("img")} == {"data:"}
    handlers = [name for _, attributes in page.found for name in attributes if name.startswith("on")]
    assert handlers == []
    texts = " ".join(page.texts)
    for name in EVIL[:2]:
        assert name in texts
    assert SCRIPT in texts  # of the provenance, and of the command
    assert r"red\x1b[31m \u202egnp.exe & co\u200b" in texts
    assert not set("\x1b\u202e\u200b") & set(mistaken_page)
    assert page.unbalanced == []
    assert page.open == []


def test_a_folder_with_such_a_name(tmp_path: Path) -> None:
    root = tmp_path / 'x"><img src=1>'
    write_search(root / "javascript:alert(1)", search_history()[:3], done=False)
    write_search(root / "<i>\x1b&", search_history()[:3], done=False)
    page = Elements(write_page(root, root / "report.html").read_text(encoding="utf-8"))
    assert not page.all("img")
    assert not page.all("i")
    links = [each["href"] for each in page.all("a") if not str(each["href"]).startswith("#")]
    assert {unquote(str(each)) for each in links} == {"javascript:alert(1)/", "<i>\x1b&/"}
    assert all(re.fullmatch("[A-Za-z0-9%/._~-]+", str(each)) for each in links)
    assert page.all("title")
    assert 'x"><img src=1>' in page.texts


def test_damaged_text_of_a_history_is_text(tmp_path: Path) -> None:
    evil = 'loss"><script>alert(1)</script>'
    history = [epoch_record(epoch, SCRIPT, **{evil: 1.0, 'validation"<b>': 2.0}) for epoch in range(2)]
    folder = write_training(tmp_path / "t", history, with_genotype=False)
    page = Elements(write_page(folder, tmp_path / "p.html").read_text(encoding="utf-8"))
    assert len(page.all("script")) == 1
    assert not page.all("b")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\nb\tc\x00", r"a\nb\tc\x00"),
        ("\u202eabc\u2069\u200f\u061c", r"\u202eabc\u2069\u200f\u061c"),
        ("\udcff\ufeff\u2028", r"\udcff\ufeff\u2028"),
        ("Ärger 日本 می‌خواهم 👩‍🚀", "Ärger 日本 می‌خواهم 👩‍🚀"),  # joiners belong to names
    ],
)
def test_what_would_not_be_seen_is_spelled_out(text: str, seen: str) -> None:
    assert visible(text) == seen


def test_a_very_long_name_is_cut() -> None:
    assert len(visible("x" * 10**6)) < 4100


def test_the_program_by_its_name() -> None:
    assert shell_line(["/a b/cpnas_cli/__main__.py", "train", "x y", 3]) == "cpnas train 'x y' 3"
    assert shell_line(["/usr/bin/cpnas", "runs"]) == "cpnas runs"


def test_links_are_relative(tmp_path: Path) -> None:
    (tmp_path / "e" / "members" / "a b").mkdir(parents=True)
    target = tmp_path / "e" / "members" / "a b"
    assert link(target, page=tmp_path / "e" / "report.html") == "members/a%20b/"
    assert link(target, page=tmp_path / "pages" / "p.html") == "../e/members/a%20b/"


# ---------------------------------------------------------------- the file


def test_the_same_folder_gives_the_same_bytes(mistaken: Path, mistaken_page: str, search: Path, tmp_path: Path) -> None:
    assert write_page(mistaken, tmp_path / "again.html").read_text(encoding="utf-8") == mistaken_page
    one, other = (write_page(search, tmp_path / f"{name}.html").read_bytes() for name in "ab")
    assert one == other


def test_it_needs_nothing_else(mistaken_page: str) -> None:
    page = Elements(mistaken_page)
    policies = [each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [POLICY]
    addresses = [value for _, attributes in page.found for name, value in attributes.items() if name in ("href", "src")]
    outside = [value for value in addresses if not str(value).startswith(("#", "data:"))]
    assert outside == []  # a run has no members
    assert "url(http" not in mistaken_page
    assert "@import" not in mistaken_page


@pytest.mark.parametrize("kind", ["mistaken", "search", "comparison", "frontier", "folder"])
def test_headings_names_and_tables_are_in_order(kind: str, mistaken_page: str, search: Path, tmp_path: Path) -> None:
    folders = {
        "search": search,
        "comparison": RESULTS / "digits-comparison",
        "frontier": RESULTS / "frontier-fashion-mnist-small",
        "folder": search.parent,
    }
    text = mistaken_page if kind == "mistaken" else write_page(folders[kind], tmp_path / "p.html").read_text("utf-8")
    page = Elements(text)
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    names = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(names) == len(set(names))
    wanted = [
        name
        for _, attributes in page.found
        for key in ("aria-labelledby", "href", "xlink:href")
        for name in str(attributes.get(key) or "").split()
        if key == "aria-labelledby" or name.startswith("#")
    ]
    assert {name.removeprefix("#") for name in wanted} <= set(names)
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(each.get("scope") in ("col", "row") for each in page.all("th"))
    pictures = [each for each in page.all("svg") if each.get("aria-hidden") != "true"]
    assert all(each["role"] == "img" and each["aria-labelledby"] for each in pictures)
    assert len(page.all("title")) == len(pictures) + 1
    assert page.unbalanced == []
    assert page.open == []


def test_damage_is_said_where_it_is(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "t", [epoch_record(0)], result=result_document(("a", "b")), with_genotype=False)
    write(folder / "dataset.json", "{")
    write(folder / "history.jsonl", '{"event": "epoch"}\n[1]\n')
    said = [text for text in paragraphs(page_of(folder)) if text.startswith("This cannot be shown:")]
    assert any("dataset.json" in text for text in said)
    assert len(said) >= 2
    write(folder / "result.json", {"schema": "cpnas.result/1"})
    assert any("damaged (KeyError" in text for text in paragraphs(page_of(folder)))


def test_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run; name the folder of a run"):
        page_of(tmp_path)
    with pytest.raises(RunError, match="no folder at"):
        page_of(tmp_path / "absent")


def test_a_folder_of_a_search_and_its_training_shows_both(tmp_path: Path) -> None:
    write_search(tmp_path / "search", search_history(), done=False)
    write_training(tmp_path / "train", [epoch_record(0)], result=result_document(("a", "b")), with_genotype=False)
    page = page_of(tmp_path)
    assert [chapter.title for chapter in page.chapters] == ["Overview", "Training in train", "Search in search"]
    (table,) = section_of(page, "runs")
    assert isinstance(table, Table)
    assert [(row[0].text, row[0].href) for row in table.rows] == [("search", "search/"), ("train", "train/")]
    (tmp_path / "train" / "report.html").write_text("")
    (table,) = section_of(page_of(tmp_path), "runs")
    assert isinstance(table, Table)
    assert table.rows[1][0].href == "train/report.html"
    for number in range(4):
        write_search(tmp_path / f"more-{number}", [], done=False)
    assert [chapter.title for chapter in page_of(tmp_path).chapters] == ["Overview"]


# ---------------------------------------------------------------- experiments


def test_every_member_of_an_experiment_is_linked(tmp_path: Path) -> None:
    document, _ = play(random_plan(3, seeds=(0, 1)), tmp_path / "e")
    page = make_page(tmp_path / "e", tmp_path / "elsewhere" / "p.html")
    (table,) = section_of(page, "members")
    assert isinstance(table, Table)
    links = {row[0].text: row[0].href for row in table.rows}
    assert links == {member["name"]: f"../e/members/{member['name']}/" for member in document["members"]}
    searches = [row[8].href for row in table.rows]
    assert searches == [f"../e/searches/{member['name']}/" for member in document["members"]]
    assert [row[4].key for row in table.rows] == [member["accuracy_test"] for member in document["members"]]


def test_every_command_that_made_an_experiment_larger_is_shown(tmp_path: Path) -> None:
    lines = [f"cpnas compare --strategies random --random-draws {count}" for count in (1, 2, 3)]
    for count, line in enumerate(lines, start=1):
        play(random_plan(count), tmp_path / "e", command=line.split())
    shown = [block for block in section_of(page_of(tmp_path / "e"), "repeat") if isinstance(block, Command)]
    assert [block.line for block in shown] == lines
    assert [block.label for block in shown] == [
        "As it was typed:",
        "Then, to make it larger:",
        "Then, to make it larger; typing it again goes on where it stopped:",
    ]


@pytest.mark.parametrize("name", ["digits-comparison", "digits-ablation"])
def test_the_table_of_an_experiment(name: str) -> None:
    document = json.loads((RESULTS / name / "experiment.json").read_text())
    page = page_of(RESULTS / name)
    table = next(block for block in section_of(page, "result") if isinstance(block, Table))
    assert [row[0].text for row in table.rows] == [row["group"] for row in document["summary"]]
    assert [row[2].key for row in table.rows] == [row["accuracy_test_mean"] for row in document["summary"]]
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert sum(isinstance(block, Drawing) for block in section_of(page, "figures")) == 2
    shown = [text for text in paragraphs(page) if text in document["warnings"]]
    assert shown == document["warnings"]


def test_the_tables_of_a_frontier() -> None:
    folder = RESULTS / "frontier-fashion-mnist-small"
    document = json.loads((folder / "frontier.json").read_text())
    page = page_of(folder)
    assert document["advice"]["sentence"] in paragraphs(page)
    table = next(block for block in section_of(page, "networks") if isinstance(block, Table))
    assert [row[5].key for row in table.rows] == [point["bytes"] for point in document["points"]]
    assert_tables_are_whole(page)


def test_an_experiment_that_has_not_begun(tmp_path: Path) -> None:
    document = json.loads((RESULTS / "digits-comparison" / "experiment.json").read_text())
    del document["blake2b"]  # of what it was
    for member in document["members"]:
        member["state"] = "unfinished"
    for row in document["summary"]:
        row["num_runs"] = 0
    write(tmp_path / "experiment.json", document)
    page = page_of(tmp_path)
    assert "No member has finished yet; there is nothing to draw." in paragraphs(page)
    assert_tables_are_whole(page)


def test_estimated_and_measured_cost(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "t", [epoch_record(0)], result=result_document(("a", "b")))
    counted = json.loads(invoke("estimate-efficiency", folder, "--json").stdout)
    measurement = json.loads((RESULTS / "efficiency-peers" / "measurement.json").read_text())
    write(folder / "measured" / "measurement.json", measurement)
    page = page_of(folder)
    rows = {row[0].text: row for row in table_of(page, "The 1-bit Child and its full-precision Parent").rows}
    keys = {"multiply-accumulates": "macs", "of them 1-bit (BOPs)": "bops", "OPs = FLOPs + BOPs / 64": "ops"}
    for label, key in keys.items():
        assert [cell.key for cell in rows[label][1:3]] == [counted["totals"][key], counted["baseline"]["totals"][key]]
    assert rows["bytes stored"][3].key == pytest.approx(counted["savings"]["memory"])
    assert [row[2].key for row in table_of(page, "Estimated and measured, times").rows] == [
        row["measured"] for row in measurement["comparison"]
    ]
    assert len(table_of(page, "Side by side").rows) == len(measurement["latency"])


# ---------------------------------------------------------------- the command


def test_the_command_writes_and_names_the_page(search: Path, tmp_path: Path) -> None:
    answer = invoke("report", search, "--out", tmp_path / "new" / "p.html")
    assert (answer.exit_code, answer.stdout) == (0, f"{tmp_path / 'new' / 'p.html'}\n")
    assert (tmp_path / "new" / "p.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    own = write_search(tmp_path / "own", search_history()[:5], done=False)
    assert invoke("report", own).stdout == f"{own / 'report.html'}\n"
    assert "holds no run" in error_of(invoke("report", tmp_path / "new"), code=1)


def test_the_command_shows_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: bool(shown.append(address)) or True)
    write_search(tmp_path / "s", [], done=False)
    invoke("report", tmp_path / "s", "--out", tmp_path / "a b.html", "--open")
    assert shown == [f"file://{tmp_path}/a%20b.html"]


def test_what_is_asked_for_is_an_error_where_it_cannot_be(tmp_path: Path) -> None:
    """With --images the page says why there are none; the rest is as it would be."""
    folder = write_training(tmp_path / "t", [epoch_record(0)], result=result_document(("a", "b")), with_genotype=False)
    page = page_of(folder, images=True)
    assert any("holds no trained network" in text for text in paragraphs(page))
    assert {"result", "training"} <= {each.name for each in page.chapters[0].sections}


def test_facts_of_the_environment(search_page: Page) -> None:
    facts = [block for block in blocks_of(search_page) if isinstance(block, Facts)]
    rows = dict(row for block in facts for row in block.rows)
    expected = environment_document()
    assert (rows["Python"], rows["libraries"]) == (expected["python"], "torch 2.11")
    assert rows["fingerprint"].startswith(dataset_document(("a",))["hash"])
    assert isinstance(section_of(search_page, "repeat")[-1], Details)
