"""The options that mean the same in every command, and the settings they resolve to."""

import contextlib
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cpnas_cli.settings import Config


def complete(*choices: str) -> Callable[[str], list[str]]:
    """For an option with these values."""

    def matching(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return matching


def complete_list(choices: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """For an option that takes several of these, with commas between them."""

    def matching(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        return [f"{before}{comma}{name}" for name in choices() if name.startswith(last) and name not in taken]

    return matching


def indicators() -> tuple[str, ...]:
    from typing import get_args

    from cpnas_cli.settings import IndicatorName

    return get_args(IndicatorName)


def complete_preset(incomplete: str) -> list[str]:
    from cpnas_cli.settings import preset_names

    return [name for name in preset_names() if name.startswith(incomplete)]


def complete_indicator(incomplete: str) -> list[str]:
    return [name for name in indicators() if name.startswith(incomplete)]


def _setting_keys(incomplete: str) -> list[tuple[str, str]]:
    from cpnas_cli.settings import documented_settings

    return [(f"{entry.key}=", entry.help) for entry in documented_settings() if entry.key.startswith(incomplete)]


Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="A preset's name (see `cpnas presets list`) or a YAML file; without it: digits.",
        autocompletion=complete_preset,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Change a setting; repeatable.", autocompletion=_setting_keys
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="The folder of the data set: train/CLASS/* and test/CLASS/*, or CLASS/*."),
]
Out = Annotated[Path | None, typer.Option("--out", help="The run's folder; without it one under runs/ is made.")]
# A text here and a number in the settings, so that the error says which value came
Seed = Annotated[str | None, typer.Option("--seed", metavar="N", help="All randomness is derived from it.")]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda or mps.", autocompletion=complete("auto", "cpu", "cuda", "mps"))
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
MaxTime = Annotated[
    str | None,
    typer.Option("--max-time", metavar="DURATION", help="Save and stop (exit code 75) after 90s, 30m, 1h30m."),
]
Devices = Annotated[
    str | None,
    typer.Option("--devices", metavar="N", help="Train on N processes, each with its GPU or its share of the cores."),
]
TensorBoard = Annotated[
    bool,
    typer.Option(
        "--tensorboard",
        help="Also write curves, cells and settings for TensorBoard into the run's folder; the tensorboard extra.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the record as JSON, and nothing else, on standard output.")]


def resolve_config(
    *,
    preset: str | None,
    overrides: list[str] | None,
    data_dir: Path | None,
    seed: str | None,
    default: str | Path,
    values: dict[str, Any] | None = None,
    stored: bool = False,
) -> "Config":
    """The settings of the preset (or of `default`) with the options applied.

    Args:
      stored: they must be those of a run or an experiment that is there, see `config_from_document`.
    """
    from cpnas_cli.settings import load_config

    given = {"seed": seed, "data.dir": str(data_dir.resolve()) if data_dir else None, **(values or {})}
    return load_config(default if preset is None else preset, overrides=overrides or [], values=given, stored=stored)


def default_source(
    out: Path | None, *, preset: str | None, resume: bool, otherwise: Callable[[], str | Path]
) -> str | Path:
    """Where the settings come from when no preset is given: the run that is resumed, else `otherwise`.

    Raises:
      UsageError: --resume without --out, or without a run there (unless a preset says what to start).
      RunError: the settings of the run are not those that it was started with.
    """
    from cpnas_cli.errors import UsageError
    from cpnas_cli.runs.folder import RunFolder, check_settings

    if not resume:
        return otherwise()
    if out is None:
        raise UsageError("--resume needs --out FOLDER, the folder of the run to go on with")
    stored = out / RunFolder.CONFIG
    if stored.exists():
        check_settings(out)
        return stored
    if preset is None:
        raise UsageError(f"no run to resume in {out}; leave out --resume to start one, or check the name")
    return otherwise()


def new_folder(name: str) -> Path:
    """A new folder runs/NAME, or runs/NAME-2 and so on: whoever else asks at the same moment gets another one.

    Of several processes that torchrun or srun started, the first one makes it, and the others get a name that is of no
    use (see `open_run_for`).

    Raises:
      RunError: no folder can be made there.
    """
    from cpnas_cli.distributed.processes import this_world
    from cpnas_cli.errors import RunError

    folder, number = Path("runs") / name, 1
    try:
        while this_world().is_first and not _is_made(folder):
            number += 1
            folder = Path("runs") / f"{name}-{number}"
    except OSError as error:
        raise RunError(f"cannot make {folder}: {error.strerror or error}; choose another folder with --out") from None
    return folder


def _is_made(folder: Path) -> bool:
    """Whether this process has just made the folder; there is no other way to know that it has it alone."""
    folder.parent.mkdir(exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    except FileNotFoundError:  # another command has just removed the empty runs/
        return _is_made(folder)
    return True


@contextlib.contextmanager
def removed_if_unused(folder: Path, *, is_new: bool) -> Iterator[None]:
    """Around a command: a folder of `new_folder` in which it has left nothing is gone after it."""
    from cpnas_cli.distributed.processes import this_world

    try:
        yield
    finally:
        if is_new and this_world().is_first:
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()
                folder.parent.rmdir()


def number_of_processes(devices: str | None) -> int:
    """Those of --devices; without it those that torchrun or srun started, this one among them.

    Raises:
      UsageError: not a number from 1 up, or another than they started.
    """
    from cpnas_cli.distributed.processes import this_world
    from cpnas_cli.errors import UsageError

    world = this_world()
    if devices is None:
        return world.size
    if not devices.isascii() or not devices.isdecimal() or int(devices) == 0:
        raise UsageError(f"--devices expects a whole number from 1 up, got {devices!r}")
    if world.launcher is not None and int(devices) != world.size:
        raise UsageError(f"--devices {devices}, and {world.launcher} started {world.size} processes; leave it out")
    return int(devices)


def shell_line(*words: str | Path) -> str:
    return shlex.join(str(word) for word in words)


def resume_line(*words: str | Path, out: Path, device: str) -> str:
    """The command that goes on with a run on the same device; the settings are the run's own."""
    from cpnas_cli.distributed.processes import this_world

    launched = {"torchrun": ("torchrun", "...", "-m", "cpnas_cli"), "srun": ("srun", "...", "cpnas")}
    program = launched.get(this_world().launcher or "", ("cpnas",))
    chosen = [] if device == "auto" else ["--device", device]
    return shell_line(*program, *words, "--out", out, *chosen, "--resume")
