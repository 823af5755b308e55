"""Walks an exported graph and keeps, for every value, which channels lie along each of its dimensions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch

from netadapt_trt.graph.layout import Layout, Variables

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.export import ExportedProgram
    from torch.fx import Node

__all__ = ["Dims", "Role", "Walk", "elements", "operator_name", "where_of"]

Dims = tuple[Layout | None, ...]
"""For each dimension its layout, or None where no channels to be cut lie along it."""

Role = Literal["produce", "tie", "consume"]


def operator_name(node: Node) -> str:
    """``relu`` for ``aten::relu_.default``: an operator and its in-place form cut alike."""
    schema = getattr(node.target, "_schema", None)
    name: str = schema.name.split("::")[-1] if schema is not None else getattr(node.target, "__name__", str(node.target))
    return name.rstrip("_") or name


def where_of(node: Node) -> str:
    """The module a node comes from, for messages."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]) for entry in stack.values() if entry and entry[0]]
    return paths[-1].removeprefix("L['self'].") if paths else "the network's forward"


class Walk:
    """State of one walk: layouts of values, of parameters, the union-find and what no rule was found for."""

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.variables = Variables()
        self.values: dict[Node, Dims | list[Dims]] = {}
        self.parameters: dict[tuple[str, int], tuple[Role, Layout]] = {}
        self.unsupported: list[str] = []
        signature = program.graph_signature
        self._parameter_of: dict[str, str] = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **getattr(signature, "inputs_to_lifted_tensor_constants", {}),
        }

    @staticmethod
    def shape(node: Any) -> tuple[int, ...] | None:
        """A node's shape; None for what is no tensor."""
        value = node.meta.get("val") if isinstance(node, torch.fx.Node) else None
        return tuple(int(size) for size in value.shape) if isinstance(value, torch.Tensor) else None

    def parameter(self, node: Any) -> str | None:
        """The parameter's or buffer's name, for a node that is one."""
        return self._parameter_of.get(node.name) if isinstance(node, torch.fx.Node) and node.op == "placeholder" else None

    def dims(self, node: Any) -> Dims:
        """Layouts of a tensor value; of a parameter nothing is known here."""
        found = self.values.get(node)
        if found is None or isinstance(found, list):
            return (None,) * len(self.shape(node) or ())
        return found

    def set(self, node: Node, dims: Iterable[Layout | None]) -> None:
        """The layouts of what ``node`` makes."""
        self.values[node] = tuple(dims)

    def bind(self, parameter: str, dim: int, layout: Layout | None, role: Role) -> None:
        """Parameter ``parameter`` has ``layout`` along ``dim``; a parameter used twice ties both uses."""
        if layout is None:
            layout = ()
        known = self.parameters.get((parameter, dim))
        if known is not None:
            self.variables.tie(known[1] or None, layout or None, parameter)
            return
        if layout:
            self.parameters[parameter, dim] = (role, layout)

    def give_up(self, node: Node, reason: str = "") -> None:
        """Freeze everything that ``node`` reads; what it makes is not cut."""
        name = operator_name(node)
        text = reason or f"operator {name} in {where_of(node)} has no rule"
        if text not in self.unsupported:
            self.unsupported.append(text)
        for source in node.all_input_nodes:
            self.freeze(source, text)
        self.untracked(node)

    def freeze(self, node: Node, reason: str) -> None:
        """Freeze all channels of a value."""
        found = self.values.get(node)
        for dims in found if isinstance(found, list) else [found or ()]:
            for layout in dims:
                self.variables.freeze(layout, reason)

    def untracked(self, node: Node) -> None:
        """What ``node`` makes has no channels that are ever cut."""
        value = node.meta.get("val")
        if isinstance(value, list | tuple):
            self.values[node] = [(None,) * item.dim() if isinstance(item, torch.Tensor) else () for item in value]
        elif isinstance(value, torch.Tensor):
            self.values[node] = (None,) * value.dim()


def elements(sizes: Iterable[int]) -> int:
    """Their product."""
    return math.prod(sizes)
