"""A child of a space as a plan, without PyTorch: what tracing and exporting the same network gives, batch norm folded.

Its layers have the keys that the traced network's have, so a child can be measured where there is no PyTorch and looked up
where there is. It has no channel groups: a search chooses blocks, and their widths are the space's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netadapt_trt.errors import SpecError
from netadapt_trt.plan.reshape import relative_shape
from netadapt_trt.plan.schema import Constant, Dim, Op, Plan, Tensor
from netadapt_trt.space.schema import SKIP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.plan.schema import Attribute
    from netadapt_trt.space.schema import Block, Place, Space

__all__ = ["FIXED", "child_plan", "choice_of", "names_of", "owner_of"]

FIXED = 0
"""What :func:`owner_of` says of the stem's and the head's operators, which every child has."""


def choice_of(space: Space, blocks: Sequence[str]) -> tuple[int, ...]:
    """Column of each place for block names in the order of the places. Raises SpecError for blocks that do not fit."""
    places, columns = space.places, space.columns
    if len(blocks) != len(places):
        raise SpecError(
            f"{len(blocks)} blocks for the {len(places)} layers of space {space.name}; name one for each, in order"
        )
    choice = []
    for place, name in zip(places, blocks, strict=True):
        offered = [columns[index] for index in place.candidates]
        if name not in offered:
            known = "is not offered there" if name in columns else "is no block of this space"
            raise SpecError(f"layer {place.number}: {name[:80]!r} {known}; offered: {', '.join(offered)}")
        choice.append(columns.index(name))
    return tuple(choice)


def names_of(space: Space, choice: Sequence[int]) -> tuple[str, ...]:
    """Block names of a choice of columns; the inverse of :func:`choice_of`. Raises SpecError for one that does not fit."""
    columns = space.columns
    if any(not 0 <= column < len(columns) for column in choice):
        raise SpecError(f"a choice of columns {list(choice)[:8]} is outside of the {len(columns)} of space {space.name}")
    names = tuple(columns[column] for column in choice)
    choice_of(space, names)
    return names


def owner_of(op: str) -> int:
    """The number of the place (from 1) that an operator of :func:`child_plan` belongs to, by its name; or :data:`FIXED`."""
    words = op.split(".")
    return int(words[1]) if words[0] == "places" else FIXED


def child_plan(space: Space, blocks: Sequence[str], *, batch: int = 1) -> Plan:
    """The network of ``space`` with these blocks, one name for each searchable layer, for ``batch`` pictures.

    Raises SpecError for blocks that do not fit.
    """
    choice = choice_of(space, blocks)
    maker = _Maker(space, batch)
    maker.conv("stem", space.stem.channels, space.stem.kernel, stride=space.stem.stride, relu=True)
    for place, column in zip(space.places, choice, strict=True):
        if space.columns[column] != SKIP:
            maker.block(place, space.blocks[column])
    maker.conv("head", space.head_channels, 1, relu=True)
    maker.classify(space.num_classes)
    return maker.plan(blocks)


class _Maker:
    """Adds operators one after another; ``_at`` names the last tensor, ``_shape`` is its (channels, height, width)."""

    def __init__(self, space: Space, batch: int) -> None:
        self._space, self._batch = space, batch
        self._ops: list[Op] = []
        self._weights: dict[str, Tensor] = {}
        self._constants: dict[str, Constant] = {}
        self._tensors: dict[str, Tensor] = {}
        self._shape: tuple[int, ...] = space.input_shape
        self._at = self._tensor("input", self._shape)

    def block(self, place: Place, block: Block) -> None:
        """1x1, the shuffle of channels between groups, depthwise with the stride, 1x1, and the input added."""
        name, before, inner = f"places.{place.number}", self._at, place.in_channels * block.expansion
        self.conv(f"{name}.expand", inner, 1, groups=block.groups, relu=True)
        if block.groups > 1:
            self._shuffle(f"{name}.shuffle", block.groups)
        self.conv(f"{name}.depthwise", inner, block.kernel, stride=place.stride, groups=inner, relu=True)
        self.conv(f"{name}.project", place.out_channels, 1, groups=block.groups)
        if place.keeps_shape:
            self._add(f"{name}.add", "Add", (before, self._at), self._shape)

    def conv(self, name: str, channels: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = False) -> None:
        """A convolution that keeps the picture's size but for the stride, batch norm folded into it."""
        into, height, width = self._shape
        pad = kernel // 2
        weight = self._weight(f"{name}.conv.weight", (channels, into // groups, kernel, kernel))
        bias = self._weight(f"{name}.conv.bias", (channels,))
        self._shape = (channels, -(-height // stride), -(-width // stride))
        attributes: dict[str, Attribute] = {
            "group": groups,
            "kernel_shape": (kernel, kernel),
            "pads": (pad,) * 4,
            "strides": (stride, stride),
        }
        self._add(name, "Conv", (self._at, weight, bias), self._shape, attributes)
        if relu:
            self._add(f"{name}.relu", "Relu", (self._at,), self._shape)

    def classify(self, classes: int) -> None:
        """The mean over the picture and the linear layer."""
        channels = self._shape[0]
        self._add("pool", "GlobalAveragePool", (self._at,), (channels, 1, 1))
        self._add("flatten", "Flatten", (self._at,), (channels,), {"axis": 1})
        weight, bias = self._weight("classifier.weight", (classes, channels)), self._weight("classifier.bias", (classes,))
        self._add("output", "Gemm", (self._at, weight, bias), (classes,), {"transB": 1})

    def plan(self, blocks: Sequence[str]) -> Plan:
        """What has been added so far."""
        return Plan(
            model="zoo:block_network",
            args={"space": self._space.name, "blocks": "+".join(blocks)},
            inputs=("input",),
            outputs=(self._at,),
            groups=(),
            frozen=(),
            tensors=self._tensors,
            weights=self._weights,
            constants=self._constants,
            ops=tuple(self._ops),
            num_classes=self._space.num_classes,
        )

    def _shuffle(self, name: str, groups: int) -> None:
        """Channel c of group g goes to place c * groups + g (Zhang et al., ShuffleNet, CVPR 2018)."""
        channels, height, width = self._shape
        apart = (groups, channels // groups, height, width)
        self._reshape(f"{name}.apart", apart)
        turned = (apart[1], apart[0], height, width)
        self._add(f"{name}.turn", "Transpose", (self._at,), turned, {"perm": (0, 2, 1, 3, 4)})
        self._reshape(f"{name}.together", (channels, height, width))

    def _reshape(self, name: str, shape: tuple[int, ...]) -> None:
        """The target is written as the export does."""
        values = relative_shape(self._sizes(self._tensors[self._at]), (self._batch, *shape))
        target = f"{name}.shape"
        self._constants[target] = Constant(target, "int64", (len(values),), values)
        self._add(name, "Reshape", (self._at, target), shape)

    def _add(
        self,
        name: str,
        op_type: str,
        inputs: tuple[str, ...],
        shape: tuple[int, ...],
        attributes: Mapping[str, Attribute] | None = None,
    ) -> None:
        """One operator whose result has ``shape`` after the batch."""
        self._at = self._tensor(f"{name}.out" if name != "output" else name, shape)
        self._ops.append(Op(name, op_type, inputs, (self._at,), attributes or {}))

    def _tensor(self, name: str, shape: Sequence[int]) -> str:
        self._tensors[name] = Tensor(name, "float32", tuple(Dim(size) for size in (self._batch, *shape)))
        return name

    def _weight(self, name: str, shape: Sequence[int]) -> str:
        self._weights[name] = Tensor(name, "float32", tuple(Dim(size) for size in shape))
        return name

    @staticmethod
    def _sizes(tensor: Tensor) -> tuple[int, ...]:
        return tuple(size.const for size in tensor.shape)
