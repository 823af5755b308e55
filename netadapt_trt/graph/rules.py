"""How each ATen operator passes channels on: one small function per kind, one table from names to functions.

A rule reads the layouts of the node's inputs, ties what must shrink together and sets the layouts of its output. Where it
cannot be exact it refuses, which freezes the channels and lists the operator; a name without a rule does the same.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from netadapt_trt.graph.layout import Piece, scaled
from netadapt_trt.graph.walk import elements, operator_name, tensor_inputs, where_of
from netadapt_trt.plan.reshape import CHANNEL_AXIS, matched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch.fx import Node

    from netadapt_trt.graph.layout import Layout
    from netadapt_trt.graph.walk import Walk

__all__ = ["apply_rule"]


def apply_rule(walk: Walk, node: Node) -> None:
    """Follow one ``call_function`` node."""
    name = operator_name(node)
    if node.target is operator.getitem:
        _getitem(walk, node)
    elif name in _RULES:
        _RULES[name](walk, node)
    else:
        walk.give_up(node)


def _argument(node: Node, position: int, name: str, default: Any = None) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _rank(walk: Walk, node: Any) -> int:
    return len(walk.shape(node) or ())


def _getitem(walk: Walk, node: Node) -> None:
    source, index = node.args
    found = walk.values.get(source)  # type: ignore[arg-type]
    if isinstance(found, list) and isinstance(index, int):
        walk.values[node] = found[index]
    else:
        walk.give_up(node)


def _elementwise(walk: Walk, node: Node) -> None:
    """One or more operands, aligned at their last dimension; a size of one is repeated and ties nothing."""
    shape = walk.shape(node)
    if shape is None:
        walk.give_up(node)
        return
    out: list[Layout | None] = [None] * len(shape)
    for position in range(1, len(shape) + 1):
        there = [
            walk.dims(source)[-position]
            for source in tensor_inputs(node)
            if _rank(walk, source) >= position and (walk.shape(source) or ())[-position] == shape[-position]
        ]
        first = next((layout for layout in there if layout), None)
        if first is not None:
            for layout in there:
                walk.tie(first, layout, node)
        out[-position] = first
    walk.set(node, out)


def _spatial(kept: int) -> Callable[[Walk, Node], None]:
    """The last ``kept`` dimensions change their size, so nothing tracked may lie along them; those before pass."""

    def rule(walk: Walk, node: Node) -> None:
        source = node.args[0]
        dims = walk.dims(source)
        lead = len(dims) - kept
        if len(tensor_inputs(node)) > 1 or any(dims[lead:]):
            walk.give_up(node)
            return
        value = node.meta.get("val")
        if isinstance(value, list | tuple):
            walk.values[node] = [(*dims[:lead], *([None] * kept)) for _ in value]
        else:
            walk.set(node, (*dims[:lead], *([None] * kept)))

    return rule


def _pad(walk: Walk, node: Node) -> None:
    """Constant channels may stand before and after the tracked ones; only spatial dimensions may be mirrored."""
    source, pads = node.args[0], list(_argument(node, 1, "pad", ()))
    mode = _argument(node, 2, "mode", "constant") if operator_name(node) == "pad" else operator_name(node)
    dims = list(walk.dims(source))
    for index in range(0, len(pads), 2):
        axis, before, after = len(dims) - 1 - index // 2, pads[index], pads[index + 1]
        layout = dims[axis]
        if layout is None or not (before or after):
            continue
        if mode not in ("constant", "constant_pad_nd") or min(before, after) < 0:
            walk.give_up(node)
            return
        beside = [(Piece(None, size),) if size else () for size in (before, after)]
        dims[axis] = (*beside[0], *layout, *beside[1])
    walk.set(node, dims)


def _convolution(walk: Walk, node: Node) -> None:
    source, weight = node.args[0], node.args[1]
    groups = _argument(node, 6, "groups", 1)
    shape = walk.shape(weight) or ()
    axis = _rank(walk, source) - len(shape) + 1
    dims, filters = walk.dims(source), walk.dims(weight)
    if walk.name_of(weight) is None or any(dims[axis + 1 :]):
        walk.give_up(node, f"convolution with a computed weight, or channels along its maps, in {where_of(node)}")
        return
    if groups == 1:
        walk.role(weight, 0, "produce")
        walk.role(weight, 1, "consume")
        walk.tie(filters[1], dims[axis], node)
    elif shape[1] == 1:
        # Depthwise: filter c * m + j reads channel c, so each channel owns m neighbouring filters.
        channels = dims[axis]
        walk.tie(filters[0], None if channels is None else scaled(channels, shape[0] // groups), node)
    else:
        # The weight has the columns of one block: the same channels of every block go, and as many filters of each.
        walk.role(weight, 0, "produce")
        walk.role(weight, 1, "consume")
        reason = f"grouped convolution (groups={groups}) in {where_of(node)}"
        walk.tie(filters[1], walk.alike(dims[axis], groups, node, reason), node)
        walk.alike(filters[0], groups, node, reason)
    _tie_vector(walk, node, _argument(node, 2, "bias"), filters[0])
    walk.set(node, (*dims[:axis], filters[0], *([None] * (len(dims) - axis - 1))))


def _tie_vector(walk: Walk, node: Node, vector: Any, layout: Layout | None) -> None:
    """A bias, scale or statistic with one number per channel."""
    if vector is not None:
        walk.tie(layout, walk.dims(vector)[0], node)


def _linear(walk: Walk, node: Node) -> None:
    source, weight = node.args[0], node.args[1]
    if walk.name_of(weight) is None:
        walk.give_up(node, f"linear layer with a computed weight in {where_of(node)}")
        return
    dims, filters = walk.dims(source), walk.dims(weight)
    walk.role(weight, 0, "produce")
    walk.role(weight, 1, "consume")
    walk.tie(filters[1], dims[-1], node)
    _tie_vector(walk, node, _argument(node, 2, "bias"), filters[0])
    walk.set(node, (*dims[:-1], filters[0]))


def _norm_per_channel(walk: Walk, node: Node) -> None:
    """Batch norm; instance norm with statistics of its own input treats channels one by one, too."""
    dims = walk.dims(node.args[0])
    for statistic in node.args[1:5]:
        _tie_vector(walk, node, statistic, dims[1])
    walk.set(node, dims)


def _prelu(walk: Walk, node: Node) -> None:
    source, weight = node.args
    dims = walk.dims(source)
    if elements(walk.shape(weight) or ()) > 1:
        _tie_vector(walk, node, weight, dims[1])
    walk.set(node, dims)


def _reduce(walk: Walk, node: Node) -> None:
    """Sums and means: exact where no channels lie along what is reduced."""
    dims = walk.dims(node.args[0])
    rank = len(dims)
    axes = _argument(node, 1, "dim")
    axes = range(rank) if axes is None or axes == [] else [axes] if isinstance(axes, int) else axes
    reduced = {axis % rank for axis in axes}
    value = node.meta.get("val")
    if isinstance(value, list | tuple):
        walk.give_up(node)
        return
    for axis in reduced:
        walk.refuse(dims[axis], f"{operator_name(node)} over channels in {where_of(node)}")
    keep = _rank(walk, node) == rank
    walk.set(node, [None if axis in reduced else dims[axis] for axis in range(rank) if keep or axis not in reduced])


def _softmax(walk: Walk, node: Node) -> None:
    axis = _argument(node, 1, "dim")
    _mixes(walk, node, [axis])


def _norm_over_channels(walk: Walk, node: Node) -> None:
    """Layer norm over the last dimensions, group norm over parts of the channels."""
    last = len(_argument(node, 1, "normalized_shape")) if operator_name(node) != "group_norm" else 0
    _mixes(walk, node, range(-last, 0) if last else [1])


def _mixes(walk: Walk, node: Node, axes: Iterable[int]) -> None:
    """The output has its input's dimensions, but along ``axes`` each value depends on all: they stay as they are."""
    dims = walk.dims(node.args[0])
    for axis in axes:
        walk.refuse(dims[axis], f"{operator_name(node)} over channels in {where_of(node)}")
    walk.set(node, dims)


