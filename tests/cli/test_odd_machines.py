"""Machines as people have them: no home, no cache, full quotas, other encodings, what other programs were told."""

import errno
import io
import json
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import permissions
import pytest
from children import every_operation, make_child
from command_line import DOCUMENT, error_line, error_of, invoke
from PIL import Image

from cpnas_cli.cli.app import main
from cpnas_cli.data.folder import FOLDER
from cpnas_cli.deploy.engine import machine_code
from cpnas_cli.deploy.packed_file import save_packed
from cpnas_cli.settings import DataConfig
from cpnas_cli.storage.cache import cache_folder

NOBODY = 12345


def photos(root: Path, *classes: str) -> Path:
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(3):
            Image.fromarray(np.full((8, 8), 40 * label + index, np.uint8)).save(root / name / f"{index}.png")
    return root


# ---------------------------------------------------------------- who am I


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the cache of a user who has no home: as in `docker run --user 12345`."""
    for name in ("HOME", "CPNAS_CACHE_DIR", "XDG_CACHE_HOME", "TMP", "TEMP"):
        monkeypatch.delenv(name, raising=False)

    def no_entry(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp" / f"cpnas-{os.getuid()}"


def test_a_user_without_a_home_has_a_cache_of_its_own(homeless: Path, tmp_path: Path) -> None:
    assert cache_folder() == homeless
    assert stat.S_IMODE(homeless.stat().st_mode) == 0o700
    assert cache_folder() == homeless  # the second time too
    FOLDER.load(DataConfig(name="folder", dir=str(photos(tmp_path / "photos", "cat", "dog")), image_size=8))
    assert [path.name[:7] for path in homeless.iterdir()] == ["images-"] * 2


@pytest.mark.parametrize("kind", ["others may write", "a file", "a link"])
def test_a_cache_that_others_could_have_made_is_not_used(kind: str, homeless: Path, tmp_path: Path) -> None:
    if kind == "others may write":
        homeless.mkdir()
        homeless.chmod(0o777)
    elif kind == "a file":
        homeless.write_text("")
    else:
        (tmp_path / "elsewhere").mkdir()
        homeless.symlink_to(tmp_path / "elsewhere")
    message = error_of(invoke("train", "--set", "data.name=mnist", "--out", tmp_path / "run"), code=2)
    assert message.startswith(f"this user has no home folder, and {homeless} is not its own; set CPNAS_CACHE_DIR")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_without_a_home(tmp_path: Path) -> None:
    """In a process that really is one."""
    tmp_path.chmod(0o777)
    for above in tmp_path.parents[:-2]:  # which pytest makes for its user alone
        above.chmod(above.stat().st_mode | 0o011)
    number = os.fork()
    if not number:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            for name in ("HOME", "CPNAS_CACHE_DIR", "XDG_CACHE_HOME"):
                os.environ.pop(name, None)
            import tempfile

            tempfile.tempdir = str(tmp_path)
            (cache_folder() / "something").write_text("kept")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(number, 0)[1] == 0
    found = tmp_path / f"cpnas-{NOBODY}"
    assert (found.stat().st_uid, stat.S_IMODE(found.stat().st_mode)) == (NOBODY, 0o700)
    assert (found / "something").read_text() == "kept"


# ---------------------------------------------------------------- no room, no cache


def test_a_cache_that_cannot_be_made_is_not_called_a_failed_download(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CPNAS_CACHE_DIR", str(tmp_path / "file/cache"))
    for name in ("mnist", "cifar10"):
        message = error_of(invoke("train", "--set", f"data.name={name}", "--out", tmp_path / "run"), code=1)
        assert message.startswith(f"the folder {tmp_path / 'file/cache'}, to which {name} would be downloaded, cannot")
        assert "Not a directory" in message
        assert "set CPNAS_CACHE_DIR" in message
        assert "--data-dir" in message
    assert not (tmp_path / "run").exists()


def test_trouble_with_the_cache_is_answered_with_advice_about_the_cache(tmp_path: Path, monkeypatch, caplog) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CPNAS_CACHE_DIR", str(tmp_path / "file/cache"))
    root = photos(tmp_path / "photos", "cat", "dog")
    FOLDER.load(DataConfig(name="folder", dir=str(root), image_size=8))
    assert caplog.records
    for record in caplog.records:
        assert "set CPNAS_CACHE_DIR" in record.getMessage()
        assert "--resume" not in record.getMessage()
        assert "--out" not in record.getMessage()


@pytest.mark.parametrize("where", ["write_bytes", "os.replace"])
def test_a_quota_that_is_reached_keeps_no_engine_and_says_so(where: str, tmp_path: Path, monkeypatch, caplog) -> None:
    def reached(*_: object, **__: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(machine_code, "folders", lambda: [tmp_path / "first", tmp_path / "second"])
    if where == "os.replace":
        monkeypatch.setattr("os.replace", reached)
    else:
        monkeypatch.setattr("pathlib.Path.write_bytes", reached)
    machine_code._keep(("name", b"code"))
    (record,) = caplog.records
    assert record.getMessage().count("Disk quota exceeded") == 2
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# ---------------------------------------------------------------- what numba is told for other programs


MISLEADING = {"NUMBA_DISABLE_JIT": "1", "NUMBA_NUM_THREADS": "0", "NUMBA_CACHE_DIR": "/proc/nowhere"}


def test_what_numba_is_told_for_others_asks_for_no_other_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the file: with another one it would be compiled again, and be kept twice."""
    machine_code._name.cache_clear()
    plain = machine_code._name()
    for name, value in MISLEADING.items():
        monkeypatch.setenv(name, value)
    machine_code._name.cache_clear()
    assert machine_code._name() == plain
    machine_code._name.cache_clear()


