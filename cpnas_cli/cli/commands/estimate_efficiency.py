"""`cpnas estimate-efficiency`, also `cpnas efficiency report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import print_json, printable, reported_errors, say

if TYPE_CHECKING:
    from collections.abc import Mapping


def estimate_efficiency(
    genotype: Annotated[Path, typer.Argument(help="A genotype.json, or the folder of a search or a training.")],
    preset: options.Preset = None,
    set_: options.Set = None,
    baseline: Annotated[
        str,
        typer.Option(
            "--baseline",
            help="The full-precision network to compare with: parent (its own), resnet18 or wrn22.",
            autocompletion=options.complete("parent", "resnet18", "wrn22"),
        ),
    ] = "parent",
    image_channels: Annotated[
        str | None, typer.Option("--image-channels", metavar="N", help="1 or 3; without it those of the data set.")
    ] = None,
    num_classes: Annotated[
        str | None, typer.Option("--num-classes", metavar="N", help="Without it those of the data set.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show every layer too.")] = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write the layers into this file.")] = None,
    json_: options.Json = False,
) -> None:
    """Memory and operations that the 1-bit Child of a genotype saves, counted in all and layer by layer.

    Without --preset the settings are those of the run that the genotype lies in; no image is read.
    """
    with reported_errors():
        from cpnas_cli.efficiency.baselines import baseline_dataflow, check_baseline
        from cpnas_cli.efficiency.estimate import efficiency_document, estimate, layers_csv
        from cpnas_cli.efficiency.named_network import read_named_network
        from cpnas_cli.networks.dataflow import dataflow_of
        from cpnas_cli.storage.documents import write_text

        check_baseline(baseline)
        named = read_named_network(
            genotype,
            preset=preset,
            overrides=set_ or [],
            num_image_channels=_number("--image-channels", image_channels, allowed=(1, 3)),
            num_classes=_number("--num-classes", num_classes),
        )
        child = dataflow_of(named.network, named.genotype, named.shape, precision="binary")
        reference = baseline_dataflow(baseline, named.network, named.genotype, named.shape)
        document = efficiency_document(named, estimate(child), estimate(reference), baseline_name=baseline)
        if csv is not None:
            write_text(csv, layers_csv(document), advice="choose another --csv")
        if json_:
            print_json(document)
        else:
            _print(document, settings=named.source if preset is None else None, layers=layers, csv=csv)


def _print(document: "Mapping[str, Any]", *, settings: str | None, layers: bool, csv: Path | None) -> None:
    """For people.

    Args:
      settings: where they come from, if that was not typed. layers: whether all are shown. csv: the file with them.
    """
    from cpnas_cli.cli.render.efficiency import print_estimate

    if settings is not None:
        say(f"settings: {settings}")
    print_estimate(document, layers=layers)
    if csv is not None:
        print(f"\nlayers: {printable(str(csv))}")


def _number(option: str, text: str | None, *, allowed: tuple[int, ...] = ()) -> int | None:
    """The whole number of an option.

    Raises:
      UsageError: it is none, or not one of those allowed (without a list: at least 2); or has more than 9 digits.
    """
    from cpnas_cli.errors import UsageError

    if text is None:
        return None
    expected = " or ".join(map(str, allowed)) or "a whole number of at least 2 and at most 9 digits"
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else -1
    if not (number in allowed if allowed else number >= 2):
        raise UsageError(f"{option} expects {expected}, got {text!r}")
    return number