def _concatenate(walk: Walk, node: Node) -> None:
    sources: Any = node.args[0]
    rank = _rank(walk, node)
    axis = _argument(node, 1, "dim", 0) % rank
    if any(_rank(walk, source) != rank for source in sources):
        walk.give_up(node)
        return
    out: list[Layout | None] = []
    for position in range(rank):
        layouts = [walk.dims(source)[position] for source in sources]
        if position == axis:
            out.append(_joined(layouts, [(walk.shape(source) or ())[axis] for source in sources]))
            continue
        first = next((layout for layout in layouts if layout), None)
        if first is not None:
            for layout in layouts:
                walk.tie(first, layout, node)
        out.append(first)
    walk.set(node, out)


def _joined(layouts: Sequence[Layout | None], sizes: Sequence[int]) -> Layout | None:
    if not any(layouts):
        return None
    pieces: list[Piece] = []
    for layout, size in zip(layouts, sizes, strict=True):
        pieces.extend(layout if layout is not None else (Piece(None, size),))
    return tuple(pieces)


def _reshape(walk: Walk, node: Node) -> None:
    """Dimensions are matched in blocks of equal product; merging one channel dimension with what follows it is exact.

    Dividing the channels into rows, as a channel shuffle does, is exact where the rows stay equally long.
    """
    source = node.args[0]
    before, after, dims = walk.shape(source) or (), walk.shape(node) or (), walk.dims(source)
    out: list[Layout | None] = [None] * len(after)
    for olds, news in matched(before, after):
        # Tracked dimensions are always longer than one, so a block with one has wide dimensions on both sides.
        tracked = [axis for axis in olds if dims[axis]]
        if not tracked:
            continue
        layout = dims[olds[0]]
        if olds == [CHANNEL_AXIS] and layout is not None and len(news) > 1:
            out[news[-1]] = _row(walk, node, layout, after[news[-1]])
            continue
        if layout is None or len(tracked) > 1 or len(news) != 1:
            for axis in tracked:
                walk.refuse(dims[axis], f"reshape {before} -> {after} in {where_of(node)}")
            continue
        out[news[0]] = scaled(layout, elements(before[axis] for axis in olds[1:]))
    walk.set(node, out)


