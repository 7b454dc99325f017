"""`cpnas fit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import print_json, reported_errors, say

if TYPE_CHECKING:
    from cpnas_cli.fit.folder import Asked
    from cpnas_cli.fit.run import Watcher


REPORT = "report.html"
"""In the folder of a fit: the page of `cpnas report`."""


def fit(
    photos: Annotated[
        Path | None,
        typer.Argument(
            metavar="PHOTOS",
            help="A folder of images: train/CLASS/* and test/CLASS/*, or CLASS/*; not needed with --resume.",
        ),
    ] = None,
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="Largest packed file; without it 64KiB.")
    ] = None,
    max_latency: Annotated[
        str | None,
        typer.Option(
            "--max-latency",
            metavar="TIME",
            help="Longest time for one image, as 2ms: packed, on one thread of this machine; without it any.",
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option("--time", metavar="DURATION", help="What all of it may take, as 5m or 1h30m; without it 20m."),
    ] = None,
    search: Annotated[
        bool,
        typer.Option(
            "--search", help="Search an architecture on the photos, in half of the time; without it a shipped one."
        ),
    ] = False,
    set_: options.Set = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder of the fit; without it runs/NAME-fit, NAME that of PHOTOS.")
    ] = None,
    seed: options.Seed = None,
    device: options.Device = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the fit in --out, as it was asked for; PHOTOS is not needed.")
    ] = False,
    json_: options.Json = False,
) -> None:
    """From photos to a packed 1-bit model, its C source and a page about it, in the time that there is.

    Looks at the photos, takes a network that is small and fast enough and as many epochs as there is time for, trains
    the 1-bit Child (with much time its full-precision teacher before it), evaluates and packs it. Typing the same
    command again goes on with an unfinished one.
    """
    with reported_errors():
        from cpnas_cli.distributed.device import open_device
        from cpnas_cli.fit.run import open_fit

        asked, folder = _asked(photos, max_size, max_latency, time, search, set_, seed, out, resume=resume)
        fabric = open_device(device, dtype=asked.config().train.dtype)
        with (
            open_fit(asked, folder=folder, device=fabric, watcher=_watcher()) as opened,
            reported_errors(resume_line=options.resume_line("fit", out=folder, device=device)),
        ):
            document = opened.run()
            if not (page := folder / REPORT).exists():
                from cpnas_cli.reports.page import write_page

                write_page(folder, page)
        if json_:
            print_json(document)
        else:
            from cpnas_cli.cli.render.fit import print_fit

            print_fit(document, folder)


def _asked(
    photos: Path | None,
    max_size: str | None,
    max_latency: str | None,
    time: str | None,
    search: bool,
    settings: list[str] | None,
    seed: str | None,
    out: Path | None,
    *,
    resume: bool,
) -> "tuple[Asked, Path]":
    """What is asked for, and the folder; with --resume what is not typed is as it was."""
    from dataclasses import replace

    from cpnas_cli.errors import UsageError
    from cpnas_cli.fit.folder import Asked, asked_there

    if photos is None and not resume:
        raise UsageError("expected PHOTOS, a folder with a folder of images for each class")
    if resume and out is None:
        raise UsageError("--resume needs --out FOLDER, the folder of the fit to go on with")
    typed = {
        "photos": None if photos is None else str(photos.resolve()),
        "max_size": max_size,
        "max_latency": max_latency,
        "time": time,
        "search": search or None,
        "seed": None if seed is None else _whole_number(seed),
        "settings": None if settings is None else tuple(settings),
    }
    given = {key: value for key, value in typed.items() if value is not None}
    if resume:
        assert out is not None
        return replace(asked_there(out), **given), out
    assert photos is not None
    return Asked(**given), out or Path("runs") / f"{photos.resolve().name or 'photos'}-fit"


def _whole_number(text: str) -> int:
    from cpnas_cli.errors import UsageError

    if not text.isascii() or not text.isdecimal():
        raise UsageError(f"--seed expects a whole number from 0 up, got {text!r}")
    return int(text)


def _watcher() -> "Watcher":
    """Live views of the search and of the training, and lines for the rest."""
    import contextlib
    from collections.abc import Iterator

    from cpnas_cli.cli.views.runs import search_view
    from cpnas_cli.cli.views.trainings import TrainingView
    from cpnas_cli.fit.run import Watcher
    from cpnas_cli.networks.shapes import NetworkName
    from cpnas_cli.runs.journal import Notify
    from cpnas_cli.settings import Config

    @contextlib.contextmanager
    def search(config: Config, num_images: int) -> Iterator[Notify]:
        with search_view(config, num_images=num_images) as view:
            yield view.notify

    @contextlib.contextmanager
    def training(config: Config, networks: tuple[NetworkName, ...]) -> Iterator[Notify]:
        with TrainingView(config, networks) as view:
            yield view.notify

    return Watcher(say, search, training)
