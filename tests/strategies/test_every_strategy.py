"""What every registered strategy must do, whoever wrote it. None is named here, but for what documents of seven say."""

import contextlib
import functools
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PUBLISHED_RULES
from rich.console import Console
from safetensors.numpy import load_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from cpnas_cli.cli.views.runs import search_view
from cpnas_cli.data.dataset import Dataset, ImageSet, load_dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.errors import CpnasError, MaxTimeReached, UsageError
from cpnas_cli.registry import STRATEGIES
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config, load_config
from cpnas_cli.storage.genotype_file import read_genotype
from cpnas_cli.strategies import provenance, reference_strategy, run_search, strategies, strategy_named
from cpnas_cli.strategies.base import Search, Strategy
from cpnas_cli.strategies.time_left import SearchTimeLeft

# Half of 20 images in one batch: an epoch of one network goes backwards once
TINY = (
    *PUBLISHED_RULES,
    "data.num_train=20",
    "data.num_test=10",
    "network.num_channels=4",
    "search.num_channels=null",
    "network.stem_multiplier=1",
    "search.batch_size=10",
    "search.num_calibration_batches=1",
    "pcdarts.num_epochs=3",
    "pcdarts.frozen_epochs=1",
    "pcdarts.batch_size=10",
    "pcdarts.partial_channels=2",
    "halving.num_genotypes=3",
    "halving.num_rounds=2",
    "halving.first_epochs=1",
    "fair.num_epochs=2",
    "fair.num_scored=5",
    "spos.num_epochs=2",
    "spos.num_scored=5",
    "spos.num_parents=2",
)
OPERATIONS = {
    "none", "skip_connect", "max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3",
    "dil_conv_5x5",
}  # fmt: skip
EDGES = [(i, j) for j in range(2, 6) for i in range(j)]
COMMON_PROVENANCE = {
    "strategy", "beta_p", "seed", "dataset", "num_classes", "image_size", "num_passes", "num_cells", "num_channels",
    "real_parts",
}  # fmt: skip

every_strategy = pytest.mark.parametrize("strategy", strategies(), ids=STRATEGIES)


def whole_searches(chosen: Sequence[Strategy]) -> pytest.MarkDecorator:
    """A case per strategy, for tests of whole searches: those of many units are slow."""
    many = [strategy.num_units(load_config(overrides=TINY)) > 10 for strategy in chosen]
    cases = zip(chosen, many, strict=True)
    return pytest.mark.parametrize(
        "strategy",
        [pytest.param(s, id=s.name, marks=pytest.mark.slow if is_slow else ()) for s, is_slow in cases],
    )


every_whole = whole_searches(strategies())


