"""Cuts some ops out of a plan and names them canonically, so that equal work has one LUT row in every network.

A fragment is itself a small plan whose channel groups are its *axes*: every channel size it leaves open. Axes are made from
the fragment's own structure alone (an element-wise operator ties its operands, a depthwise convolution its input and output,
a concatenation adds up), never from what happens to be tied in the network around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netadapt_trt.errors import TraceError
from netadapt_trt.plan.schema import Constant, Dim, Group, Layer, Op, Plan, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.plan.schema import Attribute

__all__ = ["fragment_of", "make_layer"]

# Attributes of Conv, Gemm and the pools that say nothing at these values.
_DEFAULTS: dict[str, Attribute] = {
    "auto_pad": "NOTSET", "group": 1, "alpha": 1.0, "beta": 1.0, "transA": 0, "ceil_mode": 0, "count_include_pad": 0,
    "storage_order": 0,
}  # fmt: skip
# Here alpha and beta have other defaults.
_ACTIVATIONS = ("HardSigmoid", "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu")
_ONES = ("dilations", "strides")

_CACHE: dict[tuple[int, tuple[str, ...]], tuple[Plan, Plan, tuple[Dim, ...], str]] = {}


def make_layer(plan: Plan, op_names: Sequence[str]) -> Layer:
    """The layer that ``op_names`` (in execution order) form. Raises TraceError when its sizes cannot be expressed."""
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
        cutter = _Cutter(plan, names)
        found = (plan, *cutter.result())
        _CACHE[key] = found
    return found


class _Cutter:
    """Infers the fragment's local sizes op by op, then renames everything in order of appearance."""

    def __init__(self, plan: Plan, names: tuple[str, ...]) -> None:
        wanted = set(names)
        self.plan = plan
        self.ops = [op for op in plan.ops if op.name in wanted]
        self.axes: dict[str, Dim] = {}
        self.same: dict[str, Dim] = {}
        self.local: dict[str, tuple[Dim, ...]] = {}
        self.attributes: dict[str, dict[str, Attribute]] = {}
        made = {name for op in self.ops for name in op.outputs}
        self.inputs = list(
            dict.fromkeys(name for op in self.ops for name in op.inputs if name in plan.tensors and name not in made)
        )
        read_outside = {name for op in plan.ops if op.name not in wanted for name in op.inputs} | set(plan.outputs)
        self.outputs = [name for op in self.ops for name in op.outputs if name in read_outside]
        for name in self.inputs:
            self.local[name] = self._opened(plan.tensors[name].shape)
        for op in self.ops:
            self._infer(op)

    def _axis(self, size: Dim) -> Dim:
        name = f"axis{len(self.axes)}"
        self.axes[name] = size
        return Dim(0, ((name, 1),))

    def _opened(self, shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
        """A tensor from outside: its channel dimension becomes an axis, the others are as they are."""
        return tuple(self._axis(size) if index == 1 else self._constant(size) for index, size in enumerate(shape))

    def _constant(self, size: Dim) -> Dim:
        if not size.fixed:
            raise TraceError(
                "a size other than the channels follows a channel group; this network cannot be split into layers"
            )
        return size

    def _now(self, size: Dim) -> Dim:
        """``size`` after everything that was found to be equal so far."""
        const, terms = size.const, dict[str, int]()
        for axis, factor in size.terms:
            replaced = self._now(self.same[axis]) if axis in self.same else Dim(0, ((axis, 1),))
            const += replaced.const * factor
            for name, inner in replaced.terms:
                terms[name] = terms.get(name, 0) + inner * factor
        return Dim(const, tuple(sorted(terms.items())))

    def _unify(self, left: Dim, right: Dim) -> None:
        left, right = self._now(left), self._now(right)
        if left == right:
            return
        for plain, other in ((right, left), (left, right)):
            if plain.const == 0 and len(plain.terms) == 1 and plain.terms[0][1] == 1:
                self.same[plain.terms[0][0]] = other
                return

    def _infer(self, op: Op) -> None:
        plan = self.plan
        data = [name for name in op.inputs if name in self.local]
        first = self.local[data[0]]
        out = plan.tensors[op.outputs[0]].shape
        self.attributes[op.name] = dict(op.attributes)
        if op.op_type == "Conv":
            channels = self._conv(op, first, out)
        elif op.op_type in ("Gemm", "MatMul") and op.inputs[1] in plan.weights:
            channels = self._linear(op, first, out)
        elif op.op_type == "Concat" and op.attributes.get("axis") == 1:
            channels = self._sum([self.local[name][1] for name in data])
        elif op.op_type == "Flatten":
            inner = plan.tensors[data[0]].shape[2:]
            channels = self._scaled(first[1], [size.const for size in inner])
        else:
            channels = self._passed(op, data, out)
        for name in op.outputs:
            shape = plan.tensors[name].shape
            self.local[name] = tuple(channels if index == 1 else self._constant(size) for index, size in enumerate(shape))

    def _conv(self, op: Op, first: tuple[Dim, ...], out: tuple[Dim, ...]) -> Dim:
        weight = self.plan.weights[op.inputs[1]]
        groups = op.attributes.get("group", 1)
        kernel = weight.shape[2:]
        if groups == 1:
            made = self._axis(out[1])
            self.local[weight.name] = (made, first[1], *kernel)
        else:
            channels_in = self.plan.tensors[op.inputs[0]].shape[1]
            depthwise = weight.shape[1] == Dim(1)
            made = first[1] if depthwise and out[1] == channels_in else self._axis(out[1])
            if depthwise:
                self.attributes[op.name]["group"] = first[1]
                self.local[weight.name] = (made, Dim(1), *kernel)
            else:
                made, _ = self._pin(made), self._pin(first[1])
                self.local[weight.name] = weight.shape
        for name in op.inputs[2:]:
            if name:
                self.local[name] = (made,)
        return made

    def _pin(self, axis: Dim) -> Dim:
        """Grouped convolutions are never cut: their sizes are part of the key."""
        axis = self._now(axis)
        for name, _ in axis.terms:
            self.same[name] = self._constant(self.axes[name])
        return self._now(axis)

    def _linear(self, op: Op, first: tuple[Dim, ...], out: tuple[Dim, ...]) -> Dim:
        if len(out) != 2:
            raise TraceError(
                f"{op.op_type} {op.name} works on rank {len(out)}; only [batch, features] can be a layer so far"
            )
        made = self._axis(out[1])
        transposed = bool(op.attributes.get("transB", 0))
        self.local[op.inputs[1]] = (made, first[1]) if transposed else (first[1], made)
        for name in op.inputs[2:]:
            if name in self.plan.weights:
                self.local[name] = (made,)
        return made

    @staticmethod
    def _sum(sizes: Sequence[Dim]) -> Dim:
        terms: dict[str, int] = {}
        for size in sizes:
            for axis, factor in size.terms:
                terms[axis] = terms.get(axis, 0) + factor
        return Dim(sum(size.const for size in sizes), tuple(sorted(terms.items())))

    @staticmethod
    def _scaled(size: Dim, factors: Sequence[int]) -> Dim:
        total = 1
        for factor in factors:
            total *= factor
        return Dim(size.const * total, tuple((axis, factor * total) for axis, factor in size.terms))

    def _passed(self, op: Op, data: Sequence[str], out: tuple[Dim, ...]) -> Dim:
        """Operators whose output has their input's channels; several inputs of equal channels are tied."""
        tensors = self.plan.tensors
        alike = [name for name in data if len(tensors[name].shape) > 1 and tensors[name].shape[1] == out[1]]
        channels = self.local[alike[0]][1] if len(out) > 1 and alike else (self._axis(out[1]) if len(out) > 1 else Dim(1))
        for name in alike[1:]:
            self._unify(channels, self.local[name][1])
        for name in op.inputs:
            if name in self.plan.weights:
                shape = self.plan.weights[name].shape
                self.local[name] = tuple(
                    channels if len(out) > 1 and size == out[1] else self._constant(size) for size in shape
                )
        return channels

    def result(self) -> tuple[Plan, tuple[Dim, ...], str]:
        """The fragment as a plan with canonical names, its axes in the network's groups, and the key."""
        renamed: dict[str, str] = {}
        axes: list[tuple[str, Dim]] = []

        def rename(size: Dim) -> Dim:
            size = self._now(size)
            for axis, _ in size.terms:
                if axis not in renamed:
                    renamed[axis] = _letters(len(renamed))
                    axes.append((renamed[axis], self.axes[axis]))
            return Dim(size.const, tuple(sorted((renamed[axis], factor) for axis, factor in size.terms)))

        names: dict[str, str] = {"": ""}

        counts = dict.fromkeys("xywc", 0)

        def name(value: str, letter: str) -> str:
            if value not in names:
                names[value] = f"{letter}{counts[letter]}"
                counts[letter] += 1
            return names[value]

        tensors, weights, constants, ops = {}, {}, {}, []
        for value in self.inputs:
            label = name(value, "x")
            tensors[label] = Tensor(label, self.plan.tensors[value].dtype, tuple(rename(s) for s in self.local[value]))
        for index, op in enumerate(self.ops):
            inputs = []
            for value in op.inputs:
                if value in self.plan.weights:
                    label = name(value, "w")
                    shape = tuple(rename(size) for size in self.local[value])
                    weights[label] = Tensor(label, self.plan.weights[value].dtype, shape)
                elif value in self.plan.constants:
                    label = name(value, "c")
                    constant = self.plan.constants[value]
                    constants[label] = Constant(label, constant.dtype, constant.shape, constant.values)
                inputs.append(names[value])
            outputs = []
            for value in op.outputs:
                label = name(value, "y")
                tensors[label] = Tensor(label, self.plan.tensors[value].dtype, tuple(rename(s) for s in self.local[value]))
                outputs.append(label)
            attributes = {
                key: rename(value) if isinstance(value, Dim) else value
                for key, value in _told(op.op_type, self.attributes[op.name]).items()
            }
            ops.append(Op(f"{index}_{op.op_type}", op.op_type, tuple(inputs), tuple(outputs), attributes))
        full = self.plan.full_widths()
        fragment = Plan(
            model="",
            args={},
            inputs=tuple(names[v] for v in self.inputs),
            outputs=tuple(names[v] for v in self.outputs),
            groups=tuple(Group(axis, size.value(full), ()) for axis, size in axes),
            frozen=(),
            tensors=tensors,
            weights=weights,
            constants=constants,
            ops=tuple(ops),
        )
        return fragment, tuple(size for _, size in axes), _key(fragment)


def _letters(index: int) -> str:
    """a, b, ... z, aa, ab, ... in an order that sorts like numbers within one length."""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def _key(fragment: Plan) -> str:
    """One readable line that says everything but the axes' values, for example::

        x0[1,a,32,32] Conv(x0 [b,a,3,3] [b] pads=1,1,1,1)=y0 Relu(y0)=y1

    Shapes of results are left out: inputs, weights and attributes determine them.
    """

    def shape(sizes: Sequence[Dim]) -> str:
        return "[" + ",".join(_size(size) for size in sizes) + "]"

    def operand(name: str) -> str:
        if not name:
            return "-"
        if name in fragment.weights:
            return shape(fragment.weights[name].shape)
        if name in fragment.constants:
            constant = fragment.constants[name]
            return "{" + ",".join(f"{value:g}" for value in constant.values) + "}"
        return name

    parts = [f"{name}{shape(fragment.tensors[name].shape)}" for name in fragment.inputs]
    for op in fragment.ops:
        attributes = "".join(f" {key}={_attribute(value)}" for key, value in sorted(op.attributes.items()))
        parts.append(f"{op.op_type}({' '.join(operand(name) for name in op.inputs)}{attributes})={' '.join(op.outputs)}")
    return " ".join(parts)


def _told(op_type: str, attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Without what ONNX assumes anyway, so that exporters that write defaults and those that don't share rows."""
    return {
        key: value
        for key, value in sorted(attributes.items())
        if not (key == "kernel_shape" and op_type == "Conv")  # the weight says it
        if not (key in _DEFAULTS and value == _DEFAULTS[key] and op_type not in _ACTIVATIONS)
        if not (key in _ONES and isinstance(value, tuple) and set(value) == {1})
        if not (key == "pads" and isinstance(value, tuple) and not any(value))
    }


def _size(size: Dim) -> str:
    terms = [axis if factor == 1 else f"{factor}{axis}" for axis, factor in size.terms]
    return "+".join([*terms, *([str(size.const)] if size.const or not terms else [])])


def _attribute(value: Attribute) -> str:
    if isinstance(value, Dim):
        return _size(value)
    if isinstance(value, tuple):
        return ",".join(f"{item:g}" for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
