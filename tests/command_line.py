"""The command line in this process: exit code, output, and the one line of an error."""

from pathlib import Path

from typer.testing import CliRunner, Result

from cpnas_cli.cli.app import app
from cpnas_cli.search_space import Genotype
from cpnas_cli.storage.genotype_file import genotype_document

RUNNER = CliRunner()

# Connected, and cheap to run: one convolution, one pooling, the rest skips.
CELL = ("sep_conv_3x3", "skip_connect", "none", "max_pool_3x3", "skip_connect", *["skip_connect"] * 9)
GENOTYPE = Genotype(CELL, CELL)
DOCUMENT = genotype_document(GENOTYPE, provenance={"seed": 0})


def invoke(*words: str | Path) -> Result:
    """`cpnas WORDS` in this process; an exception that is not an exit is the test's."""
    result = RUNNER.invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def error_line(stderr: str) -> str:
    assert "Traceback" not in stderr
    *before, last = stderr.rstrip("\n").split("\n")
    assert last.startswith("cpnas: error: "), stderr
    assert not [line for line in before if "rror" in line], stderr
    return last.removeprefix("cpnas: error: ")


def error_of(result: Result, *, code: int) -> str:
    """The message: the last line on standard error, the only one that is an error, nothing on standard output."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    return error_line(result.stderr)
