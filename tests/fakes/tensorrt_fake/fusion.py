"""Which nodes an engine runs as one entry, and what an entry costs. Rules a person can follow with pencil and paper.

- Convolution or its transpose takes the activation behind it, a sum with an earlier tensor, and the activation behind that.
- Convolutions of equal kernel 1 that read the same tensor become one entry: ``a + relu_a || b + relu_b``.
- ``x * sigmoid(x)`` is ``PWN(PWN(sigmoid), mul)``; other lone activations and sums are ``PWN(name)``.
- Neighbouring matrix products, softmax and normalisations become one ``{ForeignNode[first...last]}`` (``__myl_...`` in 11).
- A convolution that reads a network input gets a reformat copy before it, one that writes a network output a copy behind it.
- Reshapes cost nothing and have no entry; what depends on constants alone is folded away.

An entry takes ``LAUNCH_MS + max(macs / MACS_PER_MS[type], bytes moved / BYTES_PER_MS)``, channels of convolutions rounded up
to ``STEP[type]``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["BYTES_PER_MS", "LAUNCH_MS", "MACS_PER_MS", "STEP", "Entry", "Shapes", "fuse", "shapes_of"]

LAUNCH_MS = 0.004
MACS_PER_MS = {"FP32": 1e9, "FP16": 4e9, "INT8": 8e9}
BYTES_PER_MS = 1e8
STEP = {"FP32": 8, "FP16": 8, "INT8": 32}

_CONV = ("Conv", "ConvTranspose")
_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Gelu")
_POINTWISE = (*_ACTIVATIONS, "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sqrt", "Exp", "Log", "Abs", "Neg", "Erf")
_MYELIN = ("MatMul", "Gemm", "Softmax", "LogSoftmax", "LayerNormalization", "GroupNormalization", "InstanceNormalization")
_FREE = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Constant")
_KIND = {
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"), "PoolingV2"),
    "Concat": "Concatenation", "Transpose": "Shuffle", "Gather": "Gather", "Slice": "Slice", "Split": "Slice",
    "Pad": "Slice", "Resize": "Resize", "Cast": "Reformat", "QuantizeLinear": "Scale", "DequantizeLinear": "Scale",
    "BatchNormalization": "Scale", "LRN": "LRN",
}  # fmt: skip
_BYTES: dict[int, int] = {
    int(TensorProto.FLOAT): 4, int(TensorProto.FLOAT16): 2, int(TensorProto.BFLOAT16): 2, int(TensorProto.INT8): 1,
    int(TensorProto.UINT8): 1, int(TensorProto.INT32): 4, int(TensorProto.INT64): 8, int(TensorProto.BOOL): 1,
}  # fmt: skip


@dataclass(frozen=True)
class Shapes:
    """Shape and ONNX element type of every tensor."""

    shape: Mapping[str, tuple[int, ...]]
    kind: Mapping[str, int]

    def size(self, name: str) -> int:
        """Bytes; 0 where unknown."""
        return prod(self.shape.get(name, (0,))) * _BYTES.get(self.kind.get(name, TensorProto.FLOAT), 4)


@dataclass
class Entry:
    """One kernel of the engine. ``layers`` are names of ONNX nodes, empty for a reformat copy."""

    name: str
    kind: str
    layers: list[str]
    ops: list[str]
    inputs: list[str]
    outputs: list[str]
    macs: int = 0
    bytes_moved: int = 0
    precision: str = "FP32"
    ms: float = 0.0
    alias: dict[str, str] = field(default_factory=dict)  # reformatted tensor -> the network's

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def shapes_of(model: onnx.ModelProto, inputs: Mapping[str, Sequence[int]]) -> Shapes:
    """Shapes of all tensors when the network's inputs have these."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        if value.name in inputs:
            for dim, size in zip(value.type.tensor_type.shape.dim, inputs[value.name], strict=True):
                dim.dim_value = size
    inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    shape: dict[str, tuple[int, ...]] = {}
    kind: dict[str, int] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        tensor = value.type.tensor_type
        shape[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
        kind[value.name] = tensor.elem_type
    for item in inferred.initializer:
        shape[item.name], kind[item.name] = tuple(item.dims), item.data_type
    return Shapes(shape, kind)


class _Fuser:
    def __init__(self, model: onnx.ModelProto, shapes: Shapes, newest: bool) -> None:
        self._graph, self._shapes, self._newest = model.graph, shapes, newest
        self._constant = {item.name for item in model.graph.initializer}
        self._inputs = {value.name for value in model.graph.input} - self._constant
        self._outputs = {value.name for value in model.graph.output}
        self._nodes = [node for node in model.graph.node if not self._folds(node)]
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self._maker: dict[str, onnx.NodeProto] = {}
        for node in self._nodes:
            for name in node.input:
                self._readers[name].append(node)
            for name in node.output:
                self._maker[name] = node
        self._place = {id(node): place for place, node in enumerate(self._nodes)}
        self._taken: set[int] = set()

    def _folds(self, node: onnx.NodeProto) -> bool:
        """Constants are computed while building."""
        if all(name in self._constant for name in node.input if name):
            self._constant.update(node.output)
            return True
        return False

    def entries(self) -> list[Entry]:
        # One after the other: a convolution takes what is behind it away from the rest.
        convolutions = (node for node in self._nodes if node.op_type in _CONV and id(node) not in self._taken)
        found = [self._convolution(node) for node in convolutions]
        for node in self._nodes:
            if id(node) in self._taken or node.op_type in _FREE:
                continue
            if node.op_type in _MYELIN:
                found.append(self._myelin(node))
            elif node.op_type in _POINTWISE:
                found.append(self._pointwise(node))
            else:
                found.append(self._single(node))
        ordered = [entry for _, entry in sorted(found, key=lambda item: item[0])]
        return [part for entry in ordered for part in self._with_copies(entry)]

    def _only_reader(self, name: str) -> onnx.NodeProto | None:
        readers = self._readers.get(name, [])
        free = len(readers) == 1 and name not in self._outputs and id(readers[0]) not in self._taken
        return readers[0] if free else None

    def _tail(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The convolution with what is behind it."""
        chain = [node]
        summed = False
        while (behind := self._only_reader(chain[-1].output[0])) is not None:
            before = chain[-1].op_type
            if behind.op_type in _ACTIVATIONS and before not in _ACTIVATIONS:
                chain.append(behind)
            elif behind.op_type == "Add" and not summed and before in _CONV and self._earlier(behind, chain[-1]):
                chain.append(behind)
                summed = True
            elif behind.op_type == "QuantizeLinear":
                chain.append(behind)
                break
            else:
                break
        return chain

    def _earlier(self, add: onnx.NodeProto, last: onnx.NodeProto) -> bool:
        """The other side of the sum is there when the convolution runs."""
        others = [name for name in add.input if name != last.output[0]]
        if len(others) != 1 or self._shapes.shape.get(others[0]) != self._shapes.shape.get(last.output[0]):
            return False
        maker = self._maker.get(others[0])
        return maker is None or self._place[id(maker)] < self._place[id(last)]

    def _scales(self, chain: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
        """DequantizeLinear nodes in front that serve this chain alone."""
        inside = {id(node) for node in chain}
        found = []
        for node in chain:
            for name in node.input:
                maker = self._maker.get(name)
                alone = maker is not None and all(id(reader) in inside for reader in self._readers[name])
                if maker is not None and alone and maker.op_type == "DequantizeLinear" and id(maker) not in self._taken:
                    found.append(maker)
        return found

    def _convolution(self, node: onnx.NodeProto) -> tuple[int, Entry]:
        chains = [self._tail(node)]
        if all(size == 1 for size in _attribute(node, "kernel_shape", self._shapes.shape.get(node.input[1], ())[2:])):
            twins = [other for other in self._readers[node.input[0]] if self._twin(node, other)]
            chains += [self._tail(other) for other in twins if not self._depends(chains[0], other)]
        scales = [scale for chain in chains for scale in self._scales(chain)]
        nodes = [*scales, *(part for chain in chains for part in chain)]
        self._taken.update(id(part) for part in nodes)
        name = " || ".join(" + ".join(part.name for part in chain) for chain in chains)
        entry = self._entry(name, "CaskConvolution", nodes, "INT8" if scales else None)
        return max(self._place[id(part)] for chain in chains for part in chain[:1]), entry

    def _twin(self, node: onnx.NodeProto, other: onnx.NodeProto) -> bool:
        if other is node or id(other) in self._taken or other.op_type != "Conv" or other.input[0] != node.input[0]:
            return False
        same = ("strides", "pads", "group")
        kernels = [self._shapes.shape.get(part.input[1], (0, 0))[1:] for part in (node, other)]
        return kernels[0] == kernels[1] and all(_attribute(node, key, 0) == _attribute(other, key, 0) for key in same)

    def _depends(self, chain: list[onnx.NodeProto], other: onnx.NodeProto) -> bool:
        """A sum in the chain may wait for the twin: then they cannot run as one."""
        return any(part.op_type == "Add" for part in chain) or len(self._readers[other.output[0]]) != 1

    def _myelin(self, node: onnx.NodeProto) -> tuple[int, Entry]:
        chain = [node]
        while (behind := self._only_reader(chain[-1].output[0])) is not None:
            if behind.op_type not in (*_MYELIN, *_POINTWISE, *_FREE, "Transpose"):
                break
            chain.append(behind)
        while chain[-1].op_type in _FREE:
            chain.pop()
        self._taken.update(id(part) for part in chain)
        real = [part for part in chain if part.op_type not in _FREE]
        place = self._place[id(node)]
        if self._newest:
            name, kind = f"__myl_{''.join(part.op_type[:4] for part in real)}_myl0_{place}", "kgen"
        elif len(real) > 1:
            name, kind = f"{{ForeignNode[{chain[0].name}...{chain[-1].name}]}}", "Myelin"
        else:
            name, kind = node.name, "MatrixMultiply" if node.op_type in ("MatMul", "Gemm") else "SoftMax"
        return place, self._entry(name, kind, chain)

    def _pointwise(self, node: onnx.NodeProto) -> tuple[int, Entry]:
        behind = self._only_reader(node.output[0])
        if node.op_type in ("Sigmoid", "HardSigmoid", "Tanh"):
            readers = [other for other in self._readers[node.output[0]] if other.op_type == "Mul"]
            behind = readers[0] if len(readers) == 1 else None
        nodes, name = [node], f"PWN({node.name})"
        if behind is not None and behind.op_type in _POINTWISE and self._ready(behind, node):
            nodes, name = [node, behind], f"PWN(PWN({node.name}), {behind.name})"
        self._taken.update(id(part) for part in nodes)
        return self._place[id(nodes[-1])], self._entry(name, "PointWiseV2", nodes)

    def _ready(self, behind: onnx.NodeProto, node: onnx.NodeProto) -> bool:
        if id(behind) in self._taken or len(self._readers[node.output[0]]) != 1:
            return False
        return all(
            self._place[id(self._maker[name])] <= self._place[id(node)] for name in behind.input if name in self._maker
        )

    def _single(self, node: onnx.NodeProto) -> tuple[int, Entry]:
        self._taken.add(id(node))
        return self._place[id(node)], self._entry(node.name, _KIND.get(node.op_type, "Reduce"), [node])

    def _entry(self, name: str, kind: str, nodes: list[onnx.NodeProto], precision: str | None = None) -> Entry:
        precision = precision or self._precision(nodes)
        made = {out for node in nodes for out in node.output}
        reads = [name_ for node in nodes for name_ in node.input if name_ and name_ not in made]
        inputs = list(dict.fromkeys(name_ for name_ in reads if name_ not in self._constant))
        inner = {name_ for node in nodes for name_ in node.input}
        outputs = [out for node in nodes for out in node.output if out not in inner or out in self._outputs]
        weights = [name_ for name_ in dict.fromkeys(reads) if name_ in self._constant]
        moved = sum(self._shapes.size(name_) for name_ in (*inputs, *weights, *outputs))
        return Entry(
            name=name,
            kind=kind,
            layers=[node.name for node in nodes],
            ops=[node.op_type for node in nodes],
            inputs=inputs,
            outputs=outputs,
            macs=sum(self._macs(node, STEP[precision]) for node in nodes),
            bytes_moved=moved,
            precision=precision,
        )

    def _precision(self, nodes: list[onnx.NodeProto]) -> str:
        kinds = {self._shapes.kind.get(name) for node in nodes for name in (*node.input, *node.output)}
        return "FP16" if TensorProto.FLOAT16 in kinds else "FP32"

    def _macs(self, node: onnx.NodeProto, step: int) -> int:
        shape = self._shapes.shape
        if node.op_type in _CONV:
            weight, output = shape.get(node.input[1], (1, 1)), shape.get(node.output[0], (1, 1))
            groups = _attribute(node, "group", 1)
            padded = [-(-size // step) * step if groups == 1 else size for size in weight[:2]]
            return prod(padded) * prod(weight[2:]) * prod(output[2:]) * output[0]
        if node.op_type in ("Gemm", "MatMul"):
            inner = shape.get(node.input[0], (1,))[-1]
            return int(prod(shape.get(node.output[0], (0,))) * inner)
        return 0

    def _with_copies(self, entry: Entry) -> list[Entry]:
        """Copies between the plain layout of network inputs and outputs and the kernel's own."""
        if entry.kind != "CaskConvolution":
            return [entry]
        before = [self._copy(entry, entry.inputs, number, "Input") for number in self._at(entry.inputs, self._inputs)]
        behind = [self._copy(entry, entry.outputs, number, "Output") for number in self._at(entry.outputs, self._outputs)]
        return [*before, entry, *behind]

    def _at(self, names: list[str], outer: set[str]) -> list[int]:
        return [number for number, name in enumerate(names) if name in outer]

    def _copy(self, entry: Entry, names: list[str], number: int, word: str) -> Entry:
        """The copy of one tensor; the kernel then reads or writes the reformatted one."""
        outer = names[number]
        inner = names[number] = f"Reformatted {word} Tensor {number} to {entry.name}"
        entry.alias[inner] = outer
        ends = ([outer], [inner]) if word == "Input" else ([inner], [outer])
        return Entry(
            name=f"Reformatting CopyNode for {word} Tensor {number} to {entry.name}",
            kind="Reformat",
            layers=[],
            ops=[],
            inputs=ends[0],
            outputs=ends[1],
            bytes_moved=2 * self._shapes.size(outer),
            precision=entry.precision,
            alias={inner: outer},
        )


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((item for item in node.attribute if item.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)


def fuse(model: onnx.ModelProto, shapes: Shapes, *, newest: bool) -> list[Entry]:
    """The entries of an engine in the order they run, each with its time."""
    entries = _Fuser(model, shapes, newest).entries()
    for entry in entries:
        entry.ms = LAUNCH_MS + max(entry.macs / MACS_PER_MS[entry.precision], entry.bytes_moved / BYTES_PER_MS)
    return entries
