"""`cpnas train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.outcome import print_json, reported_errors, say

if TYPE_CHECKING:
    from cpnas_cli.epoch import NetworkName


def train(
    genotype: Annotated[Path, typer.Argument(help="A genotype.json, or the folder of a search.")],
    preset: options.Preset = None,
    precision: Annotated[
        str, typer.Option("--precision", help="binary trains the 1-bit Child, full its full-precision Parent.")
    ] = "binary",
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Train the Parent too, so that the 1-bit gap is in the result.")
    ] = False,
    set_: options.Set = None,
    data_dir: options.DataDir = None,
    out: options.Out = None,
    seed: options.Seed = None,
    device: options.Device = "auto",
    resume: options.Resume = False,
    max_time: options.MaxTime = None,
    json_: options.Json = False,
) -> None:
    """Train the 1-bit Child of a genotype with the Child-Parent loss; writes result.json and model.safetensors.

    Without --preset the settings are those of the search that the genotype lies beside.
    """
    with reported_errors():
        from cpnas_cli.cli.start import start_run
        from cpnas_cli.config import DEFAULT_PRESET
        from cpnas_cli.records import TRAINING_SCHEMA, RunFolder, provenance_of, read_genotype

        networks = _networks(precision, with_parent=with_parent)
        parsed, document = read_genotype(genotype)
        search_folder = genotype if genotype.is_dir() else genotype.parent
        beside = search_folder / RunFolder.CONFIG
        source = options.default_source(
            out, preset=preset, resume=resume, otherwise=lambda: beside if beside.exists() else DEFAULT_PRESET
        )
        config = options.resolve_config(preset=preset, overrides=set_, data_dir=data_dir, seed=seed, default=source)
        if preset is None and not resume:
            say(f"settings: {source if isinstance(source, Path) else f'preset {source}'}")
        name = search_folder.resolve().name if beside.exists() else f"{genotype.stem}-seed{config.seed}"
        session = start_run(
            config,
            out=out,
            name=f"{name}-{'parent' if precision == 'full' else 'train'}",
            device=device,
            dtype=config.train.dtype,
            resume=resume,
            max_time=max_time,
            documents={
                RunFolder.GENOTYPE: document,
                RunFolder.TRAINING: {"schema": TRAINING_SCHEMA, "networks": list(networks)},
            },
        )
        folder = session.run.path
        say(f"training the {' and the '.join(networks)} on {config.data.name}: {folder}")

        from cpnas_cli.cli.live import TrainingView
        from cpnas_cli.cli.render import print_result
        from cpnas_cli.training import Training

        which = ["--precision", "full"] if precision == "full" else ["--with-parent"] if with_parent else []
        with reported_errors(resume_line=options.resume_line("train", genotype, *which, out=folder, device=device)):
            with TrainingView(config, networks) as view:
                result = Training(
                    session.run,
                    config,
                    parsed,
                    session.dataset,
                    fabric=session.fabric,
                    networks=networks,
                    provenance=provenance_of(document),
                    deadline=session.deadline,
                    notify=view.notify,
                ).train()
            if json_:
                print_json(result)
            else:
                print_result(result, folder)


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
