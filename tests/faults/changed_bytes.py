"""Every byte of every file of a run, changed or cut off: it is refused, or noted, or read as it was.

What a reader returns is compared with what it returned before: an oracle that knows nothing of checksums.
"""

import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from cpnas_cli.deploy.packed_file import load_packed
from cpnas_cli.errors import CpnasError
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import read_document
from cpnas_cli.storage.genotype_file import read_genotype
from cpnas_cli.storage.result_file import read_result
from cpnas_cli.storage.tensors import load_tensors
from cpnas_cli.training.trained_network import read_trained_file

Outcome = Literal["refused", "noted", "as it was", "WRONG"]


def _config(path: Path) -> Any:
    return RunFolder(path.parent).config().model_dump(mode="json")


def _history(path: Path) -> Any:
    return RunFolder(path.parent).history()


def _genotype(path: Path) -> Any:
    return read_genotype(path)[1]


def _checkpoint(path: Path) -> Any:
    tensors, state = load_tensors(path, schema="cpnas.training-checkpoint/1")
    return state, {name: (tensor.dtype, tensor.tolist()) for name, tensor in tensors.items()}


def _model(path: Path) -> Any:
    trained = read_trained_file(path)
    weights = {name: tensor.tolist() for name, tensor in trained.network.state_dict().items()}
    return weights, trained.genotype_document(), trained.config, trained.classes, trained.normalization


def _packed(path: Path) -> Any:
    model = load_packed(path)
    arrays = {name: (array.dtype.name, array.tolist()) for name, array in model.arrays().items()}
    return arrays, model.genotype, model.settings, model.classes, model.mean, model.std, model.image_size


READERS: dict[str, Callable[[Path], Any]] = {
    "search/genotype.json": _genotype,
    "training/config.yaml": _config,
    "training/environment.json": read_document,
    "training/dataset.json": read_document,
    "training/training.json": read_document,
    "training/genotype.json": _genotype,
    "training/history.jsonl": _history,
    "training/result.json": read_result,
    "training/checkpoint/state.safetensors": _checkpoint,
    "training/model.safetensors": _model,
    "training/model.packed.safetensors": _packed,
}
"""Files of a run, and how the program reads each."""


def changes(content: bytes, generator: random.Random, *, num_changes: int) -> Iterator[bytes]:
    """So many with one bit flipped, with one byte replaced by any other, and cut off."""
    for _ in range(num_changes):
        changed = bytearray(content)
        changed[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        yield bytes(changed)
    for _ in range(num_changes):
        changed = bytearray(content)
        place = generator.randrange(len(content))
        changed[place] = (changed[place] + generator.randrange(1, 256)) % 256
        yield bytes(changed)
    for _ in range(num_changes):
        yield content[: generator.randrange(len(content))]


class _Notes(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        assert record.getMessage()
        self.count += 1


def outcomes(folder: Path, name: str, *, seed: int, num_changes: int) -> Counter[Outcome]:
    """What becomes of changes to one file; it is as it was in the end.

    Raises:
      whatever is not an error of ours, with the change: a defect.
    """
    path, read = folder / name, READERS[name]
    content, notes = path.read_bytes(), _Notes()
    before = _plain(read(path))
    found = Counter[Outcome]()
    logging.getLogger("cpnas_cli").addHandler(notes)
    try:
        for changed in changes(content, random.Random(f"{seed} {name}"), num_changes=num_changes):
            if changed == content:
                continue
            path.write_bytes(changed)
            notes.count = 0
            try:
                after = _plain(read(path))
            except CpnasError:
                found["refused"] += 1
            else:
                found["as it was" if after == before else "noted" if notes.count else "WRONG"] += 1
    finally:
        logging.getLogger("cpnas_cli").removeHandler(notes)
        path.write_bytes(content)
    return found


def _plain(value: Any) -> str:
    return json.dumps(value, default=repr, sort_keys=True)
