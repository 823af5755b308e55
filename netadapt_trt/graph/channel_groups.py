"""Channel groups: which slices of which parameters must be cut together, read from the exported program.

What NetAdapt prunes per layer is here a *group*: filters tied by residual sums, depthwise convolutions, gates and shared
weights have one index set. Channels that an operator without a rule touches are frozen and listed, never cut wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from netadapt_trt.graph.rules import apply_rule
from netadapt_trt.graph.trace import shared_names, unreached_parameters
from netadapt_trt.graph.verify import verified
from netadapt_trt.graph.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import nn

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
        """Share of the parameters' elements that some cut of a prunable group removes, 0 to 1."""
        prunable = {group.name for group in self.prunable}
        stays: dict[str, float] = {}
        for piece in self.slices:
            total = sum(segment.channels * segment.inner for segment in piece.layout)
            fixed = sum(s.channels * s.inner for s in piece.layout if s.group not in prunable)
            stays[piece.parameter] = stays.get(piece.parameter, 1.0) * fixed / total
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        return sum(size * (1 - stays.get(name, 1.0)) for name, size in sizes.items()) / max(1, sum(sizes.values()))

    def frozen(self, reasons: Mapping[str, str]) -> Channels:
        """The same with further groups (name -> reason) that are not cut; reasons that are there already stay."""
        groups = {
            name: replace(group, prunable=False, reason=group.reason or reasons[name]) if name in reasons else group
            for name, group in self.groups.items()
        }
        return replace(self, groups=groups)


def find_channel_groups(traced: Traced, *, verify: bool = True) -> Channels:
    """Walk the exported program and say which channels can be cut, and where they lie.

    ``verify`` also cuts a copy and compares outputs (:func:`netadapt_trt.graph.verify.verified`): numbers of channels that
    are written into the network's code do not show in its program.
    """
    aliases = shared_names(traced.model)
    walk = _walk(traced.program, aliases)
    found = _channels(walk)
    unreached = unreached_parameters(traced.model, traced.program)
    if unreached and traced.training is not None:
        found = found.frozen(_read_in_training(_walk(traced.training, aliases), found, unreached))
    found = replace(found, unreached=tuple(unreached))
    return verified(traced.model, found, traced.example) if verify else found


def _walk(program: torch.export.ExportedProgram, aliases: Mapping[str, str]) -> Walk:
    walk = Walk(program, aliases)
    for node in program.graph.nodes:
        if node.op == "placeholder":
            walk.enter(node)
        elif node.op == "call_function":
            apply_rule(walk, node)
        elif node.op == "output":
            for source in node.all_input_nodes:
                walk.freeze(source, "network output")
        else:
            walk.untracked(node)
    return walk


def _read_in_training(walk: Walk, found: Channels, unreached: Sequence[str]) -> dict[str, str]:
    """Groups whose channels in train mode go where the eval-mode program does not: into unreached parameters, or frozen."""
    lost = set(unreached)
    reasons: dict[int, str] = {}
    for (name, _), layout in walk.parameters.items():
        for piece in walk.variables.resolve(layout):
            if piece.variable is not None and name in lost:
                reasons.setdefault(piece.variable, f"read by {name}, which only training reaches")
    makers: dict[str, str] = {}
    for name, dim in _produced(walk):
        for piece in walk.variables.resolve(walk.parameters[name, dim]):
            if piece.variable is not None:
                reason = reasons.get(piece.variable) or walk.variables.reason(piece.variable)
                if reason:
                    makers[name] = reason
    return {
        segment.group: makers[piece.parameter]
        for piece in found.slices
        if piece.role == "produce" and piece.parameter in makers
        for segment in piece.layout
        if segment.group is not None
    }


def _produced(walk: Walk) -> list[tuple[str, int]]:
    return [key for key, role in walk.roles.items() if role == "produce"]


def _channels(walk: Walk) -> Channels:
    variables = walk.variables
    names = _names(walk)
    groups = {
        name: ChannelGroup(name, variables.size(root), not variables.reason(root), variables.reason(root))
        for root, name in names.items()
    }
    slices = []
    for (name, dim), layout in walk.parameters.items():
        segments = tuple(
            Segment(None if piece.variable is None else names.get(piece.variable), piece.channels, piece.inner)
            for piece in variables.resolve(layout)
        )
        if any(segment.group is not None for segment in segments):
            slices.append(ParameterSlice(name, dim, walk.roles.get((name, dim), "tie"), segments))
    # What was refused matters where it holds channels that some layer makes; spatial sizes of parameters do not.
    unsupported = [
        text for text, pieces in walk.findings.items() if any(piece.variable in names for piece in variables.resolve(pieces))
    ]
    return Channels(groups, tuple(slices), tuple(unsupported))


def _names(walk: Walk) -> dict[int, str]:
    """Root variable -> name of its group: the module that first makes the channels; those of no module are no group.

    A sum with a concatenation divides a layer's filters; a part that no layer makes alone is named by its positions.
    """
    names: dict[int, str] = {}
    whole: dict[int, str] = {}
    for parameter, dim in _produced(walk):
        layout = walk.variables.resolve(walk.parameters[parameter, dim])
        base, start = parameter.removesuffix(".weight"), 0
        for piece in layout:
            stop = start + piece.length
            if piece.variable is not None:
                names.setdefault(piece.variable, f"{base}[{start}:{stop}]")
                if len(layout) == 1:
                    whole.setdefault(piece.variable, base)
            start = stop
    return names | whole
