"""docs/files.md against real files: every key that a run leaves is in its tables with its type, and no other."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke
from conftest import TINY_OPTIONS
from here_executor import HereExecutor
from PIL import Image

from cpnas_cli.experiments import executors
from cpnas_cli.runs.lock import locked

DOCS = Path(__file__).parent.parent / "docs"

Table = dict[str, str]

SETTINGS = "settings"  # the type of a whole config, which docs/settings.md describes
KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "whole number": (int,),
    "number": (int, float),
    "true or false": (bool,),
    "null": (type(None),),
    "any": (object,),
}


def read_tables(text: str) -> dict[str, Table]:
    """{"cpnas.genotype/1" or "draw": {key path: type}} of every table of keys."""
    tables: dict[str, Table] = {}
    for section in re.split(r"(?m)^##+ ", text)[1:]:
        title = section.partition("\n")[0].strip()
        rows = re.findall(r"(?m)^\| `([^`]+)` \| ([^|]+) \|", section.partition("| key | type |")[2])
        if rows:
            tables[title] = {key: kind.strip() for key, kind in rows}
    return tables


TABLES = read_tables((DOCS / "files.md").read_text(encoding="utf-8"))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(key path, value) of everything that is neither a list nor an object, and of those that are empty."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from leaves(inner, f"{path}[]")
    else:
        yield path, value


def expanded(title: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The rows of a table, with those of the documents that it holds."""
    for key, kind in TABLES[title].items():
        inner = kind.removesuffix(" or null")
        if inner in TABLES:
            yield from expanded(inner, f"{prefix}{key}.")
            if inner != kind:
                yield prefix + key, "null"
        else:
            yield prefix + key, kind


def matcher(key: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]+\})", key)
    return re.compile("".join(".+" if part.startswith("{") else re.escape(part) for part in parts))


def fits(value: Any, kind: str) -> bool:
    """Whether a value is of the type that a row gives, `... or null` among them."""
    kinds = kind.removesuffix(" or null"), "null" if kind.endswith(" or null") else kind
    if isinstance(value, bool):
        return bool({"true or false", "any"} & set(kinds))
    return any(isinstance(value, KINDS[name]) for name in kinds if name in KINDS)


def undocumented(title: str, document: Mapping[str, Any]) -> tuple[list[str], set[str]]:
    """What of the document no row describes, and the rows that describe something of it."""
    rows = [(key, matcher(key), kind) for key, kind in expanded(title)]
    wrong, used = [], set[str]()
    for path, value in leaves({key: value for key, value in document.items() if key != "blake2b"}):  # of every file
        if value in ({}, []):  # some row must speak of what it would hold
            fitting = [
                key
                for key, pattern, kind in rows
                if key.startswith((f"{path}[]", f"{path}."))
                or (kind == "any" and pattern.fullmatch(path))
                or (kind == SETTINGS and path.startswith(f"{key}."))
            ]
        else:
            fitting = [
                key
                for key, pattern, kind in rows
                if (pattern.fullmatch(path) and fits(value, kind)) or (kind == SETTINGS and path.startswith(f"{key}."))
            ]
        if not fitting:
            wrong.append(f"{title}: {path} = {value!r}")
        used.update(fitting)
    return wrong, used


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """What runs of every kind leave behind and print."""
    folder = tmp_path_factory.mktemp("runs")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("CPNAS_CACHE_DIR", str(folder.with_name("cache")))
        patch.setattr(executors, "LocalExecutor", lambda *_, **__: HereExecutor())  # the same files, and no new process
        yield documents_of_runs(folder)


