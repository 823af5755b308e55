"""What a model asks of the fake device, read from its ONNX alone: layers by fusing, their arithmetic and bytes by shapes."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

import onnx

from netadapt_trt.errors import BackendError

from ..fusion import ACTIVATIONS, FREE, STARTS
from .cost import Kind, Work, padded

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["model_work"]

_GATES = frozenset({"Sigmoid", "HardSigmoid"})
_CONTROL_FLOW = frozenset({"Loop", "If", "Scan"})
_SMALL = 64  # elements; larger initialisers are weights, whose values no shape depends on

Shapes = dict[str, tuple[int, ...]]
Layer = list[onnx.NodeProto]


def model_work(model: onnx.ModelProto, *, bytes_per_element: int = 4) -> list[Work]:
    """The work of every layer in order of execution. Shapes must be static.

    Raises BackendError for an unknown operator, control flow or a tensor whose size is unknown, onnx's own errors for an
    invalid model.
    """
    if not model.graph.output:
        raise BackendError("the fake device refuses the model: it has no output")
    for node in model.graph.node:
        if node.op_type in _CONTROL_FLOW or (node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type)):
            raise BackendError(f"the fake device refuses the model: it has no {node.op_type} (node {node.name!r})")
    graph = onnx.shape_inference.infer_shapes(_without_weights(model), strict_mode=True, data_prop=True).graph
    shapes: Shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            shapes.setdefault(value.name, tuple(size.dim_value for size in value.type.tensor_type.shape.dim))
    return [_work(layer, shapes, bytes_per_element) for layer in _fuse(graph)]


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with large initialisers declared as inputs: inferring shapes copies the model more than once."""
    graph = onnx.GraphProto(name=model.graph.name)
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    declared = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        elif tensor.name not in declared:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    light = onnx.ModelProto(ir_version=model.ir_version, graph=graph)
    light.opset_import.extend(model.opset_import)
    return light


class _Fusing:
    """Groups nodes as ``fusion.partition`` groups the ops of a plan: an anchor takes in what follows it alone."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.layers: list[Layer] = []
        self._owner: dict[str, Layer] = {}
        self._age: dict[int, int] = {}  # by identity: comparing layers would compare their nodes
        self._readers: dict[str, Layer] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._readers[name].append(node)
        self._outputs = {value.name for value in graph.output}

    def take(self, node: onnx.NodeProto) -> None:
        """Put the node into the layer it is fused with, or open one for it."""
        layer = self._host(node)
        if layer is None:
            layer = []
            self._age[id(layer)] = len(self.layers)
            self.layers.append(layer)
        layer.append(node)
        for name in node.output:
            self._owner[name] = layer

    def _host(self, node: onnx.NodeProto) -> Layer | None:
        if node.op_type in ACTIVATIONS:
            layer = self._anchored(node.input[0])
            return layer if layer is not None and self._alone(node.input[0], node) else None
        if node.op_type == "Mul":
            return self._gated(node)
        return self._summed(node) if node.op_type == "Add" else None

    def _anchored(self, name: str) -> Layer | None:
        """The layer of an anchor that ends in this value."""
        layer = self._owner.get(name)
        return layer if layer and layer[0].op_type in STARTS and name in layer[-1].output else None

    def _alone(self, name: str, node: onnx.NodeProto) -> bool:
        """Whether only this node reads the value; a gate shares it with the product it is made for."""
        others = [reader for reader in self._readers[name] if reader is not node]
        gated = node.op_type in _GATES and all(
            reader.op_type == "Mul" and node.output[0] in reader.input for reader in others
        )
        return name not in self._outputs and (not others or gated)

    def _gated(self, product: onnx.NodeProto) -> Layer | None:
        """The layer that ends in the gate of x * gate(x), with or without an anchor before it."""
        for gate, other in (product.input, reversed(product.input)):
            layer = self._owner.get(gate)
            if layer and layer[-1].op_type in _GATES and layer[-1].input[0] == other and self._alone(gate, product):
                return layer
        return None

    def _summed(self, addition: onnx.NodeProto) -> Layer | None:
        """The anchor that adds in place: the later of the two sides, so that the other is ready by then."""
        makers = [self._owner[name] for name in addition.input if name in self._owner]
        last = max(makers, key=lambda layer: self._age[id(layer)], default=None)
        if last is None or len(last) > 1 or last[0].op_type not in STARTS:
            return None
        return last if self._alone(last[0].output[0], addition) else None


def _fuse(graph: onnx.GraphProto) -> list[Layer]:
    fusing = _Fusing(graph)
    for node in graph.node:
        if node.op_type not in FREE and node.op_type != "Constant":
            fusing.take(node)
    return fusing.layers


def _work(layer: Layer, shapes: Shapes, bytes_per_element: int) -> Work:
    inside = {name for node in layer for name in node.output}
    read = {name for node in layer for name in node.input if name} - inside
    moved = sum(_elements(name, shapes) for name in (*sorted(read), *layer[-1].output))
    kind, macs = _arithmetic(layer[0], shapes)
    return Work(kind=kind, macs=macs, bytes_moved=moved * bytes_per_element)


def _arithmetic(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Kind, int]:
    if node.op_type == "Conv":
        return _convolution(node, shapes)
    if node.op_type in ("Gemm", "MatMul"):
        *outer, features = shapes[node.output[0]]
        flipped = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        taken = shapes[node.input[0]][0 if flipped else -1]
        return "dense", math.prod(outer) * padded(features, "dense") * padded(taken, "dense")
    # Everything else touches each element of its largest operand once (pooling, sums, activations, concatenation).
    return "other", max(_elements(name, shapes) for name in (*node.input, node.output[0]) if name)


def _convolution(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Kind, int]:
    batch, channels, *spatial = shapes[node.output[0]]
    per_filter, *kernel = shapes[node.input[1]][1:]
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    positions = batch * math.prod(spatial) * math.prod(kernel)
    if groups > 1 and per_filter == 1:
        return "depthwise", positions * padded(channels, "depthwise")
    return "dense", positions * groups * padded(channels // groups, "dense") * padded(per_filter, "dense")


def _elements(name: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    shape = shapes.get(name)
    if shape is None or not all(size > 0 for size in shape):
        raise BackendError(f"the fake device cannot tell the size of {name!r} ({shape}); use a model with fixed sizes")
    return math.prod(shape)
