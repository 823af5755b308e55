"""What a plan is: the network as a graph of ops whose sizes are expressions of channel-group widths. No weights, no torch.

A plan is made once (``netadapt_trt.graph``), travels to the device as a JSON file, and is everything the device needs to
write any layer, any chain or the whole network at any widths. Ops are ONNX ops of the optimised export (batch norm folded).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Attribute", "Constant", "Dim", "FrozenChannels", "Group", "Layer", "Op", "Plan", "Tensor", "Widths"]

Widths = Mapping[str, int]
"""Group name -> channels kept. A group that is missing has its full size."""


@dataclass(frozen=True, slots=True)
class Dim:
    """One size: ``const + sum(coefficient * width of group)``. Terms are sorted by group name, coefficients positive."""

    const: int = 0
    terms: tuple[tuple[str, int], ...] = ()

    def value(self, widths: Widths) -> int:
        """The size at these widths. Raises KeyError when a group of the expression is missing from ``widths``."""
        return self.const + sum(coefficient * widths[group] for group, coefficient in self.terms)

    @property
    def fixed(self) -> bool:
        """True when no group changes it."""
        return not self.terms


Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | Dim
"""An ONNX attribute; a Dim where it follows a width (``group`` of a depthwise convolution)."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the graph: an activation, the input, the output or a weight. ``dtype`` is numpy's name of it."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Constant:
    """A small tensor whose values belong to the graph, not to the training (bounds of a Clip, a shape, axes)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: tuple[float, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Op:
    """One ONNX operator. Inputs name tensors, weights or constants ("" for an input left out); names are unique."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """A channel group that may shrink: channels that must be cut together. ``name`` is the module that first makes them.

    ``weights`` are the weight tensors whose output channels it holds.
    """

    name: str
    size: int
    weights: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FrozenChannels:
    """Channels that are not cut, and why (network output, an operator without a rule, ...)."""

    name: str
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class Layer:
    """What a runtime executes as one: some ops of a plan, named by a canonical ``key`` that networks share.

    ``axes`` give the channel sizes that ``key`` leaves open, in the key's order; a cell of the LUT is (key, their values).
    """

    key: str
    axes: tuple[Dim, ...]
    ops: tuple[str, ...]

    def widths(self, widths: Widths) -> tuple[int, ...]:
        """The axes' values at the network's widths."""
        return tuple(axis.value(widths) for axis in self.axes)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole network. ``ops`` are in execution order; ``tensors`` holds inputs, outputs and everything between.

    ``model``, ``args``, ``num_classes`` and ``reset_head`` say where it came from, as in a model spec, and are not part of
    its identity (:func:`netadapt_trt.plan.plan_hash`).
    """

    model: str
    args: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    groups: tuple[Group, ...]
    frozen: tuple[FrozenChannels, ...]
    tensors: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    constants: Mapping[str, Constant]
    ops: tuple[Op, ...]
    notices: tuple[str, ...] = ()
    num_classes: int | None = None
    reset_head: bool = False

    def full_widths(self) -> dict[str, int]:
        """Every group at its uncut size."""
        return {group.name: group.size for group in self.groups}
