"""The chapter of one run: a search, or a training."""

import shlex
from collections.abc import Mapping
from typing import Any

from cpnas_cli.reports.page import words
from cpnas_cli.reports.page.answers_part import answers_blocks, are_at_hand, how_to_see_them
from cpnas_cli.reports.page.blocks import Block, Chapter, Facts, Paragraph, Section, Tile, Tiles
from cpnas_cli.reports.page.efficiency_part import efficiency_blocks
from cpnas_cli.reports.page.reading import Blocks, document_of, readable, section
from cpnas_cli.reports.page.search_part import draws_of, search_blocks
from cpnas_cli.reports.page.training_part import NETWORKS, training_blocks
from cpnas_cli.reports.page.what_was_run import beside, cells_blocks, data_blocks, repeat_blocks, settings_details
from cpnas_cli.runs.folder import RunFolder

_TRAINED = {"child": "1-bit Child", "parent": "full-precision Parent", "baseline": "plain CNN"}


def is_training(run: RunFolder) -> bool:
    return run.file(RunFolder.TRAINING).exists()


def run_chapter(run: RunFolder, *, title: str, prefix: str = "", images: bool | None) -> Chapter:
    """All that a run's folder says.

    Args:
      prefix: of the names of its sections, unique in the page.
      images: whether its network is run on the test images; None: where they are at hand.
    """
    parts: list[Section] = []

    def add(name: str, heading: str, make: Any) -> None:
        parts.extend(section(f"{prefix}{name}", heading, make))

    trained, chance = is_training(run), _chance(run)
    name = f"{prefix}run"
    if trained:
        add("result", "Result", lambda: _training_result(run, chance))
    else:
        add("result", "Result", lambda: _search_result(run, chance))
    add("repeat", "How to repeat it", lambda: _repeat(run, trained=trained))
    add("data", "Data", lambda: data_blocks(run))
    add("cells", "The cells", lambda: cells_blocks(run, name=f"{name}-cells"))
    if trained:
        add("training", "The training", lambda: training_blocks(run.history(), name=f"{name}-training", chance=chance))
        add("answers", "Answers and mistakes", lambda: _answers(run, images))
    else:
        add(
            "search",
            "The search as it happened",
            lambda: search_blocks(run.history(), name=f"{name}-search", chance=chance),
        )
    add("cost", "Size, operations and time", lambda: efficiency_blocks(run, name=f"{name}-cost"))
    return Chapter(title, tuple(parts))


def _chance(run: RunFolder) -> float | None:
    """The accuracy of guessing among equally frequent classes."""
    try:
        seen = document_of(run, RunFolder.DATASET) or {}
        return 1 / len(seen["classes"])
    except Exception:  # whatever is wrong with it is said in the section of the data
        return None


def _answers(run: RunFolder, images: bool | None) -> Blocks | None:
    return answers_blocks(run) if images or (images is None and are_at_hand(run)) else how_to_see_them(run)


def subtitle_of(run: RunFolder) -> str:
    """One line: kind, data, strategy, state.

    Raises:
      CpnasError: the run's own settings cannot be read.
    """
    config = run.config()
    data = config.data.name if config.data.dir is None else f"{config.data.name} ({config.data.dir})"
    if is_training(run):
        done = run.file(RunFolder.RESULT).exists()
        kind = "Training"
    else:
        done = run.file(RunFolder.GENOTYPE).exists()
        kind = f"Search with the strategy {config.search.strategy}"
    return f"{kind} on {data}, seed {config.seed}{'' if done else '; not finished'}"


# ---------------------------------------------------------------- result


def _training_result(run: RunFolder, chance: float | None) -> Blocks:
    result = document_of(run, RunFolder.RESULT)
    if result is None:
        return _unfinished_training(run)
    tiles = list(_accuracy_tiles(result, chance))
    tiles.append(_size_tile(result))
    seconds = result["seconds"] + (result.get("seconds_parent") or 0)
    tiles.append(Tile(words.duration(seconds), "of training", words.counted(result["num_epochs"], "epoch")))
    rows = [
        ("parameters", words.number(result["num_parameters"])),
        ("for inference", _inference(result)),
        ("1-bit", ", ".join(result.get("precision", {}).get("binary", ())) or "nothing"),
        ("real", ", ".join(result.get("precision", {}).get("real", ())) or "nothing"),
        ("seed", str(result["seed"])),
    ]
    rows[:0] = _validation_rows(result.get("validation"))
    blocks: list[Block] = [Tiles(tuple(tiles))]
    if chance is not None and result["accuracy_test"] <= 1.5 * chance:
        blocks.append(Paragraph("This is hardly better than guessing: train longer, or with more images.", "warning"))
    blocks.append(Facts(tuple(rows)))
    return tuple(blocks)


