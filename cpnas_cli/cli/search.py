"""`cpnas search`."""

from typing import Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.outcome import print_json, reported_errors, say


def _strategies(incomplete: str) -> list[str]:
    from cpnas_cli.config import STRATEGIES

    return [name for name in STRATEGIES if name.startswith(incomplete)]


def search(
    preset: options.Preset = None,
    strategy: Annotated[
        str | None,
        typer.Option("--strategy", help="cpnas, bnas (cpnas at beta_P = 0) or random.", autocompletion=_strategies),
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
        from cpnas_cli.clock import Deadline, parse_duration
        from cpnas_cli.config import DEFAULT_PRESET
        from cpnas_cli.errors import UsageError

        config = options.resolve_config(
            preset=preset,
            overrides=set_,
            data_dir=data_dir,
            seed=seed,
            default=options.default_source(out, resume=resume, otherwise=lambda: DEFAULT_PRESET),
            values={"search.strategy": strategy, "search.beta_p": beta_p},
        )
        if config.search.strategy == "bnas" and beta_p is not None and float(beta_p) != 0:
            raise UsageError(f"bnas is cpnas at beta_P = 0, got --beta-p {beta_p}; use --strategy cpnas")
        max_seconds = None if max_time is None else parse_duration(max_time)

        from cpnas_cli.data import check_split, load_dataset
        from cpnas_cli.device import describe_environment, open_device
        from cpnas_cli.records import RunFolder, open_run

        fabric = open_device(device)
        name = f"{config.data.name}-{config.search.strategy}-seed{config.seed}"
        folder = out or options.new_folder(name)
        deadline = Deadline(max_seconds)
        dataset = load_dataset(config.data)
        if config.search.strategy != "random":
            check_split(len(dataset.train), config.search.validation_fraction)
        run = open_run(folder, config, resume=resume, environment=describe_environment(fabric))
        say(f"searching with {config.search.strategy} on {config.data.name}: {folder}")

    from cpnas_cli.cli.live import SearchView
    from cpnas_cli.strategies import run_search
    from cpnas_cli.strategies.base import Search

    with reported_errors(resume_line=options.shell_line("cpnas", "search", "--out", folder, "--resume")):
        with SearchView(config) as view:
            document = run_search(Search(run, config, dataset, fabric, deadline, view.notify))
        genotype_file = run.file(RunFolder.GENOTYPE)
        if json_:
            print_json(document)
        else:
            from cpnas_cli.cli.render import print_genotype_summary

            print_genotype_summary(document, genotype_file)
        next_line = options.shell_line("cpnas", "train", genotype_file)
        if json_:
            say(f"next, train the 1-bit Child:  {next_line}")
        else:
            print(f"\nnext, train the 1-bit Child:  {next_line}")
