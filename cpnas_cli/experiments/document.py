"""`experiment.json`: the one document of an experiment, made from the folders of its members."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpnas_cli.errors import CpnasError, RunError
from cpnas_cli.experiments.member_runs import DAMAGES, MemberRuns
from cpnas_cli.experiments.plan import ExperimentFolder, Member, Plan
from cpnas_cli.experiments.summary import summarize, warnings_of
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import OPERATIONS, Genotype
from cpnas_cli.storage.documents import EXPERIMENT_SCHEMA, read_document


def build_document(
    plan: Plan,
    runs: MemberRuns,
    *,
    environment: Mapping[str, Any],
    grown_by: Sequence[Mapping[str, Any]],
    failures: Mapping[str, str],
    notes: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """What is there so far.

    Args:
      environment: see `environment.describe_environment`, of the command that started the experiment.
      grown_by: the same of the commands that made it larger, in their order.
      failures: {name: reason} of members that were given up.
      notes: {name: what the user should know of its runs}.
    """
    members = [
        member_record(runs, member, failure=failures.get(member.name), notes=notes.get(member.name, ()))
        for member in plan.members
    ]
    return {
        "schema": EXPERIMENT_SCHEMA,
        **plan.document(),
        "num_classes": len(runs.dataset["classes"]),
        "environment": dict(environment),
        **environments_of_growth(grown_by),
        "summary": summarize(members, plan.groups),
        "warnings": warnings_of(members, len(plan.seeds)),
        "num_epochs": _epochs(members),
        "members": members,
    }


def environments_of_growth(grown_by: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The part `grown_by` of a document; an experiment that was made at once has none."""
    return {"grown_by": [dict(environment) for environment in grown_by]} if grown_by else {}


def member_record(
    runs: MemberRuns, member: Member, *, failure: str | None, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """What one member has found and reached, and what it cost; of its own runs alone."""
    settings, strategy = member.config.search, member.strategy
    record: dict[str, Any] = {
        "name": member.name,
        "group": member.group,
        "strategy": strategy.name,
        "beta_p": settings.beta_p if strategy.uses_beta_p else None,
        "indicator": settings.indicator if strategy.uses_beta_p and strategy.fixed_beta_p is None else None,
        "seed": member.seed,
        "draw": settings.random_draw if strategy.several_per_seed else None,
        "state": "failed" if failure else "unfinished",
        "error": failure,
    }
    try:
        found = _found(runs, member, failed=failure is not None)
        json.dumps(found, allow_nan=False)  # NaN in one member's file must not keep the document from being written
        record |= found
    except DAMAGES as error:
        record |= {"state": "failed", "error": failure or _in_words(error, member)}
    return record | ({"notes": list(notes)} if notes else {})


def _in_words(error: Exception, member: Member) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, CpnasError) else f"a file of {member.name} is damaged ({error!r})"


def _found(runs: MemberRuns, member: Member, *, failed: bool) -> dict[str, Any]:
    record: dict[str, Any] = {}
    genotype = runs.genotype(member)
    if genotype is None:
        return record
    search, training = runs.folder.search(member.name), runs.folder.training(member.name)
    record["genotype"] = {kind: list(cell) for kind, cell in genotype.cells().items()}
    record["operations"] = count_operations(genotype)
    record["search"] = search_cost(search, member)
    result = None if failed else runs.result(member, genotype)
    if result is not None:
        origin = _origin(training)
        record["state"] = "finished"
        record |= {key: result[key] for key in ("accuracy_test", "num_parameters", "num_binary_weights", "size_bits")}
        record["training"] = {
            "seconds": result["seconds"],
            "num_epochs": result["num_epochs"],
            "num_epochs_trained": result["num_epochs"] - origin.get("num_epochs", 0),
            "same_as": origin.get("from"),
        }
    return record


def count_operations(genotype: Genotype) -> dict[str, int]:
    """On how many of the 28 edges of both cells each operation is."""
    edges = genotype.normal + genotype.reduce
    return {op: edges.count(op) for op in OPERATIONS}


def search_cost(run: RunFolder, member: Member) -> dict[str, Any]:
    """Seconds and epochs of a search as if it had run alone, and the epochs that it really trained.

    Convention: an epoch is one pass of one network over its half of the training images; how many a search has is
    its strategy's to say.
    """
    history, origin = run.history(), _origin(run)
    seconds = sum((record.get("seconds", 0.0) for record in history), 0.0)
    cost = member.strategy.cost(history, num_inherited=origin.get("num_draws", 0))
    return {
        "seconds": round(seconds, 3),
        "num_epochs": cost.asked,
        "num_epochs_trained": cost.trained,
        "branched_from": {"member": origin["from"], "num_draws": origin["num_draws"]} if origin else None,
        **member.strategy.findings(history, member.config),
    }


def _origin(run: RunFolder) -> dict[str, Any]:
    file = run.file(RunFolder.BRANCH)
    return read_document(file) if file.exists() else {}


def _epochs(members: list[dict[str, Any]]) -> dict[str, int]:
    """Epochs that separate runs would train, and those that were trained."""
    found = {}
    for part in ("search", "training"):
        costs = [member[part] for member in members if part in member]
        found[f"{part}_asked"] = sum(cost["num_epochs"] for cost in costs)
        found[f"{part}_trained"] = sum(cost["num_epochs_trained"] for cost in costs)
    return found


def read_experiment(path: Path) -> dict[str, Any]:
    """The document of an experiment's folder, or of the file itself.

    Raises:
      RunError: there is none, or it is damaged or of another schema.
    """
    file = path / ExperimentFolder.DOCUMENT if path.is_dir() else path
    return read_of_schema(
        file,
        EXPERIMENT_SCHEMA,
        absent=f"no experiment at {file}; `cpnas ablate-beta` and `cpnas compare-strategies` write one",
    )


def read_of_schema(file: Path, schema: str, *, absent: str) -> dict[str, Any]:
    """A document of this schema.

    Args:
      absent: what is said where there is no such file.

    Raises:
      RunError: there is none, or it is damaged or of another schema.
    """
    if not file.exists():
        raise RunError(absent)
    document = read_document(file)
    if document.get("schema") != schema:
        raise RunError(f"{file}: expected schema {schema!r}, got {document.get('schema')!r}")
    return document
