"""The page in a real browser, from a file: nothing is said to the console, tables sort, it fits a phone, and a checker
of accessibility finds nothing serious, light and dark.

Needs Debian's `chromium`, and playwright and axe-playwright-python of the dev extra; without one of them the tests are
skipped by its name.
"""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from played_experiments import play, random_plan
from written_runs import (
    EVIL,
    epoch_record,
    result_document,
    search_history,
    write,
    write_search,
    write_training,
    write_training_with_mistakes,
)

from cpnas_cli.reports.page import write_page

pytestmark = pytest.mark.slow

RESULTS = Path(__file__).parents[2] / "docs" / "results"
PAGES = ("search", "training", "experiment", "frontier", "folder")
PHONE, DESK = 400, 1400


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    # in a container it may not make its own sandbox
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def axe() -> str:
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("axe-playwright-python is not installed")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of every kind; the folders lie in one whose name is markup."""
    root = tmp_path_factory.mktemp("pages") / "<b>runs & co"
    root.mkdir()
    history = search_history(num_passes=40, accuracy=lambda number: 0.3 + number % 41 / 100)
    write_search(root / "search", history, classes=EVIL)
    training = write_training_with_mistakes(root / "training", root.parent / "photos")
    shutil.copytree(RESULTS / "efficiency-peers", training / "measured")
    play(random_plan(3, seeds=(0, 1)), root / "experiment")
    shutil.copytree(RESULTS / "frontier-fashion-mnist-small", root / "frontier")
    runs = root / "folder"
    write_search(runs / EVIL[0], [], done=False)
    write_training(runs / "t", [epoch_record(0)], result=result_document(EVIL))
    write(runs / "frontier" / "frontier.json", "{")
    write(runs / "frontier" / "config.yaml", "")
    return {name: write_page(root / name, root / name / "report.html") for name in PAGES}


class Opened:
    """A page that is open, with what it said, and what it asked for beside its own file."""

    def __init__(self, page: Any, file: Path) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(file.as_uri())

    def asked_beside(self, file: Path) -> list[str]:
        return [url for url in self.asked if url != file.as_uri() and not url.startswith("data:")]


def opened(browser: Any, file: Path, *, width: int = DESK, scheme: str = "light") -> Opened:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    return Opened(context.new_page(), file)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_said_asked_for_or_wider_than_a_phone(browser: Any, pages: dict[str, Path], name: str) -> None:
    found = opened(browser, pages[name], width=PHONE)
    width = "document.documentElement.scrollWidth"
    assert found.page.evaluate(width) == PHONE
    found.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert found.page.evaluate(width) == PHONE
    figures = found.page.locator("svg.figure").evaluate_all("(all) => all.map((each) => each.clientWidth)")
    assert all(0 < each < PHONE for each in figures)  # seen as a whole
    for button in found.page.locator("table.sortable button").all()[:40]:
        button.click()
    assert found.said == []
    assert found.asked_beside(pages[name]) == []
    found.page.context.close()


def column(page: Any, caption: str, title: str) -> list[str]:
    table = page.locator("table.sortable", has=page.locator("caption", has_text=caption))
    titles = [text.strip() for text in table.locator("thead th").all_inner_texts()]
    place = titles.index(title)
    return table.locator("tbody tr").evaluate_all(
        "(rows, place) => rows.map((row) => row.cells[place].innerText.trim())", place
    )


def press(page: Any, caption: str, title: str) -> str | None:
    """Press the heading with the keyboard, as the one who has no mouse; how the column is said to be sorted."""
    table = page.locator("table.sortable", has=page.locator("caption", has_text=caption))
    heading = table.locator("thead th", has=page.get_by_role("button", name=title, exact=True))
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    sorted_ = table.locator("thead th[aria-sort]")
    assert sorted_.count() == 1
    assert sorted_.inner_text().strip() == title
    return heading.get_attribute("aria-sort")


def test_tables_sort(browser: Any, pages: dict[str, Path]) -> None:
    """By number, not by text; by text; and back; what is absent comes last in either order."""
    page = opened(browser, pages["frontier"]).page
    caption = "Every network"
    before = column(page, caption, "size")
    sizes = {"B": 1, "KiB": 1024, "MiB": 2**20}

    def in_bytes(text: str) -> float:
        number, unit = text.split()
        return float(number) * sizes[unit]

    assert press(page, caption, "size") == "ascending"
    rising = column(page, caption, "size")
    assert rising == sorted(before, key=in_bytes) != before
    assert press(page, caption, "size") == "descending"
    assert [in_bytes(text) for text in column(page, caption, "size")] == sorted(map(in_bytes, before), reverse=True)
    assert press(page, caption, "kind") == "ascending"
    kinds = column(page, caption, "kind")
    assert kinds == sorted(kinds)
    # rows stay whole
    assert sorted(zip(kinds, column(page, caption, "size"), strict=True)) != list(zip(kinds, rising, strict=True))
    page.context.close()


def test_absent_values_are_last(browser: Any, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["folder"]).page
    caption = "Searches, trainings and experiments"
    for order in ("ascending", "descending"):
        assert press(page, caption, "Child") == order
        assert column(page, caption, "Child") == ["62.50 %", "–", "–"]  # noqa: RUF001
    page.context.close()


def test_members_are_reached(browser: Any, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["experiment"]).page
    link = page.locator("table.sortable tbody a").first
    name = link.inner_text()
    link.click()
    assert page.url == (pages["experiment"].parent / "members" / name).as_uri() + "/"
    page.context.close()


def test_names_do_nothing(browser: Any, pages: dict[str, Path]) -> None:
    found = opened(browser, pages["training"])
    assert found.page.locator("b, script + script, [onclick], [onerror]").count() == 0
    assert found.page.locator("script").count() == 1
    text = found.page.locator("body").inner_text()
    assert EVIL[0] in text
    assert r"red\x1b[31m \u202egnp.exe & co\u200b" in text
    images = found.page.locator("ul.photos img")
    assert images.count() > 0
    assert images.evaluate_all("(all) => all.every((each) => each.complete && each.naturalWidth > 0)")
    assert found.said == []
    found.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(browser: Any, axe: str, pages: dict[str, Path], name: str, scheme: str) -> None:
    page = opened(browser, pages[name], width=DESK if scheme == "light" else PHONE, scheme=scheme).page
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        f"{each['id']}: {node['html'][:160]}: {node['failureSummary'][:200]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]
    assert serious == []
    assert found["passes"]
    page.context.close()


def test_dark_is_dark_and_paper_is_light(browser: Any, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["search"], scheme="dark").page

    def brightness(what: str) -> float:
        colour = page.evaluate(f"getComputedStyle(document.querySelector('section')).{what}")
        return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) / 765

    assert brightness("backgroundColor") < 0.2 < 0.8 < brightness("color")
    page.emulate_media(media="print", color_scheme="dark")
    assert brightness("color") < 0.2 < 0.8 < brightness("backgroundColor")
    assert page.locator("nav").is_hidden()
    page.context.close()