class Unreadable:
    """Test images that fail whoever looks at them."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a search asked for {name} of the test images")

    def __len__(self) -> int:
        raise AssertionError("a search counted the test images")


@functools.cache
def digits(num_train: int = 20) -> Dataset:
    """The first training images of the data set, and test images that nobody may read."""
    dataset = load_dataset(load_config(overrides=TINY).data)
    train = dataset.train.subset(torch.arange(num_train))
    unreadable: Any = Unreadable()
    return Dataset(train, unreadable, dataset.classes, dataset.mean, dataset.std)


def make_config(strategy: Strategy, *overrides: str) -> Config:
    own = [f"search.{key}={value}" for key, value in strategy.settings().items()]
    return load_config(overrides=[*TINY, *own, *overrides])


def make_search(folder: Path, strategy: Strategy, *overrides: str, num_train: int = 20, **values: Any) -> Search:
    folder.mkdir(exist_ok=True, parents=True)
    run, config = RunFolder(folder), make_config(strategy, *overrides)
    return Search(run, config, digits(num_train), open_device("cpu"), **values)


def without_seconds(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


@dataclass(frozen=True)
class Whole:
    """An uninterrupted search: what it found, wrote and told, how many gradients it took and steps its optimizers."""

    search: Search
    genotype: Genotype
    history: list[dict[str, Any]]
    told: list[dict[str, Any]]
    num_gradients: int
    num_steps: int

    @property
    def units(self) -> list[dict[str, Any]]:
        unit = strategy_named(self.search.config.search.strategy).unit
        return [record for record in self.history if record["event"] == unit]

    def tensors(self) -> dict[str, bytes]:
        return tensors_of(self.search.run)


def tensors_of(run: RunFolder) -> dict[str, bytes]:
    tensors = load_file(run.checkpoint) if run.checkpoint.exists() else {}
    return {name: tensor.tobytes() for name, tensor in tensors.items()}


def search_whole(folder: Path, strategy: Strategy, *overrides: str) -> Whole:
    told: list[dict[str, Any]] = []
    num_gradients = num_steps = 0

    def count(*_: object) -> None:
        nonlocal num_steps
        num_steps += 1

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal num_gradients
            num_gradients += 1
            return function(*arguments, **named)

        return call

    search = make_search(folder, strategy, *overrides, notify=lambda record: told.append(dict(record)))
    hook = register_optimizer_step_post_hook(count)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("backward", "grad"):
                patch.setattr(torch.autograd, name, counted(getattr(torch.autograd, name)))
            genotype = strategy.search(search)
    finally:
        hook.remove()
    return Whole(search, genotype, search.run.history(), told, num_gradients, num_steps)


@pytest.fixture(scope="module")
def whole_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Strategy], Whole]:
    """The search of a strategy with seed 0, once for all tests; read it, never write to it."""

    @functools.cache
    def whole(name: str) -> Whole:
        return search_whole(tmp_path_factory.mktemp(name), strategy_named(name))

    return lambda strategy: whole(strategy.name)


# ---------------------------------------------------------------- what it says of itself


@every_strategy
def test_it_is_described_in_one_line(strategy: Strategy) -> None:
    assert isinstance(strategy, Strategy)
    assert STRATEGIES[strategy.name]  # an object has the name that it is registered by
    assert registered_name(strategy) == strategy.name
    assert 0 < len(strategy.summary) < 80
    assert strategy.summary == strategy.summary.strip().rstrip(".")
    assert "\n" not in strategy.summary


def registered_name(strategy: Strategy) -> str:
    (name,) = (name for name in STRATEGIES if strategy_named(name) is strategy)
    return name


def test_one_is_the_reference_and_has_any_beta() -> None:
    (reference,) = (strategy for strategy in strategies() if strategy.is_reference)
    assert reference is reference_strategy()
    assert reference.uses_beta_p
    assert reference.fixed_beta_p is None


def test_the_objects_need_no_torch() -> None:
    """Help and completion read names and summaries from them."""
    code = (
        "import sys\n"
        "from cpnas_cli.strategies import strategies\n"
        "assert strategies()\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'lightning_fabric', 'pydantic', 'safetensors'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(UsageError) as caught:
        strategy_named("cp-nas")
    assert all(name in str(caught.value) for name in ["'cp-nas'", *STRATEGIES])


@every_strategy
def test_its_settings_are_settings(strategy: Strategy) -> None:
    """Also where an experiment's own have another beta_P."""
    document = load_config(overrides=["search.beta_p=1.5"]).model_dump(mode="json")
    document["search"] |= strategy.settings()
    search = Config.model_validate(document).search
    assert search.strategy == strategy.name
    assert search.beta_p == (1.5 if strategy.fixed_beta_p is None else strategy.fixed_beta_p)


@every_strategy
def test_a_beta_that_it_cannot_have_is_refused(strategy: Strategy) -> None:
    if strategy.uses_beta_p and strategy.fixed_beta_p is None:
        strategy.check_beta_p("1.5", instead="another")
        return
    with pytest.raises(UsageError) as caught:
        strategy.check_beta_p("1.5", instead="another")
    message = str(caught.value)
    assert message.startswith(strategy.name)
    assert message.endswith("got --beta-p 1.5; use --strategy another")
    if strategy.fixed_beta_p is not None:
        strategy.check_beta_p(f"{strategy.fixed_beta_p}", instead="another")


# ---------------------------------------------------------------- what it finds and writes


def check_cell(ops: Any) -> None:
    assert len(ops) == len(EDGES)
    assert set(ops) <= OPERATIONS
    assert any(op != "none" for op, (source, _) in zip(ops, EDGES, strict=True) if source < 2), "disconnected"


@every_whole
def test_its_genotype_is_connected(strategy: Strategy, whole_of: Callable[[Strategy], Whole]) -> None:
    genotype = whole_of(strategy).genotype
    check_cell(genotype.normal)
    check_cell(genotype.reduce)