def _validation_rows(validation: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Of a training with images that validate."""
    if not validation:
        return []
    rows = [("on validation images", f"{words.percent(validation['accuracy'])} after the last epoch")]
    best = validation.get("best")
    if best:
        text = f"{words.percent(best['accuracy'])} after epoch {best['epoch'] + 1}, kept as {best['file']}"
        rows.append(("the best epoch there", text))
    return rows


def _accuracy_tiles(result: Mapping[str, Any], chance: float | None) -> tuple[Tile, ...]:
    accuracy, parent = result["accuracy_test"], result.get("accuracy_parent_test")
    network = _TRAINED.get(result["network"], str(result["network"]))
    of = f"of {words.counted(result['num_test_images'], 'test image')}" if "num_test_images" in result else ""
    guessing = "" if chance is None else f"; guessing gives {words.percent(chance, digits=1)}"
    tiles = [Tile(words.percent(accuracy), f"test accuracy, {network}", f"{of}{guessing}".removeprefix("; "))]
    if parent is not None and result["network"] == "child":
        gap = 100 * (parent - accuracy)
        note = f"1 bit costs {gap:.2f} points" if gap > 0 else f"1 bit is {-gap:.2f} points better"
        tiles.append(Tile(words.percent(parent), "test accuracy, its Parent", note))
    return tuple(tiles)


def _size_tile(result: Mapping[str, Any]) -> Tile:
    parent = result.get("size_parent_bits")
    note = "" if not parent else f"the Parent {words.size(parent / 8)}"
    return Tile(words.size(result["size_bits"] / 8), "size for inference", note)


def _inference(result: Mapping[str, Any]) -> str:
    parts = {"num_binary_weights": "1-bit weights", "num_thresholds": "thresholds", "num_real_values": "real values"}
    return ", ".join(f"{result[key]:,} {label}" for key, label in parts.items() if result.get(key))


def _unfinished_training(run: RunFolder) -> Blocks:
    epochs = [record for record in run.history() if record["event"] == "epoch"]
    total = run.config().train.num_epochs
    parts = []
    for network in dict.fromkeys(record["network"] for record in epochs):
        done = sum(record["network"] == network for record in epochs)
        parts.append(f"{NETWORKS.get(network, (network, 0))[0]}: {done} of {total} epochs")
    return (Paragraph(f"Not finished. {'; '.join(parts) or 'No epoch has ended yet.'}", "warning"),)


def _search_result(run: RunFolder, chance: float | None) -> Blocks:
    history = run.history()
    draws = [each for each in draws_of(history) if each.accuracy_child is not None]
    done = run.file(RunFolder.GENOTYPE).exists()
    seconds = sum(record["seconds"] for record in history if words.is_number(record.get("seconds")))
    tiles = [
        Tile(
            "found" if done else "not yet",
            "genotype",
            "the two cells below" if done else "the search goes on with --resume",
        )
    ]
    if draws:
        best = max(draws, key=lambda each: each.accuracy_child or 0.0)
        note = "" if chance is None else f"guessing gives {words.percent(chance, digits=1)}"
        tiles.append(Tile(words.percent(best.accuracy_child), "the best draw's Child, on validation images", note))
        tiles.append(Tile(words.number(len(draws)), "draws judged"))
    tiles.append(Tile(words.duration(seconds), "of searching"))
    return (Tiles(tuple(tiles)),)


# ---------------------------------------------------------------- how to repeat it


def _repeat(run: RunFolder, *, trained: bool) -> Blocks:
    blocks: list[Block] = []

    def commands() -> Blocks:
        again = _train_again(run) if trained else _search_again(run)
        return repeat_blocks(document_of(run, RunFolder.ENVIRONMENT), again, what="The same run again")

    blocks += readable(commands)
    blocks += readable(lambda: (settings_details(run.config()),))
    return tuple(blocks)


def _search_again(run: RunFolder) -> str:
    folder = run.path
    return shlex.join(
        ["cpnas", "search", "--preset", beside(folder, RunFolder.CONFIG), "--out", f"{beside(folder)}-again"]
    )


def _train_again(run: RunFolder) -> str:
    """With the options that are not among the settings."""
    training = document_of(run, RunFolder.TRAINING) or {}
    networks = training.get("networks", ["child"])
    result = document_of(run, RunFolder.RESULT) or {}
    command = ["cpnas", "train", beside(run.path, RunFolder.GENOTYPE), "--preset", beside(run.path, RunFolder.CONFIG)]
    if networks[0] == "parent":
        command += ["--precision", "full"]
    elif "parent" in networks and not run.config().train.teacher_weight:
        command.append("--with-parent")
    if result.get("baseline"):
        command.append("--baseline")
    return shlex.join([*command, "--out", f"{beside(run.path)}-again"])
