"""Whose time an entry of a runtime's profile is: entries mapped to a plan's layers and to the edges between them.

An entry that spans several layers is one region: its time is split by multiply-accumulates, and each share is flagged with
the keys of the others. A copy between two formats belongs to no layer but to the edge between two. What cannot be mapped is
named, so that the mapped share says how far the rest can be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.backend import Attribution, EdgeTime, LayerTime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.plan.schema import Layer, Op, Plan, Widths

__all__ = ["Entry", "attribute_entries"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One kernel or copy of an optimised network, with the tensors it reads and makes by the runtime's names.

    ``nodes``: names of the ONNX nodes it computes, as far as the runtime keeps them; (first, "...", last) for a range.
    ``copies``: it only brings a tensor into another format or type.
    """

    name: str
    kind: str = ""
    nodes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    copies: bool = False


def attribute_entries(
    entries: Sequence[Entry], times_ms: Mapping[str, float], plan: Plan, layers: Sequence[Layer], widths: Widths
) -> Attribution:
    """Map times by entry name to ``layers`` (a partition of ``plan``) and the edges between them.

    ``entries`` and times are of the network that was written from ``plan`` at ``widths``, so that ONNX nodes are named after
    its ops.
    """
    return _Attributor(entries, times_ms, plan, layers, widths).result()


