"""Cuts some ops out of a plan and names them canonically, so that equal work has one LUT row in every network.

A fragment is itself a small plan whose channel groups are its *axes*: every channel size it leaves open. Axes are made from
the fragment's own structure alone (an element-wise operator ties its operands, a depthwise convolution its input and output,
a concatenation adds up), never from what happens to be tied in the network around it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from netadapt_trt.errors import TraceError
from netadapt_trt.plan.axes import Axes, divided, proportion, scaled, total
from netadapt_trt.plan.key import layer_key, letters, told_attributes
from netadapt_trt.plan.schema import Constant, Dim, Group, Layer, Op, Plan, Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.plan.schema import Attribute

__all__ = ["fragment_of", "make_layer"]

# Operands are aligned at their last dimension, a size of one is repeated.
_ELEMENTWISE = frozenset({
    "Add", "And", "Div", "Equal", "Greater", "Less", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum",
    "Where", "Xor",
})  # fmt: skip
# The result has the channels of the first input, however many those are, and no attribute counts them.
_PASSING = frozenset({
    "Abs", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor",
    "Gelu", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN",
    "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "LpPool", "MaxPool", "Mish", "Neg", "Not", "Reciprocal", "Relu",
    "Round", "Selu", "Sigmoid", "Sign", "Softmax", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh", "ThresholdedRelu",
})  # fmt: skip
_CACHED_FRAGMENTS = 4096

_CACHE: dict[tuple[int, tuple[str, ...]], tuple[Plan, Plan, tuple[Dim, ...], str]] = {}


def make_layer(plan: Plan, op_names: Sequence[str]) -> Layer:
    """The layer that ``op_names`` form (in execution order). Raises TraceError when its sizes cannot be expressed."""
    names = tuple(op_names)
    _, _, axes, key = _cut(plan, names)
    return Layer(key, axes, names)


def fragment_of(plan: Plan, op_names: Sequence[str]) -> tuple[Plan, tuple[Dim, ...]]:
    """The ops as a plan of their own with canonical names, its groups being the axes; and the axes in ``plan``'s groups."""
    _, fragment, axes, _ = _cut(plan, tuple(op_names))
    return fragment, axes


def _cut(plan: Plan, names: tuple[str, ...]) -> tuple[Plan, Plan, tuple[Dim, ...], str]:
    key = (id(plan), names)
    found = _CACHE.get(key)
    if found is None or found[0] is not plan:  # ids are reused after a plan is gone
        if len(_CACHE) >= _CACHED_FRAGMENTS:
            _CACHE.clear()
        local = _LocalSizes(plan, names)
        fragment, axes = _canonical(local)
        found = (plan, fragment, axes, layer_key(fragment))
        _CACHE[key] = found
    return found


