"""Experiments that grow, with tasks that are played: what is added, what stays, and what is refused."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from played_experiments import PlayedExecutor, play, states

from cpnas_cli.errors import RunError
from cpnas_cli.experiments.plan import Member, Plan
from cpnas_cli.experiments.tasks import Task, TaskEnd
from cpnas_cli.settings import Config, load_config

PENALIZED = load_config(overrides=["search.indicator=penalized"])


def ablation(betas: str, seeds: str = "0", indicators: str = "", config: Config = PENALIZED) -> Plan:
    groups = [f"{name} {beta}".strip() for name in indicators.split(",") for beta in betas.split(",")]
    return Plan("ablation", tuple(groups), tuple(map(int, seeds.split(","))), config)


def comparison(strategies: str, seeds: str = "0", draws: int = 2) -> Plan:
    return Plan("comparison", tuple(strategies.split(",")), tuple(map(int, seeds.split(","))), Config(), draws)


# what was there, what is typed, and the members that are added, by hand
GROWN: dict[str, tuple[Plan, Plan, list[str]]] = {
    "a seed": (ablation("0,2"), ablation("0,2", "0,1"), ["beta-0-seed-1", "beta-2-seed-1"]),
    "a seed before the others": (ablation("2"), ablation("2", "3,0"), ["beta-2-seed-3"]),
    "a beta between the others": (
        ablation("0,2", "0,1"),
        ablation("0,1,2", "0,1"),
        ["beta-1-seed-0", "beta-1-seed-1"],
    ),
    "an indicator": (
        ablation("0,2"),
        ablation("0,2", indicators="printed,penalized"),
        ["printed-beta-0-seed-0", "printed-beta-2-seed-0"],
    ),
    "an indicator and a seed": (
        ablation("2"),
        ablation("2", "0,1", "penalized,printed"),
        ["printed-beta-2-seed-0", "penalized-beta-2-seed-1", "printed-beta-2-seed-1"],
    ),
    "strategies": (
        comparison("random,cpnas"),
        comparison("cpnas,pcdarts,random,bnas"),
        ["pcdarts-seed-0", "bnas-seed-0"],
    ),
    "draws": (
        comparison("random,bnas", "0,1"),
        comparison("random,bnas", "0,1", 3),
        ["random-seed-0-draw-2", "random-seed-1-draw-2"],
    ),
    "random draws of a comparison without": (
        comparison("bnas"),
        comparison("bnas,random"),
        ["random-seed-0-draw-0", "random-seed-0-draw-1"],
    ),
}


def finds(member: Member) -> int:
    """Several members of a seed find the same; by their settings, which have no name of their own."""
    search = member.config.search
    return int(member.seed + search.beta_p + search.random_draw + (search.indicator == "printed")) % 3


def executor(ends: Callable[[Task], TaskEnd | None] = lambda _: None) -> PlayedExecutor:
    return PlayedExecutor(finds, ends=ends)


def without_history(document: dict[str, Any]) -> dict[str, Any]:
    """The document without who trained for whom, and which commands made it."""
    members = [
        {**member, "training": {**member["training"], "same_as": None, "num_epochs_trained": None}}
        for member in document["members"]
    ]
    kept = {key: value for key, value in document.items() if key not in ("environment", "grown_by")}
    return {**kept, "members": members}


def contents(folder: Path) -> dict[str, bytes]:
    """{path in it: bytes} of what runs hold."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*/**/*") if path.is_file()}


@pytest.mark.parametrize("name", GROWN)
def test_what_is_missing_is_added_and_the_document_is_that_of_one_made_at_once(name: str, tmp_path: Path) -> None:
    small, large, added = GROWN[name]
    folder = tmp_path / "run"
    play(small, folder, executor())
    before = contents(folder)
    document, said = play(large, folder, second := executor())
    assert list(dict.fromkeys(sorted(task.member.name for task in second.tasks))) == sorted(added)
    words = "1 member" if len(added) == 1 else f"{len(added)} members"
    assert said == [f"adds {words} to the {len(small.members)} of {folder}"]
    at_once, _ = play(large, tmp_path / "at-once", executor())
    assert without_history(document) == without_history(at_once)
    assert document["num_epochs"] == at_once["num_epochs"]  # a genotype is trained once, whoever finds it
    prefix = "penalized-beta" if name.startswith("an indicator") else "beta"
    kept = {path.replace("/beta", f"/{prefix}"): content for path, content in before.items()}
    after = contents(folder)
    assert kept.keys() <= after.keys()
    changed = {path for path, content in kept.items() if after[path] != content}
    assert all(prefix != "beta" and path.endswith("branch.json") for path in changed)