def is_fraction(value: Any) -> bool:
    return type(value) is float and 0 <= value <= 1


def is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def is_seconds(value: Any) -> bool:
    return type(value) is float and value >= 0


def is_cell(value: Any) -> bool:
    return type(value) is list and len(value) == len(EDGES) and set(value) <= OPERATIONS


def is_by_operation(value: Any) -> bool:
    """Of one edge, numbers that are softmaxes: positive, at most 1 in all."""
    return (
        type(value) is dict
        and bool(value)
        and value.keys() <= OPERATIONS
        and all(is_fraction(number) for number in value.values())
        and sum(value.values()) <= 1 + 1e-6
    )


def are_edges(key: str, more: Mapping[str, Callable[[Any], bool]]) -> Callable[[Any], bool]:
    kinds = {"from": is_count, "to": is_count, key: is_by_operation, **more}

    def check(value: Any) -> bool:
        return (
            type(value) is list
            and [(entry["from"], entry["to"]) for entry in value] == EDGES
            and all(entry.keys() == kinds.keys() for entry in value)
            and all(kinds[name](entry[name]) for entry in value for name in kinds)
        )

    return check


def or_null(kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or kind(value)


def is_number(value: Any) -> bool:
    return type(value) is float


ABANDONING = are_edges("evaluation", {"abandoned": lambda value: value in OPERATIONS})
CELLS = {"normal": is_cell, "reduce": is_cell}
DRAW = {
    "draw": is_count,
    **CELLS,
    "accuracy_child": or_null(is_fraction),
    "accuracy_parent": or_null(is_fraction),
    "z": or_null(is_number),
    "seconds": is_seconds,
}
EPOCH = {
    "network": lambda value: value == "child",
    "epoch": is_count,
    "loss": is_number,
    "accuracy_train": is_fraction,
    "learning_rate": is_number,
    "seconds": is_seconds,
}
# Every event of a search, with all of its keys and what each holds; of some there are several kinds
HISTORY: dict[str, list[dict[str, Callable[[Any], bool]]]] = {
    "draw": [
        {**DRAW, "num_candidates": is_count, "pass": is_count},
        {**DRAW, "round": is_count, "num_epochs": is_count},
        {**DRAW, "num_candidates": is_count, "generation": is_count},
    ],
    "abandon": [{"num_candidates": is_count, "normal": ABANDONING, "reduce": ABANDONING}],
    "epoch": [
        {**EPOCH, **CELLS, "loss_architecture": or_null(is_number)},
        {**EPOCH, "num_candidates": is_count},
        EPOCH,
    ],
    "architecture": [{"normal": are_edges("strength", {}), "reduce": are_edges("strength", {})}],
    "halve": [{"round": is_count, "kept": lambda value: type(value) is list and all(map(is_count, value))}],
}


def faults_of(record: Mapping[str, Any]) -> list[str]:
    """What of a record is not as documented, by the kind that it is nearest to."""
    found: list[list[str]] = []
    for kinds in HISTORY.get(record["event"], [{}]):
        different = {*kinds, "event"} ^ record.keys()
        found.append(sorted(different) or [key for key, kind in kinds.items() if not kind(record[key])])
    return min(found, key=len)


@every_whole
def test_its_history_is_as_documented(strategy: Strategy, whole_of: Callable[[Strategy], Whole]) -> None:
    history = whole_of(strategy).history
    assert [(record["event"], faults_of(record)) for record in history if faults_of(record)] == []
    lines = whole_of(strategy).search.run.file(RunFolder.HISTORY).read_text().splitlines()
    assert [json.loads(line) for line in lines] == history


def test_a_fault_of_a_history_is_found() -> None:
    record: dict[str, Any] = {"event": "draw", "num_candidates": 8, "pass": 0, "draw": 0, "seconds": 0.1}
    record |= {"normal": ["none"] * 14, "reduce": ["none"] * 14}
    record |= {"accuracy_child": 0.5, "accuracy_parent": None, "z": 0.5}
    assert faults_of(record) == []
    assert faults_of({**record, "z": 1}) == ["z"]
    assert faults_of({**record, "accuracy_child": 1.5}) == ["accuracy_child"]
    assert faults_of({**record, "normal": ["conv"] * 14}) == ["normal"]
    assert faults_of({**record, "more": 1}) == ["more"]
    assert faults_of({"event": "mutation", "seconds": 1.0}) == ["seconds"]


@every_whole
def test_it_takes_the_units_that_it_says(strategy: Strategy, whole_of: Callable[[Strategy], Whole]) -> None:
    whole = whole_of(strategy)
    assert len(whole.units) == strategy.num_units(whole.search.config) > 0


@every_whole
def test_its_cost_is_the_gradients_that_it_took(strategy: Strategy, whole_of: Callable[[Strategy], Whole]) -> None:
    """A step of an optimizer may take several: one that adds them up passes over the images as often."""
    whole = whole_of(strategy)
    cost = strategy.cost(whole.history)
    assert cost.asked == cost.trained == whole.num_gradients >= whole.num_steps


@every_whole
def test_it_tells_those_who_watch_what_it_writes(
    strategy: Strategy, whole_of: Callable[[Strategy], Whole], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = whole_of(strategy)
    records = [record for record in whole.told if record["event"] != "progress"]
    assert records == (whole.history if strategy.view is not None else [])
    with search_view(whole.search.config, num_images=len(whole.search.dataset.train)) as view:
        for record in whole.told:
            view.notify(record)
    shown = capsys.readouterr().err
    total = strategy.num_units(whole.search.config)
    for unit in range(total):
        assert (f"{strategy.unit} {unit + 1}/{total}  " in shown) == (strategy.view is not None)


@every_whole
def test_what_is_left_is_known_until_the_last_record(strategy: Strategy, whole_of: Callable[[Strategy], Whole]) -> None:
    """Every record that took time is one of those that the strategy foresees, none is missing, and none more."""
    if strategy.view is None:
        return
    whole = whole_of(strategy)
    left = SearchTimeLeft(whole.search.config, num_images=len(whole.search.dataset.train))
    timed = [record for record in whole.history if record["event"] in ("epoch", "draw", "pass")]
    for record in timed[:-1]:
        left.notify(record)
        assert left.seconds is not None
    left.notify(timed[-1])
    assert left.seconds is None


@every_whole
def test_it_can_be_looked_at_at_any_moment(strategy: Strategy, whole_of: Callable[[Strategy], Whole]) -> None:
    """On a narrow terminal; how many units are done is always there."""
    if strategy.view is None:
        return
    whole, total, num_done = whole_of(strategy), strategy.num_units(whole_of(strategy).search.config), 0
    view: Any = search_view(whole.search.config, num_images=len(whole.search.dataset.train))
    for record in whole.told:
        view.notify({**record, "resumed": True})
        num_done += record["event"] == strategy.unit
        screen = Console(file=io.StringIO(), width=80)
        screen.print(view.render())
        text = screen.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
        assert f"{strategy.unit} {num_done}/{total}" in text
        assert max(map(len, text.splitlines())) <= 80


# ---------------------------------------------------------------- its provenance


@every_whole
def test_its_document_says_where_the_genotype_is_from(
    strategy: Strategy, whole_of: Callable[[Strategy], Whole], tmp_path: Path
) -> None:
    whole = whole_of(strategy)
    shutil.copytree(whole.search.run.path, tmp_path / "again")
    document = run_search(make_search(tmp_path / "again", strategy))
    genotype, written = read_genotype(tmp_path / "again")
    assert written == document
    assert genotype == whole.genotype
    found = strategy.findings(whole.history, whole.search.config)
    assert document["provenance"] == {**provenance(whole.search.config, 10), **found}


@every_strategy
def test_its_provenance_has_the_keys_of_all_and_no_times(strategy: Strategy) -> None:
    config = make_config(strategy, "seed=4")
    document = provenance(config, 10)
    assert document.keys() >= COMMON_PROVENANCE
    assert (document["strategy"], document["seed"], document["num_classes"]) == (strategy.name, 4, 10)
    assert (document["beta_p"] is not None) == strategy.uses_beta_p
    assert not [key for key in document if "seconds" in key or "time" in key]
    assert json.loads(json.dumps(document, allow_nan=False)) == document


COMMON = '"seed": 0, "dataset": "digits", "num_classes": 10, "image_size": 8, "num_passes": {}, "num_cells": 3, ' + (
    '"num_channels": 4, "block": "residual", "real_parts": []'
)
RULES = ', "indicator": {}, "evaluation": "after_draw", "credit": "draw", ' + (
    '"performance": "accuracy", "warmup_epochs": 0, "scored_passes": 0, "num_left": 1, "final_passes": 0}}'
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cpnas", '{"strategy": "cpnas", "beta_p": 0.25, ' + COMMON.format(1) + RULES.format('"penalized"')),
        ("bnas", '{"strategy": "bnas", "beta_p": 0.0, ' + COMMON.format(1) + RULES.format("null")),
        ("random", '{"strategy": "random", "beta_p": null, ' + COMMON.format("null") + ', "draw": 0}'),
        ("pcdarts", '{"strategy": "pcdarts", "beta_p": null, ' + COMMON.format("null") + ', "num_epochs": 3}'),
        (
            "halving",
            '{"strategy": "halving", "beta_p": null, '
            + COMMON.format("null")
            + ', "num_genotypes": 3, "num_rounds": 2, "first_epochs": 1}',
        ),
        (
            "fair",
            '{"strategy": "fair", "beta_p": null, ' + COMMON.format("null") + ', "num_epochs": 4, "num_scored": 5}',
        ),
        (
            "spos",
            '{"strategy": "spos", "beta_p": null, ' + COMMON.format("null") + ', "num_epochs": 2, "num_scored": 5}',
        ),
    ],
)
def test_a_provenance_to_the_letter(name: str, text: str) -> None:
    """As files of these seven have it; the order of the keys is a part of it."""
    assert json.dumps(provenance(make_config(strategy_named(name)), 10)) == text


# ---------------------------------------------------------------- stopping and going on


@every_whole
def test_stopped_after_every_unit_it_finds_the_same(
    strategy: Strategy, whole_of: Callable[[Strategy], Whole], tmp_path: Path
) -> None:
    whole = whole_of(strategy)
    num_stops = 0
    genotype: Genotype | None = None
    while genotype is None:
        search = make_search(tmp_path, strategy, deadline=Deadline(0.0))
        try:
            genotype = strategy.search(search)
        except MaxTimeReached:
            num_stops += 1
            history = without_seconds(search.run.history())
            assert history == without_seconds(whole.history)[: len(history)]
            # killed while the next one was written: what is beyond the checkpoint is dropped
            with search.run.file(RunFolder.HISTORY).open("a") as file:
                file.write('{"event": "dr')
    # or more often: within a unit, if a part of it is saved
    assert num_stops >= strategy.num_units(whole.search.config) - 1
    assert genotype == whole.genotype
    assert without_seconds(RunFolder(tmp_path).history()) == without_seconds(whole.history)
    assert tensors_of(RunFolder(tmp_path)) == whole.tensors()


@every_whole
def test_resumed_at_its_end_it_changes_nothing(
    strategy: Strategy, whole_of: Callable[[Strategy], Whole], tmp_path: Path
) -> None:
    whole = whole_of(strategy)
    shutil.copytree(whole.search.run.path, tmp_path / "again")
    again = search_whole(tmp_path / "again", strategy)
    assert again.num_steps == again.num_gradients == 0
    assert (again.genotype, again.history, again.tensors()) == (whole.genotype, whole.history, whole.tensors())


def first_unit(folder: Path, strategy: Strategy, *overrides: str) -> list[dict[str, Any]]:
    search = make_search(folder, strategy, *overrides, deadline=Deadline(0.0))
    with contextlib.suppress(MaxTimeReached):
        strategy.search(search)
    return without_seconds(search.run.history())


@every_whole
def test_its_seed_decides_all(strategy: Strategy, whole_of: Callable[[Strategy], Whole], tmp_path: Path) -> None:
    first = first_unit(tmp_path / "again", strategy)
    assert first == without_seconds(whole_of(strategy).history)[: len(first)]
    assert first_unit(tmp_path / "other", strategy, "seed=1") != first


@every_strategy
def test_several_genotypes_of_a_seed_differ(strategy: Strategy, tmp_path: Path) -> None:
    genotypes = [
        strategy.search(make_search(tmp_path / str(draw), strategy, f"search.random_draw={draw}"))
        for draw in range(2 if strategy.several_per_seed else 0)
    ]
    assert len(set(genotypes)) == len(genotypes)


# ---------------------------------------------------------------- what it refuses


@dataclass(frozen=True)
class Unusual:
    """Settings or images that some strategies cannot search."""

    overrides: tuple[str, ...] = ()
    num_train: int = 20


UNUSUAL = {
    "two images": Unusual(num_train=2),
    "three images": Unusual(num_train=3),
    "four images": Unusual(num_train=4),
    "channels that do not divide": Unusual(
        ("network.block=separable", "network.num_channels=6", "pcdarts.partial_channels=4")
    ),
    "few channels for the search": Unusual(("search.num_channels=2", "pcdarts.partial_channels=4")),
    "graphs without a GPU": Unusual(("search.engine=graphs",)),
}


@every_strategy
@pytest.mark.parametrize("unusual", UNUSUAL.values(), ids=UNUSUAL)
def test_it_refuses_before_exactly_what_it_cannot_search(strategy: Strategy, unusual: Unusual, tmp_path: Path) -> None:
    search = make_search(tmp_path, strategy, *unusual.overrides, num_train=unusual.num_train, deadline=Deadline(0.0))
    refusal = failure_of(lambda: strategy.check(search.config, search.dataset, search.fabric))
    assert not list(tmp_path.iterdir())
    failure = failure_of(lambda: strategy.search(search))
    assert (refusal is None) == (failure is None), (refusal, failure)
    assert refusal is None or (isinstance(refusal, CpnasError) and "\n" not in str(refusal))


def failure_of(act: Callable[[], object]) -> Exception | None:
    try:
        act()
    except MaxTimeReached:
        return None
    except Exception as error:
        return error
    return None


@every_strategy
def test_it_refuses_nothing_usual(strategy: Strategy) -> None:
    for fabric in (open_device("cpu"), None):
        strategy.check(make_config(strategy), digits(), fabric)


def test_the_test_images_cannot_be_read() -> None:
    """So every search above has not."""
    test: ImageSet = digits().test
    for look in (lambda: test.images, lambda: test.labels, lambda: test.to(torch.device("cpu")), lambda: len(test)):
        with pytest.raises(AssertionError):
            look()


# ---------------------------------------------------------------- what it shares


def shares(strategy: Strategy) -> bool:
    return strategy.sharing_key(make_config(strategy)) is not None


sharing = whole_searches([strategy for strategy in strategies() if shares(strategy)])


@pytest.mark.parametrize("strategy", [pytest.param(s, id=s.name) for s in strategies() if shares(s)])
def test_only_equal_searches_share(strategy: Strategy) -> None:
    key = strategy.sharing_key(make_config(strategy))
    assert key == strategy.sharing_key(make_config(strategy, "pcdarts.num_epochs=3"))
    for other in ("seed=1", "data.num_train=30", "network.num_channels=8", "search.batch_size=5"):
        assert strategy.sharing_key(make_config(strategy, other)) != key


@sharing
def test_its_own_history_read_again_is_its_own(strategy: Strategy, whole_of: Callable[[Strategy], Whole]) -> None:
    whole = whole_of(strategy)
    rereading = strategy.reread(whole.history, whole.search.config)
    assert rereading is not None
    assert rereading.agrees
    assert list(rereading.records) == whole.history == strategy.saved_history(whole.search.run)
    assert strategy.reread([], whole.search.config) is not None


@sharing
def test_it_stops_where_it_is_told_and_another_goes_on_from_there(
    strategy: Strategy, whole_of: Callable[[Strategy], Whole], tmp_path: Path
) -> None:
    whole = whole_of(strategy)
    source, target = (make_search(tmp_path / name, strategy) for name in ("source", "target"))
    assert strategy.advance(source, stop=lambda: True) is None
    history = strategy.saved_history(source.run)
    assert 0 < len(history) < len(whole.history)
    assert without_seconds(history) == without_seconds(whole.history)[: len(history)]
    rereading = strategy.reread(history, target.config)
    assert rereading is not None
    strategy.branch(source.run, target.run, rereading)
    assert strategy.advance(target, stop=lambda: False) == whole.genotype
    assert without_seconds(target.run.history()) == without_seconds(whole.history)
    num_inherited = sum(record["event"] == strategy.unit for record in history)
    cost = strategy.cost(target.run.history(), num_inherited=num_inherited)
    whole_cost, cost_before = strategy.cost(whole.history), strategy.cost(history)
    assert (cost.asked, cost.trained) == (whole_cost.asked, whole_cost.asked - cost_before.asked)
