"""`cpnas efficiency measure`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import COMPILING, print_json, reported_errors, said_if_slow, say


def measure_efficiency(
    run: Annotated[Path, typer.Argument(help="The folder of a training.")],
    data_dir: options.DataDir = None,
    threads: Annotated[
        str, typer.Option("--threads", metavar="N,...", help="Numbers of threads; all: as many as there are cores.")
    ] = "1,all",
    batch: Annotated[str, typer.Option("--batch", metavar="N,...", help="Images in one call.")] = "1,64",
    repetitions: Annotated[int, typer.Option("--repetitions", min=3, help="Calls of each runtime, in turn.")] = 50,
    agreement_images: Annotated[
        int,
        typer.Option("--agreement-images", min=1, help="Test images on which the engine is compared with PyTorch."),
    ] = 500,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write measurement.json and the figure into this folder.")
    ] = None,
    json_: options.Json = False,
) -> None:
    """Time, size and memory of the packed Child against its full-precision Parent, on this machine.

    Side by side: the packed engine, PyTorch (eager and torch.compile), ONNX Runtime in float32 and int8, OpenVINO in
    float32, bfloat16 and int8 (the openvino extra), and the C program of cpnas export (a C compiler).
    """
    with reported_errors():
        thread_counts, batch_sizes = _numbers("--threads", threads), _numbers("--batch", batch)
        if out is not None:
            _check_writable(out)
        from cpnas_cli.deploy.measurement import measure, warm_up
        from cpnas_cli.deploy.trained_pair import read_pair
        from cpnas_cli.distributed.device import open_device
        from cpnas_cli.runs.environment import describe_environment

        pair = read_pair(run, data_dir=data_dir)
        with said_if_slow(COMPILING):
            warm_up(pair, num_threads=max(thread_counts))
        document = measure(
            pair,
            threads=thread_counts,
            batch_sizes=batch_sizes,
            repetitions=repetitions,
            num_agreement_images=agreement_images,
            environment=describe_environment(open_device("cpu"), command=["cpnas", *sys.argv[1:]]),
            say=say,
        )
        if json_:
            print_json(document)
        else:
            from cpnas_cli.cli.render.measurement import print_measurement

            print_measurement(document)
        if out is not None:
            for file in _write(out, document):
                say(str(file))


def _check_writable(folder: Path) -> None:
    """Before minutes are spent on what cannot be kept.

    Raises:
      RunError: the folder cannot be made or written to.
    """
    import tempfile

    from cpnas_cli.errors import RunError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(f"cannot write into {folder}: {error.strerror}; choose another --out") from None


def _numbers(option: str, text: str) -> list[int]:
    """Different positive numbers, separated by commas; "all" is the number of cores.

    Raises:
      UsageError: something else.
    """
    import os

    from cpnas_cli.errors import UsageError

    numbers = list[int]()
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for word in map(str.strip, text.split(",")):
        if word == "all" and option == "--threads":
            numbers.append(available)
        elif word.isascii() and word.isdigit() and len(word) <= 4 and int(word) >= 1:
            numbers.append(int(word))
            if option == "--threads" and numbers[-1] > available:
                raise UsageError(f"--threads expects at most {available} on this machine, got {word}")
        else:
            example = "1,all" if option == "--threads" else "1,64"
            raise UsageError(f"{option} expects numbers from 1 on, separated by commas, got {text!r}; e.g. {example}")
    return sorted(set(numbers))


def _write(folder: Path, document: dict[str, object]) -> list[Path]:
    from cpnas_cli.reports.efficiency import save_speedups, speedups_info
    from cpnas_cli.storage.documents import write_json

    file = folder / "measurement.json"
    write_json(file, document)
    info = speedups_info(document)
    pictures = [folder / f"speedups.{kind}" for kind in ("svg", "png")]
    for picture in pictures:
        save_speedups(info, picture)
    return [file, *pictures]
