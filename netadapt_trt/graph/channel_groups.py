"""Finds channel groups: which slices of which parameters must be cut together, read from the exported program.

Channels that an operator without a rule touches are frozen and listed, never cut wrongly.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from netadapt_trt.graph.channels import ChannelGroup, Channels, ParameterSlice, Segment
from netadapt_trt.graph.rules import apply_rule
from netadapt_trt.graph.trace import shared_names, unreached_parameters
from netadapt_trt.graph.verify import verified
from netadapt_trt.graph.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from netadapt_trt.graph.trace import Traced

__all__ = ["find_channel_groups"]


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

    A sum with a concatenation divides a layer's filters; a part that no layer makes alone is named by its positions. Blocks
    that are all alike (a grouped convolution's) are no parts.
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
                if all(other.variable == piece.variable for other in layout):
                    whole.setdefault(piece.variable, base)
            start = stop
    return names | whole
