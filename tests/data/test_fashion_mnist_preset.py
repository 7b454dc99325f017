"""The presets of Fashion-MNIST on its real files, from a training to a packed model that classifies."""

import json
from pathlib import Path

import numpy as np
import pytest

from cpnas_cli.data.idx import FASHION_MNIST
from tests.conftest import run_cpnas

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not FASHION_MNIST.installed or not FASHION_MNIST.installed.is_dir(), reason="package not installed"
    ),
]


@pytest.mark.parametrize("preset", ["fashion-mnist-small", "fashion-mnist"])
def test_a_training_on_the_real_images_learns_and_is_exported(tmp_path: Path, preset: str) -> None:
    """One epoch of 2,000 images of a network without a searched cell: far above a tenth, and the same when packed."""
    edges = [
        {"from": source, "to": target, "op": "sep_conv_3x3" if source == target - 1 else "skip_connect"}
        for target in range(2, 6)
        for source in range(target)
    ]
    document = {"schema": "cpnas.genotype/1", "normal": edges, "reduce": edges, "provenance": {}}
    (tmp_path / "genotype.json").write_text(json.dumps(document))
    settings = ["data.num_train=2000", "train.num_epochs=1", "network.num_channels=8", "train.batch_size=32"]
    words = [word for setting in settings for word in ("--set", setting)]
    trained = run_cpnas(tmp_path, "train", "genotype.json", "--preset", preset, *words, "--out", "run", timeout=400)
    assert trained.returncode == 0, trained.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["num_test_images"] == 10_000
    assert result["classes"][0] == "T-shirt/top"
    assert result["accuracy_test"] > 0.4
    exported = run_cpnas(tmp_path, "export", "run")
    assert exported.returncode == 0, exported.stderr

    from cpnas_cli.data.dataset import load_dataset
    from cpnas_cli.deploy.engine import Engine
    from cpnas_cli.settings import load_config

    config = load_config(preset, overrides=settings)
    test = load_dataset(config.data).test
    engine = Engine.load(tmp_path / "run" / "model.packed.safetensors", num_threads=1)
    right = engine.logits(test.images.numpy()).argmax(axis=1) == test.labels.numpy()
    assert np.mean(right) == pytest.approx(result["accuracy_test"], abs=2e-4)
