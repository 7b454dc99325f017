"""Gradients that change as a training goes on: how far it is at every step, and that a resumed one goes on the same."""

from pathlib import Path

import pytest
from test_training import SMALL, train

from cpnas_cli.distributed.device import open_device
from cpnas_cli.errors import MaxTimeReached
from cpnas_cli.networks.network import Network
from cpnas_cli.search_space import draw_uniform
from cpnas_cli.settings import load_config
from cpnas_cli.training.evaluation import evaluate_run

CHANGING = ("network.estimator=error_decay", "network.latents=standardized", "network.recu=true")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """(precision, fraction) of every time that a network was told."""
    told: list[tuple[str, float]] = []
    original = Network.set_progress

    def set_progress(self: Network, fraction: float) -> None:
        told.append((self.precision, fraction))
        original(self, fraction)

    monkeypatch.setattr(Network, "set_progress", set_progress)
    return told


def test_the_progress_is_the_fraction_of_the_steps_done(tmp_path: Path, said: list[tuple[str, float]]) -> None:
    """60 images in batches of 20, 2 epochs: 0, 1/6, ... 5/6, of each network."""
    config = load_config(overrides=[*SMALL, "data.num_train=60", "train.num_epochs=2", *CHANGING])
    train(tmp_path / "run", config, draw_uniform(seed=0), ("child", "parent"))
    for precision in ("binary", "full"):
        assert [value for name, value in said if name == precision] == pytest.approx([i / 6 for i in range(6)])


@pytest.mark.parametrize("scale", ["mean", "learned"])
def test_a_resumed_training_ends_the_same(tmp_path: Path, scale: str) -> None:
    few = ("data.num_train=60", "train.num_epochs=3")
    config = load_config(overrides=[*SMALL, *few, *CHANGING, f"network.scale={scale}"])
    result, _ = train(tmp_path / "whole", config, draw_uniform(seed=0))
    stops = 0
    while True:
        try:
            train(tmp_path / "run", config, draw_uniform(seed=0), max_seconds=0, resume=stops > 0)
            break
        except MaxTimeReached:
            stops += 1
    assert stops == 2
    run, whole = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole"))
    assert run == whole
    # what is read from the file knows nothing of the progress, and needs nothing of it
    evaluated = evaluate_run(tmp_path / "run", data_dir=None, device=open_device("cpu").device)
    assert evaluated["accuracy_test"] == result["accuracy_test"]


@pytest.mark.parametrize("changing", CHANGING[::2])
def test_the_progress_matters(tmp_path: Path, changing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same training, but told that it stands still, ends with other weights."""
    few = ("data.num_train=60", "train.num_epochs=1")
    config = load_config(overrides=[*SMALL, *few, "network.latents=standardized", changing])
    train(tmp_path / "moves", config, draw_uniform(seed=0))
    monkeypatch.setattr(Network, "set_progress", lambda *_: None)
    train(tmp_path / "stands", config, draw_uniform(seed=0))
    moves, stands = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("moves", "stands"))
    assert moves != stands


@pytest.mark.parametrize(
    "settings",
    [
        ("network.latents=centered",),
        ("network.latents=standardized", "network.scale=learned"),
        CHANGING,
        ("network.estimator=polynomial", "network.clip_bound=1.5"),
    ],
    ids=lambda settings: settings[-1],
)
def test_every_choice_trains(tmp_path: Path, settings: tuple[str, ...]) -> None:
    config = load_config(overrides=[*SMALL, "train.num_epochs=3", *settings])
    _, history = train(tmp_path / "run", config, draw_uniform(seed=0))
    assert history[-1]["loss_cross_entropy"] < 0.9 * history[0]["loss_cross_entropy"]


def test_a_copied_network_has_one_progress_of_its_own() -> None:
    import copy

    from cpnas_cli.binarization.convolution import BinaryConv2d
    from cpnas_cli.networks.network import build_network

    network = build_network(
        load_config(overrides=[*SMALL, *CHANGING]).network,
        precision="binary",
        num_image_channels=1,
        num_classes=10,
        seed=0,
        genotype=draw_uniform(seed=0),
    )
    copied = copy.deepcopy(network)
    copied.set_progress(0.5)
    values = {m.progress.value for m in copied.modules() if isinstance(m, BinaryConv2d)}
    assert (values, network.progress.value) == ({0.5}, 0.0)
