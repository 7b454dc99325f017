"""Documents and records of runs with one value replaced by another kind of value, or left out, and no checksum.

As somebody leaves them who edits by hand, or another version. What reads a run answers, or says in one line what is
wrong; no page and no list is a traceback, and nothing of it commands the terminal.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from command_line import error_line, invoke
from written_runs import epoch_record, result_document, search_history, write_search, write_training

ODD = (None, True, -1, 0, 1.5, 10**30, 1e308, "", "nan", "\x1b[31m\u202e", [], {}, [None], {"a": 1}, [[]])
FILES = {
    "search": ("environment.json", "dataset.json", "history.jsonl", "genotype.json"),
    "training": ("environment.json", "dataset.json", "history.jsonl", "training.json", "result.json"),
}


def replaced(document: Any, value: Any, generator: random.Random) -> Any:
    """The document with one value somewhere in it replaced, or one key left out."""
    if isinstance(document, dict) and document and generator.random() < 0.9:
        key = generator.choice(sorted(document))
        if generator.random() < 0.1:
            return {name: each for name, each in document.items() if name != key}
        return {**document, key: replaced(document[key], value, generator)}
    if isinstance(document, list) and document and generator.random() < 0.9:
        place = generator.randrange(len(document))
        return [*document[:place], replaced(document[place], value, generator), *document[place + 1 :]]
    return value


def change(file: Path, generator: random.Random) -> None:
    if file.suffix == ".jsonl":
        records = [json.loads(line) for line in file.read_text().splitlines()]
        place = generator.randrange(len(records))
        records[place] = replaced(records[place], generator.choice(ODD), generator)
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        file.write_text(json.dumps(replaced(json.loads(file.read_text()), generator.choice(ODD), generator)))


def written(kind: str, folder: Path, *, done: bool) -> Path:
    if kind == "search":
        return write_search(folder, search_history(), done=done)  # without a GENOTYPE a page is made sooner
    result = result_document(("a", "b"))
    return write_training(folder, [epoch_record(epoch) for epoch in range(3)], result=result, with_genotype=False)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in FILES.items() for name in names], ids=lambda value: value
)
def test_what_reads_a_run_answers_or_says_why_not(kind: str, name: str, tmp_path: Path) -> None:
    for seed in range(5):
        run = written(kind, tmp_path / f"{seed}", done=name == "genotype.json")
        change(run / name, random.Random(f"{kind} {name} {seed}"))
        commands = [["runs", tmp_path, "--json"], ["report", run]] + [["show", run]] * (name == "genotype.json")
        for words in commands:
            result = invoke(*words)
            assert result.exit_code in (0, 1), (seed, words, result.output)
            if result.exit_code:
                assert error_line(result.stderr)
            assert not {"\x1b", "\u202e"} & set(result.output), (seed, words)