class _LocalSizes:
    """The fragment's sizes in axes of its own, inferred op by op."""

    def __init__(self, plan: Plan, names: tuple[str, ...]) -> None:
        wanted = set(names)
        self.plan = plan
        self.ops = [op for op in plan.ops if op.name in wanted]
        if not wanted or len(self.ops) != len(wanted):
            raise TraceError(f"the plan has not all of the ops {', '.join(names) or '(none)'}")
        self.axes = Axes()
        self.shapes: dict[str, tuple[Dim, ...]] = {}
        self.attributes: dict[str, dict[str, Attribute]] = {}
        made = {name for op in self.ops for name in op.outputs}
        self.inputs = list(
            dict.fromkeys(name for op in self.ops for name in op.inputs if name in plan.tensors and name not in made)
        )
        read_outside = {name for op in plan.ops if op.name not in wanted for name in op.inputs} | set(plan.outputs)
        self.outputs = [name for op in self.ops for name in op.outputs if name in read_outside]
        for name in self.inputs:
            self.shapes[name] = self._opened(name)
        for op in self.ops:
            self._infer(op)

    def _opened(self, name: str) -> tuple[Dim, ...]:
        """A tensor from outside: its channels and all that follows a group become axes, the rest stays as it is."""
        shape = self.plan.tensors[name].shape
        channels = {1, _row_of_channels(self.plan, name)}
        return tuple(
            self.axes.new(size) if index in channels or not size.fixed else size for index, size in enumerate(shape)
        )

    def _infer(self, op: Op) -> None:
        self.attributes[op.name] = dict(op.attributes)
        data = [name for name in op.inputs if name in self.shapes and name in self.plan.tensors]
        weight = op.inputs[1] if len(op.inputs) > 1 and op.inputs[1] in self.plan.weights else ""
        result = self.plan.tensors[op.outputs[0]].shape
        if op.op_type == "Conv" and weight:
            shape = self._conv(op, self.shapes[data[0]], result)
        elif op.op_type == "Gemm" and weight and len(result) == 2:
            shape = self._linear(op, self.shapes[data[0]], result, bool(op.attributes.get("transB", 0)))
        elif op.op_type == "MatMul" and weight and len(self.plan.weights[weight].shape) == 2:
            shape = self._linear(op, self.shapes[data[0]], result, transposed=False)
        elif op.op_type in _ELEMENTWISE:
            shape = self._aligned(op, data, result)
        elif op.op_type == "Concat":
            shape = self._joined(op, data)
        elif op.op_type == "Pad" and (added := self._padding(op, len(result))) is not None:
            shape = tuple(total([size, Dim(more)]) for size, more in zip(self.shapes[data[0]], added, strict=True))
        elif op.op_type == "Transpose":
            order = op.attributes.get("perm")
            first = self.shapes[data[0]]
            shape = tuple(first[int(axis)] for axis in order) if isinstance(order, tuple) else first[::-1]
        elif op.op_type == "Reshape" and (rest := self._rest(op)) is not None:
            shape = rest
        else:
            shape = self._passed(op, data, result)
        self._check(op, shape, result)
        self.shapes[op.outputs[0]] = shape
        for name in op.outputs[1:]:
            if name:
                self.shapes[name] = self._derived(op, data, self.plan.tensors[name].shape)

    def _check(self, op: Op, shape: tuple[Dim, ...], result: tuple[Dim, ...]) -> None:
        """What was inferred here must be what the network has, at any widths."""
        if tuple(self._in_network(size) for size in shape) != result:
            raise TraceError(f"the sizes of {op.name} cannot be followed; it cannot be a layer")

    def _in_network(self, size: Dim) -> Dim:
        return total([Dim(size.const), *(scaled(self.axes.sizes[axis], factor) for axis, factor in size.terms)])

    def _weight(self, op: Op, index: int, *shape: Dim) -> None:
        """Input ``index``, where there is one and it is a weight, has ``shape``."""
        name = op.inputs[index] if index < len(op.inputs) else ""
        if name not in self.plan.weights:
            return
        for mine, known in zip(shape, self.shapes.get(name, ()), strict=False):
            self.axes.unify(mine, known, f"the shared weight of {op.name}")
        self.shapes[name] = shape

    def _conv(self, op: Op, first: tuple[Dim, ...], result: tuple[Dim, ...]) -> tuple[Dim, ...]:
        weight = self.plan.weights[op.inputs[1]]
        kernel = weight.shape[2:]
        channels = self.plan.tensors[op.inputs[0]].shape[1]
        if op.attributes.get("group", 1) == 1:
            made = self.axes.new(result[1])
            self._weight(op, 1, made, first[1], *kernel)
        elif weight.shape[1] == Dim(1) and (multiplier := _multiplier(result[1], channels)):
            made = scaled(first[1], multiplier)
            self.attributes[op.name]["group"] = first[1]
            self._weight(op, 1, made, Dim(1), *kernel)
        else:
            made = self._grouped_conv(op, first[1], weight, result[1])
        self._weight(op, 2, made)
        return (first[0], made, *result[2:])

    def _grouped_conv(self, op: Op, channels: Dim, weight: Tensor, filters: Dim) -> Dim:
        """Each of its groups, whose number is part of the key, has as many channels and makes as many as any other."""
        groups = op.attributes["group"]
        each = divided(filters, groups) if isinstance(groups, int) else None
        if not isinstance(groups, int) or each is None:
            raise TraceError(f"the channels of {op.name} cannot be divided among its groups; it cannot be a layer")
        read = self.axes.divided(channels, groups, op.name)
        made = scaled(self.axes.new(each), groups)
        self._weight(op, 1, made, read, *weight.shape[2:])
        return made

    def _linear(self, op: Op, first: tuple[Dim, ...], result: tuple[Dim, ...], transposed: bool) -> tuple[Dim, ...]:
        made = self.axes.new(result[-1])
        self._weight(op, 1, *((made, first[-1]) if transposed else (first[-1], made)))
        if len(op.inputs) > 2 and op.inputs[2] in self.plan.weights:
            bias = self.plan.weights[op.inputs[2]].shape
            self._weight(op, 2, *(size if size == Dim(1) else made for size in bias))
        return (*first[:-1], made)

    def _padding(self, op: Op, rank: int) -> list[int] | None:
        """What is added to each dimension in all; None where the plan does not hold these numbers."""
        held = [self.plan.constants.get(name) for name in op.inputs[1:]]
        axes = [int(axis) for axis in held[2].values] if len(held) > 2 and held[2] is not None else list(range(rank))
        if not held or held[0] is None or len(held[0].values) != 2 * len(axes):
            return None
        pads, added = [int(value) for value in held[0].values], [0] * rank
        for place, axis in enumerate(axes):
            added[axis % rank] = pads[place] + pads[place + len(axes)]
        return added

    def _aligned(self, op: Op, data: Sequence[str], result: tuple[Dim, ...]) -> tuple[Dim, ...]:
        """Element-wise: operands of the result's size have one size; those of size one are repeated."""
        shape: list[Dim] = []
        for position in range(len(result), 0, -1):
            size = result[-position]
            there = [name for name in data if len(self.shapes[name]) >= position]
            full = [name for name in there if self.plan.tensors[name].shape[-position] == size]
            for name in there:
                if name not in full:
                    self.axes.pin(self.shapes[name][-position])
            if full:
                for name in full[1:]:
                    self.axes.unify(self.shapes[full[0]][-position], self.shapes[name][-position], op.name)
                shape.append(self.axes.now(self.shapes[full[0]][-position]))
            else:
                shape.append(self._fixed(op, size))
        for index, name in enumerate(op.inputs):
            if name in self.plan.weights:
                sizes = self.plan.weights[name].shape
                mine = shape[len(shape) - len(sizes) :]
                self._weight(op, index, *(s if s == Dim(1) else local for s, local in zip(sizes, mine, strict=True)))
            elif name in self.plan.constants:
                for position, count in enumerate(reversed(self.plan.constants[name].shape), start=1):
                    if count != 1:
                        self.axes.pin(shape[-position])
        return tuple(self.axes.now(size) for size in shape)

    def _joined(self, op: Op, data: Sequence[str]) -> tuple[Dim, ...]:
        first = self.shapes[data[0]]
        axis = op.attributes["axis"]
        axis = axis % len(first) if isinstance(axis, int) else 1
        for name in data[1:]:
            for index, (mine, other) in enumerate(zip(first, self.shapes[name], strict=True)):
                if index != axis:
                    self.axes.unify(mine, other, op.name)
        parts = []
        for position, name in enumerate(op.inputs):
            if name in data:
                parts.append(self.shapes[name][axis])
            elif name in self.plan.weights:  # a learned token beside the others
                parts.append(self._fixed(op, self.plan.weights[name].shape[axis]))
                self._weight(op, position, *(parts[-1] if index == axis else size for index, size in enumerate(first)))
            else:
                parts.append(Dim(self.plan.constants[name].shape[axis]))
                for index, size in enumerate(first):
                    if index != axis:
                        self.axes.pin(size)
        joined = total(parts)
        return tuple(joined if index == axis else self.axes.now(size) for index, size in enumerate(first))

    def _rest(self, op: Op) -> tuple[Dim, ...] | None:
        """A reshape whose -1 stands for a multiple or a part of the one open size that it does not copy; None for others."""
        asked, first = _asked(self.plan, op), self.shapes.get(op.inputs[0])
        if first is None or asked.count(-1) != 1:
            return None
        moved = [size for index, size in enumerate(first) if index >= len(asked) or asked[index] != 0]
        open_sizes = [size for size in moved if not size.fixed]
        if len(open_sizes) != 1:
            return None
        before = math.prod(size.const for size in moved if size.fixed)
        after = math.prod(size for size in asked if size > 0)
        if before % after == 0:
            rest = scaled(open_sizes[0], before // after)
        elif after % before == 0:
            rest = self.axes.divided(open_sizes[0], after // before, op.name)
        else:
            return None
        shape = (rest if size == -1 else first[index] if size == 0 else Dim(size) for index, size in enumerate(asked))
        return tuple(self.axes.now(size) for size in shape)

    def _passed(self, op: Op, data: Sequence[str], result: tuple[Dim, ...]) -> tuple[Dim, ...]:
        # A list of constants may count channels.
        lists = [name for name in op.inputs if name in self.plan.constants and len(self.plan.constants[name].values) > 1]
        passing = op.op_type in _PASSING and not lists
        if op.op_type == "Flatten" and op.attributes.get("axis", 1) == 1:
            first = self.shapes[data[0]]
            factor = 1
            for size in first[2:]:
                factor *= size.const if size.fixed else 0
            if factor:
                return first[0], scaled(first[1], factor)
        if not passing:
            for name in data:
                for size in self.shapes[name]:
                    self.axes.pin(size)
        shape = self._derived(op, data, result)
        for index, name in enumerate(op.inputs):
            if name in self.plan.weights:
                # Norms have one number a channel; layer normalisation counts from the end.
                local = shape[-1] if op.op_type == "LayerNormalization" or len(shape) < 2 else shape[1]
                sizes = self.plan.weights[name].shape
                self._weight(op, index, *([local] if passing and len(sizes) == 1 else [self._fixed(op, s) for s in sizes]))
        return shape

    def _derived(self, op: Op, data: Sequence[str], result: tuple[Dim, ...]) -> tuple[Dim, ...]:
        """Each size as that of the same dimension of the input, or else as a multiple of some size that goes in."""
        known = [
            (index, size, local)
            for name in data
            for index, (size, local) in enumerate(zip(self.plan.tensors[name].shape, self.shapes[name], strict=True))
        ]
        shape = []
        for position, size in enumerate(result):
            same = [local for index, there, local in known if index == position and there == size]
            multiples = [
                scaled(local, factor) for _, there, local in known if (factor := proportion(size, there)) is not None
            ]
            shape.append(self.axes.now((same or multiples or [size])[0]))
            if not same and not multiples:
                self._fixed(op, size)
        return tuple(shape)

    @staticmethod
    def _fixed(op: Op, size: Dim) -> Dim:
        if not size.fixed:
            raise TraceError(
                f"a size of {op.name} follows the channel groups in a way that is not known here; it cannot be a layer"
            )
        return size


def _asked(plan: Plan, op: Op) -> tuple[int, ...]:
    """The shape that a Reshape asks for, with 0 and -1 as ONNX reads them; () where the plan does not hold it."""
    wanted = plan.constants.get(op.inputs[1]) if len(op.inputs) > 1 and not op.attributes.get("allowzero", 0) else None
    return tuple(int(value) for value in wanted.values) if wanted is not None else ()


def _row_of_channels(plan: Plan, name: str) -> int:
    """The dimension of a value along which a view divided its channels into rows (a channel shuffle's); -1 for none."""
    maker = next((op for op in plan.ops if op.op_type == "Reshape" and op.outputs[0] == name), None)
    asked = _asked(plan, maker) if maker is not None else ()
    grown = maker is not None and maker.inputs[0] in plan.tensors and len(asked) > len(plan.tensors[maker.inputs[0]].shape)
    return asked.index(-1) if grown and -1 in asked else -1


def _multiplier(filters: Dim, channels: Dim) -> int | None:
    """Filters that each channel of a depthwise convolution has."""
    if filters.fixed and channels.fixed:
        return filters.const // channels.const if filters.const % channels.const == 0 else None
    return proportion(filters, channels)


def _canonical(local: _LocalSizes) -> tuple[Plan, tuple[Dim, ...]]:
    """The fragment as a plan with canonical names; and its axes, by order of appearance, in the network's groups."""
    plan, renamer = local.plan, _Renamer(local.axes)
    tensors, weights, constants, ops = {}, {}, {}, []
    for value in local.inputs:
        label = renamer.name(value, "x")
        tensors[label] = Tensor(label, plan.tensors[value].dtype, renamer.shape(local.shapes[value]))
    for index, op in enumerate(local.ops):
        for value in op.inputs:
            if value in plan.weights:
                label = renamer.name(value, "w")
                weights[label] = Tensor(label, plan.weights[value].dtype, renamer.shape(local.shapes[value]))
            elif value in plan.constants:
                label, constant = renamer.name(value, "c"), plan.constants[value]
                constants[label] = Constant(label, constant.dtype, constant.shape, constant.values)
        for value in op.outputs:
            if value:
                label = renamer.name(value, "y")
                tensors[label] = Tensor(label, plan.tensors[value].dtype, renamer.shape(local.shapes[value]))
        attributes = {
            key: renamer.size(value) if isinstance(value, Dim) else value
            for key, value in told_attributes(op.op_type, local.attributes[op.name]).items()
        }
        inputs, outputs = (tuple(renamer.names[value] for value in values) for values in (op.inputs, op.outputs))
        ops.append(Op(f"{index}_{op.op_type}", op.op_type, inputs, outputs, attributes))
    full = plan.full_widths()
    fragment = Plan(
        model="",
        args={},
        inputs=tuple(renamer.names[value] for value in local.inputs),
        outputs=tuple(renamer.names[value] for value in local.outputs),
        groups=tuple(Group(axis, size.value(full), ()) for axis, size in renamer.axes),
        frozen=(),
        tensors=tensors,
        weights=weights,
        constants=constants,
        ops=tuple(ops),
    )
    return fragment, tuple(size for _, size in renamer.axes)


class _Renamer:
    """Names by order of appearance: x inputs, y results, w weights, c constants, letters for axes."""

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        self._letters: dict[str, str] = {}
        self._counts = dict.fromkeys("xywc", 0)
        self.names: dict[str, str] = {"": ""}
        self.axes: list[tuple[str, Dim]] = []

    def name(self, value: str, letter: str) -> str:
        if value not in self.names:
            self.names[value] = f"{letter}{self._counts[letter]}"
            self._counts[letter] += 1
        return self.names[value]

    def shape(self, sizes: Sequence[Dim]) -> tuple[Dim, ...]:
        return tuple(self.size(size) for size in sizes)

    def size(self, size: Dim) -> Dim:
        size = self._axes.now(size)
        for axis, _ in size.terms:
            if axis not in self._letters:
                self._letters[axis] = letters(len(self._letters))
                self.axes.append((self._letters[axis], self._axes.sizes[axis]))
        return Dim(size.const, tuple(sorted((self._letters[axis], factor) for axis, factor in size.terms)))
