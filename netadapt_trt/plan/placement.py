"""Where a quantisation recipe puts QuantizeLinear and DequantizeLinear, and which ranges it needs for that.

``qdq-ort-x86``: ONNX Runtime replaces an operator by its 8-bit kernel only where every operand comes out of a
DequantizeLinear and the result goes into a QuantizeLinear, so all edges of all operators that have a kernel are quantised.

``qdq-trt``: TensorRT moves Q and DQ through operators that commute with them (pooling by maximum, concatenation, reshapes)
and fuses a convolution with what follows up to the next Q. It wants them before convolutions, Gemm and average pooling, and
on the side of a residual sum that is *not* the convolution it fuses the sum with; nowhere on a result.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

from onnx import TensorProto, helper, numpy_helper

from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import numpy as np
    import onnx

__all__ = ["RECIPES", "GraphView", "Placement", "Recipe", "layer_name", "place", "require_unquantised"]

Recipe = Literal["qdq-trt", "qdq-ort-x86"]
RECIPES: tuple[Recipe, ...] = ("qdq-trt", "qdq-ort-x86")

_QUANTISED_OPS = frozenset({
    "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul",
    "QuantizeLinear",
})  # fmt: skip
# Operators whose 8-bit kernel takes all operands quantised (those of weights are judged by their weight).
_ORT_KERNELS = frozenset({"AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "Sigmoid"})
_SUMS = frozenset({"Add", "Mul"})
_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
_POOLS = frozenset({"AveragePool", "GlobalAveragePool"})
# They only move or choose values: 8-bit in, the same 8-bit out, one scale on both sides.
_CARRYING = frozenset({
    "Dropout", "Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
})  # fmt: skip
_DEFAULT_REACH = 4.0  # random weights are scaled so that activations stay near 1
_UNIT_RANGES = {"Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0)}


def require_unquantised(model: onnx.ModelProto, wanted: str) -> None:
    """Raise SpecError when ``model`` holds quantised operators already."""
    for node in model.graph.node:
        if node.op_type in _QUANTISED_OPS or (node.domain == "com.microsoft" and node.op_type.startswith("QLinear")):
            raise SpecError(
                f"the model is quantised already ({node.op_type} {node.name or node.output[0]}) and cannot be {wanted}; "
                "start from the fp32 model"
            )


class GraphView:
    """Who makes and who reads each tensor of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self.order: dict[str, int] = {}
        for index, node in enumerate(graph.node):
            for name in node.input:
                self.readers[name].append(node)
            self.order.update(dict.fromkeys(node.output, index))
        self.inputs = [value.name for value in graph.input if _is_float(value) and value.name not in self.weights]
        self.outputs = [value.name for value in graph.output if _is_float(value)]
        self._all_outputs = {value.name for value in graph.output}

    def constant(self, name: str) -> bool:
        """Whether the tensor is a weight or a constant of the graph, not an activation."""
        maker = self.makers.get(name)
        return name in self.weights or (maker is not None and maker.op_type == "Constant")

    def value(self, name: str) -> np.ndarray | None:
        """A constant's values, None for an activation."""
        if name in self.weights:
            return numpy_helper.to_array(self.weights[name])
        maker = self.makers.get(name)
        if maker is None or maker.op_type != "Constant":
            return None
        attribute = next(iter(maker.attribute), None)
        return numpy_helper.to_array(attribute.t) if attribute is not None and attribute.HasField("t") else None

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The one operator that reads the tensor, None when there are several or the graph returns it."""
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and name not in self._all_outputs else None

    def quantisable_weight(self, node: onnx.NodeProto) -> bool:
        """Whether a Conv, Gemm or MatMul has weights (and bias) of its own, in a form that 8-bit kernels know."""
        weight = self.weights.get(node.input[1])
        bias = node.input[2] if len(node.input) > 2 else ""
        if weight is None or weight.data_type != TensorProto.FLOAT or (bias and bias not in self.weights):
            return False
        if node.op_type == "Gemm":
            plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
            return all(attribute(node, key, value) == value for key, value in plain.items()) and (
                not bias or len(self.weights[bias].dims) == 1
            )
        return node.op_type == "Conv" or len(weight.dims) == 2

    def absorber(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The Relu or Clip from zero that alone reads the node's result: a range from zero on does its work."""
        reader = self.only_reader(node.output[0])
        if reader is None or reader.op_type not in ("Relu", "Clip"):
            return None
        bounds = self.bounds(reader)
        return reader if bounds is not None and bounds[0] == 0.0 and bounds[1] > 0 else None

    def bounds(self, node: onnx.NodeProto) -> tuple[float, float] | None:
        """(lowest, highest) result of a Relu or of a Clip with constant bounds."""
        if node.op_type == "Relu":
            return 0.0, float("inf")
        if node.op_type != "Clip":
            return None
        found = []
        for at, open_end in ((1, float("-inf")), (2, float("inf"))):
            name = node.input[at] if at < len(node.input) else ""
            value = self.value(name) if name else None
            if name and value is None:
                return None
            found.append(open_end if value is None else float(value.reshape(-1)[0]))
        return found[0], found[1]


def attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    """A number that is an attribute of ``node``."""
    found = next((entry for entry in node.attribute if entry.name == name), None)
    return default if found is None else float(helper.get_attribute_value(found))


