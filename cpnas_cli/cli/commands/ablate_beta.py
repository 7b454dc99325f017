"""`cpnas ablate-beta`, also `cpnas ablate`."""

from typing import TYPE_CHECKING, Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.commands import experiment

if TYPE_CHECKING:
    from cpnas_cli.experiments.plan import Plan
    from cpnas_cli.settings import Config

DEFAULT_BETAS = "0,1,2,3,4,5"


def ablate_beta(
    betas: Annotated[
        str | None, typer.Option("--betas", metavar="B,B,...", help=f"The beta_P to compare; {DEFAULT_BETAS}.")
    ] = None,
    indicators: Annotated[
        str | None,
        typer.Option(
            "--indicators",
            metavar="I,I,...",
            help="penalized, printed or both; that of the settings.",
            autocompletion=options.complete_list(options.indicators),
        ),
    ] = None,
    seeds: experiment.Seeds = None,
    preset: options.Preset = None,
    set_: options.Set = None,
    data_dir: options.DataDir = None,
    out: experiment.Out = None,
    workers: experiment.Workers = None,
    ray: experiment.Ray = None,
    cpus_per_task: experiment.CpusPerTask = 1,
    gpus_per_task: experiment.GpusPerTask = 0.0,
    device: options.Device = "auto",
    resume: options.Resume = False,
    max_time: options.MaxTime = None,
    json_: options.Json = False,
) -> None:
    """Test accuracy of the 1-bit Child over beta_P: a search and a training for every beta_P, indicator and seed.

    Searches of one seed share their draws until they abandon different operations; what they share is
    trained once. Typing the same command again goes on with an unfinished experiment; with further betas, indicators
    or seeds it makes it larger.
    """

    def make_plan(config: "Config", seeds: tuple[int, ...], there: "Plan | None") -> "Plan":
        from cpnas_cli.experiments.plan import Plan, parse_betas, parse_indicators
        from cpnas_cli.settings import change_config

        groups = experiment.chosen(betas, parse_betas, there=there and there.betas, default=DEFAULT_BETAS)
        several = there.indicators if there and len(there.indicators) > 1 else ()
        names = several if indicators is None else parse_indicators(indicators)
        if len(names) == 1:  # the same as setting it
            config = change_config(config, {"search.indicator": names[0]}, stored=True)
        elif names:
            groups = tuple(f"{name} {beta}" for name in names for beta in groups)
        return Plan("ablation", groups, seeds, config)

    typed = experiment.ExperimentOptions(
        preset, set_, data_dir, seeds, out, device, workers, ray, cpus_per_task, gpus_per_task, resume, max_time, json_
    )
    experiment.run("ablate-beta", "ablation", typed, make_plan=make_plan)
