"""The steps of a network in the order in which they are computed, and the values that pass between them.

A step is a layer or a skip connection; a value is what the stem, a preprocessing, a node of a cell or
a depthwise convolution gives. From these follow what the layers alone do not say: the element-wise work
around the convolutions, and how much memory the values need at the worst moment.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

from cpnas_cli.networks.blocks.base import block_of
from cpnas_cli.networks.layer import BITS_PER_REAL, Layer
from cpnas_cli.networks.layers import (
    CellLayers,
    EdgeLayers,
    Surroundings,
    cells_of,
    classifier_layer,
    stem_layers,
)
from cpnas_cli.networks.shapes import Precision
from cpnas_cli.search_space import NUM_INPUT_NODES, Genotype
from cpnas_cli.settings import NetworkConfig

Form = Literal["value", "relu", "sign"]

IMAGE = "image"
BITS_PER_SIGN = 1


class Read(NamedTuple):
    """A value that a step reads, and in which form: itself, its ReLU, or its sign."""

    value: str
    form: Form = "value"


@dataclass(frozen=True)
class Step:
    """One layer, or (`layer` None) one skip connection.

    Attributes:
      num_outputs: elements of the value `writes` that this step gives.
      num_added: of them, those that are added to what another step gave.
      num_shortcut, num_averaged: operations of a shortcut that is added; of the mean before a classifier, or of the
        division by the number of edges.
      shares: whether several steps are summed into the value.
    """

    name: str
    reads: tuple[Read, ...]
    writes: str
    num_outputs: int
    layer: Layer | None = None
    num_added: int = 0
    num_shortcut: int = 0
    num_averaged: int = 0
    shares: bool = False


@dataclass(frozen=True)
class Dataflow:
    """The steps from the image to the class scores; `num_elements` of every value for one image."""

    steps: tuple[Step, ...]
    num_elements: Mapping[str, int]

    @property
    def layers(self) -> list[Layer]:
        return [step.layer for step in self.steps if step.layer is not None]


def num_outputs(layer: Layer) -> int:
    return layer.out_channels * layer.out_size**2


# ---------------------------------------------------------------- the network of a genotype


def dataflow_of(settings: NetworkConfig, genotype: Genotype, shape: Surroundings, *, precision: Precision) -> Dataflow:
    """What the Child ("binary") or the Parent ("full") of a genotype computes.

    A dead node is a constant zero: no step gives it, and it takes no memory.
    """
    classifier = classifier_layer(settings, shape, precision=precision)
    rectifies = block_of(settings).rectifies
    steps, num_elements, stem = _stem_steps(settings, shape, precision)
    inputs: tuple[tuple[str, ...], tuple[str, ...]] = ((stem,), (stem,))
    num_averaged = 0
    for index, cell in enumerate(cells_of(settings, genotype, shape, precision=precision)):
        path = f"cells.{index}"
        added = [
            *_preprocessing_steps(cell, path, inputs, rectifies=rectifies),
            *_edge_steps(cell, path, rectifies=rectifies),
        ]
        steps += added
        num_elements |= _cell_elements(cell, path, added)
        nodes = {_node(path, edge.node): None for edge in cell.edges}  # in order, each once
        inputs = inputs[1], tuple(nodes)
        num_averaged = classifier.in_channels * cell.out_size**2
    reads = tuple(Read(node) for node in inputs[1])
    steps.append(Step(classifier.name, reads, "scores", num_outputs(classifier), classifier, num_averaged=num_averaged))
    return Dataflow(tuple(steps), num_elements | {"scores": num_outputs(classifier)})


def _node(path: str, node: int) -> str:
    return f"{path}.inputs.{node}" if node < NUM_INPUT_NODES else f"{path}.nodes.{node}"


def _form_before(layer: Layer, *, rectifies: bool) -> Form:
    if layer.kind == "pool":
        return "value"
    return "sign" if layer.binary else "relu" if rectifies else "value"


def _stem_steps(
    settings: NetworkConfig, shape: Surroundings, precision: Precision
) -> tuple[list[Step], dict[str, int], str]:
    """The steps of the stem, the elements of their values, and the name of the last one."""
    layers = stem_layers(settings, shape, precision=precision)
    num_elements = {IMAGE: layers[0].in_channels * layers[0].in_size ** 2}
    steps, value = list[Step](), IMAGE
    for index, layer in enumerate(layers):
        if layer.kind == "ending":
            steps.append(_ending_step(layer, value))
            continue
        steps.append(
            Step(layer.name, (Read(value, "relu" if index else "value"),), layer.name, num_outputs(layer), layer)
        )
        value = layer.name
        num_elements[value] = num_outputs(layer)
    return steps, num_elements, value


def _ending_step(layer: Layer, value: str) -> Step:
    """It changes the value in passing, where it is: it reads nothing that would have to be held for it."""
    return Step(layer.name, (), value, num_outputs(layer), layer)


def _cell_elements(cell: CellLayers, path: str, steps: Iterable[Step]) -> dict[str, int]:
    node_elements = cell.shape.num_channels * cell.out_size**2
    elements = {step.writes: step.num_outputs for step in steps}  # right for what one step gives alone
    elements |= {_node(path, edge.node): node_elements for edge in cell.edges}
    return elements | {_node(path, index): cell.shape.num_channels * cell.size**2 for index in range(NUM_INPUT_NODES)}


def _preprocessing_steps(
    cell: CellLayers, path: str, inputs: tuple[tuple[str, ...], tuple[str, ...]], *, rectifies: bool
) -> Iterable[Step]:
    for index, (layers, values) in enumerate(zip(cell.preprocessing, inputs, strict=True)):
        for layer in layers:
            reads = tuple(Read(value, _form_before(layer, rectifies=rectifies)) for value in values)
            num_shortcut = 0
            if cell.shortcuts[index] and layer is layers[-1]:
                reads += tuple(Read(value) for value in values)
                # every input element once, into the mean over groups; before that, if the image shrinks, into
                # the mean over 2x2 pixels
                num_shortcut = layer.in_channels * (layer.out_size**2 + (layer.in_size**2 if layer.stride == 2 else 0))
            yield Step(layer.name, reads, _node(path, index), num_outputs(layer), layer, num_shortcut=num_shortcut)
        if index in cell.endings:
            yield _ending_step(cell.endings[index], _node(path, index))


def _edge_steps(cell: CellLayers, path: str, *, rectifies: bool) -> Iterable[Step]:
    edges_into: dict[int, list[EdgeLayers]] = {}
    for edge in cell.edges:
        edges_into.setdefault(edge.node, []).append(edge)
    num_elements = cell.shape.num_channels * cell.out_size**2
    for node, edges in edges_into.items():
        for edge in edges:
            into = _IntoNode(
                target=_node(path, node),
                shares=len(edges) > 1,
                num_added=num_elements if edge is not edges[0] else 0,
                num_averaged=num_elements if cell.averages and len(edges) > 1 and edge is edges[-1] else 0,
            )
            yield from _steps_of_edge(edge, path, into, num_elements, rectifies=rectifies)
        if node in cell.endings:
            yield _ending_step(cell.endings[node], _node(path, node))


class _IntoNode(NamedTuple):
    """Of an edge: the node that it enters, and what entering it takes; see `Step`."""

    target: str
    shares: bool
    num_added: int
    num_averaged: int


def _steps_of_edge(
    edge: EdgeLayers, path: str, into: _IntoNode, num_elements: int, *, rectifies: bool
) -> Iterable[Step]:
    source, layers = _node(path, edge.source), list(edge.layers)
    if not layers:
        name = f"{path}.edges.{edge.index}.{edge.op}"
        entering = {"num_added": into.num_added, "num_averaged": into.num_averaged, "shares": into.shares}
        yield Step(name, (Read(source),), into.target, num_elements, **entering)
        return
    reads = (Read(source, _form_before(layers[0], rectifies=rectifies)),)
    while layers[0].feeds_next:  # and the next has no ReLU before it
        first = layers.pop(0)
        yield Step(first.name, reads, first.name, num_outputs(first), first)
        reads = (Read(first.name, "sign" if layers[0].binary else "value"),)
    for layer in layers:
        share = num_outputs(layer) / num_elements  # of two side by side each gives a half
        yield Step(
            layer.name,
            (*reads, Read(source)) if layer.residual else reads,
            into.target,
            num_outputs(layer),
            layer,
            num_added=round(share * into.num_added),
            num_shortcut=_num_residual(layer) if layer.residual else 0,
            num_averaged=round(share * into.num_averaged),
            shares=into.shares,
        )


def _num_residual(layer: Layer) -> int:
    """Operations of a residual: the sum, and before it the mean over 2x2 pixels where the image shrinks."""
    return num_outputs(layer) + (layer.in_channels * layer.in_size**2 if layer.stride == 2 else 0)


# ---------------------------------------------------------------- element-wise work


@dataclass(frozen=True)
class Elementwise:
    """Real operations outside of multiply-accumulates, for one image.

    Convention (ours; XNOR-Net's estimate leaves them all out): 1 for each output element of a batch norm
    (one multiply-add), a bias, a threshold (one comparison), a sum of two edges or with a residual, a sign or a ReLU,
    and for each learned value of an ending (the slope of a PReLU, a shift); 9 for each output element of a 3x3 pooling;
    1 for each input element of a mean (over groups of channels or over pixels; over edges 1 for each output element,
    beside their sums). A sign or a ReLU counts once, however
    many layers read it.
    """

    affine: int = 0
    threshold: int = 0
    pool: int = 0
    sum: int = 0
    shortcut: int = 0
    activation: int = 0
    ending: int = 0
    mean: int = 0

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    def __add__(self, other: "Elementwise") -> "Elementwise":
        return Elementwise(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def elementwise_of(flow: Dataflow) -> list[Elementwise]:
    """Of every step; the sign and the ReLU of a value belong to the step that completes it."""
    last_writer = {step.writes: index for index, step in enumerate(flow.steps)}
    forms: dict[str, set[Form]] = {}
    for step in flow.steps:
        for read in step.reads:
            forms.setdefault(read.value, set()).add(read.form)
    counts = []
    for index, step in enumerate(flow.steps):
        ending = step.layer.ending if step.layer is not None else "nothing"
        activations = 0
        if index == last_writer[step.writes] and ending != "threshold":  # whose comparison is the sign
            activations = len(forms.get(step.writes, set()) - {"value"})
        counts.append(
            Elementwise(
                affine=step.num_outputs if ending in ("affine", "bias") else 0,
                threshold=step.num_outputs if ending == "threshold" else 0,
                pool=_num_pooled(step),
                sum=step.num_added,
                shortcut=step.num_shortcut,
                activation=activations * flow.num_elements[step.writes],
                ending=step.layer.num_channel_values * step.num_outputs if step.layer is not None else 0,
                mean=step.num_averaged,
            )
        )
    return counts


def _num_pooled(step: Step) -> int:
    """Of a pooling: 1 for each value that an output element is made of."""
    if step.layer is None or step.layer.kind != "pool":
        return 0
    return step.layer.kernel_size**2 * step.num_outputs


# ---------------------------------------------------------------- memory of the values


@dataclass(frozen=True)
class Held:
    """A value in memory: `bits` from step `first` to step `last`, both included."""

    value: str
    bits: int
    first: int
    last: int


class Peak(NamedTuple):
    """The most memory that values need at once, and the step at which they do."""

    bits: int
    step: str


def held_values(flow: Dataflow) -> list[Held]:
    """When each value is in memory, at batch 1, and in which form.

    Rule (ours): the steps run one after the other. A value is held as float32 from the first step that
    gives it to the last that reads it itself or its ReLU (a real convolution, pooling, skip, shortcut or
    mean), and as 1 bit per sign from the first step that gives it to the last 1-bit layer that reads it. A
    sum of several edges is float32 until it is complete. Batch norm, ReLU, sign, shortcut and sum are
    done in passing and need no memory of their own; nor are weights or a layer's scratch memory counted.
    """
    writers: dict[str, list[int]] = {}
    real: dict[str, list[int]] = {}
    signs: dict[str, list[int]] = {}
    for index, step in enumerate(flow.steps):
        writers.setdefault(step.writes, []).append(index)
        for read in step.reads:
            (signs if read.form == "sign" else real).setdefault(read.value, []).append(index)
    sums = {step.writes for step in flow.steps if step.shares}
    held = []
    for value, num_elements in flow.num_elements.items():
        written = writers.get(value, [0])  # the image is there from the start
        if value in real or value in sums or value not in signs:
            last = max([*written, *real.get(value, [])])
            held.append(Held(value, BITS_PER_REAL * num_elements, written[0], last))
        if value in signs:
            first = written[-1] if value in sums else written[0]
            held.append(Held(value, BITS_PER_SIGN * num_elements, first, max(signs[value])))
    return held


def peak_memory(flow: Dataflow) -> Peak:
    """The step at which most is held: what it reads, what it writes, and what later steps still need."""
    held = held_values(flow)
    needs = [
        Peak(sum(item.bits for item in held if item.first <= index <= item.last), step.name)
        for index, step in enumerate(flow.steps)
    ]
    return max(needs, key=lambda need: need.bits)


def stored_bits_per_element(flow: Dataflow) -> dict[str, int]:
    """Of every value: 32 where it is held as float32, 1 where as signs, 33 where as both."""
    bits: dict[str, int] = dict.fromkeys(flow.num_elements, 0)
    for item in held_values(flow):
        bits[item.value] += item.bits // flow.num_elements[item.value]
    return bits
