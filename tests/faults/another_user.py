"""Commands of a user who owns nothing but one folder, has no home and no name: as with any other. Needs root."""

import contextlib
import io
import os
from pathlib import Path

import made_runs
from killed_commands import COMMANDS, Digest, digest, undisturbed

NOBODY = 12345
OWN = ("search", "train", "export", "report")


def outcomes(made: Path) -> dict[str, str]:
    """Of each command what happened: "as undisturbed" and "refused" are right."""
    whole = {name: undisturbed(made, name) for name in OWN}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for name in OWN:  # Python itself may lie where this user must not look: all is loaded beforehand
            made_runs.command(*COMMANDS[name].words(made, made / f"loaded-{name}"))
    place = made / "nobody"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    made.chmod(0o711)
    found = {name: _own(made, place, name, whole[name].digest) for name in OWN}
    (made / "training").chmod(0o700)
    for words in (["evaluate"], ["export"], ["report"], ["train", "--resume", "--out"], ["runs"]):
        found[f"{words[0]}, of a run of another user"] = _refused(place, *words, str(made / "training"))
    (made / "training").chmod(0o755)
    found["train, into a folder of another user"] = _refused(
        place, *COMMANDS["train"].words(made, made / "training-of-nobody")
    )
    return found


def _become_nobody(place: Path) -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.environ.pop("HOME", None)
    os.environ["CPNAS_CACHE_DIR"] = str(place / "cache")
    os.chdir(place)


def _own(made: Path, place: Path, name: str, whole: Digest) -> str:
    out = place / name
    ended = made_runs.run(place / "log", *COMMANDS[name].words(made, out), prepare=lambda: _become_nobody(place))
    if ended.code != 0:
        return f"DIFFERENT ({ended.code}: {ended.stderr[-300:]})"
    same = list(digest(out).values()) == list(whole.values())
    return "as undisturbed" if same and out.stat().st_uid == NOBODY else "DIFFERENT (other bytes)"


def _refused(place: Path, *words: str) -> str:
    ended = made_runs.run(place / "log", *words, prepare=lambda: _become_nobody(place))
    by_the_parser = ended.code == 2 and "is not readable" in ended.stderr
    is_right = by_the_parser or (ended.code == 1 and "Permission denied" in ended.stderr)
    is_right &= "Traceback" not in ended.stderr
    return "refused" if is_right else f"DIFFERENT ({ended.code}: {ended.stderr[-300:]})"