COMPILE = """
import sys
from cpnas_cli.deploy.engine import machine_code

with machine_code._without(machine_code._NOT_OURS):
    from numba.core import config
    config.__dict__["DISABLE_JIT"] = 0
    from numba import njit

@njit
def twice(x):
    return 2 * x

print(twice(4), len(twice.signatures))
"""


@pytest.mark.slow
def test_numba_itself_does_not_mind(tmp_path: Path) -> None:
    """It compiles, in a process that was told not to: what `_compiled` does, with one small function."""
    environment = {**os.environ, **MISLEADING}
    words = [sys.executable, "-c", COMPILE]
    answer = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (answer.stdout, answer.stderr) == ("8 1\n", "")


@pytest.mark.slow
def test_predict_does_not_mind(tmp_path: Path) -> None:
    child = make_child(every_operation(), image_size=8, num_image_channels=1)
    save_packed(child.model, tmp_path / "m.safetensors")
    photos(tmp_path / "p", "cat")
    machine_code.prepare()
    words = [sys.executable, "-m", "cpnas_cli", "predict", "m.safetensors", "p", "--csv"]
    answers = [
        subprocess.run(words, cwd=tmp_path, env=os.environ | more, capture_output=True, text=True, check=False)
        for more in ({}, MISLEADING)
    ]
    assert [answer.returncode for answer in answers] == [0, 0], answers
    assert answers[0].stdout == answers[1].stdout
    assert answers[1].stderr == ""


# ---------------------------------------------------------------- encodings of standard output


NAME = "\u00e9t\u00e9 \u72ac \N{CAT FACE}"
SHOWN = {
    "utf-8": NAME,
    "ascii": "\\xe9t\\xe9 \\u72ac \\U0001f431",
    "cp1252": "\u00e9t\u00e9 \\u72ac \\U0001f431",
    "cp932": "\\xe9t\\xe9 \u72ac \\U0001f431",
}


@pytest.mark.parametrize("encoding", SHOWN)
def test_any_encoding_of_standard_output(encoding: str, tmp_path: Path) -> None:
    """What the encoding has is written in it, the rest is spelled out; on a file, as `cpnas ... > file` has it."""
    document = {**DOCUMENT, "provenance": {"dataset": NAME, "seed": 0}}
    (tmp_path / "g.json").write_text(json.dumps(document))
    number = os.fork()  # a process of its own, which need not load everything again
    if not number:
        code = 70
        try:
            sys.stdout = io.TextIOWrapper((tmp_path / "out").open("wb"), encoding=encoding)
            sys.stderr = io.TextIOWrapper((tmp_path / "errors").open("wb"), encoding=encoding)
            sys.argv[1:] = ["show", str(tmp_path / "g.json")]
            os.environ["COLUMNS"] = "200"
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            os._exit(code)
    assert os.waitpid(number, 0)[1] == 0, (tmp_path / "errors").read_text()
    assert f"found by: {SHOWN[encoding]}, seed 0" in (tmp_path / "out").read_text(encoding=encoding)


# ---------------------------------------------------------------- folders of another user


@pytest.mark.parametrize(
    "words",
    [
        ["show", "run"],
        ["evaluate", "run"],
        ["export", "run"],
        ["report", "run"],
        ["estimate-efficiency", "run"],
        ["figure", "run"],
        ["train", "run", "--out", "new"],
        ["train", "--out", "run", "--resume"],
        ["search", "--out", "run", "--resume"],
        ["search", "--out", "run"],
        ["predict", "run", "a.png"],
        ["compare-strategies", "--out", "run", "--resume"],
        ["fit", "run", "--out", "new"],
    ],
    ids=" ".join,
)
def test_a_folder_that_may_not_be_used_is_one_line(words: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("seed: 0\n")
    (tmp_path / "run").chmod(0)
    try:
        with permissions.that_hold():
            result = invoke(*words)
    finally:
        (tmp_path / "run").chmod(0o755)
    assert result.exit_code == 1, result.output
    message = error_line(result.stderr)
    assert "Permission denied" in message
    assert not [word for word in ("damaged", "truncated", "no file") if word in message]
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]