def test_whom_it_shares_with_has_its_new_name(tmp_path: Path) -> None:
    """beta_P 0 and 3 find the same, and the one that leads the searches trains it."""
    small = ablation("0,3")
    before, _ = play(small, tmp_path / "run", executor())
    assert [member["training"]["same_as"] for member in before["members"]] == ["beta-3-seed-0", None]
    document, _ = play(ablation("0,3", indicators="penalized,printed"), tmp_path / "run", executor())
    shared = {member["name"]: member["training"]["same_as"] for member in document["members"]}
    assert shared["penalized-beta-0-seed-0"] == "penalized-beta-3-seed-0"
    assert {path.name for path in (tmp_path / "run/members").iterdir()} == set(shared)


@pytest.mark.parametrize("name", GROWN)
def test_the_same_words_change_no_bit(name: str, tmp_path: Path) -> None:
    small, large, _ = GROWN[name]
    file = tmp_path / "run/experiment.json"
    for plan in (small, large):
        play(plan, tmp_path / "run", executor())
        written = file.read_bytes()
        _, said = play(plan, tmp_path / "run", again := executor(), command=["cpnas", "again"])
        assert file.read_bytes() == written
        assert (said, again.tasks) == ([], [])


def test_every_command_that_made_it_is_kept(tmp_path: Path) -> None:
    small, middle, large = ablation("0"), ablation("0,1"), ablation("0,1", "0,1")
    document, _ = play(small, tmp_path, executor(), command=["cpnas", "small"])
    assert "grown_by" not in document
    play(middle, tmp_path, executor(), command=["cpnas", "middle"])
    play(large, tmp_path, executor(), command=["cpnas", "large"])
    document, _ = play(large, tmp_path, executor(), command=["cpnas", "large", "--device", "cpu"])
    assert document["environment"] == {"command": ["cpnas", "small"]}
    assert document["grown_by"] == [{"command": ["cpnas", "middle"]}, {"command": ["cpnas", "large"]}]
    assert json.loads((tmp_path / "environment.json").read_text())["command"] == ["cpnas", "small"]


def test_tables_are_in_the_order_that_was_typed_last(tmp_path: Path) -> None:
    play(comparison("random,bnas,cpnas"), tmp_path, executor())
    document, said = play(comparison("cpnas,random,bnas"), tmp_path, again := executor())
    assert document["groups"] == [row["group"] for row in document["summary"]] == ["cpnas", "random", "bnas"]
    assert list(states(document)) == ["cpnas-seed-0", "random-seed-0-draw-0", "random-seed-0-draw-1", "bnas-seed-0"]
    assert (said, again.tasks) == ([], [])


# ---------------------------------------------------------------- what is refused


LEFT_OUT = [
    (ablation("0", "0,1,2"), ablation("0", "0"), "seeds: 0,1,2 there, 0 now", "--seeds 0,1,2"),
    (ablation("0", "0"), ablation("0", "1"), "seeds: 0 there, 1 now", "--seeds 0,1"),
    (ablation("2,0"), ablation("0,5"), "betas: 2,0 there, 0,5 now", "--betas 2,0,5"),
    (
        ablation("0", indicators="penalized,printed"),
        ablation("0"),
        "indicators: penalized,printed there, penalized now",
        "--indicators penalized,printed",
    ),
    (
        ablation("0"),
        ablation("0", config=load_config(overrides=["search.indicator=printed"])),
        "indicators: penalized there, printed now",
        "--indicators penalized,printed",
    ),
    (
        comparison("random,cpnas"),
        comparison("random,cpnas", draws=1),
        "random draws: 2 there, 1 now",
        "--random-draws 2",
    ),
    (
        comparison("random,cpnas", "0,1", 3),
        comparison("pcdarts,cpnas", "1"),
        "strategies: random,cpnas there, pcdarts,cpnas now",
        "--strategies random,cpnas,pcdarts --seeds 0,1 --random-draws 3",
    ),
]


@pytest.mark.parametrize(("there", "now", "words", "options"), LEFT_OUT)
def test_a_command_that_leaves_something_out_is_refused(
    there: Plan, now: Plan, words: str, options: str, tmp_path: Path
) -> None:
    play(there, tmp_path, executor())
    before = contents(tmp_path), (tmp_path / "experiment.json").read_bytes()
    again = executor()
    with pytest.raises(RunError) as caught:
        play(now, tmp_path, again)
    assert str(caught.value) == (
        f"{tmp_path} holds more than this command asks for ({words}); type {options}, or choose another --out"
    )
    assert (contents(tmp_path), (tmp_path / "experiment.json").read_bytes()) == before
    assert again.tasks == []


