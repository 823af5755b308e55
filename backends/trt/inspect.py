"""Which kernels run, and whose time theirs is: the inspector's entries mapped to a plan's layers by their ONNX names.

An entry that spans several layers is one region: its time is split by multiply-accumulates, and each share is flagged with
the keys of the others. A copy between two formats belongs to no layer but to the edge between two. What cannot be mapped is
named, so that the mapped share says how far the rest can be trusted.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.backend import Attribution, EdgeTime, LayerTime
from netadapt_trt.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.plan.schema import Layer, Op, Plan, Widths

__all__ = ["Entry", "attribute_entries", "read_entries"]

_ONNX_LAYER = re.compile(r"\[ONNX Layer: (.*?)\](?=$|[\x1e\x1f\s,;\[])")
_WRAPPING = re.compile(r"PWN\(|[()]")
# Our own writers' names for what brings a tensor into another type.
_CONVERSION = re.compile(r"(Quantize|Dequantize)Linear$|_fp16_*$|_fp32$")
# Myelin's own copies keep no ONNX name; its other kernels that keep none are not guessed at.
_MYELIN_COPY = re.compile(r"__myl_(Move|Tran|Copy|Cast|Resh)+_")
_RANGE = re.compile(r"\{ForeignNode\[(.*?)\.\.\.(.*?)\]\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One kernel or copy of an engine. ``nodes``: names of the ONNX nodes it computes, as far as the engine keeps them."""

    name: str
    kind: str = ""
    nodes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def copies(self) -> bool:
        """Whether it only brings a tensor into another format or type."""
        if self.kind == "Reformat" or self.name.startswith("Reformatting CopyNode"):
            return True
        if self.nodes:
            return all(_CONVERSION.search(node) for node in self.nodes)
        return bool(_MYELIN_COPY.match(self.name))


def read_entries(text: str) -> tuple[Entry, ...]:
    """Entries in the order they run, from the inspector's JSON (engines built with DETAILED, or with names only).

    Raises BackendError for anything else.
    """
    try:
        # Not strict: the names in the metadata are separated by control characters, which some releases do not escape.
        layers = json.loads(text, strict=False)["Layers"]
        return tuple(_named(layer) if isinstance(layer, str) else _described(layer) for layer in layers)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendError(f"the engine inspector's answer is not understood ({error}): {text[:120]!r}") from error


def _described(layer: Mapping[str, Any]) -> Entry:
    return Entry(
        name=layer["Name"],
        kind=layer.get("LayerType", ""),
        nodes=tuple(dict.fromkeys(_ONNX_LAYER.findall(layer.get("Metadata") or ""))) or _nodes_in_name(layer["Name"]),
        inputs=tuple(tensor["Name"] for tensor in layer.get("Inputs") or ()),
        outputs=tuple(tensor["Name"] for tensor in layer.get("Outputs") or ()),
    )


def _named(name: str) -> Entry:
    return Entry(name=name, nodes=_nodes_in_name(name))


def _nodes_in_name(name: str) -> tuple[str, ...]:
    """Names as TensorRT joins them: ``a + b``, ``a || b``, ``PWN(PWN(a), b)``; of ``{ForeignNode[a...b]}`` both ends."""
    if name.startswith(("Reformatting CopyNode", "__myl")):
        return ()
    foreign = _RANGE.search(name)
    if foreign:
        return (foreign[1], "...", foreign[2])
    parts = re.split(r" \+ | \|\| |, ", _WRAPPING.sub("", name))
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


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
