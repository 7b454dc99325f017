"""The training as it happened: accuracies, every term of the loss, and the learning rate, epoch by epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from cpnas_cli.reports.page import words
from cpnas_cli.reports.page.blocks import Block, Cell, Column, Details, Drawing, Drawings, Facts, Paragraph, Table
from cpnas_cli.reports.page.charts import Chart, Form, Mark, Series, draw, series
from cpnas_cli.reports.page.reading import Blocks

Record = Mapping[str, Any]

NETWORKS = {"child": ("Child", 1), "parent": ("Parent", 2), "baseline": ("plain CNN", 3)}
"""What each is called, and the number of its colour."""

MOST_ROWS = 500
MOST_TERMS = 12
"""Charts of a page, whatever a history holds."""

_TERMS = {
    "loss": "loss: the sum of all terms",
    "loss_cross_entropy": "cross entropy",
    "loss_kernel": "kernel term",
    "loss_compactness": "compactness term",
    "loss_teacher": "teacher term",
    "loss_auxiliary": "auxiliary head",
    "loss_architecture": "loss of the architecture",
}
_MEANINGS = {
    "loss_cross_entropy": "how wrong the scores are against the labels",
    "loss_kernel": "first term of (4.17): how far the real filters are from what their bits can say",
    "loss_compactness": "second term of (4.17): how far features are from the mean of their class",
    "loss_teacher": "how far the scores are from those of the teacher, a trained network",
    "loss_auxiliary": "of a second classifier in the middle, there only while training",
    "loss_architecture": "on the validation split, which chooses the operations",
}


def training_blocks(history: Sequence[Record], *, name: str, chance: float | None) -> Blocks:
    """Curves and their numbers.

    Args:
      name: unique in the page. chance: the accuracy of guessing.
    """
    epochs = [record for record in history if record["event"] == "epoch"]
    if not epochs:
        return (Paragraph("No epoch has ended yet.", "soft"),)
    blocks: list[Block] = [Drawings(epoch_charts(epochs, name=name, chance=chance))]
    idle = [_term(key) for key in _keys(epochs, "loss") if not _varies(epochs, key)]
    if idle:
        blocks.append(Paragraph(f"Switched off, 0 in every epoch: {', '.join(idle)}.", "soft"))
    rows = tuple((_term(key), text) for key, text in _MEANINGS.items() if _varies(epochs, key))
    rows += (
        ("accuracy in training", "on the images as they were trained on, varied, while the weights still changed"),
    )
    if _validation_keys(epochs):
        rows += (("validation", "on images kept out of the training, after each epoch"),)
    blocks.append(Facts(rows, title="What the curves mean"))
    blocks.append(Details("The numbers of every epoch", (_table(epochs),)))
    return tuple(blocks)


def epoch_charts(epochs: Sequence[Record], *, name: str, chance: float | None) -> tuple[Drawing, ...]:
    """Accuracies first, then every term of the loss that is not 0 throughout, then the learning rate."""
    by_network = _by_network(epochs)
    level = None if chance is None else (chance, "guessing")
    accuracies = [key for key in _validation_keys(epochs) if "accuracy" in key]
    accuracy = Chart(
        "Accuracy", "epoch", _series(by_network, ["accuracy_train", *accuracies]), True, _stages(by_network), level
    )
    found = [draw(accuracy, name=f"{name}-accuracy")]
    losses = [key for key in _keys(epochs, "loss") if _varies(epochs, key)]
    if losses[:1] == ["loss"] and len(losses) == 2 and _equal(epochs, *losses):
        losses = losses[1:]  # the sum of one term is that term
    for index, key in enumerate(losses[:MOST_TERMS]):
        keys = [key, *(other for other in _validation_keys(epochs) if key == "loss" and "loss" in other)]
        title = _term(key)
        chart = Chart(title[0].upper() + title[1:], "epoch", _series(by_network, keys), marks=_stages(by_network))
        found.append(draw(chart, name=f"{name}-loss-{index}"))
    others = [key for key in _validation_keys(epochs) if "accuracy" not in key and "loss" not in key]
    for index, key in enumerate([*others[:MOST_TERMS], "learning_rate"]):
        if any(words.is_number(record.get(key)) for record in epochs):
            chart = Chart(key.replace("_", " ").capitalize(), "epoch", _series(by_network, [key]))
            found.append(draw(chart, name=f"{name}-other-{index}"))
    return tuple(found)


def _by_network(epochs: Sequence[Record]) -> dict[str, list[Record]]:
    """In the order of `NETWORKS`."""
    found: dict[str, list[Record]] = {}
    for record in epochs:
        found.setdefault(record.get("network", "child"), []).append(record)
    order = [*NETWORKS, *(name for name in found if name not in NETWORKS)]
    return {name: found[name] for name in order if name in found}


def _series(by_network: Mapping[str, Sequence[Record]], keys: Sequence[str]) -> tuple[Series, ...]:
    """Of each network each key, but terms of the loss that it has not; the first a line, the next dashed, dotted."""
    forms: tuple[Form, ...] = ("line", "dashed", "dotted")
    found = []
    for network, records in by_network.items():
        label, look = NETWORKS.get(network, (network, 4))
        for index, key in enumerate(keys):
            if key.startswith("loss") and not _varies(records, key):
                continue
            title = f"{label}, {_quantity(key)}" if len(keys) > 1 else label
            found.append(series(title, [record.get(key) for record in records], look=look, form=forms[min(index, 2)]))
    return tuple(found)


def _quantity(key: str) -> str:
    return {"accuracy_train": "in training", "validation_accuracy": "validation", "loss": "in training"}.get(
        key, key.replace("_", " ")
    )


def _stages(by_network: Mapping[str, Sequence[Record]]) -> tuple[Mark, ...]:
    """Where the Child's weights become 1-bit, in a training of two stages."""
    records = by_network.get("child", ())
    first = next((index for index, record in enumerate(records) if record.get("stage") == 2), 0)
    return (Mark(first + 0.5, "1-bit from here"),) if first else ()