@pytest.mark.parametrize(("there", "now", "words", "options"), LEFT_OUT)
def test_what_is_to_be_typed_instead_is_taken(there: Plan, now: Plan, words: str, options: str, tmp_path: Path) -> None:
    """With these options, and what else was typed, nothing is left out."""
    del words
    typed = dict(zip(*[iter(shlex.split(options))] * 2, strict=True))
    seeds = typed.get("--seeds", ",".join(map(str, now.seeds)))
    if now.kind == "ablation":
        indicators = typed.get("--indicators", "")
        plan = ablation(typed.get("--betas", ",".join(now.betas)), seeds, indicators)
    else:
        draws = int(typed.get("--random-draws", now.random_draws))
        plan = comparison(typed.get("--strategies", ",".join(now.groups)), seeds, draws)
    play(there, tmp_path, executor())
    document, _ = play(plan, tmp_path, executor())
    assert set(states(document).values()) == {"finished"}


@pytest.mark.parametrize(
    ("there", "now", "words"),
    [
        (ablation("0"), comparison("cpnas", "0,1"), "kind: ablation there, comparison now"),
        (
            ablation("0"),
            ablation("0", "0,1", config=load_config(overrides=["train.num_epochs=1"])),
            "train.num_epochs: 30 there, 1 now",
        ),
    ],
)
def test_another_experiment_is_refused_also_where_it_is_larger(
    there: Plan, now: Plan, words: str, tmp_path: Path
) -> None:
    play(there, tmp_path, executor())
    with pytest.raises(RunError) as caught:
        play(now, tmp_path, executor())
    assert str(caught.value) == f"{tmp_path} holds another experiment ({words}); choose another --out"


# ---------------------------------------------------------------- interruptions


class Killed(BaseException):
    pass


@pytest.mark.parametrize("name", GROWN)
def test_interrupted_after_every_task_it_grows_to_the_same(name: str, tmp_path: Path) -> None:
    small, large, _ = GROWN[name]
    play(small, tmp_path / "run", executor())
    num_stops, document, said = 0, None, list[str]()
    while document is None:
        begun: list[Task] = []

        def ends(task: Task, begun: list[Task] = begun) -> None:
            begun.append(task)
            if len(begun) > 1:
                raise Killed

        try:
            document, said = play(large, tmp_path / "run", executor(ends))
        except Killed:
            num_stops += 1
            assert num_stops < 40, "it gets on with every call"
    assert num_stops > 0
    assert said == []  # said once, by the first
    at_once, _ = play(large, tmp_path / "at-once", executor())
    assert without_history(document) == without_history(at_once)
    assert len(document["grown_by"]) == 1


@pytest.mark.parametrize("num_renamed", range(4))
def test_killed_while_it_renames_it_goes_on(num_renamed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large, _ = GROWN["an indicator"]  # four folders to rename
    play(small, tmp_path / "run", executor())
    rename, renamed = Path.rename, list[Path]()

    def killed(path: Path, target: Path) -> Path:
        if len(renamed) == num_renamed:
            raise Killed
        renamed.append(path)
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(Killed):
            play(large, tmp_path / "run", executor())
    document, _ = play(large, tmp_path / "run", second := executor())
    assert all(task.member.name.startswith("printed") for task in second.tasks)
    at_once, _ = play(large, tmp_path / "at-once", executor())
    assert without_history(document) == without_history(at_once)


def test_notes_keep_to_their_members(tmp_path: Path) -> None:
    small, large, _ = GROWN["an indicator"]
    play(small, tmp_path, executor())
    file = tmp_path / "experiment.json"
    document = json.loads(file.read_text())
    del document["blake2b"]
    document["members"][1]["notes"] = ["it was slow"]
    file.write_text(json.dumps(document))
    grown, _ = play(large, tmp_path, executor())
    notes = {member["name"]: member["notes"] for member in grown["members"] if "notes" in member}
    assert notes == {"penalized-beta-2-seed-0": ["it was slow"]}


def test_while_one_grows_another_is_refused(tmp_path: Path) -> None:
    small, large, _ = GROWN["a seed"]
    play(small, tmp_path, executor())
    caught: list[str] = []

    def ends(_: Task) -> None:
        for plan in (large, ablation("0,2", "0,1,2")):
            with pytest.raises(RunError, match=r"is in use by process \d+") as error:
                play(plan, tmp_path, executor())
            caught.append(str(error.value))

    document, _ = play(large, tmp_path, executor(ends))
    assert len(caught) == 2 * 4
    assert document["seeds"] == [0, 1]


@pytest.mark.parametrize("grown_by", [{}, "cpnas", ["cpnas"]])
def test_damaged_commands_are_one_line(grown_by: Any, tmp_path: Path) -> None:
    play(ablation("0"), tmp_path, executor())
    file = tmp_path / "experiment.json"
    document = json.loads(file.read_text())
    del document["blake2b"]
    file.write_text(json.dumps({**document, "grown_by": grown_by}))
    with pytest.raises(RunError, match="is damaged"):
        play(ablation("0", "0,1"), tmp_path, executor())
