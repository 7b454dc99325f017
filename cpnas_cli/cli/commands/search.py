"""`cpnas search`."""

from typing import Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import print_json, reported_errors, say
from cpnas_cli.strategies import reference_strategy, strategies, strategy_named


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
    set_: options.Set = None,
    data_dir: options.DataDir = None,
    out: options.Out = None,
    seed: options.Seed = None,
    device: options.Device = "auto",
    resume: options.Resume = False,
    max_time: options.MaxTime = None,
    json_: options.Json = False,
) -> None:
    """Search an architecture on images; writes genotype.json.

    With no option at all: scikit-learn's digits, about a minute on two cores.
    """
    with reported_errors():
        from cpnas_cli.cli.starting import start_run
        from cpnas_cli.runs.folder import RunFolder
        from cpnas_cli.settings import DEFAULT_PRESET

        config = options.resolve_config(
            preset=preset,
            overrides=set_,
            data_dir=data_dir,
            seed=seed,
            default=options.default_source(out, preset=preset, resume=resume, otherwise=lambda: DEFAULT_PRESET),
            values={"search.strategy": strategy, "search.beta_p": beta_p},
        )
        if beta_p is not None:
            strategy_named(config.search.strategy).check_beta_p(beta_p, instead=reference_strategy().name)
        name = f"{config.data.name}-{config.search.strategy}-seed{config.seed}"
        folder = out or options.new_folder(name)
        session = start_run(
            config, folder=folder, device=device, dtype=config.search.dtype, resume=resume, max_time=max_time
        )
        say(f"searching with {config.search.strategy} on {config.data.name}: {folder}")

        from cpnas_cli.cli.render.runs import print_genotype_summary
        from cpnas_cli.cli.views.runs import search_view
        from cpnas_cli.strategies import run_search
        from cpnas_cli.strategies.base import Search

        resume_line = options.resume_line("search", out=folder, device=device)
        with reported_errors(resume_line=resume_line):
            with search_view(config) as view:
                search = Search(session.run, config, session.dataset, session.fabric, session.deadline, view.notify)
                document = run_search(search)
            genotype_file = session.run.file(RunFolder.GENOTYPE)
            next_line = options.shell_line("cpnas", "train", genotype_file)
            if json_:
                print_json(document)
                say(f"next, train the 1-bit Child:  {next_line}")
            else:
                print_genotype_summary(document, genotype_file)
                print(f"\nnext, train the 1-bit Child:  {next_line}")
