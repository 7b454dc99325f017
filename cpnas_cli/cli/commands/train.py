"""`cpnas train`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import print_json, reported_errors, say

if TYPE_CHECKING:
    from cpnas_cli.networks.shapes import NetworkName
    from cpnas_cli.runs.opening import OpenedRun
    from cpnas_cli.search_space import Genotype
    from cpnas_cli.settings import Config


def train(
    genotype: Annotated[
        Path | None,
        typer.Argument(
            help="A genotype.json, or the folder of a search; without it that of --init-from, or a shipped one."
        ),
    ] = None,
    preset: options.Preset = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="binary trains the 1-bit Child, full its full-precision Parent.",
            autocompletion=options.complete("binary", "full"),
        ),
    ] = "binary",
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Train the Parent too, so that the 1-bit gap is in the result.")
    ] = False,
    teacher: Annotated[
        Path | None,
        typer.Option(
            "--teacher",
            metavar="RUN",
            help="A training, or its model.safetensors, that teaches the Child by its scores.",
        ),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            "--init-from",
            metavar="RUN",
            help="A training of the same network, or its model.safetensors, whose weights this one begins with.",
        ),
    ] = None,
    baseline: Annotated[
        bool,
        typer.Option("--baseline", help="Train a plain int8 CNN of equal bytes too, and measure both; the onnx extra."),
    ] = False,
    set_: options.Set = None,
    data_dir: options.DataDir = None,
    out: options.Out = None,
    seed: options.Seed = None,
    device: options.Device = "auto",
    devices: options.Devices = None,
    resume: options.Resume = False,
    max_time: options.MaxTime = None,
    tensorboard: options.TensorBoard = False,
    json_: options.Json = False,
) -> None:
    """Train the 1-bit Child of a genotype with the Child-Parent loss; writes result.json and model.safetensors.

    Without GENOTYPE that of a search of ours. Without --preset the settings are those of the search that the genotype
    lies beside.
    """
    typed = dict(locals())
    with reported_errors():
        from cpnas_cli.distributed.processes import check_shares, this_world
        from cpnas_cli.runs.deadline import parse_duration

        request = _request(
            genotype,
            preset=preset,
            networks=_networks(precision, with_parent=with_parent),
            teacher=teacher,
            init_from=init_from,
            baseline=baseline,
            overrides=set_,
            data_dir=data_dir,
            out=out,
            seed=seed,
            device=device,
            num_processes=options.number_of_processes(devices),
            tensorboard=tensorboard,
            resume=resume,
        )
        with options.removed_if_unused(request.folder, is_new=out is None):
            if request.num_processes > this_world().size:
                if max_time is not None:
                    parse_duration(max_time)
                check_shares(
                    batch_size=request.config.train.batch_size,
                    num_parts=request.config.train.gradient_accumulation_steps,
                    num_processes=request.num_processes,
                )
                _start_processes(request, {**typed, "out": request.folder})
            else:
                _train(request, resume=resume, max_time=max_time, json_=json_)


@dataclass(frozen=True)
class _Request:
    """What the options say: nothing is loaded and nothing written yet, but a new folder is made.

    Attributes:
      document: of the genotype.
      notes: what is said about where genotype and settings come from.
      baseline: whether a plain CNN is trained beside the Child.
      words: of the command that goes on with the run, see `options.resume_line`.
    """

    config: "Config"
    genotype: "Genotype"
    document: Mapping[str, Any]
    networks: "tuple[NetworkName, ...]"
    baseline: bool
    tensorboard: bool
    folder: Path
    notes: tuple[str, ...]
    num_processes: int
    words: tuple[str | Path, ...]
    device: str

    def resume_line(self, folder: Path) -> str:
        """The command that goes on with the run in this folder."""
        return options.resume_line(*self.words, out=folder, device=self.device)


def _request(
    genotype: Path | None,
    *,
    preset: str | None,
    networks: "tuple[NetworkName, ...]",
    teacher: Path | None,
    init_from: Path | None,
    baseline: bool,
    overrides: list[str] | None,
    data_dir: Path | None,
    out: Path | None,
    seed: str | None,
    device: str,
    num_processes: int,
    tensorboard: bool,
    resume: bool,
) -> _Request:
    from cpnas_cli.distributed.processes import this_world
    from cpnas_cli.errors import UsageError
    from cpnas_cli.runs.folder import goes_on, settings_beside
    from cpnas_cli.settings import DEFAULT_PRESET
    from cpnas_cli.training.trained_networks import trained_networks

    named = [] if genotype is None else [genotype]
    if genotype is None and resume:
        genotype, networks, baseline = _as_it_began(out, networks=networks, baseline=baseline)
    elif genotype is None and init_from is not None:
        genotype = _genotype_beside(init_from)
    if teacher is not None and networks == ("parent",):
        raise UsageError("--precision full trains the Parent, which has no teacher; leave out one of it and --teacher")
    if baseline:
        _check_baseline(networks, num_processes=num_processes)
    parsed, document, beside, notes = _read(genotype)

    def beside_or_default() -> str | Path:
        return (settings_beside(beside.parent) if beside and preset is None else None) or DEFAULT_PRESET

    source = options.default_source(out, preset=preset, resume=resume, otherwise=beside_or_default)
    config = options.resolve_config(
        preset=preset,
        overrides=overrides,
        data_dir=data_dir,
        seed=seed,
        default=source,
        values={
            "train.teacher": None if teacher is None else str(teacher.resolve()),
            "train.init_from": None if init_from is None else str(init_from.resolve()),
        },
        stored=goes_on(out, resume=resume),
    )
    if beside is not None:
        name = beside.parent.resolve().name
    else:
        name = f"{config.data.name if genotype is None else genotype.stem}-seed{config.seed}"
    folder = out or options.new_folder(f"{name}-{'parent' if networks == ('parent',) else 'train'}")
    words = ["--precision", "full"] if networks == ("parent",) else ["--with-parent"] if len(networks) > 1 else []
    words += ["--baseline"] if baseline else []
    if tensorboard:
        from cpnas_cli.reports.tensorboard import check_tensorboard

        check_tensorboard()
        words += ["--tensorboard"]
    if num_processes > 1 and this_world().launcher in (None, "cpnas"):
        words += ["--devices", str(num_processes)]
    if preset is None and not resume:
        notes.append(f"settings: {source if isinstance(source, Path) else f'preset {source}'}")
    return _Request(
        config,
        parsed,
        document,
        trained_networks(config, networks),
        baseline,
        tensorboard,
        folder,
        notes=tuple(notes),
        num_processes=num_processes,
        words=("train", *named, *words),
        device=device,
    )


def _genotype_beside(init_from: Path) -> Path:
    """The genotype of the training whose weights another begins with.

    Raises:
      UsageError: there is no such training.
    """
    from cpnas_cli.errors import UsageError

    if not init_from.exists():
        expected = "--init-from expects the folder of a training, or its model.safetensors"
        raise UsageError(f"{init_from} does not exist; {expected}")
    return init_from if init_from.is_dir() else init_from.parent


def _read(genotype: Path | None) -> "tuple[Genotype, Mapping[str, Any], Path | None, list[str]]":
    """The genotype that is named, or the shipped one; its document, the settings beside it, and what is said of it."""
    from cpnas_cli.genotypes.shipped import shipped_genotype
    from cpnas_cli.runs.folder import RunFolder
    from cpnas_cli.storage.genotype_file import read_genotype

    if genotype is None:
        shipped = shipped_genotype()
        return shipped.genotype, shipped.document, None, [shipped.line]
    parsed, document = read_genotype(genotype)
    beside = (genotype if genotype.is_dir() else genotype.parent) / RunFolder.CONFIG
    return parsed, document, beside if beside.exists() else None, []


def _as_it_began(
    out: Path | None, *, networks: "tuple[NetworkName, ...]", baseline: bool
) -> "tuple[Path, tuple[NetworkName, ...], bool]":
    """Genotype, networks and baseline of the training in a folder, for a command that only says to go on with it.

    Args:
      networks: what was typed beside it; all but the default must be what is trained there.

    Raises:
      UsageError: there is no such training. RunError: a file of it is damaged.
    """
    from cpnas_cli.errors import RunError, UsageError
    from cpnas_cli.runs.folder import RunFolder
    from cpnas_cli.storage.documents import read_document

    if out is None:
        raise UsageError("--resume needs --out FOLDER, the folder of the run to go on with")
    run = RunFolder(out)
    if not run.file(RunFolder.TRAINING).exists():
        raise UsageError(f"no training to resume in {out}; name a GENOTYPE to start one, or check the name")
    stored = read_document(run.file(RunFolder.TRAINING)).get("networks")
    if stored not in (["child"], ["parent"], ["child", "parent"]):
        raise RunError(f"{run.file(RunFolder.TRAINING)}: expected networks child or parent, got {stored!r}")
    command = read_document(run.file(RunFolder.ENVIRONMENT)).get("command")
    began_with = isinstance(command, list) and "--baseline" in command
    return run.file(RunFolder.GENOTYPE), tuple(stored) if networks == ("child",) else networks, baseline or began_with


def _train(request: _Request, *, resume: bool, max_time: str | None, json_: bool) -> None:
    """The training, on this process or on this one of several."""
    from cpnas_cli.cli.opening import open_from_options
    from cpnas_cli.runs.folder import RunFolder
    from cpnas_cli.storage.documents import TRAINING_SCHEMA
    from cpnas_cli.training.checks import check_of_genotype

    config, networks = request.config, request.networks
    for note in request.notes:
        say(note)
    with open_from_options(
        config,
        folder=request.folder,
        device=request.device,
        dtype=config.train.dtype,
        resume=resume,
        max_time=max_time,
        check=check_of_genotype(request.genotype, networks, request.folder),
        documents={
            RunFolder.GENOTYPE: request.document,
            RunFolder.TRAINING: {"schema": TRAINING_SCHEMA, "networks": list(networks)},
        },
        num_processes=request.num_processes,
    ) as opened:
        together = f" with {request.num_processes} processes" if request.num_processes > 1 else ""
        say(f"training the {' and the '.join(networks)} on {config.data.name}{together}: {opened.run.path}")
        _train_opened(request, opened, json_=json_)


def _train_opened(request: _Request, opened: "OpenedRun", *, json_: bool) -> None:
    from cpnas_cli.cli.render.runs import print_result
    from cpnas_cli.cli.views.trainings import TrainingView
    from cpnas_cli.cli.views.watching import watching
    from cpnas_cli.distributed.processes import this_world
    from cpnas_cli.storage.genotype_file import provenance_of
    from cpnas_cli.training.training import Training

    with reported_errors(resume_line=request.resume_line(opened.run.path)):
        is_first = this_world().is_first
        with (
            TrainingView(request.config, request.networks, quiet=not is_first) as view,
            watching(view.notify, opened.run, tensorboard=request.tensorboard and is_first) as watched,
        ):
            result = Training(
                opened.run,
                request.config,
                request.genotype,
                opened.dataset,
                fabric=opened.fabric,
                networks=request.networks,
                provenance=provenance_of(request.document),
                deadline=opened.deadline,
                notify=watched.notify,
            ).train()
            accuracies = {key: result[key] for key in ("accuracy_test", "accuracy_parent_test")}
            watched.finish(request.config, accuracies, genotype=request.genotype)
        if request.baseline and result.get("baseline") is None:
            result = _train_baseline(request, opened, result)
        if json_:
            print_json(result)
        elif is_first:
            print_result(result, opened.run.path)


def _train_baseline(request: _Request, opened: "OpenedRun", result: Mapping[str, Any]) -> dict[str, Any]:
    """The plain CNN, in a run of its own in the run's folder; returns the result with both."""
    from cpnas_cli.cli.views.trainings import TrainingView
    from cpnas_cli.deploy.baseline import (
        BASELINE_FOLDER,
        baseline_width,
        compare_with_baseline,
        train_and_deploy_baseline,
    )
    from cpnas_cli.runs.folder import RunFolder
    from cpnas_cli.runs.opening import open_run_for
    from cpnas_cli.training.baseline import BASELINE, baseline_document
    from cpnas_cli.training.checks import check_training

    width = baseline_width(request.config, request.genotype, opened.dataset)
    with open_run_for(
        request.config,
        folder=opened.run.path / BASELINE_FOLDER,
        fabric=opened.fabric,
        resume=True,
        deadline=opened.deadline,
        check=check_training,
        dataset=opened.dataset,
        documents={RunFolder.TRAINING: baseline_document(width)},
    ) as beside:
        say(f"training the baseline, a plain CNN of {width} channels: {beside.run.path}")
        with TrainingView(request.config, (BASELINE,)) as view:
            train_and_deploy_baseline(beside, width, notify=view.notify)
        say("measuring both")
        return compare_with_baseline(opened.run, beside.run, opened.dataset, result)


