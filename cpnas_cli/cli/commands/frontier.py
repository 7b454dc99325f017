"""`cpnas frontier`."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.commands import experiment
from cpnas_cli.cli.console import print_json, reported_errors, say
from cpnas_cli.cli.opening import say_notes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.experiments.frontier.plan import FrontierPlan
    from cpnas_cli.settings import Config

DEFAULT_WIDTHS = "0.5,1,2"
DEFAULT_BYTES = "16KiB,32KiB,64KiB,128KiB,256KiB"


def frontier(
    genotype: Annotated[
        Path | None, typer.Argument(help="A genotype.json, or the folder of a search; without it one is searched.")
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option("--widths", metavar="F,F,...", help=f"Times network.num_channels; {DEFAULT_WIDTHS}."),
    ] = None,
    baseline_bytes: Annotated[
        str | None,
        typer.Option("--baseline-bytes", metavar="SIZE,...", help=f"Of the int8 CNNs, nearly; {DEFAULT_BYTES}."),
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
    measure_again: Annotated[
        bool, typer.Option("--measure-again", help="Time all networks anew, also where there are times.")
    ] = False,
    json_: options.Json = False,
) -> None:
    """Is 1 bit worth it on your images? Accuracy over bytes and over time: 1-bit, int8 and float32 networks.

    Trains Child and Parent of a genotype at several widths and plain CNNs of several sizes, quantizes the float ones to
    int8, times all on this machine, and says which to take for a size or a time. Needs the onnx extra. Typing the
    same command again goes on with an unfinished one; with further widths, sizes or seeds it makes it larger.
    """
    typed = experiment.ExperimentOptions(
        preset, set_, data_dir, seeds, out, device, workers, ray, cpus_per_task, gpus_per_task, resume, max_time, json_
    )
    with reported_errors():
        from cpnas_cli.deploy.onnx import check_onnx
        from cpnas_cli.distributed.device import open_device
        from cpnas_cli.runs.deadline import Deadline, parse_duration

        deadline = Deadline(None if max_time is None else parse_duration(max_time))
        check_onnx()
        executor = experiment.executor_of(typed)
        request = _request(genotype, typed, widths=widths, baseline_bytes=baseline_bytes)
        say_notes(request.dataset)
        _check_members(request, open_device("cpu" if ray else device), is_cluster=ray is not None)
        plan = request.plan
        say(f"frontier of {len(plan.members)} members on {plan.config.data.name}: {request.folder}")
        line = options.resume_line("frontier", *experiment.executor_words(typed), out=request.folder, device=device)
        with reported_errors(resume_line=line):
            document = _run(request, typed, executor, deadline, measure_again=measure_again)
            _report(document, request.folder, as_json=json_, line=line)


@dataclass(frozen=True)
class _Request:
    """What the options say; the images are loaded."""

    plan: "FrontierPlan"
    folder: Path
    dataset: "Dataset"


def _request(
    genotype: Path | None, typed: experiment.ExperimentOptions, *, widths: str | None, baseline_bytes: str | None
) -> _Request:
    from cpnas_cli.data.dataset import load_dataset
    from cpnas_cli.experiments.frontier.plan import make_plan, parse_sizes, parse_widths
    from cpnas_cli.experiments.plan import parse_seeds
    from cpnas_cli.networks.plain_cnn import plain_cnn_size_bytes
    from cpnas_cli.training.baseline import surroundings_of

    there = _plan_there(typed.out) if typed.resume else None
    seeds = experiment.chosen(typed.seeds, parse_seeds, there=there and there.seeds, default=experiment.DEFAULT_SEEDS)
    factors = experiment.chosen(widths, parse_widths, there=there and there.widths, default=DEFAULT_WIDTHS)
    sizes = experiment.chosen(baseline_bytes, parse_sizes, there=there and (), default=DEFAULT_BYTES)
    if there and not experiment.any_typed(genotype, typed.preset, typed.overrides, typed.data_dir):
        document, config = there.genotype, there.config
    else:
        document, config = _genotype_and_config(genotype, typed, seed=seeds[0])
    dataset = load_dataset(config.data)
    shape = surroundings_of(dataset, config)
    if there and not sizes:
        sizes = tuple(plain_cnn_size_bytes(width, shape) for width in there.cnn_widths)
    plan = make_plan(config, genotype=document, widths=factors, baseline_bytes=sizes, seeds=seeds, shape=shape)
    return _Request(plan, typed.out or Path("runs") / f"{config.data.name}-frontier", dataset)


def _plan_there(folder: Path | None) -> "FrontierPlan":
    """The plan that --resume goes on with: it has what is not typed."""
    from cpnas_cli.experiments.frontier.plan import FrontierFolder
    from cpnas_cli.experiments.frontier.run import stored_frontier_plan

    return stored_frontier_plan(experiment.place_to_resume(folder, FrontierFolder, "frontier"))


def _genotype_and_config(
    genotype: Path | None, typed: experiment.ExperimentOptions, *, seed: int
) -> "tuple[Mapping[str, Any] | None, Config]":
    """The genotype's document, and the settings: of the preset, or of the search that the genotype lies beside."""
    from cpnas_cli.runs.folder import settings_beside
    from cpnas_cli.settings import DEFAULT_PRESET
    from cpnas_cli.storage.genotype_file import read_genotype

    document: Mapping[str, Any] | None = None
    default: str | Path = DEFAULT_PRESET
    if genotype is not None:
        document = read_genotype(genotype)[1]
        default = settings_beside(genotype if genotype.is_dir() else genotype.parent) or default
    config = options.resolve_config(
        preset=typed.preset,
        overrides=typed.overrides,
        data_dir=typed.data_dir,
        seed=str(seed),
        default=default,
        stored=typed.resume,  # there is a frontier, which must be this one
    )
    return document, config


