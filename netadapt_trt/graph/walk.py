"""Walks an exported graph and keeps, for every value, which channels lie along each of its dimensions.

Parameters and buffers are values like any other: each of their dimensions starts as a variable of its own, which the
operators that read it tie to what it meets. So a parameter that is used twice, shared or reshaped first needs no special
care, and one that meets an operator without a rule is frozen with everything tied to it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch

from netadapt_trt.graph.layout import Layout, Piece, Variables, length

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch.export import ExportedProgram
    from torch.fx import Node

__all__ = ["Dims", "Role", "Walk", "elements", "operator_name", "tensor_inputs", "where_of"]

Dims = tuple[Layout | None, ...]
"""For each dimension its layout, or None where nothing lies along it that is ever cut (also every dimension of size one)."""

Role = Literal["produce", "tie", "consume"]


def operator_name(node: Node) -> str:
    """``relu`` for ``aten::relu_.default``: an operator and its in-place form cut alike."""
    schema = getattr(node.target, "_schema", None)
    name: str = schema.name.split("::")[-1] if schema is not None else getattr(node.target, "__name__", str(node.target))
    return name.rstrip("_") or name


def where_of(node: Node) -> str:
    """The module a node comes from, for messages."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]).removeprefix("L['self']").lstrip(".") for entry in stack.values() if entry]
    return next((path for path in reversed(paths) if path), "the network's forward")


def tensor_inputs(node: Node) -> list[Node]:
    """The tensors that ``node`` reads, each once."""
    return [source for source in node.all_input_nodes if Walk.shape(source) is not None]


class Walk:
    """State of one walk: layouts of values and parameters, the union-find, and what no rule was found for.

    Attributes:
        parameters: (name, dimension) -> layout, for every dimension longer than one of what surgery can cut.
        roles: what (name, dimension) is to its channels, where it is more than tied to them; in the order of the network.
        findings: each thing that froze channels for want of an exact rule, with those channels.
    """

    def __init__(self, program: ExportedProgram, aliases: Mapping[str, str] | None = None) -> None:
        """``aliases`` maps further names of a shared tensor to the one it is known by."""
        self.variables = Variables()
        self.values: dict[Node, Dims | list[Dims]] = {}
        self.parameters: dict[tuple[str, int], Layout] = {}
        self.roles: dict[tuple[str, int], Role] = {}
        self.findings: dict[str, list[Piece]] = {}
        self._aliases = aliases or {}
        signature = program.graph_signature
        # Other buffers are not saved with the weights, and constants of the code are nobody's attribute: neither is cut.
        kept = {
            node: name for node, name in signature.inputs_to_buffers.items() if name not in signature.non_persistent_buffers
        }
        self._names: dict[str, str] = {**signature.inputs_to_parameters, **kept}

    @staticmethod
    def shape(node: Any) -> tuple[int, ...] | None:
        """A node's shape; None for what is no tensor."""
        value = node.meta.get("val") if isinstance(node, torch.fx.Node) else None
        return tuple(int(size) for size in value.shape) if isinstance(value, torch.Tensor) else None

    def name_of(self, node: Any) -> str | None:
        """The parameter's or buffer's name, for a node that is one which can be cut."""
        if not isinstance(node, torch.fx.Node) or node.op != "placeholder" or node.name not in self._names:
            return None
        name = self._names[node.name]
        return self._aliases.get(name, name)

    def dims(self, node: Any) -> Dims:
        """Layouts of a tensor value."""
        found = self.values.get(node)
        if found is None or isinstance(found, list):
            return (None,) * len(self.shape(node) or ())
        return found

    def enter(self, node: Node) -> None:
        """A placeholder: the input is never cut, each dimension of a parameter starts on its own."""
        name = self.name_of(node)
        if name is None:
            self.untracked(node)
            return
        dims: list[Layout | None] = []
        for dim, size in enumerate(self.shape(node) or ()):
            if size > 1 and (name, dim) not in self.parameters:
                self.parameters[name, dim] = self.variables.new(size)
            dims.append(self.parameters.get((name, dim)))
        self.values[node] = tuple(dims)

    def role(self, node: Any, dim: int, role: Role) -> None:
        """Say what a parameter's dimension is to its channels; of several uses the first that is not a tie counts."""
        name = self.name_of(node)
        if name is not None and (name, dim) in self.parameters:
            self.roles.setdefault((name, dim), role)

    def tie(self, left: Layout | None, right: Layout | None, node: Node) -> None:
        """What lies along both is cut together."""
        self.variables.tie(left, right, where_of(node))

    def alike(self, layout: Layout | None, count: int, node: Node, reason: str) -> Layout | None:
        """Keep ``count`` blocks of a dimension equal; the layout of one. Refuses for ``reason`` where that is inexact."""
        if layout is None:
            return None
        found = self.variables.alike(layout, count, where_of(node))
        if found is None:
            self.refuse(layout, reason)
        return found

    def set(self, node: Node, dims: Iterable[Layout | None]) -> None:
        """The layouts of what ``node`` makes. Where they do not fit its shape, the operator has no rule."""
        sizes, layouts = self.shape(node) or (), tuple(dims)
        kept = tuple(layout if size > 1 else None for layout, size in zip(layouts, sizes, strict=False))
        if len(layouts) != len(sizes) or any(
            layout is not None and length(layout) != size for layout, size in zip(kept, sizes, strict=True)
        ):
            self.give_up(node)
        else:
            self.values[node] = kept

    def refuse(self, layout: Layout | None, reason: str) -> None:
        """Freeze channels that an operator has no exact rule for, and list it."""
        if layout:
            self.findings.setdefault(reason, []).extend(layout)
            self.variables.freeze(layout, reason)

    def give_up(self, node: Node, reason: str = "") -> None:
        """Freeze everything that ``node`` reads; what it makes is not cut."""
        text = reason or f"operator {operator_name(node)} in {where_of(node)} has no rule"
        for source in node.all_input_nodes:
            self.freeze(source, text, listed=True)
        self.untracked(node)

    def freeze(self, node: Node, reason: str, *, listed: bool = False) -> None:
        """Freeze all channels of a value."""
        found = self.values.get(node, ())
        for dims in found if isinstance(found, list) else [found]:
            for layout in dims:
                if listed:
                    self.refuse(layout, reason)
                else:
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