def _check_baseline(networks: "tuple[NetworkName, ...]", *, num_processes: int) -> None:
    from cpnas_cli.deploy.onnx import check_onnx
    from cpnas_cli.errors import UsageError

    check_onnx()
    if networks[0] != "child":
        raise UsageError("--baseline stands beside a 1-bit Child; leave out one of it and --precision full")
    if num_processes > 1:
        raise UsageError(
            "--baseline measures on one process; leave out --devices, or add --baseline with --resume later"
        )


def _start_processes(request: _Request, typed: dict[str, Any]) -> None:
    """Train on several processes of this machine, and wait for them."""
    from cpnas_cli.cli.console import saved_line
    from cpnas_cli.distributed.launch import run_processes
    from cpnas_cli.runs.folder import RunFolder

    ending = run_processes(_train_as_typed, typed, num_processes=request.num_processes)
    if ending.message is not None:
        has_run = (request.folder / RunFolder.CONFIG).exists()
        prefix = "" if ending.exit_code > 1 else "error: "
        say(f"cpnas: {prefix}{ending.message}{saved_line(request.resume_line(request.folder) if has_run else None)}")
    raise typer.Exit(ending.exit_code)


def _train_as_typed(typed: dict[str, Any]) -> int:
    """The command on one of the processes; returns its exit code."""
    try:
        train(**typed)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _networks(precision: str, *, with_parent: bool) -> "tuple[NetworkName, ...]":
    """The networks to train, the one that was asked for first."""
    from cpnas_cli.errors import UsageError

    if precision not in ("binary", "full"):
        raise UsageError(f"--precision expects binary or full, got {precision!r}")
    if precision == "full":
        if with_parent:
            raise UsageError("--precision full trains the Parent alone; leave out one of it and --with-parent")
        return ("parent",)
    return ("child", "parent") if with_parent else ("child",)
