"""Channel groups: which slices of which parameters must be cut together, read from the exported program.

What NetAdapt prunes per layer is here a *group*: filters tied by residual sums, depthwise convolutions, gates and shared
weights have one index set. Channels that an operator without a rule touches are frozen and listed, never cut wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from netadapt_trt.graph.layout import length
from netadapt_trt.graph.rules import apply_rule
from netadapt_trt.graph.trace import unreached_parameters
from netadapt_trt.graph.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from netadapt_trt.graph.layout import Layout
    from netadapt_trt.graph.trace import Traced
    from netadapt_trt.graph.walk import Role

__all__ = ["ChannelGroup", "Channels", "ParameterSlice", "Segment", "find_channel_groups"]


@dataclass(frozen=True, slots=True)
class Segment:
    """``channels`` channels of ``group`` (None: never cut); channel c takes positions c * inner to c * inner + inner - 1."""

    group: str | None
    channels: int
    inner: int = 1


@dataclass(frozen=True, slots=True)
class ParameterSlice:
    """Dimension ``dim`` of a parameter or buffer consists of ``layout``.

    ``produce``: its filters make the channels; ``consume``: it reads them; ``tie``: it goes along (batch norm, depthwise).
    """

    parameter: str
    dim: int
    role: Role
    layout: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Channels that are cut together; ``reason`` says why they are not, where ``prunable`` is False."""

    name: str
    size: int
    prunable: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Channels:
    """All channel groups of a network and where they lie in its parameters.

    Attributes:
        unsupported: operators (and where) that no exact rule was found for; their channels are frozen.
        unreached: parameters that the eval-mode network does not use; what feeds them is frozen.
    """

    groups: Mapping[str, ChannelGroup]
    slices: tuple[ParameterSlice, ...]
    unsupported: tuple[str, ...] = ()
    unreached: tuple[str, ...] = ()

    @property
    def prunable(self) -> tuple[ChannelGroup, ...]:
        """The groups that may shrink, in the network's order."""
        return tuple(group for group in self.groups.values() if group.prunable)

    def full_widths(self) -> dict[str, int]:
        """Every prunable group at its present size."""
        return {group.name: group.size for group in self.prunable}

    def resized(self, widths: Mapping[str, int]) -> Channels:
        """The same groups in a network cut to ``widths``."""
        sizes = {name: widths.get(name, group.size) for name, group in self.groups.items()}
        groups = {name: replace(group, size=sizes[name]) for name, group in self.groups.items()}
        slices = tuple(
            replace(
                piece,
                layout=tuple(s if s.group is None else replace(s, channels=sizes[s.group]) for s in piece.layout),
            )
            for piece in self.slices
        )
        return replace(self, groups=groups, slices=slices)

    def prunable_share(self, model: nn.Module) -> float:
        """Share of the parameters' elements that lie in at least one slice of a prunable group, 0 to 1."""
        prunable = {group.name for group in self.prunable}
        touched = {piece.parameter for piece in self.slices if any(segment.group in prunable for segment in piece.layout)}
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        return sum(size for name, size in sizes.items() if name in touched) / max(1, sum(sizes.values()))


def find_channel_groups(traced: Traced) -> Channels:
    """Walk the exported program and say which channels can be cut, and where they lie."""
    walk = _walk(traced.program)
    unreached = unreached_parameters(traced.model, traced.program)
    feeding = _feeding(traced, unreached)
    found = _channels(walk)
    if feeding:
        reason = f"read by {unreached[0]}, which only training reaches"
        groups = {
            name: replace(group, prunable=False, reason=group.reason or reason) if _feeds(found, name, feeding) else group
            for name, group in found.groups.items()
        }
        found = replace(found, groups=groups)
    return replace(found, unreached=tuple(unreached))


def _walk(program: torch.export.ExportedProgram) -> Walk:
    walk = Walk(program)
    for node in program.graph.nodes:
        if node.op == "placeholder":
            walk.untracked(node)
        elif node.op == "call_function":
            apply_rule(walk, node)
        elif node.op == "output":
            for source in node.all_input_nodes:
                walk.freeze(source, "network output")
        else:
            walk.give_up(node)
    return walk


def _feeding(traced: Traced, unreached: list[str]) -> set[str]:
    """Parameters that make channels which the unreached ones read, as the train-mode program shows."""
    if not unreached or traced.training is None:
        return set()
    walk = _walk(traced.training)
    lost = set(unreached)
    read = {
        walk.variables.root(piece.variable)
        for (name, _), (_, layout) in walk.parameters.items()
        if name in lost
        for piece in layout
        if piece.variable is not None
    }
    return {
        name
        for (name, _), (role, layout) in walk.parameters.items()
        if role == "produce" and name not in lost
        for piece in layout
        if piece.variable is not None and walk.variables.root(piece.variable) in read
    }


def _feeds(channels: Channels, group: str, parameters: set[str]) -> bool:
    return any(
        piece.parameter in parameters and piece.role == "produce" and any(s.group == group for s in piece.layout)
        for piece in channels.slices
    )


def _channels(walk: Walk) -> Channels:
    variables = walk.variables
    groups: dict[str, ChannelGroup] = {}
    for variable in range(len(variables.names)):
        if variables.root(variable) == variable:
            name, reason = variables.names[variable], variables.reason(variable)
            groups[name] = ChannelGroup(name, variables.sizes[variable], not reason, reason)

    def segments(layout: Layout) -> tuple[Segment, ...]:
        return tuple(
            Segment(
                None if piece.variable is None else variables.names[variables.root(piece.variable)],
                piece.channels,
                piece.inner,
            )
            for piece in layout
        )

    slices = tuple(
        ParameterSlice(name, dim, role, segments(layout))
        for (name, dim), (role, layout) in walk.parameters.items()
        if length(layout)
    )
    return Channels(groups, slices, tuple(walk.unsupported))
