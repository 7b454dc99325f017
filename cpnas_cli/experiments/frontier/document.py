"""`frontier.json`: the one document of a frontier, made from the folders of its members."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpnas_cli.deploy.deployed import FAMILIES, FLOAT32_CNN, INT8_CNN, Deployed
from cpnas_cli.efficiency.timing import Timing
from cpnas_cli.experiments.document import environments_of_growth, read_of_schema
from cpnas_cli.experiments.frontier.advice import Point, advise
from cpnas_cli.experiments.frontier.member_records import MemberFolders, forms_document
from cpnas_cli.experiments.frontier.plan import (
    CNN,
    SEARCH,
    FrontierFolder,
    FrontierMember,
    FrontierPlan,
    scaled_channels,
)
from cpnas_cli.experiments.frontier.timing import REPETITIONS, PointKey
from cpnas_cli.experiments.member_runs import DAMAGES
from cpnas_cli.experiments.summary import mean_and_deviation
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import FRONTIER_SCHEMA

TIMING_KEYS = {"family", "width", "seconds_median", "seconds_p10", "seconds_p90"}
CONVENTIONS = {
    "bytes": "of the network itself, without names, shapes and graph. 1-bit: bits, thresholds and values of the packed "
    "model, without its header. float32: 4 per parameter, batch norms folded. int8: 1 per weight, 4 per bias and per "
    "scale of an output channel",
    "file_bytes": "of the packed model or of the ONNX model, all of it",
    "seconds": "for one image, one thread: the packed engine for 1-bit, ONNX Runtime for int8 and float32, whose "
    "images are normalized beforehand; all in turn",
    "accuracy_test": "of the last epoch; of int8 the quantized model's own, in ONNX Runtime",
}


def build_document(
    plan: FrontierPlan,
    folders: MemberFolders,
    *,
    environment: Mapping[str, Any],
    grown_by: Sequence[Mapping[str, Any]],
    failures: Mapping[str, str],
    notes: Mapping[str, Sequence[str]],
    timing: Mapping[str, Any],
) -> dict[str, Any]:
    """What is there so far.

    Args:
      environment: of the command that started the frontier. grown_by: of those that made it larger, in their order.
      failures: {name: reason} of members that were given up.
      timing: of `timing_document`, or of an earlier document.
    """
    try:
        genotype = folders.genotype(plan)
    except DAMAGES:
        genotype = None
    members = [_member(folders, member, genotype, failures.get(member.name), notes) for member in plan.members]
    points = _points(plan, members, _timed(timing))
    return {
        "schema": FRONTIER_SCHEMA,
        **plan.document(),
        "num_classes": len(folders.dataset["classes"]),
        "environment": dict(environment),
        **environments_of_growth(grown_by),
        "genotype": None if genotype is None else dict(genotype),
        "conventions": CONVENTIONS,
        "points": points,
        "advice": advise([_point(point) for point in points]),
        "timing": timing,
        "warnings": _warnings(members, len(plan.seeds)),
        "members": members,
    }


def timing_document(times: Mapping[PointKey, Timing], *, environment: Mapping[str, Any] | None) -> dict[str, Any]:
    """The part `timing`: what was measured, and where; without an environment, nothing yet."""
    return {
        "threads": 1,
        "batch_size": 1,
        "repetitions": REPETITIONS,
        "environment": environment,
        "points": [
            {
                "family": family,
                "width": width,
                "seconds_median": timing.median,
                "seconds_p10": timing.p10,
                "seconds_p90": timing.p90,
            }
            for (family, width), timing in times.items()
        ],
    }


def _timed(timing: Mapping[str, Any]) -> dict[PointKey, Mapping[str, Any]]:
    return {(row["family"], row["width"]): row for row in timing["points"]}


def untimed(document: Mapping[str, Any]) -> list[PointKey]:
    """The points that have no times yet."""
    return [(point["family"], point["width"]) for point in document["points"] if point["seconds_median"] is None]


def _member(
    folders: MemberFolders,
    member: FrontierMember,
    genotype: Mapping[str, Any] | None,
    failure: str | None,
    notes: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": member.name,
        "part": member.part,
        "width": member.width,
        "seed": member.seed,
        "state": "failed" if failure else "unfinished",
        "error": failure,
        "notes": list(notes.get(member.name, ())),
        "seconds": None,
        "networks": [],
    }
    if failure is not None:
        return record
    try:
        if member.part == SEARCH:
            return record | ({"state": "finished"} if genotype is not None else {})
        forms = folders.deployed(member, genotype) if genotype is not None or member.part == CNN else None
        if forms is not None:
            seconds = folders.seconds(member)
            record |= {"state": "finished", "seconds": seconds, "networks": forms_document(forms)}
    except DAMAGES as error:
        record |= {"state": "failed", "error": " ".join(str(error).split())}
    return record


def _points(
    plan: FrontierPlan, members: Sequence[Mapping[str, Any]], timed: Mapping[PointKey, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    found: dict[PointKey, list[tuple[int, Mapping[str, Any]]]] = {}
    for member in members:
        for form in member["networks"]:
            found.setdefault((form["family"], member["width"]), []).append((member["seed"], form))
    order = sorted(found, key=lambda key: (FAMILIES.index(key[0]), key[1]))
    return [_point_record(plan, key, found[key], timed.get(key)) for key in order]


def _point_record(
    plan: FrontierPlan,
    key: PointKey,
    forms: Sequence[tuple[int, Mapping[str, Any]]],
    timed: Mapping[str, Any] | None,
) -> dict[str, Any]:
    family, width = key
    mean, deviation = mean_and_deviation([form["accuracy_test"] for _, form in forms])
    is_cnn = family in (INT8_CNN, FLOAT32_CNN)
    return {
        "family": family,
        "width": width,
        "num_channels": int(width) if is_cnn else scaled_channels(plan.config, width),
        "accuracies": [{"seed": seed, "accuracy_test": form["accuracy_test"]} for seed, form in forms],
        "accuracy_test_mean": mean,
        "accuracy_test_std": deviation,
        "n": len(forms),
        "bytes": forms[0][1]["bytes"],
        "file_bytes": forms[0][1]["file_bytes"],
        **{name: None if timed is None else timed[name] for name in ("seconds_median", "seconds_p10", "seconds_p90")},
    }


def _point(record: Mapping[str, Any]) -> Point:
    return Point(
        record["family"],
        record["width"],
        record["accuracy_test_mean"],
        record["accuracy_test_std"],
        record["n"],
        record["bytes"],
        record["seconds_median"],
    )


def files_of_points(document: Mapping[str, Any], folder: FrontierFolder) -> dict[PointKey, tuple[RunFolder, Deployed]]:
    """Of every point the network of its first seed."""
    found: dict[PointKey, tuple[RunFolder, Deployed]] = {}
    for member in document["members"]:
        for form in member["networks"]:
            key = (form["family"], member["width"])
            found.setdefault(key, (folder.training(member["name"]), Deployed(**form)))
    return found


def _warnings(members: Sequence[Mapping[str, Any]], num_seeds: int) -> list[str]:
    """What keeps the figures from saying more than they do."""
    found = []
    failed = [member["name"] for member in members if member["state"] == "failed"]
    if failed:
        found.append(f"{len(failed)} of {len(members)} members failed and are missing: {', '.join(failed)}")
    if num_seeds == 1:
        found.append("a single seed has no spread: which of two near points is better cannot be told; use 3 or more")
    return found


def read_frontier(path: Path) -> dict[str, Any]:
    """The document of a frontier's folder, or of the file itself.

    Raises:
      RunError: there is none, or it is damaged or of another schema.
    """
    file = path / FrontierFolder.DOCUMENT if path.is_dir() else path
    return read_of_schema(file, FRONTIER_SCHEMA, absent=f"no frontier at {file}; `cpnas frontier` writes one")
