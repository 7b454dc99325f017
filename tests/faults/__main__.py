"""The fault suite at length: `python -m tests.faults --changes 60 --kills 30`; prints what docs/robustness.md says."""

import argparse
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

PARTS = ("bytes", "kills", "twice", "clock", "changed", "disks", "user")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=60, help="of every file: this many of each of three kinds")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()

    import made_runs
    import torch

    torch.set_num_threads(1)
    num_wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["CPNAS_CACHE_DIR"] = str(folder / "cache")
        made_runs.make(folder)
        for part in arguments.parts:
            num_wrong += PRINTERS[part](folder, arguments)
    print(f"\nwrong: {num_wrong}")
    return 1 if num_wrong else 0


def print_bytes(folder: Path, arguments: argparse.Namespace) -> int:
    import changed_bytes

    wrong = 0
    print("| file | changed | refused | noted | read as it was | read otherwise |")
    print("| --- | --- | --- | --- | --- | --- |")
    for file in changed_bytes.READERS:
        found = changed_bytes.outcomes(folder, file, seed=arguments.seed, num_changes=arguments.changes)
        row = [found[key] for key in ("refused", "noted", "as it was", "WRONG")]
        wrong += row[-1]
        print(f"| `{file}` | {sum(row)} | {' | '.join(map(str, row))} |", flush=True)
    return wrong


def print_kills(folder: Path, arguments: argparse.Namespace) -> int:
    import killed_commands

    names = killed_commands.turns(arguments.kills)
    say = functools.partial(print, file=sys.stderr, flush=True)  # it takes long
    return _print_kills(killed_commands.kill_and_go_on(folder, seed=arguments.seed, names=names, say=say))


def _print_kills(found: Mapping[str, Mapping[str, int]]) -> int:
    print("\n| killed | in the middle | had ended before | ended as undisturbed | otherwise | temporary files left |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, counted in found.items():
        keys = ("killed", "had ended", "as undisturbed", "DIFFERENT", "left behind")
        print(f"| `{name}` | {' | '.join(str(counted[key]) for key in keys)} |", flush=True)
    return sum(counted["DIFFERENT"] + counted["left behind"] for counted in found.values())


def print_twice(folder: Path, arguments: argparse.Namespace) -> int:
    del arguments
    import killed_commands

    found = killed_commands.two_at_once(folder, list(killed_commands.COMMANDS))
    print("\n| two at once | worked, as undisturbed | refused by name | otherwise |")
    print("| --- | --- | --- | --- |")
    for name, counted in found.items():
        otherwise = counted["OTHERWISE"] + counted["DIFFERENT"]
        print(f"| `{name}` | {counted['as undisturbed']} | {counted['refused']} | {otherwise} |", flush=True)
    return sum(counted["OTHERWISE"] + counted["DIFFERENT"] for counted in found.values())


def print_clock(folder: Path, arguments: argparse.Namespace) -> int:
    del arguments
    import killed_commands

    return _print(
        "clock", {"set back by a year": "the same" if killed_commands.clock_set_back(folder) else "DIFFERENT"}
    )


def print_changed(folder: Path, arguments: argparse.Namespace) -> int:
    del arguments
    import changed_between

    return _print("changed between start and `--resume`", changed_between.outcomes(folder))


def print_disks(folder: Path, arguments: argparse.Namespace) -> int:
    del arguments
    import small_disks

    try:
        found = small_disks.outcomes(folder)
    except PermissionError as error:
        print(f"\nsmall disks: not tried ({error})")
        return 0
    return _print("small disk", found)


def print_user(folder: Path, arguments: argparse.Namespace) -> int:
    del arguments
    import another_user

    if os.getuid() != 0:
        print("\nanother user: not tried, this one is not root")
        return 0
    return _print("another user, without a home", another_user.outcomes(folder))


def _print(title: str, found: Mapping[str, str]) -> int:
    print(f"\n| {title} | |\n| --- | --- |")
    for name, outcome in found.items():
        print(f"| {name} | {outcome} |", flush=True)
    return sum("DIFFERENT" in outcome for outcome in found.values())


PRINTERS: Mapping[str, Callable[[Path, argparse.Namespace], int]] = {
    "bytes": print_bytes,
    "kills": print_kills,
    "twice": print_twice,
    "clock": print_clock,
    "changed": print_changed,
    "disks": print_disks,
    "user": print_user,
}


if __name__ == "__main__":
    sys.exit(main())
