"""The live view of a training, see `views.runs`."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cpnas_cli.cli.render.runs import percent
from cpnas_cli.cli.views.runs import EpochView
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.runs.time_left import TimeLeft, Unit
from cpnas_cli.settings import Config
from cpnas_cli.training.trained_networks import order_of_training
from cpnas_cli.training.validation import Validated

TAUGHT_CHILD = 1.4
"""An epoch of a Child that has a teacher beside one of the Parent; median of 33 trainings, most 1.25 to 1.8."""

CHILD = 1.15
"""An epoch of a Child that has none, see docs/performance.md."""


class TrainingView(EpochView):
    """Also the losses and the rate of the last epochs; with images that validate, their accuracy and the best epoch."""

    def __init__(self, config: Config, networks: tuple[NetworkName, ...], *, quiet: bool = False) -> None:
        self.train, self.num_epochs = config.train, config.train.num_epochs
        child = TAUGHT_CHILD if config.train.teacher_weight > 0 else CHILD
        order = order_of_training(config, networks)
        units = [Unit(name, child if name == "child" else 1.0) for name in order for _ in range(self.num_epochs)]
        super().__init__(TimeLeft(units), total=len(units))
        self.console.quiet = quiet
        self.best: Validated | None = None
        self.network = networks[0]
        self._shortened: dict[str, int] = {}

    def notify(self, record: Mapping[str, Any]) -> None:
        super().notify(record)
        if record["event"] == "epochs":
            fewer = self.num_epochs - record["num_epochs"]
            self.total -= fewer
            self.time_left.drop(fewer)
            self._shortened[record["network"]] = record["num_epochs"]
        if record["event"] == "epoch" and record["network"] == self.network and "validation_accuracy" in record:
            seen = Validated(record["epoch"], record["validation_accuracy"], record["validation_loss"])
            if self.best is None or seen.is_better_than(self.best):
                self.best = seen

    def describe(self, record: Mapping[str, Any]) -> str:
        stage = f"  stage {record['stage']}" if "stage" in record else ""
        num_epochs = self._shortened.get(record["network"], self.num_epochs)
        return (
            f"{record['network']}  epoch {record['epoch'] + 1}/{num_epochs}{stage}  loss {record['loss']:.4f} = "
            f"cross-entropy {record['loss_cross_entropy']:.4f} + kernel {record['loss_kernel']:.4f} + "
            f"compactness {record['loss_compactness']:.4f}{self._further_terms(record)}"
        )

    def accuracies(self, record: Mapping[str, Any]) -> str:
        if "validation_accuracy" not in record:
            return super().accuracies(record)
        return f"{super().accuracies(record)}  validation {percent(record['validation_accuracy'])}"

    def _further_terms(self, record: Mapping[str, Any]) -> str:
        """Those that are switched on; runs of an older version have none."""
        further = {name: key for name, key in self._terms_in_use().items() if name in ("teacher", "auxiliary")}
        return "".join(f" + {name} {record.get(key, 0.0):.4f}" for name, key in further.items())

    def render(self) -> Group:
        table = Table()
        is_watched = any("validation_accuracy" in record for record in self.recent)
        terms = self._terms_in_use()
        watched = ["validation"] if is_watched else []
        for name in ("network", "epoch", "loss", *terms, "accuracy (train)", *watched, "rate"):
            table.add_column(name, justify="right")
        for record in self.recent:
            table.add_row(
                record["network"],
                str(record["epoch"] + 1),
                f"{record['loss']:.4f}",
                *(f"{record.get(key, 0.0):.4f}" for key in terms.values()),
                percent(record["accuracy_train"]),
                *([percent(record.get("validation_accuracy"))] if is_watched else []),
                f"{record['learning_rate']:.5f}",
            )
        return Group(self.status(), *self._best(), table)

    def _terms_in_use(self) -> dict[str, str]:
        """What the loss is the sum of, and its key in a record: the terms that are switched on."""
        weights = {
            "cross-entropy": 1.0,
            "kernel": self.train.kernel_weight,
            "compactness": self.train.lambda_compactness,
            "teacher": self.train.teacher_weight,
            "auxiliary": self.train.auxiliary_weight,
        }
        return {name: f"loss_{name.replace('-', '_')}" for name, weight in weights.items() if weight > 0}

    def _best(self) -> list[Text]:
        if self.best is None:
            return []
        return [Text(f"best epoch by validation so far: {self.best.epoch + 1}, {percent(self.best.accuracy)}")]