def _row(walk: Walk, node: Node, layout: Layout, size: int) -> Layout | None:
    """What lies along each row of ``size`` positions. Rows that divide the positions of one channel are refused."""
    reason = f"reshape {walk.shape(node.args[0])} -> {walk.shape(node)} in {where_of(node)}"
    if any(piece.inner > 1 and piece.inner % size == 0 for piece in walk.variables.resolve(layout)):
        walk.refuse(layout, reason)
        return None
    return walk.alike(layout, sum(piece.length for piece in layout) // size, node, reason)


def _channel_shuffle(walk: Walk, node: Node) -> None:
    """Position (row, place) of ``groups`` rows goes to (place, row)."""
    source, groups = node.args[0], _argument(node, 1, "groups")
    dims = list(walk.dims(source))
    layout = dims[CHANNEL_AXIS]
    if layout is not None and groups > 1:
        row = _row(walk, node, layout, (walk.shape(source) or ())[CHANNEL_AXIS] // groups)
        dims[CHANNEL_AXIS] = None if row is None else scaled(row, groups)
    walk.set(node, dims)


def _permute(walk: Walk, node: Node) -> None:
    dims = walk.dims(node.args[0])
    walk.set(node, [dims[axis] for axis in _argument(node, 1, "dims")])


def _transpose(walk: Walk, node: Node) -> None:
    dims = list(walk.dims(node.args[0]))
    if len(dims) > 1:
        first, second = _argument(node, 1, "dim0", 0), _argument(node, 2, "dim1", 1)
        dims[first], dims[second] = dims[second], dims[first]
    walk.set(node, dims)


def _expand(walk: Walk, node: Node) -> None:
    """Only dimensions of size one grow, and those are never tracked."""
    sizes, dims = walk.shape(node.args[0]) or (), walk.dims(node.args[0])
    walk.set(node, [*([None] * (_rank(walk, node) - len(sizes))), *dims])


def _part(walk: Walk, node: Node) -> None:
    """A part of a dimension: exact where no channels lie along it."""
    source, name = node.args[0], operator_name(node)
    position = 2 if name in ("split", "split_with_sizes", "chunk") else 1
    dims = walk.dims(source)
    axis = _argument(node, position, "dim", 0) % len(dims)
    if dims[axis] and walk.shape(source) == walk.shape(node):
        walk.set(node, dims)
        return
    walk.refuse(dims[axis], f"{name} of channels in {where_of(node)}")
    dropped = name in ("select", "unbind")
    left = [None if at == axis else layout for at, layout in enumerate(dims) if not dropped or at != axis]
    value = node.meta.get("val")
    if isinstance(value, list | tuple):
        walk.values[node] = [tuple(left) for _ in value]
    else:
        walk.set(node, left)


def _nothing(walk: Walk, node: Node) -> None:
    """Checks that torch.export leaves in, and new tensors that only take a shape from their input."""
    walk.untracked(node)


_ELEMENT_BY_ELEMENT = (
    "relu relu6 hardtanh hardswish hardsigmoid silu gelu sigmoid tanh elu selu celu leaky_relu mish softplus softsign "
    "log_sigmoid hardshrink softshrink tanhshrink dropout feature_dropout alpha_dropout feature_alpha_dropout clone "
    "contiguous detach alias clamp clamp_min clamp_max clip neg abs exp expm1 log log1p sqrt rsqrt square reciprocal "
    "sin cos erf sign floor ceil round to _to_copy lift_fresh_copy rrelu threshold bitwise_not logical_not "
    "add sub mul div true_divide rsub maximum minimum pow where lerp addcmul addcdiv masked_fill "
    "eq ne gt ge lt le logical_and logical_or"
)
_POOLS = "avg_pool max_pool adaptive_avg_pool adaptive_max_pool"
_UPSAMPLERS = (
    "upsample_nearest1d upsample_linear1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_nearest_exact2d upsample_nearest3d upsample_trilinear3d "
    "max_pool2d_with_indices reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d"
)


def _table() -> dict[str, Callable[[Walk, Node], None]]:
    kinds: list[tuple[Callable[[Walk, Node], None], str]] = [
        (_elementwise, _ELEMENT_BY_ELEMENT),
        (_reduce, "mean sum amax amin"),
        (_reshape, "view reshape _unsafe_view flatten unflatten squeeze unsqueeze"),
        (_channel_shuffle, "channel_shuffle native_channel_shuffle"),
        (_part, "slice select narrow split split_with_sizes chunk unbind"),
        (_convolution, "conv1d conv2d conv3d"),
        (_linear, "linear"),
        (_norm_per_channel, "batch_norm instance_norm"),
        (_prelu, "prelu"),
        (_concatenate, "cat concat"),
        (_pad, "pad constant_pad_nd"),
        (_softmax, "softmax log_softmax"),
        (_norm_over_channels, "layer_norm rms_norm group_norm"),
        (_permute, "permute"),
        (_transpose, "transpose t"),
        (_expand, "expand expand_as"),
        (_nothing, "_assert_tensor_metadata _assert_scalar sym_constrain_range_for_size"),
        (_nothing, "zeros_like ones_like full_like new_zeros new_ones new_full empty_like"),
    ]
    rules = {name: rule for rule, names in kinds for name in names.split()}
    for size in (1, 2, 3):
        rules |= {f"{pool}{size}d": _spatial(size) for pool in _POOLS.split()}
        rules |= {name: _spatial(size) for name in _UPSAMPLERS.split() if f"{size}d" in name}
    return rules


_RULES = _table()
