"""`cpnas search`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import print_json, printable, reported_errors, say
from cpnas_cli.strategies import reference_strategy, strategies, strategy_named

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.settings import Config


def _strategies(incomplete: str) -> list[tuple[str, str]]:
    return [(strategy.name, strategy.summary) for strategy in strategies() if strategy.name.startswith(incomplete)]


def search(
    preset: options.Preset = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            help="; ".join(f"{strategy.name}: {strategy.summary}" for strategy in strategies()) + ".",
            autocompletion=_strategies,
        ),
    ] = None,
    beta_p: Annotated[
        str | None, typer.Option("--beta-p", metavar="NUMBER", help="Weight of the Parent's lead, (4.15).")
    ] = None,
    indicator: Annotated[
        str | None,
        typer.Option(
            "--indicator",
            metavar="NAME",
            help="penalized: the Parent's lead lowers it; printed: it raises it, as (4.15) has it.",
            autocompletion=options.complete_indicator,
        ),
    ] = None,
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="Largest packed file of what is found, as 64KiB.")
    ] = None,
    max_ops: Annotated[
        str | None, typer.Option("--max-ops", metavar="COUNT", help="Most OPs of what is found for one image, as 5M.")
    ] = None,
    max_latency: Annotated[
        str | None,
        typer.Option(
            "--max-latency",
            metavar="TIME",
            help="Longest time of what is found for one image, as 2ms: packed, on one thread of this machine.",
        ),
    ] = None,
    set_: options.Set = None,
    data_dir: options.DataDir = None,
    out: options.Out = None,
    seed: options.Seed = None,
    device: options.Device = "auto",
    resume: options.Resume = False,
    max_time: options.MaxTime = None,
    tensorboard: options.TensorBoard = False,
    json_: options.Json = False,
) -> None:
    """Search an architecture on images; writes genotype.json.

    With no option at all: scikit-learn's digits, one to two and a half minutes on two cores.
    """
    with reported_errors():
        from cpnas_cli.runs.folder import goes_on
        from cpnas_cli.settings import DEFAULT_PRESET

        config = options.resolve_config(
            preset=preset,
            overrides=set_,
            data_dir=data_dir,
            seed=seed,
            default=options.default_source(out, preset=preset, resume=resume, otherwise=lambda: DEFAULT_PRESET),
            values={
                "search.strategy": strategy,
                "search.beta_p": beta_p,
                "search.indicator": indicator,
                "search.max_size": max_size,
                "search.max_ops": max_ops,
                "search.max_latency": max_latency,
            },
            stored=goes_on(out, resume=resume),
        )
        if beta_p is not None:
            strategy_named(config.search.strategy).check_beta_p(beta_p, instead=reference_strategy().name)
        if indicator is not None:
            strategy_named(config.search.strategy).check_indicator(indicator, instead=reference_strategy().name)
        if tensorboard:
            from cpnas_cli.reports.tensorboard import check_tensorboard

            check_tensorboard()
        name = f"{config.data.name}-{config.search.strategy}-seed{config.seed}"
        folder = out or options.new_folder(name)
        with options.removed_if_unused(folder, is_new=out is None):
            watched = {"tensorboard": tensorboard, "json_": json_}
            _search(config, folder, device=device, resume=resume, max_time=max_time, **watched)


def _search(
    config: "Config",
    folder: Path,
    *,
    device: str,
    resume: bool,
    max_time: str | None,
    tensorboard: bool,
    json_: bool,
) -> None:
    from cpnas_cli.cli.opening import open_from_options, say_preparations
    from cpnas_cli.runs.folder import RunFolder
    from cpnas_cli.strategies.checks import check_search

    def check(config: "Config", dataset: "Dataset", fabric: "Fabric") -> None:
        say_preparations(config, dataset)
        check_search(config, dataset, fabric)

    with open_from_options(
        config,
        folder=folder,
        device=device,
        dtype=config.search.dtype,
        resume=resume,
        max_time=max_time,
        check=check,
    ) as opened:
        say(f"searching with {config.search.strategy} on {config.data.name}: {folder}")

        from cpnas_cli.cli.render.runs import print_genotype_summary
        from cpnas_cli.cli.views.runs import search_view
        from cpnas_cli.cli.views.watching import watching
        from cpnas_cli.storage.genotype_file import parse_genotype, provenance_of
        from cpnas_cli.strategies import run_search
        from cpnas_cli.strategies.base import Search
        from cpnas_cli.strategies.cpnas.indicator import warning_of

        chosen = ["--tensorboard"] if tensorboard else []
        resume_line = options.resume_line("search", *chosen, out=folder, device=device)
        with reported_errors(resume_line=resume_line):
            with (
                search_view(config, num_images=len(opened.dataset.train)) as view,
                watching(view.notify, opened.run, tensorboard=tensorboard) as watched,
            ):
                search = Search(opened.run, config, opened.dataset, opened.fabric, opened.deadline, watched.notify)
                document = run_search(search)
                watched.finish(config, {}, genotype=parse_genotype(document))
            genotype_file = opened.run.file(RunFolder.GENOTYPE)
            next_line = options.shell_line("cpnas", "train", genotype_file)
            if json_:
                print_json(document)
                say(f"next, train the 1-bit Child:  {next_line}")
            else:
                print_genotype_summary(document, genotype_file)
                print(f"\nnext, train the 1-bit Child:  {printable(next_line)}")
            if warning := warning_of(provenance_of(document)):
                say(f"warning: {warning}")
