"""Multiply-accumulates, parameters and memory of a network, for many width settings at once.

Every size is linear in the widths, so all of them come out of one matrix product; macs and memory are products and maxima
of those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from netadapt_trt.plan.schema import Dim, Op, Plan, Widths

__all__ = ["PlanSizes", "network_macs", "network_memory_bytes", "network_params"]

# What these make shares the storage of what they read.
_VIEWS = ("Flatten", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Dropout")


class PlanSizes:
    """Counts for W: integer array [n, groups] in the order of ``plan.groups``; every result has shape [n].

    ``macs`` counts convolutions and matrix products; ``params`` the plan's weights (batch norm folded); ``memory_bytes``
    the weights plus the largest sum of activations alive at one time, in execution order, as float32.
    """

    def __init__(self, plan: Plan) -> None:
        self._dims: dict[Dim, int] = {}
        self._weights = [self._indices(weight.shape) for weight in plan.weights.values()]
        self._products = [found for op in plan.ops if (found := self._multiplications(plan, op)) is not None]
        roots, self._alive = _liveness(plan)
        self._activations = [self._indices(plan.tensors[name].shape) for name in roots]
        self._item_bytes = np.array([np.dtype(plan.tensors[name].dtype).itemsize for name in roots], dtype=np.int64)
        numbers = {group.name: index for index, group in enumerate(plan.groups)}
        self._factors = np.zeros((len(self._dims), len(plan.groups)), dtype=np.int64)
        self._constants = np.zeros(len(self._dims), dtype=np.int64)
        for size, row in self._dims.items():
            self._constants[row] = size.const
            for group, factor in size.terms:
                self._factors[row, numbers[group]] = factor

    def _indices(self, shape: Sequence[Dim]) -> list[int]:
        return [self._dims.setdefault(size, len(self._dims)) for size in shape]

    def _multiplications(self, plan: Plan, op: Op) -> list[int] | None:
        """The sizes whose product is the op's multiply-accumulates; None when it has none."""
        if op.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            return None
        out = list(plan.tensors[op.outputs[0]].shape)
        if op.op_type == "ConvTranspose":
            return self._indices([*plan.tensors[op.inputs[0]].shape, *plan.weights[op.inputs[1]].shape[1:]])
        if op.op_type == "Conv":
            return self._indices([*out, *plan.weights[op.inputs[1]].shape[1:]])
        return self._indices([*out, plan.tensors[op.inputs[0]].shape[-1]])

    def _sizes(self, widths: NDArray[np.int64]) -> NDArray[np.int64]:
        found = np.asarray(widths, dtype=np.int64) @ self._factors.T + self._constants
        return cast("NDArray[np.int64]", found)

    @staticmethod
    def _product(sizes: NDArray[np.int64], indices: Sequence[int]) -> NDArray[np.int64]:
        return cast("NDArray[np.int64]", sizes[:, list(indices)].prod(axis=1))

    def macs(self, widths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Multiply-accumulates of one run."""
        sizes = self._sizes(widths)
        return sum((self._product(sizes, indices) for indices in self._products), np.zeros(len(sizes), dtype=np.int64))

    def params(self, widths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Weights."""
        return self._count(self._sizes(widths))

    def _count(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        return sum((self._product(sizes, indices) for indices in self._weights), np.zeros(len(sizes), dtype=np.int64))

    def memory_bytes(self, widths: NDArray[np.int64]) -> NDArray[np.int64]:
        """4 bytes a weight plus the peak of live activations."""
        sizes = self._sizes(widths)
        activations = np.stack([self._product(sizes, indices) for indices in self._activations], axis=1) * self._item_bytes
        # In floating point numpy multiplies many times faster, and bytes up to 2^53 are exact.
        peak = (activations.astype(np.float64) @ self._alive.T).max(axis=1)
        return cast("NDArray[np.int64]", 4 * self._count(sizes) + peak.astype(np.int64))


def _liveness(plan: Plan) -> tuple[list[str], NDArray[np.float64]]:
    """Stored activations, and a matrix [ops, activations] that is 1 where one is alive while the op runs."""
    root = {name: name for name in plan.inputs}
    for op in plan.ops:
        view = op.op_type in _VIEWS
        for name in op.outputs:
            # A view of a weight is no view of an activation: it counts as one of its own.
            root[name] = root[op.inputs[0]] if view and op.inputs[0] in root else name
    stored = list(dict.fromkeys(root[name] for name in plan.tensors if name in root))
    column = {name: index for index, name in enumerate(stored)}
    first = dict.fromkeys(plan.inputs, 0)
    last: dict[str, int] = {}
    for step, op in enumerate(plan.ops):
        for name in op.outputs:
            first.setdefault(root[name], step)
        for name in (*op.inputs, *op.outputs):
            if name in root:
                last[root[name]] = step
    for name in plan.outputs:
        last[root[name]] = len(plan.ops) - 1
    alive = np.zeros((len(plan.ops), len(stored)))
    for name, index in column.items():
        alive[first[name] : last.get(name, first[name]) + 1, index] = 1
    return stored, alive


def _row(plan: Plan, widths: Widths) -> NDArray[np.int64]:
    return np.array([[widths.get(group.name, group.size) for group in plan.groups]], dtype=np.int64)


def network_macs(plan: Plan, widths: Widths) -> int:
    """Multiply-accumulates of one run at ``widths``."""
    return int(PlanSizes(plan).macs(_row(plan, widths))[0])


def network_params(plan: Plan, widths: Widths) -> int:
    """Weights at ``widths``."""
    return int(PlanSizes(plan).params(_row(plan, widths))[0])


def network_memory_bytes(plan: Plan, widths: Widths) -> int:
    """Weights and peak live activations at ``widths``, in bytes."""
    return int(PlanSizes(plan).memory_bytes(_row(plan, widths))[0])