class _Attributor:
    def __init__(
        self, entries: Sequence[Entry], times_ms: Mapping[str, float], plan: Plan, layers: Sequence[Layer], widths: Widths
    ) -> None:
        self._entries, self._times = entries, times_ms
        self._plan, self._layers = plan, layers
        self._widths = {**plan.full_widths(), **widths}
        self._ops = {op.name: op for op in plan.ops}
        self._order = {op.name: index for index, op in enumerate(plan.ops)}
        self._owner = {name: index for index, layer in enumerate(layers) for name in layer.ops}
        self._made_by = {tensor: op.name for op in plan.ops for tensor in op.outputs}
        self._owners = [self._layers_of(entry) for entry in entries]
        self._producer = {name: index for index, entry in enumerate(entries) for name in entry.outputs}
        self._readers: dict[str, list[int]] = {}
        for index, entry in enumerate(entries):
            for name in entry.inputs:
                self._readers.setdefault(name, []).append(index)

    def _ops_of(self, entry: Entry) -> list[Op]:
        """The plan's ops among the entry's nodes; quantising and casting nodes are none of them."""
        nodes = entry.nodes
        if len(nodes) == 3 and nodes[1] == "..." and nodes[0] in self._order and nodes[2] in self._order:
            first, last = self._order[nodes[0]], self._order[nodes[2]]
            return list(self._plan.ops[first : last + 1])
        return [self._ops[name] for name in nodes if name in self._ops]

    def _layers_of(self, entry: Entry) -> list[int]:
        if entry.copies:
            return []
        return sorted({self._owner[op.name] for op in self._ops_of(entry) if op.name in self._owner})

    def result(self) -> Attribution:
        latency = [0.0] * len(self._layers)
        regions: list[set[int]] = [set() for _ in self._layers]
        edges: dict[tuple[int | None, int | None], float] = {}
        unmapped = []
        mapped_ms = total_ms = 0.0
        for index, entry in enumerate(self._entries):
            took = self._times.get(entry.name, 0.0)
            total_ms += took
            owners = self._owners[index]
            if owners:
                for layer, share in self._shares(entry, owners).items():
                    latency[layer] += took * share
                    regions[layer].update(other for other in owners if other != layer)
            else:
                ends = self._ends(index) if self._moves(entry) else None
                if ends is None:
                    unmapped.append(entry.name)
                    continue
                edges[ends] = edges.get(ends, 0.0) + took
            mapped_ms += took
        reported = {entry.name for entry in self._entries}
        strays = {name: took for name, took in self._times.items() if name not in reported}
        total_ms += sum(strays.values())
        return Attribution(
            layers=tuple(
                LayerTime(
                    layer=layer,
                    latency_ms=latency[index],
                    region=tuple(self._layers[other].key for other in sorted(regions[index])),
                )
                for index, layer in enumerate(self._layers)
            ),
            edges=tuple(
                EdgeTime(producer=self._layer(producer), consumer=self._layer(consumer), latency_ms=took)
                for (producer, consumer), took in edges.items()
            ),
            total_ms=total_ms,
            mapped_share=mapped_ms / total_ms if total_ms else 0.0,
            unmapped=(*unmapped, *strays),
        )

    def _moves(self, entry: Entry) -> bool:
        """Copies, and the plan's ops that cost nothing where no copy is needed for them."""
        return entry.copies or (bool(entry.nodes) and len(self._ops_of(entry)) == len(entry.nodes))

    def _layer(self, index: int | None) -> Layer | None:
        return None if index is None else self._layers[index]

    def _shares(self, entry: Entry, owners: Sequence[int]) -> dict[int, float]:
        """Each layer's share of a region, by multiply-accumulates; by results where nothing multiplies."""
        if len(owners) == 1:
            return {owners[0]: 1.0}
        macs, results = dict.fromkeys(owners, 0.0), dict.fromkeys(owners, 0.0)
        for op in self._ops_of(entry):
            if op.name in self._owner:
                macs[self._owner[op.name]] += self._macs(op)
                results[self._owner[op.name]] += self._count(op.outputs[0])
        weights = macs if sum(macs.values()) else results
        return {layer: weight / sum(weights.values()) for layer, weight in weights.items()}

    def _count(self, tensor: str) -> float:
        return float(np.prod([size.value(self._widths) for size in self._plan.tensors[tensor].shape], dtype=np.float64))

    def _macs(self, op: Op) -> float:
        if op.op_type in ("Conv", "ConvTranspose"):
            weight = self._plan.weights[op.inputs[1]].shape
            sized = op.outputs[0] if op.op_type == "Conv" else op.inputs[0]
            return self._count(sized) * float(np.prod([size.value(self._widths) for size in weight[1:]], dtype=np.float64))
        if op.op_type in ("Gemm", "MatMul"):
            inner = self._plan.tensors[op.inputs[0]].shape[-1].value(self._widths)
            return self._count(op.outputs[0]) * inner
        return 0.0

    def _ends(self, index: int) -> tuple[int | None, int | None] | None:
        """(producing, consuming layer) of what an entry without layers moves; None where neither is known."""
        entry = self._entries[index]
        if not entry.inputs and not entry.outputs:
            return None
        before, behind = self._before(index, set()), self._behind(index, set())
        if before is None and behind is None:
            return None
        return before, behind

    def _before(self, index: int, seen: set[int]) -> int | None:
        for name in self._entries[index].inputs:
            if name in self._made_by and self._made_by[name] in self._owner:
                return self._owner[self._made_by[name]]
            maker = self._producer.get(name)
            if maker is None or maker in seen:
                continue
            seen.add(maker)
            if self._owners[maker]:
                return self._owners[maker][-1]
            found = self._before(maker, seen)
            if found is not None:
                return found
        return None

    def _behind(self, index: int, seen: set[int]) -> int | None:
        for name in self._entries[index].outputs:
            for reader in self._readers.get(name, ()):
                if reader in seen:
                    continue
                seen.add(reader)
                if self._owners[reader]:
                    return self._reading(reader, name)
                found = self._behind(reader, seen)
                if found is not None:
                    return found
        return None

    def _reading(self, reader: int, tensor: str) -> int:
        """The layer of a region that reads the tensor; its first one where the tensor is no plan's."""
        ops = [op for op in self._ops_of(self._entries[reader]) if tensor in op.inputs and op.name in self._owner]
        return self._owner[ops[0].name] if ops else self._owners[reader][0]
