"""(4.17) and (4.18) recomputed in numpy from the weights, features, labels and logits of a tiny real network."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.binarization.filters import reconstruction
from cpnas_cli.losses import ClassMeans, child_parent_loss, compactness_loss, kernel_loss, teacher_loss
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.networks.shapes import Precision
from cpnas_cli.search_space import EDGES, OPERATIONS, Genotype
from cpnas_cli.settings import NetworkConfig

FEW = settings(max_examples=20, deadline=None, derandomize=True)

SETTINGS = NetworkConfig(num_cells=3, num_channels=2, stem_multiplier=1)
NUM_CLASSES = 3
BATCH = 5
# every operation on some edge that carries a signal: 12 edges with one, `none` on (0,2) and (4,5)
CELL = (*OPERATIONS, *OPERATIONS[1:6], "none")
CELL_REDUCED = (*reversed(OPERATIONS), *OPERATIONS[2:8])
GENOTYPE = Genotype(CELL, CELL_REDUCED)
NUM_SEPARABLE = {cell: sum("conv" in op for op in cell) for cell in (CELL, CELL_REDUCED)}


def tiny_network(
    precision: Precision = "binary", genotype: Genotype | None = GENOTYPE, network: NetworkConfig = SETTINGS
) -> Network:
    return build_network(
        network, precision=precision, num_image_channels=1, num_classes=NUM_CLASSES, seed=0, genotype=genotype
    )


def tiny_batch() -> tuple[Tensor, Tensor]:
    """Images and labels; class 1 twice, class 0 three times, class 2 not at all."""
    images = torch.randn(BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return images, torch.tensor([1, 0, 0, 1, 0])


def kernel_loss_in_numpy(latents: list[NDArray[np.float64]]) -> float:
    total = 0.0
    for layer in latents:
        for taps in layer.reshape(len(layer), -1):
            reconstruction = np.mean(np.abs(taps)) * np.where(taps >= 0, 1, -1)
            total += float(np.mean((taps - reconstruction) ** 2))
    return total


def latents_in_numpy(network: Network) -> list[NDArray[np.float64]]:
    return [m.weight.detach().double().numpy() for m in network.modules() if isinstance(m, BinaryConv2d)]


# ---------------------------------------------------------------- (4.18) as a whole


def test_the_loss_of_a_network_is_4_18() -> None:
    network = tiny_network()
    images, labels = tiny_batch()
    output = network(images)
    means = ClassMeans(NUM_CLASSES, network.feature_shape(8), rate=0.5)
    means.update(network(images.flip(3)).features, labels)  # so that they are not all zero
    kernel_weight, lambda_compactness = 0.25, 0.03
    terms = child_parent_loss(
        cross_entropy=F.cross_entropy(output.logits, labels),
        kernel=kernel_loss(network.latent_filters(), reconstruct=reconstruction),
        compactness=compactness_loss(output.features, means.means, labels),
        kernel_weight=kernel_weight,
        lambda_compactness=lambda_compactness,
    )

    logits, features = output.logits.detach().double().numpy(), output.features.detach().double().numpy()
    kept, classes = means.means.double().numpy(), labels.numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    cross_entropy = -np.mean([np.log(probabilities[s, classes[s]]) for s in range(BATCH)])
    kernel = kernel_weight * kernel_loss_in_numpy(latents_in_numpy(network))
    distances = sum(np.linalg.norm((features[s] - kept[classes[s]]).ravel()) ** 2 for s in range(BATCH))
    compactness = lambda_compactness / 2 * distances
    assert min(cross_entropy, kernel, compactness) > 0.01  # none of them is lost in the tolerance
    assert terms.cross_entropy.item() == pytest.approx(cross_entropy, rel=1e-5)
    assert terms.kernel.item() == pytest.approx(kernel, rel=1e-5)
    assert terms.compactness.item() == pytest.approx(compactness, rel=1e-5)
    assert terms.total.item() == pytest.approx(cross_entropy + kernel + compactness, rel=1e-5)


def test_each_term_can_be_left_out() -> None:
    parts = {"cross_entropy": torch.tensor(2.0), "kernel": torch.tensor(3.0), "compactness": torch.tensor(5.0)}
    expected = {(1, 1): 10.0, (0, 1): 7.0, (1, 0): 5.0, (0, 0): 2.0, (0.5, 2): 13.5}
    for (kernel_weight, weight), total in expected.items():
        terms = child_parent_loss(kernel_weight=kernel_weight, lambda_compactness=weight, **parts)  # pyright: ignore
        assert terms.total.item() == total
        values = terms.cross_entropy.item(), terms.kernel.item(), terms.compactness.item()
        assert values == (2.0, 3 * kernel_weight, 5 * weight)


def test_every_latent_filter_gets_both_gradients() -> None:
    """The gradient of the sum is that of the cross-entropy plus kernel_weight * 2/n (H - H^)."""
    network = tiny_network()
    images, labels = tiny_batch()
    latents = network.latent_filters()
    weight = 0.25
    cross_entropy = F.cross_entropy(network(images).logits, labels)
    parts = torch.autograd.grad(cross_entropy, latents, retain_graph=True)
    terms = child_parent_loss(
        cross_entropy=cross_entropy,
        kernel=kernel_loss(latents, reconstruct=reconstruction),
        compactness=torch.zeros(()),
        kernel_weight=weight,
        lambda_compactness=0.0,
    )
    for latent, part, both in zip(latents, parts, torch.autograd.grad(terms.total, latents), strict=True):
        expected = part.numpy() + weight * kernel_gradient(latent.detach().numpy())
        np.testing.assert_allclose(both.numpy(), expected, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------- the kernel term of (4.17)


def kernel_gradient(latent: NDArray[np.float32]) -> NDArray[np.float32]:
    """2/n (H - H^), with H^ = +alpha at 0."""
    taps = latent.reshape(len(latent), -1)
    reconstruction = np.abs(taps).mean(axis=1, keepdims=True) * np.where(taps >= 0, 1, -1)
    return (2 / taps.shape[1] * (taps - reconstruction)).reshape(latent.shape).astype(np.float32)


def test_the_latent_filters_are_those_of_every_binary_layer() -> None:
    """By count: preprocessing, separable blocks with two convolutions each, factorized reductions."""
    network = tiny_network()
    normal, reduction = CELL, CELL_REDUCED
    skips_at_stride_2 = sum(
        op == "skip_connect" and source < 2 for op, (source, _) in zip(reduction, EDGES, strict=True)
    )
    assert skips_at_stride_2 == 1
    per_reduction_cell = 2 * NUM_SEPARABLE[reduction] + 2 * skips_at_stride_2
    # the last cell's first input is of twice the size: two convolutions make up its preprocessing
    expected = (2 + 2 * NUM_SEPARABLE[normal]) + (2 + per_reduction_cell) + (3 + per_reduction_cell)
    latents = network.latent_filters()
    assert len(latents) == len({id(latent) for latent in latents}) == expected
    assert {id(latent) for latent in latents} == {
        id(m.weight) for m in network.modules() if isinstance(m, BinaryConv2d)
    }


def test_the_kernel_loss_of_a_draw_is_that_of_its_own_filters() -> None:
    """In a shared network only the operations drawn count, and only they get a gradient."""
    shared = tiny_network(genotype=None)
    drawn = shared.latent_filters(GENOTYPE)
    loss = kernel_loss(drawn, reconstruct=reconstruction)
    assert loss.item() == pytest.approx(kernel_loss_in_numpy([w.detach().double().numpy() for w in drawn]), rel=1e-5)
    assert len(drawn) == len(tiny_network().latent_filters())
    loss.backward()
    used = {id(latent) for latent in drawn}
    for module in shared.modules():
        if isinstance(module, BinaryConv2d):
            assert (module.weight.grad is not None) == (id(module.weight) in used)
    assert len(latents_in_numpy(shared)) > len(drawn)


def test_without_binary_layers_the_kernel_loss_is_zero() -> None:
    parent = tiny_network("full")
    assert parent.latent_filters() == []
    assert kernel_loss(parent.latent_filters(), reconstruct=reconstruction).item() == 0


def test_real_parts_are_not_in_the_kernel_loss() -> None:
    everything = len(tiny_network().latent_filters())
    real = SETTINGS.model_copy(update={"real_parts": ("preprocessing",)})
    assert len(tiny_network(network=real).latent_filters()) == everything - 5
    real = SETTINGS.model_copy(update={"real_parts": ("preprocessing", "factorized_reduction")})
    assert len(tiny_network(network=real).latent_filters()) == everything - 5 - 2 - 2 - 2


@FEW
@given(
    shapes=st.lists(st.tuples(*[st.integers(1, 3)] * 3), min_size=1, max_size=5),
    seed=st.integers(0, 999),
)
def test_kernel_loss_and_gradient_of_any_filters(shapes: list[tuple[int, int, int]], seed: int) -> None:
    """Layers of equal and of different shape; some taps are 0, of either sign."""
    numbers = np.random.default_rng(seed)
    layers = [
        numbers.choice([0.0, -0.0, 0.5, -1.5, *numbers.normal(size=8)], size=(out, group, k, k)).astype(np.float32)
        for out, group, k in shapes
    ]
    latents = [torch.from_numpy(layer.copy()).requires_grad_() for layer in layers]
    loss = kernel_loss(latents, reconstruct=reconstruction)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(kernel_loss_in_numpy([layer.astype(np.float64) for layer in layers]), abs=1e-5)
    loss.backward()
    for layer, latent in zip(layers, latents, strict=True):
        assert latent.grad is not None
        np.testing.assert_allclose(latent.grad.numpy(), kernel_gradient(layer), rtol=1e-5, atol=1e-6)


def test_kernel_loss_by_hand() -> None:
    """H = (3, -1, 0, 0): alpha = 1, H^ = (1, -1, 1, 1), MSE = (4 + 0 + 1 + 1) / 4; a second filter adds its own."""
    latent = torch.tensor([[3.0, -1.0, 0.0, -0.0], [2.0, -2.0, 2.0, 2.0]]).view(2, 1, 2, 2).requires_grad_()
    loss = kernel_loss([latent], reconstruct=reconstruction)
    assert loss.item() == 1.5
    loss.backward()
    assert latent.grad is not None
    assert latent.grad.flatten().tolist() == [1.0, 0.0, -0.5, -0.5, 0.0, 0.0, 0.0, 0.0]


def test_kernel_gradient_is_the_slope() -> None:
    """Against finite differences, in which the scale moves with the filter."""
    latent = torch.randn(2, 3, 3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    latent.requires_grad_()
    (gradient,) = torch.autograd.grad(kernel_loss([latent], reconstruct=reconstruction), latent)
    plain = latent.detach().numpy()
    for index in [(0, 0, 0, 0), (1, 2, 1, 2), (0, 1, 2, 2)]:
        step = np.zeros_like(plain)
        step[index] = 1e-5
        slope = (kernel_loss_in_numpy([plain + step]) - kernel_loss_in_numpy([plain - step])) / 2e-5
        assert gradient[index].item() == pytest.approx(slope, abs=1e-6)


# ---------------------------------------------------------------- the compactness term of (4.17)


def class_means_in_numpy(
    means: NDArray[np.float64], features: NDArray[np.float64], labels: list[int], *, rate: float
) -> NDArray[np.float64]:
    """Class by class, sample by sample."""
    result = means.copy()
    for k in range(len(means)):
        members = [s for s, label in enumerate(labels) if label == k]
        delta = sum((means[k] - features[s] for s in members), np.zeros_like(means[k])) / (1 + len(members))
        result[k] = means[k] - rate * delta
    return result


def test_class_means_of_a_network() -> None:
    network = tiny_network()
    images, labels = tiny_batch()
    means = ClassMeans(NUM_CLASSES, network.feature_shape(8), rate=0.3)
    expected = means.means.double().numpy().copy()
    assert expected.shape == (NUM_CLASSES, 4 * 8, 2, 2)
    assert not expected.any()
    for batch in (images, images.flip(2), images * 2):
        features = network(batch).features
        means.update(features, labels)
        expected = class_means_in_numpy(expected, features.detach().double().numpy(), labels.tolist(), rate=0.3)
        np.testing.assert_allclose(means.means.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert not means.means[2].any()  # of this class there was no image
    assert not means.means.requires_grad
    assert set(means.state_dict()) == {"means"}  # it goes into a checkpoint


@FEW
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=7),
    rate=st.floats(0.01, 1),
    seed=st.integers(0, 999),
)
def test_class_means_of_any_batch(labels: list[int], rate: float, seed: int) -> None:
    """One image, one class only, absent classes, from means that are not zero."""
    numbers = np.random.default_rng(seed)
    start, features = numbers.normal(size=(4, 3, 1, 2)), numbers.normal(size=(len(labels), 3, 1, 2))
    means = ClassMeans(4, (3, 1, 2), rate=rate)
    means.means.copy_(torch.from_numpy(start))
    before = means.means.clone()
    means.update(torch.from_numpy(features).float(), torch.tensor(labels))
    expected = class_means_in_numpy(start, features, labels, rate=rate)
    np.testing.assert_allclose(means.means.numpy(), expected, rtol=1e-4, atol=1e-5)
    for absent in set(range(4)) - set(labels):
        assert torch.equal(means.means[absent], before[absent])


def test_class_means_by_hand() -> None:
    """One image: half the way at rate 1, since n + 1 = 2; two images of a class: two thirds."""
    means = ClassMeans(2, (1, 1, 1), rate=1.0)
    means.update(torch.full((1, 1, 1, 1), 6.0), torch.tensor([1]))
    assert means.means.flatten().tolist() == [0.0, 3.0]
    means.update(torch.tensor([3.0, 6.0]).view(2, 1, 1, 1), torch.tensor([0, 0]))
    assert means.means.flatten().tolist() == [3.0, 3.0]


def test_class_means_come_near_the_mean() -> None:
    means = ClassMeans(2, (2, 1, 1), rate=0.5)
    features = torch.tensor([[1.0, 2.0], [3.0, -4.0], [5.0, 0.0]]).view(3, 2, 1, 1)
    for _ in range(100):
        means.update(features, torch.tensor([0, 0, 1]))
    assert means.means[0].flatten().tolist() == pytest.approx([2.0, -1.0], abs=1e-5)
    assert means.means[1].flatten().tolist() == pytest.approx([5.0, 0.0], abs=1e-5)


def test_the_gradient_of_compactness_goes_to_the_features_only() -> None:
    """f - mean of the class; the mean is a constant."""
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(3, 2, 2, 1, generator=generator).requires_grad_()
    means = torch.randn(2, 2, 2, 1, generator=generator).requires_grad_()
    labels = torch.tensor([1, 1, 0])
    compactness_loss(features, means, labels).backward()
    assert features.grad is not None
    np.testing.assert_allclose(
        features.grad.numpy(), features.detach().numpy() - means.detach().numpy()[[1, 1, 0]], rtol=1e-6
    )
    assert means.grad is None


def test_compactness_by_hand() -> None:
    """The published sum: over samples and elements, not a mean; zero where all features are their mean."""
    features = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(2, 2, 1, 1)
    means = torch.zeros(2, 2, 1, 1)
    assert compactness_loss(features, means, torch.tensor([0, 1])).item() == 15.0  # (1 + 4 + 9 + 16) / 2
    assert compactness_loss(features, features, torch.tensor([0, 1])).item() == 0.0
    assert compactness_loss(features, features, torch.tensor([1, 0])).item() == 8.0  # crossed: 4 * 2^2 / 2


# ---------------------------------------------------------------- soft targets and blended images


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_targets_by_the_formula(temperature: float) -> None:
    """T^2 mean_s sum_k p (log p - log q), in numpy and float64; its gradient is T (q - p) / B."""
    generator = np.random.default_rng(0)
    scores, teacher = generator.normal(size=(2, 6, 5)) * 3

    def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
        powers = np.exp(values / temperature)
        return powers / powers.sum(axis=1, keepdims=True)

    p, q = softmax(teacher), softmax(scores)
    expected = temperature**2 * (p * np.log(p / q)).sum() / 6
    logits = torch.from_numpy(scores).requires_grad_()
    teacher_logits = torch.from_numpy(teacher).requires_grad_()
    loss = teacher_loss(logits, teacher_logits, temperature=temperature)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), temperature * (q - p) / 6, atol=1e-12)
    assert teacher_logits.grad is None
    assert teacher_loss(logits, logits, temperature=temperature).item() == pytest.approx(0, abs=1e-12)


def test_the_shares_of_teacher_and_labels_add_up() -> None:
    one, two, three = torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0)
    terms = child_parent_loss(
        cross_entropy=one,
        kernel=one,
        compactness=one,
        kernel_weight=0.1,
        lambda_compactness=0.01,
        teacher=two,
        teacher_weight=0.75,
        auxiliary=three,
        auxiliary_weight=0.5,
    )
    found = {name: value.item() for name, value in vars(terms).items()}
    expected = {"cross_entropy": 0.25, "teacher": 1.5, "kernel": 0.1, "compactness": 0.01, "auxiliary": 1.5}
    assert found == pytest.approx({**expected, "total": sum(expected.values())})


def test_a_blended_image_is_near_both_of_its_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 2, 3, 3, generator=generator, dtype=torch.float64)
    means = torch.randn(3, 2, 3, 3, generator=generator, dtype=torch.float64)
    shares = torch.tensor([[0.3, 0.7, 0], [1, 0, 0], [0, 0.5, 0.5], [0, 0, 1]], dtype=torch.float64)
    expected = 0.5 * sum(
        shares[s, k].item() * np.square(features[s].numpy() - means[k].numpy()).sum()
        for s in range(4)
        for k in range(3)
    )
    assert compactness_loss(features, means, shares).item() == pytest.approx(expected, rel=1e-12)
    one_hot = torch.eye(3, dtype=torch.float64)[[2, 0, 1, 1]]
    plain = compactness_loss(features, means, torch.tensor([2, 0, 1, 1]))
    assert compactness_loss(features, means, one_hot).item() == pytest.approx(plain.item(), rel=1e-12)


def test_class_means_of_blended_images() -> None:
    """delta_k = sum_s t_sk (mean_k - f_s) / (1 + sum_s t_sk)."""
    features = torch.tensor([[2.0], [6.0]])[:, :, None, None]
    class_means = ClassMeans(2, (1, 1, 1), rate=0.5)
    class_means.means.fill_(1.0)
    class_means.update(features, torch.tensor([[0.25, 0.75], [1.0, 0.0]]))
    first = 1 - 0.5 * (0.25 * (1 - 2) + 1 * (1 - 6)) / (1 + 1.25)
    second = 1 - 0.5 * (0.75 * (1 - 2)) / (1 + 0.75)
    assert class_means.means.flatten().tolist() == pytest.approx([first, second])
