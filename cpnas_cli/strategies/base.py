"""What every strategy is given."""

from dataclasses import dataclass, field

from lightning_fabric import Fabric

from cpnas_cli.data.datasets import Dataset
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.journal import Notify, ignore
from cpnas_cli.settings import Config


@dataclass(frozen=True)
class Search:
    """A search to be run: where, with which settings, on which images and device."""

    run: RunFolder
    config: Config
    dataset: Dataset
    fabric: Fabric
    deadline: Deadline = field(default_factory=Deadline)
    notify: Notify = ignore

    @property
    def num_classes(self) -> int:
        return self.dataset.num_classes
