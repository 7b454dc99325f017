"""A training's result as a document: what every reader of one counts on."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cpnas_cli.errors import RunError
from cpnas_cli.storage.documents import read_document

_Count = Annotated[int, Field(ge=0)]
_Fraction = Annotated[float, Field(ge=0, le=1)]
_Seconds = Annotated[float, Field(ge=0)]


class _Precision(BaseModel):
    model_config = ConfigDict(strict=True)

    binary: list[str]
    real: list[str]


class _Result(BaseModel):
    """What it must hold; what older versions did not write has a default, and what else there is may be anything."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    schema_: Literal["cpnas.result/1"] = Field(alias="schema")
    network: Literal["child", "parent", "baseline"]
    accuracy_test: _Fraction
    accuracy_parent_test: _Fraction | None = None
    num_parameters: _Count
    num_binary_weights: _Count
    num_real_values: _Count
    num_thresholds: _Count = 0
    size_bits: _Count
    size_parent_bits: _Count | None
    precision: _Precision
    num_epochs: _Count
    num_test_images: _Count
    seconds: _Seconds
    seconds_parent: _Seconds | None


def read_result(path: Path) -> dict[str, Any]:
    """The document `cpnas.result/1` of a training that has ended.

    Raises:
      RunError: it cannot be read, was changed, or lacks something; the message names the file.
    """
    document = read_document(path)
    try:
        _Result.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key, came = ".".join(map(str, first["loc"])), f"{first['input']!r:.60}"
        what = f"it lacks {key}" if first["type"] == "missing" else f"{key}: {first['msg'].lower()}, got {came}"
        raise RunError(f"{path} is damaged ({what}); remove it and type the command again") from None
    return document
