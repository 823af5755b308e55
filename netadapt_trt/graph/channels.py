"""Channel groups and where they lie in a network's parameters.

What NetAdapt prunes per layer is here a *group*: filters tied by residual sums, depthwise convolutions, gates and shared
weights have one index set. Where grouped convolutions need blocks of equal length, a group's channel is a unit of several of
the network's channels, one in each block; its size and widths count units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from netadapt_trt.graph.walk import Role

__all__ = ["ChannelGroup", "Channels", "ParameterSlice", "Segment"]


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
