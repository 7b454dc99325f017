"""What `cpnas data` has found, as text for people, on standard output."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cpnas_cli.cli.console import printable

_MOST_NAMES = 10
_MOST_CLASSES = 50
_TITLES = {"validation": "val"}


def print_inspection(document: Mapping[str, Any]) -> None:
    for line in inspection_lines(document):
        print(printable(line))


def inspection_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The record, a line each."""
    split = document["split"]
    yield (
        f"{document['folder']}: {len(document['classes']):,} classes, {document['num_train_images']:,} images train, "
        f"{document['num_test_images']:,} test"
        + (f", {document['num_validation_images']:,} validate (val/)" if "validation" in document else "")
    )
    if split is not None:
        share = f"{split['test_fraction']:g}"
        yield f"no train/ and test/: split by the files' names, the same way every time (data.test_fraction={share})"
    yield from _class_lines(document)
    yield from _image_lines(document)
    yield from _duplicate_lines(document["duplicates"], has_validation="validation" in document)
    yield from _skipped_lines(document["skipped"])
    unreadable = document["unreadable"]
    if unreadable:
        yield f"cannot be read: {len(unreadable):,}"
        for entry in unreadable:  # all: that is what one needs to mend them at once
            yield f"  {entry['image']}: {entry['error']}"
    yield ""
    if document["usable"]:
        yield "usable for training"
    for problem in document["problems"]:
        yield f"problem: {problem}"


def _class_lines(document: Mapping[str, Any]) -> Iterator[str]:
    classes = document["classes"]
    if not classes:
        return
    width = max(len(name) for name in ("class", *classes[:_MOST_CLASSES]))
    yield ""
    parts = [part for part in ("train", "test", "validation") if part in document]
    yield f"{'class':{width}}" + "".join(f"  {_TITLES.get(part, part):>9}" for part in parts)
    for name in classes[:_MOST_CLASSES]:
        yield f"{name:{width}}" + "".join(f"  {document[part][name]:9,}" for part in parts)
    if len(classes) > _MOST_CLASSES:
        yield f"... and {len(classes) - _MOST_CLASSES:,} more (--json has all)"
    imbalance = document["imbalance"]
    yield ""
    if imbalance is not None:
        words = f"{imbalance['ratio']:.2f} ({imbalance['largest']} to {imbalance['smallest']})"
        yield f"imbalance: {'none' if imbalance['ratio'] == 1 else words}"
        if imbalance["hint"]:
            yield f"  hint: {imbalance['hint']}"
    if document["mirror_hint"]:
        yield f"hint: {document['mirror_hint']}"


_MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with alpha",
    "P": "palette",
    "RGB": "colour",
    "RGBA": "colour with alpha",
}
"""In words, of Pillow's modes those that are not words to everybody."""


def _image_lines(document: Mapping[str, Any]) -> Iterator[str]:
    sizes = document["sizes"]
    if sizes is None:
        return

    def spread(side: str) -> str:
        return " / ".join(f"{sizes[side][which]:g}" for which in ("min", "median", "max"))

    yield (
        f"sizes: width {spread('width')}, height {spread('height')} pixels (min / median / max), "
        f"{sizes['num_distinct']:,} distinct"
    )
    modes = ", ".join(f"{count:,} {_MODES.get(mode, mode)}" for mode, count in document["modes"].items())
    yield f"channels: {'grey' if document['num_channels'] == 1 else 'colour'} ({modes})"


def _duplicate_lines(duplicates: Sequence[Mapping[str, Any]], *, has_validation: bool) -> Iterator[str]:
    if not duplicates:
        yield "duplicates: none"
        return
    across = "both training and test images, so that the test accuracy flatters"
    if has_validation:
        across = "more than one of train/, val/ and test/, so that their accuracies flatter"
    kinds = {
        f"in {across}": lambda entry: entry["across_split"],
        "in several classes": lambda entry: entry["across_classes"] and not entry["across_split"],
        "within a class and part": lambda entry: not entry["across_classes"] and not entry["across_split"],
    }
    yield f"duplicates (the same pixels): {len(duplicates):,} images more than once"
    for words, belongs in kinds.items():
        own = [entry for entry in duplicates if belongs(entry)]
        if own:
            yield f"  {len(own):,} {words}"
            for entry in own[:_MOST_NAMES]:
                yield f"    {' = '.join(entry['files'])}"
            if len(own) > _MOST_NAMES:
                yield f"    ... and {len(own) - _MOST_NAMES:,} more (--json has all)"


def _skipped_lines(skipped: Mapping[str, Any]) -> Iterator[str]:
    if not skipped["num_files"]:
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in skipped["reasons"].items())
    names = skipped["first"][:_MOST_NAMES]
    more = ", ..." if skipped["num_files"] > len(names) else ""
    yield f"skipped: {skipped['num_files']:,} files: {reasons} ({', '.join(names)}{more})"
