"""Whether a space can be built: whatever does not fit is said here, before anything is measured or trained."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from netadapt_trt.errors import SpecError
from netadapt_trt.files import shown
from netadapt_trt.space.schema import SKIP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netadapt_trt.space.schema import Space

__all__ = ["check_space"]

# Far wider than any network that is searched for; they keep a mistyped digit from asking for all the memory there is.
_SIDE = 4096
_CHANNELS = 65_536
_CLASSES = 1_000_000
_KERNEL = 15
_STRIDE = 8
_EXPANSION = 64
_PLACES = 200
_BLOCKS = 100
_ACTIVATION = 1 << 28
_WEIGHTS = 1 << 31

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


def check_space(space: Space) -> Space:
    """``space`` itself, if it can be built.

    Raises:
        SpecError: what does not fit first, where, and what would.
    """
    for complaint in _complaints(space):
        raise SpecError(f"space {space.name[:80]!r}: {complaint}")
    return space


def _complaints(space: Space) -> Iterator[str]:
    # In an order in which each may rely on those before it.
    yield from _sizes(space)
    yield from _blocks(space)
    yield from _stages(space)
    yield from _shapes(space)
    yield from _groups(space)
    yield from _amounts(space)


def _outside(what: str, value: int, high: int) -> Iterator[str]:
    if not 1 <= value <= high:
        yield f"{what} is {shown(value)}; it must be from 1 to {high}"


def _sizes(space: Space) -> Iterator[str]:
    if not _NAME.fullmatch(space.name):
        yield "the name may hold letters, digits, '_', '.' and '-', at most 80, and begins with a letter or digit"
    for what, value, high in zip(("channels", "height", "width"), space.input_shape, (_CHANNELS, _SIDE, _SIDE), strict=True):
        yield from _outside(f"the input's {what}", value, high)
    yield from _outside("num_classes", space.num_classes, _CLASSES)
    yield from _outside("head_channels", space.head_channels, _CHANNELS)
    yield from _outside("stem.channels", space.stem.channels, _CHANNELS)
    yield from _kernel("stem.kernel", space.stem.kernel)
    yield from _outside("stem.stride", space.stem.stride, _STRIDE)


def _kernel(what: str, kernel: int) -> Iterator[str]:
    yield from _outside(what, kernel, _KERNEL)
    if kernel % 2 == 0:
        yield f"{what} is {kernel}; an even kernel does not keep the picture's size, use an odd one"


def _blocks(space: Space) -> Iterator[str]:
    if not space.blocks:
        yield "it has no blocks; a search needs at least one to put in a layer"
    if len(space.blocks) > _BLOCKS:
        yield f"it has {len(space.blocks)} blocks; at most {_BLOCKS} are taken"
    seen: set[str] = set()
    for block in space.blocks:
        if not _NAME.fullmatch(block.name):
            yield f"block name {block.name[:80]!r}: use letters, digits, '_', '.' and '-', at most 80"
        if block.name == SKIP:
            yield f"a block is named {SKIP!r}; that name means passing the input on, call the block something else"
        if block.name in seen:
            yield f"two blocks are named {block.name!r}; each needs a name of its own"
        seen.add(block.name)
        yield from _kernel(f"the kernel of block {block.name}", block.kernel)
        yield from _outside(f"the expansion of block {block.name}", block.expansion, _EXPANSION)
        yield from _outside(f"the groups of block {block.name}", block.groups, _CHANNELS)


def _stages(space: Space) -> Iterator[str]:
    if not space.stages:
        yield "it has no stages; a search needs at least one layer to choose a block for"
    for number, stage in enumerate(space.stages, start=1):
        yield from _outside(f"the channels of stage {number}", stage.channels, _CHANNELS)
        yield from _outside(f"the repeats of stage {number}", stage.repeats, _PLACES)
        yield from _outside(f"the stride of stage {number}", stage.stride, _STRIDE)
    if (places := sum(stage.repeats for stage in space.stages)) > _PLACES:
        yield f"its stages have {places} searchable layers; at most {_PLACES} are taken"


def _shapes(space: Space) -> Iterator[str]:
    height, width = space.input_shape[1:]
    strides = [("the stem", space.stem.stride)]
    strides += [(f"stage {number}", stage.stride) for number, stage in enumerate(space.stages, start=1)]
    for what, stride in strides:
        if min(height, width) < stride:
            yield (
                f"{what} has stride {stride}, but the picture there is {height}x{width} already and shrinks to nothing; "
                f"take a stride of 1, or larger pictures"
            )
        height, width = -(-height // stride), -(-width // stride)


def _groups(space: Space) -> Iterator[str]:
    for block in space.blocks:
        for place in space.places:
            for what, channels in (("input", place.in_channels), ("output", place.out_channels)):
                if channels % block.groups:
                    yield (
                        f"block {block.name} has {block.groups} groups, which do not divide the {channels} {what} channels "
                        f"of layer {place.number} (stage {place.stage + 1}); change the groups or the stage's channels"
                    )


def _amounts(space: Space) -> Iterator[str]:
    widest = max(block.expansion for block in space.blocks)
    weights = 0
    for place in space.places:
        inner = place.in_channels * widest
        if (elements := inner * place.height * place.width) > _ACTIVATION:
            yield (
                f"in layer {place.number} the widest block makes {elements:,} numbers of one picture ({inner} channels of "
                f"{place.height}x{place.width}); at most {_ACTIVATION:,} are taken: use less channels, expansion or size"
            )
        for block in space.blocks:
            inner = place.in_channels * block.expansion
            weights += inner * ((place.in_channels + place.out_channels) // block.groups + block.kernel**2)
    weights += space.head_channels * (space.places[-1].out_channels + space.num_classes)
    if weights > _WEIGHTS:
        yield f"all its blocks together have {weights:,} weights; at most {_WEIGHTS:,} are taken: use less or smaller ones"
