"""From a folder to its page."""

from pathlib import Path

from cpnas_cli.errors import RunError
from cpnas_cli.experiments.frontier.plan import FrontierFolder
from cpnas_cli.experiments.plan import ExperimentFolder
from cpnas_cli.reports.inventory import FoundRun, find_runs, sorted_runs
from cpnas_cli.reports.page import words
from cpnas_cli.reports.page.blocks import Cell, Chapter, Column, Page, Section, Table
from cpnas_cli.reports.page.links import linked
from cpnas_cli.reports.page.rendering import render
from cpnas_cli.reports.page.run_chapter import is_training, run_chapter, subtitle_of
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import write_text

MOST_SHOWN_WHOLE = 4
"""A folder with so few runs just below it (a search and the training of what it found) shows all of them in full."""

MOST_ROWS = 2_000


def write_page(folder: Path, out: Path, *, images: bool | None = None) -> Path:
    """Write the page of what the folder holds: a run, an experiment, a frontier, or runs below it; returns `out`.

    Args:
      images: whether the network of a training is run on its test images, for the confusion matrix and the mistakes;
        None: where they are at hand and few.

    Raises:
      RunError: the folder holds none of these, its settings or its document are damaged, or the page cannot be written.
    """
    write_text(out, render(make_page(folder, out, images=images)), advice="choose another --out")
    return out


def make_page(folder: Path, out: Path, *, images: bool | None = None) -> Page:
    """What `write_page` writes, as data.

    Args:
      out: where the page will be, for its links.
    """
    name = folder.resolve().name or str(folder)
    if not folder.is_dir():
        raise RunError(f"no folder at {folder}; name that of a run or an experiment, `cpnas runs` lists them")
    if (folder / FrontierFolder.DOCUMENT).exists():
        from cpnas_cli.reports.page.experiment_chapter import frontier_chapter  # loads torch

        chapter, subtitle = frontier_chapter(folder, title=name, page=out)
        return Page(name, subtitle, (chapter,))
    if (folder / ExperimentFolder.DOCUMENT).exists():
        from cpnas_cli.reports.page.experiment_chapter import experiment_chapter

        chapter, subtitle = experiment_chapter(folder, title=name, page=out)
        return Page(name, subtitle, (chapter,))
    run = RunFolder(folder)
    if run.file(RunFolder.CONFIG).exists():
        return Page(name, subtitle_of(run), (run_chapter(run, title=name, images=images),))
    found = find_runs(folder)
    if not found:
        raise RunError(f"{folder} holds no run; name the folder of a run or an experiment, `cpnas runs` lists them")
    return _folder_page(folder, found, name=name, out=out, images=images)


# ---------------------------------------------------------------- a folder of runs


def _folder_page(folder: Path, found: list[FoundRun], *, name: str, out: Path, images: bool | None) -> Page:
    ordered = sorted_runs(found, "name")
    overview = Chapter("Overview", (Section("runs", "Runs", (_runs_table(ordered, folder, out),)),))
    chapters = [overview]
    if len(ordered) <= MOST_SHOWN_WHOLE and all(_is_shown_whole(each) for each in ordered):
        trainings_first = sorted(ordered, key=lambda each: each.kind != "train")
        for index, each in enumerate(trainings_first):
            run = RunFolder(folder / each.folder)
            title = f"{'Training' if is_training(run) else 'Search'} in {each.folder}"
            chapters.append(run_chapter(run, title=title, prefix=f"run-{index}-", images=images))
    return Page(name, f"{words.counted(len(ordered), 'run')} in this folder", tuple(chapters))


def _is_shown_whole(found: FoundRun) -> bool:
    return found.kind in ("search", "train") and found.state != "damaged" and "/" not in found.folder


def _runs_table(found: list[FoundRun], folder: Path, out: Path) -> Table:
    rows = tuple(
        (
            linked(folder / run.folder, run.folder, page=out),
            Cell(run.kind or words.ABSENT),
            Cell("not finished" if run.state in ("running", "stopped") else run.state),
            Cell(run.data_label or words.ABSENT),
            Cell(", ".join(run.strategies)),
            Cell(words.percent(run.accuracy_child), run.accuracy_child),
            Cell(words.percent(run.accuracy_parent_test), run.accuracy_parent_test),
            Cell(words.ABSENT if run.size_bits is None else words.size(run.size_bits / 8), run.size_bits),
            Cell(f"{'★ the best Child on its data' if run.best else ''}{run.error or ''}"),
        )
        for run in found[:MOST_ROWS]
    )
    numbers = {"Child", "Parent", "size"}
    titles = ("run", "kind", "state", "data", "strategy", "Child", "Parent", "size", "note")
    columns = tuple(Column(title, title in numbers) for title in titles)
    more = "" if len(found) <= MOST_ROWS else f"; the first {MOST_ROWS:,} of {len(found):,}"
    return Table(
        f"Searches, trainings and experiments below this folder; accuracies on test images{more}",
        columns,
        rows,
        label="Runs",
    )
