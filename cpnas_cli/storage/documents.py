"""What comes out of a run: JSON documents, and files that are replaced whole or not at all.

Every document names its schema. A file is written beside its place and renamed, so that a crash or a
full disk leaves the old one as it was.
"""

import contextlib
import errno
import glob
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cpnas_cli.errors import RunError
from cpnas_cli.storage.checksum import ChangedError, with_checksum, without_checksum

GENOTYPE_SCHEMA = "cpnas.genotype/1"
RESULT_SCHEMA = "cpnas.result/1"
EVALUATION_SCHEMA = "cpnas.evaluation/1"
TRAINING_SCHEMA = "cpnas.training/1"
MODEL_SCHEMA = "cpnas.model/1"
DATASET_SCHEMA = "cpnas.dataset/1"
DATA_SCHEMA = "cpnas.data/1"
ARCHITECTURE_TABLE_SCHEMA = "cpnas.architecture-table/1"
RANKING_SCHEMA = "cpnas.ranking/1"
EXPERIMENT_SCHEMA = "cpnas.experiment/1"
FRONTIER_SCHEMA = "cpnas.frontier/1"
DEPLOYED_SCHEMA = "cpnas.deployed/1"
MEASUREMENT_SCHEMA = "cpnas.measurement/1"
BRANCH_SCHEMA = "cpnas.branch/1"
ENVIRONMENT_SCHEMA = "cpnas.environment/1"
EFFICIENCY_SCHEMA = "cpnas.efficiency/1"
LOCK_SCHEMA = "cpnas.lock/1"
RUNS_SCHEMA = "cpnas.runs/1"
FIT_SCHEMA = "cpnas.fit/1"

VALIDATION_KEYS = ("num_validation_images", "hash_validation")
"""What a dataset's document says of images that validate, where there are some."""

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)
EXPORT_SCHEMA = "cpnas.export/1"


def advice_for(error: OSError) -> str:
    """What to do when a run could not write: by what was in the way."""
    if error.errno in _NO_SPACE:
        remedy = "free some space and go on with --resume"
    elif error.errno in _NO_PERMISSION:
        remedy = "get the permission to write there and go on with --resume, or choose another --out"
    else:
        remedy = "go on with --resume when this is mended, or choose another --out"
    return f"what was saved before is intact: {remedy}"


@contextlib.contextmanager
def replacing(path: Path, *, advice: str | None = None) -> Iterator[Path]:
    """A temporary path beside `path`; when the block ends well, it takes the place of `path`.

    Args:
      advice: the end of the error's line, what to do about it; without it see `advice_for`.

    Raises:
      RunError: the disk is full or the folder cannot be written; `path` is as it was before.
    """
    temporary: Path | None = None
    handle: int | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        handle, temporary = _new_temporary(path)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}; {advice or advice_for(error)}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)  # lets go of its lock


def _new_temporary(path: Path) -> tuple[int | None, Path]:
    """A new file beside `path`, open, and locked as long as it is: by that others know that somebody writes it."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        if fcntl is None:
            os.close(handle)
            return None, Path(name)
        with contextlib.suppress(OSError):  # a disk without locks: leftovers stay there
            fcntl.flock(handle, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):  # removed before it was locked
            if os.path.samestat(os.fstat(handle), os.stat(name)):
                return handle, Path(name)
        os.close(handle)


def _remove_leftovers(path: Path) -> None:
    """The temporary files of writers of `path` that were killed: nobody holds their locks."""
    if fcntl is None:
        return
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError), leftover.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str, *, advice: str | None = None) -> None:
    """See `replacing`."""
    with replacing(path, advice=advice) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """See `replacing`; the file also carries the checksum of what it says.

    Raises:
      RunError: see `replacing`. ValueError: the document is no JSON (it holds NaN, for one); nothing is written.
    """
    write_text(path, json_text(document))


def json_text(document: Mapping[str, Any]) -> str:
    """The file of a document, see `write_json`."""
    return json.dumps(with_checksum(document), indent=2, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """The parsed file; of an object without the checksum, if it carries one.

    Raises:
      OSError: it cannot be read. ValueError: it is not JSON in UTF-8 (truncated, for example), or was changed since.
    """
    document = parse_json(path)
    return without_checksum(document) if isinstance(document, dict) else document


def parse_json(path: Path) -> Any:
    """The parsed file, whether it was changed or not; for the errors see `read_json`.

    A byte order mark, which editors of Windows put in front, says nothing.
    """
    return json.loads(path.read_text(encoding="utf-8-sig"))


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object of a run's own file.

    Raises:
      RunError: unreadable (its cause is the OSError), damaged, or not an object; the message names the file.
    """
    try:
        document = read_json(path)
    except ChangedError as error:
        raise RunError(f"{path} is damaged: {error}; restore the file or start a new run") from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise RunError(f"{path} is no JSON object; restore the file or start a new run")
    return document
