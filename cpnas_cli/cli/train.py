"""`cpnas train`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.outcome import print_json, reported_errors, say


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
        from cpnas_cli.clock import Deadline, parse_duration
        from cpnas_cli.config import DEFAULT_PRESET
        from cpnas_cli.errors import UsageError
        from cpnas_cli.records import RunFolder, open_run, provenance_of, read_genotype

        if precision not in ("binary", "full"):
            raise UsageError(f"--precision expects binary or full, got {precision!r}")
        if precision == "full" and with_parent:
            raise UsageError("--precision full trains the Parent alone; leave out one of it and --with-parent")
        parsed, document = read_genotype(genotype)
        folder_of_search = genotype if genotype.is_dir() else genotype.parent
        beside = folder_of_search / RunFolder.CONFIG
        config = options.resolve_config(
            preset=preset,
            overrides=set_,
            data_dir=data_dir,
            seed=seed,
            default=options.default_source(
                out, resume=resume, otherwise=lambda: beside if beside.exists() else DEFAULT_PRESET
            ),
        )
        if not preset and not resume:
            say(f"settings: {beside if beside.exists() else f'preset {DEFAULT_PRESET}'}")
        max_seconds = None if max_time is None else parse_duration(max_time)

        from cpnas_cli.data import load_dataset
        from cpnas_cli.device import describe_environment, open_device
        from cpnas_cli.training import NetworkName, Training

        networks: tuple[NetworkName, ...] = ("parent",) if precision == "full" else ("child",)
        if with_parent:
            networks = ("child", "parent")
        fabric = open_device(device)
        name = folder_of_search.resolve().name if beside.exists() else f"{genotype.stem}-seed{config.seed}"
        folder = out or options.new_folder(f"{name}-{'parent' if precision == 'full' else 'train'}")
        deadline = Deadline(max_seconds)
        dataset = load_dataset(config.data)
        owned = {
            RunFolder.GENOTYPE: json.dumps(document, indent=2) + "\n",
            RunFolder.NETWORKS: json.dumps(list(networks)) + "\n",
        }
        run = open_run(folder, config, resume=resume, environment=describe_environment(fabric), owned=owned)
        say(f"training the {' and the '.join(networks)} on {config.data.name}: {folder}")

    from cpnas_cli.cli.live import TrainingView

    resume_words = ["cpnas", "train", genotype, "--out", folder, "--resume"]
    resume_words += ["--precision", "full"] if precision == "full" else []
    resume_words += ["--with-parent"] if with_parent else []
    with reported_errors(resume_line=options.shell_line(*resume_words)):
        with TrainingView(config, networks) as view:
            training = Training(
                run,
                config,
                parsed,
                dataset,
                fabric=fabric,
                networks=networks,
                provenance=provenance_of(document),
                deadline=deadline,
                notify=view.notify,
            )
            result = training.train()
        if json_:
            print_json(result)
        else:
            from cpnas_cli.cli.render import print_result

            print_result(result, folder)
