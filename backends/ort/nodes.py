"""Which of a plan's ops each node of ONNX Runtime's optimised graph computes, read off the names that survive optimising.

The optimiser keeps the names of most tensors, names a blocked kernel after the tensor it stands for (``relu_5_nchwc``) and a
fused one after an op (``fused 15_Gemm``, ``9_Mul/QuickGeluFusion/``, ``3_Conv_token_5``). Tensors say which layer it is; ops
whose tensors were swallowed on the way to one are found by walking the plan back from there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..attribution import Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from netadapt_trt.plan.schema import Layer, Plan

__all__ = ["entries_of"]

# What only brings a tensor into another layout, type or shape. Those that are a plan's op are told by their output.
_MOVES = frozenset(
    {
        "ReorderInput", "ReorderOutput", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "Transpose",
        "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "MemcpyFromHost", "MemcpyToHost",
    }
)  # fmt: skip
# Our own quantiser's names for the forms of one tensor; underscores keep them apart from names that were taken.
_FORM = re.compile(r"(.+?)_(?:quantized|dequantized|float)_*$")
_BLOCKED = re.compile(r"(.+)_nchwc(?:_token_\d+)?$")
_DECORATION = re.compile(r"^fused |(?:_token_\d+|_nchwc|_nhwc|_quant|/\w+/?)+$")


def entries_of(graph: onnx.GraphProto, plan: Plan, layers: Sequence[Layer]) -> list[Entry]:
    """An entry for each node of the optimised ``graph`` of a network that was written from ``plan``, in the order they run.

    A node without a tensor of its own (a reorder, a conversion) counts as the op before it; at the graph's input, where
    there is none, it is a copy.
    """
    return _Reading(graph, plan, layers).entries()


class _Reading:
    def __init__(self, graph: onnx.GraphProto, plan: Plan, layers: Sequence[Layer]) -> None:
        self._plan = plan
        self._ops = {op.name: op for op in plan.ops}
        self._made_by = {tensor: op.name for op in plan.ops for tensor in op.outputs}
        self._plan_readers: dict[str, list[str]] = {}
        for op in plan.ops:
            for name in op.inputs:
                self._plan_readers.setdefault(name, []).append(op.name)
        self._owner = {name: index for index, layer in enumerate(layers) for name in layer.ops}
        self._nodes = list(graph.node)
        self._constant = {tensor.name for tensor in graph.initializer} | {""}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self._nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._last: dict[str, str] = {}  # value -> the op that it is a result of
        self._claimed: set[int] = set()  # layers that a node has computed already

    def entries(self) -> list[Entry]:
        return [self._entry(node) for node in self._nodes]

    def _entry(self, node: onnx.NodeProto) -> Entry:
        inputs = tuple(name for name in node.input if name not in self._constant)
        op = self._anchor(node)
        covered: tuple[str, ...] = ()
        if op is not None:
            covered = self._covered(op, self._behind(node, op))
        elif node.op_type in _MOVES:
            op = next((self._last[name] for name in inputs if name in self._last), None)
            covered = self._nearest(op)
        if op is not None:
            self._last.update(dict.fromkeys(node.output, op))
        return Entry(
            name=node.name,
            kind=node.op_type,
            nodes=covered,
            inputs=inputs,
            outputs=tuple(node.output),
            copies=not covered and node.op_type in _MOVES,
        )

    def _anchor(self, node: onnx.NodeProto) -> str | None:
        """The op whose result the node makes, by the tensor it stands for."""
        for name in node.output:
            if (tensor := self._tensor(name)) is not None:
                return self._made_by.get(tensor)
        if node.op_type in _MOVES:
            return None
        blocked = _BLOCKED.match(node.name)
        if blocked:
            # A batch norm of its own becomes a depthwise convolution, and says so.
            for tensor in (blocked[1], blocked[1].removesuffix("_bn")):
                if tensor in self._made_by:
                    return self._made_by[tensor]
        named = _DECORATION.sub("", node.name)
        for name in (node.name, named, _DECORATION.sub("", named)):
            if name in self._ops:
                return name
        return self._ahead(node)

    def _behind(self, node: onnx.NodeProto, op: str) -> list[str]:
        """The sum and the activation that a blocked kernel took in after it had been named for ``op``."""
        if any(self._tensor(name) for name in node.output):
            return []
        kinds = [item.s.decode() for item in node.attribute if item.name == "activation"]
        if node.op_type == "Conv" and len(node.input) == 4:
            kinds.insert(0, "Add")
        found: list[str] = []
        for kind in kinds:
            readers = self._plan_readers.get(self._ops[op].outputs[0], [])
            if len(readers) != 1 or self._ops[readers[0]].op_type != kind:
                break
            op = readers[0]
            found.append(op)
        return found

    def _tensor(self, name: str) -> str | None:
        if name in self._plan.tensors:
            return name
        form = _FORM.match(name)
        return form[1] if form and form[1] in self._plan.tensors else None

    def _ahead(self, node: onnx.NodeProto) -> str | None:
        """The op whose result the node's output becomes by nothing but moves."""
        values = list(node.output)
        for value in values:
            for reader in self._readers.get(value, ()):
                if reader.op_type not in _MOVES:
                    continue
                for name in reader.output:
                    if (tensor := self._tensor(name)) is not None:
                        return self._made_by.get(tensor)
                    values.append(name)
        return None

    def _covered(self, anchor: str, behind: Sequence[str]) -> tuple[str, ...]:
        """``anchor``, and of what stands before it and ``behind`` the ops that no earlier node has computed.

        A layer that a node has computed already keeps its ops: where the sum of a residual block is one layer with the
        other convolution, it is a trifle beside both.
        """
        if anchor not in self._owner:
            return self._nearest(anchor)
        found: dict[str, None] = {}
        waiting = [*behind, anchor]
        while waiting:
            name = waiting.pop()
            if name in found or (name != anchor and self._owner.get(name) in self._claimed):
                continue
            found[name] = None
            waiting.extend(self._made_by[tensor] for tensor in self._ops[name].inputs if tensor in self._made_by)
        owned = tuple(name for name in found if name in self._owner)
        self._claimed.update(self._owner[name] for name in owned)
        return owned

    def _nearest(self, op: str | None) -> tuple[str, ...]:
        """The op itself, or for one that belongs to no layer the nearest before it that does."""
        while op is not None and op not in self._owner:
            op = next((self._made_by[tensor] for tensor in self._ops[op].inputs if tensor in self._made_by), None)
        return () if op is None else (op,)
