"""How much a layer computes, reads and writes at given axis values: what its time is explained by."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from netadapt_trt.plan.schema import Dim, Layer, Plan, Tensor

    Floats = NDArray[np.float64]

__all__ = ["sizes_of"]


def sizes_of(plan: Plan, layer: Layer) -> Callable[[NDArray[np.int64]], Floats]:
    """A function of axis values [n, axes] that counts multiply-accumulates, elements read and written, and weights: [n, 4].

    Raises TraceError when the layer cannot be cut out of ``plan``.
    """
    from netadapt_trt.plan.fragment import fragment_of
    from netadapt_trt.plan.sizes import PlanSizes

    fragment, _ = fragment_of(plan, layer.ops)
    sizes = PlanSizes(fragment)
    columns = {group.name: index for index, group in enumerate(fragment.groups)}

    def count(points: NDArray[np.int64]) -> Floats:
        points = np.asarray(points, dtype=np.int64)
        read = _elements((fragment.tensors[name] for name in fragment.inputs), columns, points)
        written = _elements((fragment.tensors[name] for name in fragment.outputs), columns, points)
        return np.stack([sizes.macs(points), read, written, sizes.params(points)], axis=1).astype(float)

    return count


def _elements(tensors: Iterable[Tensor], columns: dict[str, int], points: NDArray[np.int64]) -> NDArray[np.int64]:
    total = np.zeros(len(points), dtype=np.int64)
    for tensor in tensors:
        product = np.ones(len(points), dtype=np.int64)
        for size in tensor.shape:
            product = product * _values(size, columns, points)
        total += product
    return total


def _values(size: Dim, columns: dict[str, int], points: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.full(len(points), size.const, dtype=np.int64)
    for axis, factor in size.terms:
        found += factor * points[:, columns[axis]]
    return cast("NDArray[np.int64]", found)
