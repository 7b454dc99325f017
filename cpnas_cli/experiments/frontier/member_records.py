"""What the members' folders of a frontier hold; each judged by its settings, images and genotype."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cpnas_cli.deploy.deployed import Deployed, read_deployed
from cpnas_cli.errors import RunError
from cpnas_cli.experiments.frontier.plan import FrontierFolder, FrontierMember, FrontierPlan
from cpnas_cli.experiments.frontier.tasks import owned_documents
from cpnas_cli.runs.folder import RunFolder, differences_of_owned
from cpnas_cli.settings import differing_settings
from cpnas_cli.storage.documents import read_document
from cpnas_cli.storage.genotype_file import read_genotype


@dataclass(frozen=True)
class MemberFolders:
    """The runs in a frontier's folder.

    Args:
      dataset: of all members, see `describe_dataset`.
    """

    folder: FrontierFolder
    dataset: Mapping[str, Any]

    def genotype(self, plan: FrontierPlan) -> Mapping[str, Any] | None:
        """`cpnas.genotype/1`: what was asked for, or what the search has found; None if it has not ended.

        Raises:
          RunError, GenotypeError, UsageError: the folder holds another search, or is damaged.
        """
        if plan.genotype is not None:
            return plan.genotype
        (search,) = [member for member in plan.members if member.part == "search"]
        run = self.folder.search(search.name)
        if not run.file(RunFolder.GENOTYPE).exists():
            return None
        self._check(run, search, {})
        return read_genotype(run.path)[1]

    def deployed(self, member: FrontierMember, genotype: Mapping[str, Any] | None) -> list[Deployed] | None:
        """The forms of a member's networks; None if it has not ended.

        Raises:
          RunError, UsageError: the folder holds another run, or a file of it is damaged. GenotypeError.
        """
        run = self.folder.training(member.name)
        if not (run.file(RunFolder.CONFIG).exists() and run.file(RunFolder.RESULT).exists()):
            return None
        self._check(run, member, owned_documents(member, genotype))
        return read_deployed(run)

    def seconds(self, member: FrontierMember) -> float:
        """Of a training that has ended; of its networks together.

        Raises:
          RunError: its result is damaged.
        """
        result = read_document(self.folder.training(member.name).file(RunFolder.RESULT))
        try:
            return float(result["seconds"]) + float(result["seconds_parent"] or 0)
        except (LookupError, TypeError, ValueError) as error:
            raise RunError(f"the result of {member.name} is damaged ({type(error).__name__}: {error})") from None

    def _check(self, run: RunFolder, member: FrontierMember, owned: Mapping[str, Mapping[str, Any]]) -> None:
        different = differing_settings(run.config(), member.config)
        owned = {**owned, RunFolder.DATASET: self.dataset}
        for name in owned:
            if not run.file(name).exists():
                different.append(f"it has no {name}")
        if not different:
            different = [line for lines in differences_of_owned(run, owned).values() for line in lines]
        if different:
            raise RunError(f"{run.path} holds another run ({different[0]}); remove it or choose another --out")


def forms_document(forms: list[Deployed]) -> list[dict[str, Any]]:
    return [asdict(form) for form in forms]
