"""What of the members' folders is their own: judged by a member's settings, images and genotype.

A folder may hold the run of another seed, of other images, or of the genotype that another processor found. That a file
is there says nothing; only what fits is used, and what does not is named and left as it is.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpnas_cli.errors import CpnasError, GenotypeError, RunError
from cpnas_cli.experiments.plan import ExperimentFolder, Member
from cpnas_cli.runs.folder import RunFolder, differences_of_owned, differing_operations
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import differing_settings
from cpnas_cli.storage.documents import read_document
from cpnas_cli.storage.genotype_file import genotype_document, parse_genotype, read_genotype

NUMBERS = ("accuracy_test", "num_parameters", "num_binary_weights", "size_bits", "num_epochs", "seconds")
"""What an experiment reads of a result."""

DAMAGES = (CpnasError, OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What reading a member's files raises where somebody has damaged them: also JSON of another shape."""


@dataclass(frozen=True)
class MemberRuns:
    """The runs in an experiment's folder.

    Args:
      dataset: of all members, see `describe_dataset`.
    """

    folder: ExperimentFolder
    dataset: Mapping[str, Any]

    def check_search(self, member: Member) -> None:
        """Refuse a search folder that holds another run; one without a run is nobody's.

        Raises:
          RunError: it does, and the first difference. UsageError: its settings are damaged.
        """
        run = self.folder.search(member.name)
        if run.file(RunFolder.CONFIG).exists() or run.file(RunFolder.GENOTYPE).exists():
            self._check_settings(run, member)

    def check_training(self, member: Member) -> None:
        """Refuse a training folder that holds another run, as far as it shows before the genotype is known.

        Raises:
          RunError: it does, and the first difference. UsageError: its settings are damaged.
        """
        run = self.folder.training(member.name)
        if _holds_training(run):
            self._check_settings(run, member)

    def genotype(self, member: Member) -> Genotype | None:
        """What the member's search has found; None if it has not ended.

        Raises:
          GenotypeError: the file is damaged. RunError, UsageError: see `check_search`.
        """
        run = self.folder.search(member.name)
        if not run.file(RunFolder.GENOTYPE).exists():
            return None
        self.check_search(member)
        return read_genotype(run.path)[0]

    def result(self, member: Member, genotype: Genotype) -> dict[str, Any] | None:
        """The result of the member's training, of the genotype that its search has found; None if there is none yet.

        Raises:
          RunError: the folder holds another run, or a file of it is damaged. UsageError, GenotypeError.
        """
        run = self.folder.training(member.name)
        if not _holds_training(run):
            return None
        self._check_settings(run, member)
        _check_owned(run, {RunFolder.GENOTYPE: genotype_document(genotype, provenance={})})
        if not run.file(RunFolder.RESULT).exists():
            return None
        result = _read_result(run)
        for key, own in (("network", "child"), ("seed", member.seed)):
            if result.get(key, own) != own:
                raise _other_run(run, f"{key}: {result[key]!r} there, {own!r} now")
        for difference in differing_operations(_genotype_of(result, run), genotype):
            raise _other_run(run, difference)
        return result

    def _check_settings(self, run: RunFolder, member: Member) -> None:
        """Settings and images."""
        for name in (RunFolder.CONFIG, RunFolder.DATASET):
            if not run.file(name).exists():
                raise _other_run(run, f"it has no {name}")
        if not _holds(run, RunFolder.CONFIG, member.config_text):
            for difference in differing_settings(run.config(), member.config):
                raise _other_run(run, difference)
        _check_owned(run, {RunFolder.DATASET: self.dataset})


def _holds_training(run: RunFolder) -> bool:
    return run.file(RunFolder.CONFIG).exists() or run.file(RunFolder.RESULT).exists()


def _holds(run: RunFolder, name: str, text: str) -> bool:
    with contextlib.suppress(OSError):
        return run.file(name).read_bytes() == text.encode()
    return False


def _check_owned(run: RunFolder, owned: Mapping[str, Mapping[str, Any]]) -> None:
    for differences in differences_of_owned(run, owned).values():
        raise _other_run(run, differences[0])


def _read_result(run: RunFolder) -> dict[str, Any]:
    file = run.file(RunFolder.RESULT)
    try:
        result = read_document(file)
    except RunError as error:
        raise RunError(f"{error}; remove it and type the command again") from None
    for key in NUMBERS:
        if not _is_finite(result.get(key)):
            raise _damaged(run, f"{key}: {result.get(key)!r}")
    return result


def _is_finite(value: object) -> bool:
    """Whether it is a number, and one that a float can hold: JSON, as Python reads it, has NaN and Infinity too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _genotype_of(result: Mapping[str, Any], run: RunFolder) -> Genotype:
    try:
        return parse_genotype(result.get("genotype"))
    except GenotypeError as error:
        raise _damaged(run, f"genotype: {error}") from None


def _damaged(run: RunFolder, what: str) -> RunError:
    return RunError(f"{run.file(RunFolder.RESULT)} is damaged ({what}); remove it and type the command again")


def _other_run(run: RunFolder, difference: str) -> RunError:
    return RunError(f"{run.path} holds another run ({difference}); remove it or choose another --out")
