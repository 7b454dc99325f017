"""What `ablate-beta` and `compare-strategies` have in common: from a plan to a document, table and figures.

`frontier` has the options and executors of it.
"""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import print_json, reported_errors, say
from cpnas_cli.cli.opening import say_notes, say_preparations

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cpnas_cli.experiments.executors import Executor
    from cpnas_cli.experiments.plan import ExperimentFolder, Plan
    from cpnas_cli.settings import Config

T = TypeVar("T")

DEFAULT_SEEDS = "0,1,2"

Seeds = Annotated[
    str | None, typer.Option("--seeds", metavar="N,N,...", help=f"One run of everything per seed; {DEFAULT_SEEDS}.")
]
Workers = Annotated[
    str | None, typer.Option("--workers", metavar="N", help="Processes on this machine, which share its threads; 1.")
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Run on a Ray cluster instead: auto, local or HOST:PORT."),
]
CpusPerTask = Annotated[int, typer.Option("--cpus-per-task", min=1, help="With --ray: CPUs and threads of a task.")]
GpusPerTask = Annotated[float, typer.Option("--gpus-per-task", min=0, help="With --ray: GPUs of a task, or a part.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="The experiment's folder; typing the same command again goes on with it."),
]


@dataclass(frozen=True)
class ExperimentOptions:
    """The options that these commands hand on."""

    preset: str | None
    overrides: list[str] | None
    data_dir: Path | None
    seeds: str | None
    out: Path | None
    device: str
    workers: str | None
    ray: str | None
    cpus_per_task: int
    gpus_per_task: float
    resume: bool
    max_time: str | None
    as_json: bool


def run(
    name: str,
    kind: str,
    typed: ExperimentOptions,
    *,
    make_plan: "Callable[[Config, tuple[int, ...], Plan | None], Plan]",
) -> None:
    """Run the experiment of these options and print what came out.

    Args:
      name: of the command. kind: see `plan.Plan`.
      make_plan: the plan from the settings, the seeds and, with --resume, the plan of the folder, which has what is
        not typed.
    """
    with reported_errors():
        from cpnas_cli.distributed.device import open_device
        from cpnas_cli.experiments.run import lost_members, run_experiment
        from cpnas_cli.runs.deadline import Deadline, parse_duration
        from cpnas_cli.runs.environment import describe_environment

        deadline = Deadline(None if typed.max_time is None else parse_duration(typed.max_time))
        make_executor = executor_of(typed)
        plan, folder = _plan_and_folder(kind, typed, make_plan=make_plan)
        fabric = open_device("cpu" if typed.ray else typed.device)
        dataset = _check_members(plan, fabric, is_cluster=typed.ray is not None)
        for lost in lost_members(folder):
            say(f"note: a folder of {lost} is gone; it runs again")
        say(f"{kind} of {len(plan.members)} members on {plan.config.data.name}: {folder}")

        from cpnas_cli.cli.render.runs import print_experiment
        from cpnas_cli.cli.views.experiments import ExperimentView
        from cpnas_cli.reports.experiments import save_figures

        line = options.resume_line(name, *executor_words(typed), out=folder, device=typed.device)
        with reported_errors(resume_line=line):
            with ExperimentView(plan) as view:
                document = run_experiment(
                    plan,
                    folder=folder,
                    executor=make_executor,
                    device=typed.device,
                    dataset=dataset,
                    environment=describe_environment(fabric, command=["cpnas", *sys.argv[1:]]),
                    deadline=deadline,
                    say=view.say,
                    watch=view.watch,
                )
            figures = save_figures(document, folder)
            if typed.as_json:
                print_json(document)
            else:
                print_experiment(document, [folder / "experiment.json", *figures])
            failed = [member["name"] for member in document["members"] if member["state"] != "finished"]
            if failed:
                from cpnas_cli.errors import RunError

                raise RunError(f"{len(failed)} members failed: {', '.join(failed)}; try them again with: {line}")


def _plan_and_folder(
    kind: str,
    typed: ExperimentOptions,
    *,
    make_plan: "Callable[[Config, tuple[int, ...], Plan | None], Plan]",
) -> "tuple[Plan, Path]":
    from cpnas_cli.experiments.plan import parse_seeds
    from cpnas_cli.settings import DEFAULT_PRESET

    there = _plan_there(kind, typed.out) if typed.resume else None
    has_settings = any_typed(typed.preset, typed.overrides, typed.data_dir)
    seeds = chosen(typed.seeds, parse_seeds, there=there and there.seeds, default=DEFAULT_SEEDS)
    if there and not has_settings:
        config = there.config
    else:
        config = options.resolve_config(
            preset=typed.preset,
            overrides=typed.overrides,
            data_dir=typed.data_dir,
            seed=str(seeds[0]),
            default=DEFAULT_PRESET,
            stored=typed.resume,  # there is an experiment, which must be this one
        )
    plan = make_plan(config, seeds, there)
    return plan, typed.out or Path("runs") / f"{config.data.name}-{kind}"


def _plan_there(kind: str, folder: Path | None) -> "Plan":
    """The plan that --resume goes on with: it has what is not typed."""
    from cpnas_cli.errors import RunError
    from cpnas_cli.experiments.plan import ExperimentFolder
    from cpnas_cli.experiments.run import stored_plan

    place = place_to_resume(folder, ExperimentFolder, "experiment")
    plan = stored_plan(place)
    if plan.kind != kind:
        raise RunError(f"{place} holds another experiment ({plan.kind}, not {kind})")
    return plan


def place_to_resume(folder: Path | None, kind_of_folder: "type[ExperimentFolder]", called: str) -> Path:
    """The folder, which --out must name and which must hold one."""
    from cpnas_cli.errors import UsageError

    if folder is None:
        raise UsageError(f"--resume needs --out FOLDER, the folder of the {called} to go on with")
    if not kind_of_folder(folder).document.exists():
        raise UsageError(f"no {called} to resume in {folder}; leave out --resume to start one")
    return folder


def any_typed(*values: Any) -> bool:
    """Whether one of these options was."""
    return any(value is not None for value in values)


def chosen(typed: str | None, parse: Callable[[str], T], *, there: T | None, default: str) -> T:
    """The values that an option names; without it those of the experiment that is resumed, or the default."""
    if typed is None and there is not None:
        return there
    return parse(default if typed is None else typed)


def _check_members(plan: "Plan", fabric: "Fabric", *, is_cluster: bool) -> dict[str, Any]:
    """What one member could not do, none begins; returns what identifies their images, see `describe_dataset`.

    Args:
      fabric: the device of all members. is_cluster: it is not that, but a cluster's.
    """
    from cpnas_cli.data.dataset import describe_dataset, load_dataset
    from cpnas_cli.strategies.checks import check_search
    from cpnas_cli.training.checks import check_training

    dataset = load_dataset(plan.config.data)
    say_notes(dataset)
    say_preparations(plan.config, dataset)
    for member in plan.members:
        check_search(member.config, dataset, None if is_cluster else fabric)
        check_training(member.config, dataset, fabric)
    return describe_dataset(dataset)


def executor_of(typed: ExperimentOptions) -> "Callable[[], Executor[Any]]":
    """Makes the executor that --workers or --ray asks for.

    Raises:
      UsageError: both, or what is no number or address. CpnasError: no cluster answers.
    """
    from cpnas_cli.errors import UsageError

    if typed.ray is not None:
        if typed.workers is not None:
            raise UsageError("--workers runs on this machine and --ray on a cluster; leave out one of them")
        from cpnas_cli.experiments.ray_executor import RayExecutor, check_ray

        check_ray(typed.ray)
        return functools.partial(RayExecutor, typed.ray, num_cpus=typed.cpus_per_task, num_gpus=typed.gpus_per_task)
    words = typed.workers or "1"
    if not words.isascii() or not words.isdecimal() or int(words) == 0:
        raise UsageError(f"--workers expects a whole number from 1 up, got {words!r}")

    import torch

    from cpnas_cli.distributed.device import visible_gpus
    from cpnas_cli.experiments.executors import LocalExecutor

    gpus = visible_gpus() if typed.device in ("auto", "cuda") else ()
    num_threads = max(torch.get_num_threads() // int(words), 1)
    return functools.partial(LocalExecutor, int(words), num_threads=num_threads, visible_gpus=gpus)


def executor_words(typed: ExperimentOptions) -> list[str]:
    """The options of `executor_of`, as they are typed again."""
    words = ["--workers", typed.workers] if typed.workers else []
    if typed.ray:
        words += ["--ray", typed.ray, "--cpus-per-task", str(typed.cpus_per_task)]
        words += ["--gpus-per-task", f"{typed.gpus_per_task:g}"]
    return words