def layer_name(node: onnx.NodeProto) -> str:
    """The layer that a Conv, Gemm or MatMul came from, after its weight: ``stem.conv`` of ``stem.conv.weight``."""
    return str(node.input[1]).removesuffix(".weight")


@dataclass(frozen=True, slots=True)
class Placement:
    """``tensors``: quantised tensor -> the one whose range it has (itself, or what a moving operator moved).

    ``weighted``: names of the first results of the operators whose weights are quantised.
    """

    tensors: dict[str, str]
    weighted: frozenset[str]


def place(view: GraphView, recipe: Recipe, *, edges: bool, keep: Collection[str] = ()) -> Placement:
    """Which tensors and weights are quantised; with ``edges`` also what enters and leaves the graph, as inside a network.

    Layers in ``keep`` stay in float. Raises SpecError for a name that no quantised layer has.
    """
    weighted = [node for node in view.graph.node if node.op_type in _WEIGHTED and view.quantisable_weight(node)]
    names = [layer_name(node) for node in weighted]
    unknown = sorted(set(keep) - set(names))
    if unknown:
        near = get_close_matches(unknown[0], names, n=3, cutoff=0.0)
        raise SpecError(f"no layer {unknown[0]!r} would be quantised; there are {len(names)}, such as {', '.join(near)}")
    weighted = [node for node, name in zip(weighted, names, strict=True) if name not in keep]
    tensors = _for_ort(view, weighted) if recipe == "qdq-ort-x86" else _for_trt(view, weighted)
    # A classifier's result: 8-bit kernels of Gemm hand out floats at no cost, and logits deserve them.
    logits = {name for node in weighted if node.op_type != "Conv" for name in node.output if name in view.outputs}
    if edges:
        tensors.update(view.inputs, view.outputs)
    tensors = {name for name in tensors if name not in logits and not view.constant(name)}
    if recipe == "qdq-ort-x86" or edges:
        _carry(view, tensors, leave=logits if edges else {*view.outputs})
    return Placement(
        {name: _root(view, name, tensors) for name in sorted(tensors, key=lambda name: (view.order.get(name, -1), name))},
        frozenset(node.output[0] for node in weighted),
    )


def _for_ort(view: GraphView, weighted: Iterable[onnx.NodeProto]) -> set[str]:
    kernels = list(weighted)
    for node in view.graph.node:
        operands = [name for name in node.input if name]
        variable = not any(view.constant(name) for name in operands)
        if variable and (node.op_type in _ORT_KERNELS or (node.op_type in _SUMS and len(operands) == 2)):
            kernels.append(node)
    tensors: set[str] = set()
    for node in kernels:
        tensors.update(node.input[:1] if node.op_type in _WEIGHTED else node.input)
        last = view.absorber(node) or node
        tensors.add(last.output[0])
    return tensors


def _for_trt(view: GraphView, weighted: Iterable[onnx.NodeProto]) -> set[str]:
    tensors = {node.input[0] for node in weighted}
    for node in view.graph.node:
        if node.op_type in _POOLS:
            tensors.add(node.input[0])
        if node.op_type == "Add" and not any(view.constant(name) for name in node.input):
            fused = _fused_side(view, node)
            tensors.update(name for name in node.input if name != fused)
    return tensors


def _fused_side(view: GraphView, addition: onnx.NodeProto) -> str | None:
    """The operand that a convolution makes for this sum alone; of two the later, since the other is ready by then."""
    candidates = [
        name
        for name in addition.input
        if name in view.makers and view.makers[name].op_type in _WEIGHTED and view.only_reader(name) is addition
    ]
    return max(candidates, key=lambda name: view.order[name], default=None)


def _carried(node: onnx.NodeProto) -> bool:
    return node.op_type in _CARRYING and (node.op_type == "Split" or sum(map(bool, node.output)) == 1)


def _carry(view: GraphView, tensors: set[str], leave: set[str]) -> None:
    """Quantise both sides of an operator that moves values where one side is: it then runs in 8 bits."""
    moving = [node for node in view.graph.node if _carried(node) and not view.constant(node.input[0])]
    for node in moving:
        if node.input[0] in tensors:
            tensors.update(name for name in node.output if name and name not in leave)
    for node in reversed(moving):
        if any(name in tensors for name in node.output):
            tensors.add(node.input[0])


def _root(view: GraphView, name: str, tensors: set[str]) -> str:
    while (maker := view.makers.get(name)) is not None and _carried(maker) and maker.input[0] in tensors:
        name = maker.input[0]
    return name


def default_range(view: GraphView, name: str) -> tuple[float, float]:
    """A range that fits what makes the tensor, for models that are only timed: 8-bit kernels take the same time for any."""
    maker = view.makers.get(name)
    if maker is None:
        return -_DEFAULT_REACH, _DEFAULT_REACH
    if maker.op_type in _UNIT_RANGES:
        return _UNIT_RANGES[maker.op_type]
    bounds = view.bounds(maker)
    if bounds is not None and bounds[0] < bounds[1]:
        return max(bounds[0], -_DEFAULT_REACH), min(bounds[1], _DEFAULT_REACH)
    return -_DEFAULT_REACH, _DEFAULT_REACH


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT)
