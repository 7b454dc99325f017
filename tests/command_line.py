"""The command line in this process: exit code, output, and the one line of an error."""

from pathlib import Path

from typer.testing import Result

from cpnas_cli.cli.app import app
from cpnas_cli.storage.genotype_file import genotype_document
from tests.cli.test_bad_input import GENOTYPE, RUNNER, error_line

DOCUMENT = genotype_document(GENOTYPE, provenance={"seed": 0})


def invoke(*words: str | Path) -> Result:
    """`cpnas WORDS` in this process; an exception that is not an exit is the test's."""
    result = RUNNER.invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def error_of(result: Result, *, code: int) -> str:
    """The message: the last line on standard error, the only one that is an error, nothing on standard output."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    return error_line(result.stderr)