def _keys(epochs: Sequence[Record], prefix: str) -> list[str]:
    """Those that begin with it, in the order in which they appear, the whole before its parts."""
    found = dict.fromkeys(key for record in epochs for key in record if key.startswith(prefix))
    return sorted(found, key=lambda key: key != prefix)


def _validation_keys(epochs: Sequence[Record]) -> list[str]:
    return [
        key
        for key in _keys(epochs, "")
        if "validation" in key and any(words.is_number(record.get(key)) for record in epochs)
    ]


def _varies(epochs: Sequence[Record], key: str) -> bool:
    """Whether it is there and other than 0."""
    return any(words.is_number(record.get(key)) and record[key] != 0 for record in epochs)


def _equal(epochs: Sequence[Record], one: str, other: str) -> bool:
    return all(record.get(one) == record.get(other) for record in epochs)


def _term(key: str) -> str:
    return _TERMS.get(key, key.replace("_", " "))


def _table(epochs: Sequence[Record]) -> Table:
    keys = [key for key in _keys(epochs, "") if any(words.is_number(record.get(key)) for record in epochs)]
    keys = [key for key in keys if key != "epoch" and (not key.startswith("loss") or _varies(epochs, key))]
    step = -(-len(epochs) // MOST_ROWS)
    rows = []
    for record in epochs[::step]:
        epoch = record["epoch"] + 1
        cells = [
            Cell(str(epoch), epoch),
            Cell(NETWORKS.get(record.get("network", "child"), (str(record.get("network")), 0))[0]),
        ]
        cells += [_cell(record.get(key), is_fraction="accuracy" in key) for key in keys]
        rows.append(tuple(cells))
    columns = (Column("epoch", True), Column("network"), *(Column(key.replace("_", " "), True) for key in keys))
    caption = "Every epoch" if step == 1 else f"Every {step}th epoch of {len(epochs):,}"
    return Table(caption, columns, tuple(rows))


def _cell(value: Any, *, is_fraction: bool) -> Cell:
    if not words.is_number(value):
        return Cell(words.ABSENT)
    return Cell(words.percent(value) if is_fraction else words.number(value), value)
