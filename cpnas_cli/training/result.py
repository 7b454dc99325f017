"""What a training came to, `cpnas.result/1`, put together from what each of its networks came to."""

from collections.abc import Mapping, Sequence
from typing import Any

from cpnas_cli.data.dataset import Dataset
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.networks.size import NetworkSize
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import Config
from cpnas_cli.storage.documents import RESULT_SCHEMA
from cpnas_cli.training.network_training import NetworkTraining
from cpnas_cli.training.validation import BEST


def finished_record(training: NetworkTraining, *, accuracy_test: float, size: NetworkSize) -> dict[str, Any]:
    """What one network came to, as checkpoints of the next one hold it."""
    return {
        "accuracy_test": accuracy_test,
        "num_parameters": size.num_parameters,
        "num_binary_weights": size.num_binary_weights,
        "num_real_values": size.num_real_values,
        "num_thresholds": size.num_thresholds,
        "size_bits": size.size_bits,
        "compiled": training.compiled,
        "seconds": round(training.seconds, 3),
        **({} if training.validation is None else {"validation": training.validation.document()}),
        **({} if training.begun_with is None else {"begun_with": training.begun_with}),
        **({} if training.shortened_to is None else {"num_epochs": training.shortened_to}),
    }


def result_document(
    config: Config,
    networks: Sequence[NetworkName],
    finished: Mapping[str, Mapping[str, Any]],
    dataset: Dataset,
    *,
    precision: Mapping[str, Sequence[str]],
    genotype: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """`cpnas.result/1`.

    Args:
      networks: the one that was asked for first.
      finished: of every network its `finished_record`; one of an older version may lack what came later.
      precision: what of the network is 1-bit, and what is real.
    """
    main, parent = finished[networks[0]], finished.get("parent")
    return {
        "schema": RESULT_SCHEMA,
        "network": networks[0],
        "accuracy_test": main["accuracy_test"],
        "accuracy_parent_test": parent["accuracy_test"] if parent else None,
        "num_parameters": main["num_parameters"],
        "num_binary_weights": main["num_binary_weights"],
        "num_real_values": main["num_real_values"],
        "num_thresholds": main.get("num_thresholds", 0),
        "size_bits": main["size_bits"],
        "size_parent_bits": parent["size_bits"] if parent else None,
        "precision": precision,
        "compiled": main.get("compiled", False),
        "num_epochs": main.get("num_epochs", config.train.num_epochs),
        "num_train_images": len(dataset.train),
        "num_test_images": len(dataset.test),
        "dataset": config.data.name,
        "classes": list(dataset.classes),
        "seconds": main["seconds"],
        "seconds_parent": parent["seconds"] if parent else None,
        "seed": config.seed,
        "genotype": genotype,
        "baseline": None,
        **_validation(main.get("validation"), dataset),
        **({"init_from": begun_with} if (begun_with := _begun_with(finished)) else {}),
        **({"skipped": skipped} if (skipped := dataset.record.get("skipped")) else {}),
    }


def _validation(curve: Mapping[str, Any] | None, dataset: Dataset) -> dict[str, Any]:
    """Of the images that validate: the last epoch, and the best; nothing without any."""
    if dataset.validation is None or not curve:
        return {}
    last = {name: value for name, value in curve["last"].items() if name != "epoch"}
    best = {**curve[BEST], "file": RunFolder.BEST_MODEL}
    return {"validation": {"num_images": len(dataset.validation), **last, BEST: best}}


def _begun_with(finished: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of every network that began with the weights of a former training, whose."""
    return {name: record["begun_with"] for name, record in finished.items() if "begun_with" in record}