def documents_of_runs(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """(title of its table, document) of what a run of every kind leaves in the folder, where we are, and prints."""
    found: list[tuple[str, dict[str, Any]]] = []

    def run(*words: str, prints: bool = False) -> None:
        answer = invoke(*words, *(["--json"] if prints else []))
        assert answer.exit_code in (0, 1 if words[0] in ("predict", "data") else 0), answer.output
        if prints:  # predict: a document for each image
            lines = answer.stdout.splitlines() if words[0] == "predict" else [answer.stdout]
            found.extend(titled(json.loads(text)) for text in lines)

    epochs = ["--set", "pcdarts.num_epochs=2", "--set", "pcdarts.frozen_epochs=1"]
    one_epoch = ["--set", "train.num_epochs=1"]
    epochs += ["--set", "halving.first_epochs=1", "--set", "fair.num_epochs=1", "--set", "fair.num_scored=8"]
    epochs += ["--set", "spos.num_epochs=1", "--set", "spos.num_scored=5", "--set", "spos.num_parents=2"]
    for strategy in ("random", "pcdarts", "cpnas", "halving", "fair", "spos"):
        run("search", "--strategy", strategy, *TINY_OPTIONS, *epochs, "--out", strategy)
    for name in ("cpnas", "bnas"):
        rules = ["search.evaluation=after_pass", "search.performance=probability", "search.scored_passes=1"]
        rules += ["search.warmup_epochs=1", "search.num_left=6", "search.final_passes=1"]
        passes = [word for rule in rules for word in ("--set", rule)]
        run("search", "--strategy", name, *TINY_OPTIONS, *passes, "--out", f"{name}-passes")
    budgets = ["--max-size", "6KiB", "--max-ops", "1M"]
    run("search", "--strategy", "random", *TINY_OPTIONS, *budgets, "--out", "budgeted")
    run("train", "cpnas", "--with-parent", *TINY_OPTIONS, "--set", "train.first_stage_epochs=1", "--out", "training")
    run("train", "random", *TINY_OPTIONS, *one_epoch, "--baseline", "--out", "alone")
    small = ["--widths", "1", "--baseline-bytes", "4KiB", *TINY_OPTIONS, *one_epoch]
    run("frontier", *small, "--set", "search.strategy=random", "--seeds", "0", "--out", "frontier")
    run("evaluate", "training", prints=True)
    run("export", "training", prints=True)
    run("export", "training", "--format", "c", prints=True)
    run("presets", "list", prints=True)
    run("runs", ".", prints=True)
    run("rank", str(next((DOCS / "results").rglob("architectures.json"))), "cpnas", prints=True)
    run("estimate-efficiency", "cpnas", prints=True)
    pixels = np.zeros((8, 8), np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    (folder / "damaged.png").write_bytes(b"no image")
    for level, name in enumerate(("dark", "light")):
        (folder / "photos" / name).mkdir(parents=True)
        for index in range(8):
            Image.fromarray(pixels + 150 * level + index).save(folder / f"photos/{name}/{index}.png")
    (folder / "photos/dark/notes.txt").write_text("no image")
    photos = [*TINY_OPTIONS, *one_epoch, "--set", "data.name=folder", "--data-dir", "photos"]
    Image.fromarray(pixels).save(folder / "photos/light/again.png")  # as dark/0.png is
    run("data", "photos", prints=True)
    for part in ("train", "test", "val"):
        (folder / "broken" / part / "dark").mkdir(parents=True)
        (folder / "broken" / part / "dark/0.png").write_bytes(b"no image")
    (folder / "broken/train/light").mkdir()
    run("data", "broken", prints=True)
    run("search", "--strategy", "random", *photos, "--out", "of-photos")
    watched = ["--set", "data.validation_fraction=0.25"]
    run("train", "of-photos", *photos, *watched, "--out", "trained-on-photos")
    run("train", "--init-from", "trained-on-photos", "--out", "trained-again")
    fit = ["fit", "photos", "--time", "1h", *TINY_OPTIONS[4:], *one_epoch]
    run(*fit, "--out", "fit", prints=True)
    run(*fit, "--search", "--set", "search.strategy=random", "--max-latency", "1s", "--out", "fit-searched")
    run("predict", "training", "image.png", "damaged.png", "photos", prints=True)
    common = [*TINY_OPTIONS, *one_epoch, *epochs, "--random-draws", "2"]
    run("compare-strategies", "--strategies", "random,bnas,cpnas", "--seeds", "0", *common, "--out", "one-seed")
    ablation = ["ablate-beta", "--betas", "1000,1001", "--seeds", "0,1", *TINY_OPTIONS, *one_epoch, "--out", "ablation"]
    run(*ablation, "--seeds", "0")
    run(*ablation)  # larger by a seed
    # both find the same; without a checkpoint to take over from, the second trains, and notes why
    (folder / "ablation/members/beta-1000-seed-0/checkpoint/state.safetensors").unlink()
    shutil.rmtree(folder / "ablation/members/beta-1001-seed-0")
    run(*ablation)
    with locked(folder):  # as a command does while it works
        found.append(titled(json.loads((folder / ".lock.json").read_text(encoding="utf-8"))))
    for path in folder.rglob("*.json"):
        found.append(titled(json.loads(path.read_text(encoding="utf-8"))))
    for path in folder.rglob("history.jsonl"):
        records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        found += [(record["event"], record) for record in records]
    for path in (DOCS / "results").rglob("*.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("schema") in TABLES:
            found.append(titled(document))
    measured = json.loads((DOCS / "results/efficiency-peers/measurement.json").read_text(encoding="utf-8"))
    for operation in measured["operations"]:  # as they are where OpenVINO is not installed
        operation |= {"seconds_openvino_float32": None, "seconds_openvino_bfloat16": None}
    found.append(titled(measured))
    return found


def titled(document: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return document["schema"], document


def test_the_tables_are_found() -> None:
    assert {"cpnas.genotype/1", "cpnas.result/1", "cpnas.experiment/1", "draw", "abandon", "epoch"} <= TABLES.keys()
    assert TABLES["draw"]["accuracy_child"] == "number or null"
    assert dict(expanded("cpnas.result/1"))["genotype.normal[].op"] == "text"


@pytest.mark.slow(seconds=60)
def test_every_key_is_documented_with_its_type(documents: list[tuple[str, dict[str, Any]]]) -> None:
    wrong = [line for title, document in documents for line in undocumented(title, document)[0]]
    assert "\n".join(sorted(set(wrong))) == ""


@pytest.mark.slow
def test_no_row_describes_what_is_not_there(documents: list[tuple[str, dict[str, Any]]]) -> None:
    used: dict[str, set[str]] = {}
    for title, document in documents:
        used.setdefault(title, set()).update(undocumented(title, document)[1])
    assert used.keys() == TABLES.keys()
    # of a document within a document its own table's rows are looked for where it stands alone
    own = {
        title: {key for key, kind in table.items() if kind.removesuffix(" or null") not in TABLES}
        for title, table in TABLES.items()
    }
    unseen = {title: sorted(own[title] - used[title]) for title in TABLES}
    assert {title: rows for title, rows in unseen.items() if rows} == {}


def test_what_is_undocumented_is_noticed() -> None:
    document = {"schema": "cpnas.branch/1", "from": "a", "num_draws": 1}
    assert undocumented("cpnas.branch/1", document)[0] == []
    for change in ({"more": 1}, {"num_draws": "1"}, {"num_draws": True}, {"from": None}, {"num_draws": 1.5}):
        assert len(undocumented("cpnas.branch/1", document | change)[0]) == 1, change
