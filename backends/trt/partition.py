"""What TensorRT runs as one, as far as it can be told from the graph alone.

From NVIDIA's list of fusions (TensorRT developer guide, "Types of Fusions") and from engines' layer information: a
convolution or matrix product takes a residual sum and the activation behind it, also x * sigmoid(x); neighbouring
element-wise operations become one kernel (its names read ``PWN(PWN(a), b)``), a batch norm that could not be folded among
them. Reshapes cost nothing; nor does a concatenation of tensors that nobody else reads, since their kernels write
straight into the joined one. What it merges beyond that (sibling convolutions of one input, Myelin regions) is found in the
engine, not here: see ``inspect``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netadapt_trt.errors import TraceError
from netadapt_trt.plan.fragment import make_layer
from netadapt_trt.plan.partition import fused_layers

if TYPE_CHECKING:
    from netadapt_trt.plan.schema import Layer, Op, Plan

__all__ = ["partition"]

_ANCHORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_ACTIVATIONS = frozenset({
    "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Relu", "Selu", "Sigmoid", "Softplus", "Tanh",
})  # fmt: skip
_POINTWISE = _ACTIVATIONS | {
    "Abs", "Add", "BatchNormalization", "Div", "Erf", "Exp", "Log", "Max", "Min", "Mul", "Neg", "PRelu", "Pow", "Sqrt",
    "Sub",
}  # fmt: skip
_FREE = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


def partition(plan: Plan) -> list[Layer]:
    """The layers of a plan as TensorRT executes them. Pure: needs no TensorRT, no device."""
    layers = fused_layers(plan, starts=_ANCHORS, activations=_ACTIVATIONS, add=True, free=_FREE)
    return _Joiner(plan, layers).joined()


class _Joiner:
    """Joins layers of element-wise operations that follow one another, and drops concatenations that move nothing."""

    def __init__(self, plan: Plan, layers: list[Layer]) -> None:
        self._plan = plan
        self._ops = {op.name: op for op in plan.ops}
        self._layers = layers
        self._index = {name: index for index, layer in enumerate(layers) for name in layer.ops}
        self._makers = {name: op for op in plan.ops for name in op.outputs}
        self._readers: dict[str, list[Op]] = {}
        for op in plan.ops:
            for name in op.inputs:
                self._readers.setdefault(name, []).append(op)

    def joined(self) -> list[Layer]:
        chains: list[list[str]] = []
        chain_of: dict[int, list[str]] = {}
        for index, layer in enumerate(self._layers):
            if self._moves_nothing(layer):
                continue
            before = self._chain_before(index) if self._pointwise(layer) else None
            if before is not None and before in chain_of:
                chain = chain_of[before]
                chain.extend(layer.ops)
            else:
                chain = list(layer.ops)
                chains.append(chain)
            chain_of[index] = chain
        known = {layer.ops: layer for layer in self._layers}
        found = [made for chain in chains for made in self._made(chain, known)]
        order = {op.name: place for place, op in enumerate(self._plan.ops)}
        return sorted(found, key=lambda layer: order[layer.ops[0]])

    def _made(self, chain: list[str], known: dict[tuple[str, ...], Layer]) -> list[Layer]:
        if tuple(chain) in known:
            return [known[tuple(chain)]]
        try:
            return [make_layer(self._plan, chain)]
        except TraceError:
            # Its sizes cannot be followed as one: each on its own is slower by a launch, but right.
            return [self._layers[index] for index in dict.fromkeys(self._index[name] for name in chain)]

    def _pointwise(self, layer: Layer) -> bool:
        return all(self._ops[name].op_type in _POINTWISE for name in layer.ops)

    def _chain_before(self, index: int) -> int | None:
        """The element-wise layer whose result this one alone reads. Its own other operands are then ready in time."""
        for name in self._operands(self._layers[index]):
            maker = self._makers.get(name)
            before = None if maker is None else self._index.get(maker.name)
            if before is None or before >= index or not self._pointwise(self._layers[before]):
                continue
            outside = [op for op in self._readers[name] if self._index.get(op.name) != index]
            if not outside and name not in self._plan.outputs:
                return before
        return None

    def _operands(self, layer: Layer) -> list[str]:
        made = {name for op in layer.ops for name in self._ops[op].outputs}
        return [name for op in layer.ops for name in self._ops[op].inputs if name in self._plan.tensors and name not in made]

    def _moves_nothing(self, layer: Layer) -> bool:
        op = self._ops[layer.ops[0]]
        if op.op_type != "Concat" or op.attributes.get("axis") != 1:
            return False
        return all(
            name in self._makers
            and self._makers[name].name in self._index
            and self._makers[name].op_type != "Concat"
            and len(self._readers[name]) == 1
            and name not in self._plan.outputs
            for name in op.inputs
        )
