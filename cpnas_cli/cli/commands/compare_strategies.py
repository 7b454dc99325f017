"""`cpnas compare-strategies`, also `cpnas compare`."""

from typing import TYPE_CHECKING, Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.commands import experiment
from cpnas_cli.strategies import strategies as every_strategy
from cpnas_cli.strategies import strategies_to_compare

if TYPE_CHECKING:
    from cpnas_cli.experiments.plan import Plan
    from cpnas_cli.settings import Config

DEFAULT_STRATEGIES = ",".join(strategy.name for strategy in strategies_to_compare())
DEFAULT_RANDOM_DRAWS = 5


def compare_strategies(
    strategies: Annotated[
        str | None,
        typer.Option(
            "--strategies",
            metavar="S,S,...",
            help=f"Which to compare; {DEFAULT_STRATEGIES}.",
            autocompletion=options.complete_list(lambda: [strategy.name for strategy in every_strategy()]),
        ),
    ] = None,
    seeds: experiment.Seeds = None,
    random_draws: Annotated[
        int | None,
        typer.Option("--random-draws", min=1, help=f"Genotypes that random draws per seed; {DEFAULT_RANDOM_DRAWS}."),
    ] = None,
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
    """Test accuracy of the 1-bit Child by search strategy, after the same training.

    Searches of cpnas and bnas with one seed share their draws until they abandon different operations.
    Typing the same command again goes on with an unfinished experiment; with further strategies, seeds or draws
    it makes it larger.
    """

    def make_plan(config: "Config", seeds: tuple[int, ...], there: "Plan | None") -> "Plan":
        from cpnas_cli.experiments.plan import Plan, parse_strategies

        its_names = there and there.groups
        names = experiment.chosen(strategies, parse_strategies, there=its_names, default=DEFAULT_STRATEGIES)
        num_there = there.random_draws if there and there.has_several_per_seed else DEFAULT_RANDOM_DRAWS
        return Plan("comparison", names, seeds, config, random_draws or num_there)

    typed = experiment.ExperimentOptions(
        preset, set_, data_dir, seeds, out, device, workers, ray, cpus_per_task, gpus_per_task, resume, max_time, json_
    )
    experiment.run("compare-strategies", "comparison", typed, make_plan=make_plan)
