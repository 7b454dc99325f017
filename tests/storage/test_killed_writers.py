"""What a writer that was killed has left beside a file is removed by the next one; that of a living writer stays."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from cpnas_cli.storage.documents import replacing, write_text

HANG = """
import sys, time
from pathlib import Path
from cpnas_cli.storage.documents import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".*.tmp"))


def test_the_temporary_file_of_a_killed_writer_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "experiment[1].json"  # a name that is a pattern too
    with subprocess.Popen([sys.executable, "-c", HANG, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        write_text(path, "new")
        assert len(leftovers(tmp_path)) == 1  # it is still writing
        os.kill(process.pid, signal.SIGKILL)
    assert len(leftovers(tmp_path)) == 1
    write_text(tmp_path / "other.json", "other")
    assert len(leftovers(tmp_path)) == 1  # not its own
    write_text(path, "newer")
    assert leftovers(tmp_path) == []
    assert path.read_text() == "newer"


def test_writers_of_one_file_at_the_same_time_do_not_remove_each_other_s(tmp_path: Path) -> None:
    path, errors = tmp_path / "file", list[Exception]()

    def write(number: int) -> None:
        try:
            for _ in range(30):
                with replacing(path) as temporary:
                    temporary.write_text(f"{number}" * 100)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert path.read_text() in {f"{number}" * 100 for number in range(4)}
    assert leftovers(tmp_path) == []
