"""What runtimes that fuse around convolutions have in common; each backend says which of it applies to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netadapt_trt.plan.fragment import make_layer

if TYPE_CHECKING:
    from collections.abc import Collection

    from netadapt_trt.plan.schema import Layer, Op, Plan

__all__ = ["fused_layers"]

_GATES = ("Sigmoid", "HardSigmoid")


def fused_layers(
    plan: Plan, *, starts: Collection[str], activations: Collection[str], add: bool, free: Collection[str]
) -> list[Layer]:
    """Group the plan's ops into layers, in order.

    An op of ``starts`` takes the activation that alone reads it, and with ``add`` also a residual addition before that
    activation. x * sigmoid(x) in two ops is one activation. Ops of ``free`` cost nothing and belong to no layer; every
    other op is a layer of its own.
    """
    merger = _Merger(plan, frozenset(activations), add)
    taken: set[str] = set()
    layers = []
    for op in plan.ops:
        if op.name in taken or op.op_type in free:
            continue
        chain = merger.chain(op, taken) if op.op_type in starts else merger.gated(op, taken) or [op]
        taken.update(member.name for member in chain)
        layers.append(chain)
    order = {op.name: index for index, op in enumerate(plan.ops)}
    return [make_layer(plan, sorted((op.name for op in chain), key=order.__getitem__)) for chain in layers]


class _Merger:
    def __init__(self, plan: Plan, activations: Collection[str], add: bool) -> None:
        self._activations, self._add = activations, add
        self._readers: dict[str, list[Op]] = {}
        for op in plan.ops:
            for name in op.inputs:
                self._readers.setdefault(name, []).append(op)
        self._outputs = set(plan.outputs)
        self._order = {op.name: index for index, op in enumerate(plan.ops)}
        self._makers = {name: op for op in plan.ops for name in op.outputs}

    def _only_reader(self, op: Op) -> Op | None:
        readers = self._readers.get(op.outputs[0], [])
        return readers[0] if len(readers) == 1 and op.outputs[0] not in self._outputs else None

    def chain(self, anchor: Op, taken: Collection[str]) -> list[Op]:
        chain = [anchor]
        following = self._only_reader(anchor)
        sums = self._add and following is not None and following.op_type == "Add" and following.name not in taken
        if sums and following is not None and self._is_sum(following, anchor):
            chain.append(following)
            following = self._only_reader(following)
        if following is not None and following.op_type in self._activations and following.name not in taken:
            return [*chain, following]
        gated = self._gate(chain[-1], taken)
        return [*chain, *gated] if gated else chain

    def _is_sum(self, addition: Op, anchor: Op) -> bool:
        """Whether everything else that is added has been computed before ``anchor``, so that it can be added in place."""
        others = [name for name in addition.inputs if name != anchor.outputs[0]]
        return len(others) == 1 and (
            others[0] not in self._makers or self._order[self._makers[others[0]].name] < self._order[anchor.name]
        )

    def _gate(self, op: Op, taken: Collection[str]) -> list[Op]:
        """[Sigmoid, Mul] that together compute x * sigmoid(x) of what ``op`` makes, else nothing."""
        readers = self._readers.get(op.outputs[0], [])
        gates = [reader for reader in readers if reader.op_type in _GATES]
        products = [reader for reader in readers if reader.op_type == "Mul"]
        if len(readers) != 2 or len(gates) != 1 or len(products) != 1 or gates[0].outputs[0] not in products[0].inputs:
            return []
        members = [gates[0], products[0]]
        return members if self._only_reader(gates[0]) is products[0] and not any(m.name in taken for m in members) else []

    def gated(self, op: Op, taken: Collection[str]) -> list[Op] | None:
        """A gate that no anchor took: still one activation."""
        if op.op_type not in _GATES:
            return None
        product = self._only_reader(op)
        if product is not None and product.op_type == "Mul" and op.inputs[0] in product.inputs and product.name not in taken:
            return [op, product]
        return None