def _check_members(request: _Request, fabric: "Fabric", *, is_cluster: bool) -> None:
    """What one member could not do, none begins.

    Args:
      fabric: the device of all members. is_cluster: it is not that, but a cluster's.
    """
    from cpnas_cli.training.checks import check_training

    for member in request.plan.members:
        if member.part == "search":
            member.search.strategy.check(member.config, request.dataset, None if is_cluster else fabric)
        else:
            check_training(member.config, request.dataset, fabric)


def _run(
    request: _Request,
    typed: experiment.ExperimentOptions,
    executor: Callable[[], Any],
    deadline: Any,
    *,
    measure_again: bool,
) -> dict[str, Any]:
    from cpnas_cli.cli.views.frontier import FrontierView
    from cpnas_cli.data.dataset import describe_dataset
    from cpnas_cli.distributed.device import open_device
    from cpnas_cli.experiments.frontier.run import run_frontier
    from cpnas_cli.runs.environment import describe_environment

    with FrontierView(request.plan) as view:
        return run_frontier(
            request.plan,
            folder=request.folder,
            executor=executor,
            device=typed.device,
            dataset=describe_dataset(request.dataset),
            environment=describe_environment(open_device("cpu"), command=["cpnas", *sys.argv[1:]]),
            deadline=deadline,
            measure_again=measure_again,
            say=view.say,
            watch=view.watch,
        )


def _report(document: Mapping[str, Any], folder: Path, *, as_json: bool, line: str) -> None:
    from cpnas_cli.cli.render.frontier import print_frontier
    from cpnas_cli.errors import RunError
    from cpnas_cli.reports.frontier import save_frontier

    figures = save_frontier(document, folder) if document["points"] else []
    if as_json:
        print_json(document)
    else:
        print_frontier(document, [folder / "frontier.json", *figures])
    failed = [member["name"] for member in document["members"] if member["state"] != "finished"]
    if failed:
        raise RunError(f"{len(failed)} members failed: {', '.join(failed)}; try them again with: {line}")
