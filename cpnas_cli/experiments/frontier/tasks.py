"""The work of a frontier's member beside a search: train its networks, then bring them into the forms of a device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cpnas_cli.deploy.baseline import train_and_deploy_baseline
from cpnas_cli.deploy.deployed import DEPLOYED, deploy_child_and_parent
from cpnas_cli.experiments.frontier.plan import GENOTYPE, FrontierFolder, FrontierMember
from cpnas_cli.experiments.tasks import Circumstances, Notes, SearchTask, opened_member
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.opening import OpenedRun
from cpnas_cli.storage.documents import TRAINING_SCHEMA
from cpnas_cli.storage.genotype_file import parse_genotype, provenance_of
from cpnas_cli.training.baseline import baseline_document
from cpnas_cli.training.checks import check_training
from cpnas_cli.training.training import Training

PAIR: tuple[NetworkName, ...] = ("child", "parent")


def owned_documents(member: FrontierMember, genotype: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """The files that define a member's training, see `open_run_for`."""
    if member.part != GENOTYPE:
        return {RunFolder.TRAINING: baseline_document(int(member.width))}
    assert genotype is not None
    training = {"schema": TRAINING_SCHEMA, "networks": list(PAIR)}
    return {RunFolder.GENOTYPE: genotype, RunFolder.TRAINING: training}


@dataclass(frozen=True)
class FrontierTask:
    """Train a member and deploy what it gives.

    Attributes:
      genotype: `cpnas.genotype/1`; a plain CNN has none.
    """

    circumstances: Circumstances
    member: FrontierMember
    genotype: Mapping[str, Any] | None = None

    def work(self, notes: Notes, wait_seconds: float) -> None:
        """See `Work`."""
        member = self.member
        with opened_member(
            self.circumstances,
            member.config,
            FrontierFolder(self.circumstances.folder).training(member.name),
            dtype=member.config.train.dtype,
            check=check_training,
            documents=owned_documents(member, self.genotype),
            wait_seconds=wait_seconds,
        ) as opened:
            notes.texts += opened.notes
            train_and_deploy = self._genotype_networks if member.part == GENOTYPE else self._cnn
            train_and_deploy(opened, notes.notify)

    def _genotype_networks(self, opened: OpenedRun, notify: Callable[[Mapping[str, Any]], None]) -> None:
        assert self.genotype is not None
        result = Training(
            opened.run,
            opened.config,
            parse_genotype(self.genotype),
            opened.dataset,
            fabric=opened.fabric,
            networks=PAIR,
            provenance=provenance_of(self.genotype),
            deadline=opened.deadline,
            notify=notify,
        ).train()
        if not opened.run.file(DEPLOYED).exists():
            deploy_child_and_parent(opened.run, opened.dataset, result)

    def _cnn(self, opened: OpenedRun, notify: Callable[[Mapping[str, Any]], None]) -> None:
        train_and_deploy_baseline(opened, int(self.member.width), notify=notify)


WorkOfFrontier = SearchTask | FrontierTask
