"""The shipped genotypes: package data, whole, and the ones that our results are of."""

import json
import re
from importlib import resources
from pathlib import Path

import pytest

from cpnas_cli.errors import UsageError
from cpnas_cli.genotypes.shipped import DEFAULT_GENOTYPE, shipped_genotype, shipped_names
from cpnas_cli.storage.genotype_file import genotype_document, read_genotype

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def test_the_default_is_the_network_of_the_published_results() -> None:
    """The genotype in the package, beside the one whose accuracy docs/results has."""
    shipped = shipped_genotype()
    runs = json.loads((RESULTS / "accuracy/fashion-mnist-small.json").read_text(encoding="utf-8"))["runs"]
    for run in runs:
        for kind in ("normal", "reduce"):
            assert shipped.document[kind] == run["genotype"][kind]
        assert {"strategy": "cpnas", "beta_p": 2.0, "seed": 0}.items() <= shipped.document["provenance"].items()
        assert run["genotype"]["provenance"].items() <= shipped.document["provenance"].items()
    found = shipped.document["provenance"]["found"]
    percent, kib = map(float, re.fullmatch(r"([\d.]+) % with ([\d.]+) KiB", found).groups())  # pyright: ignore
    assert percent == pytest.approx(100 * sum(run["accuracy_test"] for run in runs) / len(runs), abs=0.0051)
    assert kib == pytest.approx(runs[0]["size_bits"] / 8192, abs=0.051)
    assert found in shipped.line


def test_it_is_found_as_package_data_and_is_a_genotype_file() -> None:
    assert DEFAULT_GENOTYPE in shipped_names()
    for name in shipped_names():
        shipped = shipped_genotype(name)
        with resources.as_file(resources.files("cpnas_cli") / "genotypes" / f"{name}.json") as file:
            genotype, document = read_genotype(file)
        assert (genotype, document) == (shipped.genotype, shipped.document)
        assert genotype_document(genotype, provenance=document["provenance"]) == document


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(UsageError, match="choose from fashion-mnist-small"):
        shipped_genotype("best")
