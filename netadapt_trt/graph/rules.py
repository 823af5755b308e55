"""How each ATen operator passes channels on: one small function per kind, one table from names to functions.

A rule reads the layouts of the node's inputs, ties what must shrink together and sets the layouts of its output. Where it
cannot be exact it gives up, which freezes the channels and lists the operator; a name without a rule does the same.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch

from netadapt_trt.graph.layout import Piece, scaled
from netadapt_trt.graph.walk import elements, operator_name, where_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import Node

    from netadapt_trt.graph.layout import Layout
    from netadapt_trt.graph.walk import Walk

__all__ = ["apply_rule"]

Rule = "Callable[[Walk, Node], None]"


def apply_rule(walk: Walk, node: Node) -> None:
    """Follow one ``call_function`` node."""
    name = operator_name(node)
    if node.target is operator.getitem:
        _getitem(walk, node)
    elif name in _IGNORED:
        walk.untracked(node)
    elif name in _RULES:
        _RULES[name](walk, node)
    elif any(walk.shape(source) is not None and any(walk.dims(source)) for source in node.all_input_nodes):
        walk.give_up(node)
    else:
        walk.untracked(node)  # nothing that could be cut goes in


def _getitem(walk: Walk, node: Node) -> None:
    source, index = node.args
    found = walk.values.get(source)  # type: ignore[arg-type]
    if isinstance(found, list) and isinstance(index, int):
        walk.values[node] = found[index]
    else:
        walk.untracked(node)


def _same(walk: Walk, node: Node) -> None:
    source = node.args[0]
    if walk.shape(source) != walk.shape(node):
        walk.give_up(node)
    else:
        walk.set(node, walk.dims(source))


def _spatial(walk: Walk, node: Node) -> None:
    """Batch and channels pass; the dimensions behind them may change size, so nothing tracked may lie along them."""
    source = node.args[0]
    dims = walk.dims(source)
    if any(dims[2:]):
        walk.give_up(node)
        return
    value = node.meta.get("val")
    if isinstance(value, list | tuple):
        walk.values[node] = [(*dims[:2], *([None] * (item.dim() - 2))) for item in value]
    else:
        walk.set(node, (*dims[:2], *([None] * (len(walk.shape(node) or ()) - 2))))


def _pad(walk: Walk, node: Node) -> None:
    pads: Any = node.args[1]
    rank = len(walk.shape(node.args[0]) or ())
    if len(pads) > 2 * (rank - 2) and any(pads[2 * (rank - 2) :]):
        walk.give_up(node)
    else:
        _spatial(walk, node)


def _elementwise(walk: Walk, node: Node) -> None:
    """Operands are aligned at their last dimension; a size of one is repeated and ties nothing."""
    shape = walk.shape(node)
    if shape is None:
        walk.untracked(node)
        return
    operands = [source for source in node.args if walk.shape(source) is not None]
    out: list[Layout | None] = [None] * len(shape)
    for position in range(1, len(shape) + 1):
        size = shape[-position]
        there = [s for s in operands if len(walk.shape(s) or ()) >= position and (walk.shape(s) or ())[-position] == size]
        values = [source for source in there if walk.parameter(source) is None]
        layouts = [walk.dims(source)[-position] for source in values]
        if not any(layouts) or size == 1:
            continue
        first = next(layout for layout in layouts if layout)
        for layout in layouts:
            walk.variables.tie(first, layout, where_of(node))
        for source in there:
            name = walk.parameter(source)
            if name is not None:
                walk.bind(name, len(walk.shape(source) or ()) - position, first, "tie")
        out[-position] = first
    walk.set(node, out)


def _convolution(walk: Walk, node: Node) -> None:
    source, weight = node.args[0], node.args[1]
    bias = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
    groups: Any = node.args[6] if len(node.args) > 6 else node.kwargs.get("groups", 1)
    name, shape = walk.parameter(weight), walk.shape(weight)
    if name is None or shape is None or any(walk.dims(source)[2:]):
        walk.give_up(node, f"the convolution in {where_of(node)} has a computed weight or channels along its maps")
        return
    channels = walk.dims(source)[1]
    if groups == 1:
        if channels is not None:
            walk.bind(name, 1, channels, "consume")
        made = _made(walk, name, shape[0])
    elif shape[1] == 1 and channels is not None:
        # Depthwise: filter c * m + j reads channel c, so each channel owns m neighbouring filters.
        made = scaled(channels, shape[0] // groups)
        walk.bind(name, 0, made, "tie")
    else:
        if shape[1] != 1:
            walk.give_up(node, f"grouped convolution (groups={groups}) in {where_of(node)}")
            return
        walk.untracked(node)
        return
    if bias is not None:
        _bind_all(walk, bias, made)
    out = walk.shape(node) or ()
    walk.set(node, (walk.dims(source)[0], made, *([None] * (len(out) - 2))))


def _made(walk: Walk, parameter: str, size: int) -> Layout:
    """The channels that a weight's filters make: the same ones each time the weight is used."""
    known = walk.parameters.get((parameter, 0))
    if known is not None:
        return known[1]
    layout = walk.variables.new(parameter.removesuffix(".weight"), size)
    walk.bind(parameter, 0, layout, "produce")
    return layout


def _bind_all(walk: Walk, node: Any, layout: Layout) -> None:
    name = walk.parameter(node)
    if name is None:
        walk.variables.freeze(layout, f"a computed bias or scale ({getattr(node, 'name', node)})")
    else:
        walk.bind(name, 0, layout, "produce" if name.endswith("bias") else "tie")


def _linear(walk: Walk, node: Node) -> None:
    source, weight = node.args[0], node.args[1]
    bias = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
    name, shape = walk.parameter(weight), walk.shape(weight)
    if name is None or shape is None:
        walk.give_up(node, f"the linear layer in {where_of(node)} has a computed weight")
        return
    dims = walk.dims(source)
    if dims[-1] is not None:
        walk.bind(name, 1, dims[-1], "consume")
    made = _made(walk, name, shape[0])
    if bias is not None:
        _bind_all(walk, bias, made)
    walk.set(node, (*dims[:-1], made))


def _batch_norm(walk: Walk, node: Node) -> None:
    source = node.args[0]
    layout = walk.dims(source)[1]
    if layout is not None:
        for statistic in node.args[1:5]:
            if statistic is not None:
                name = walk.parameter(statistic)
                if name is None:
                    walk.variables.freeze(layout, f"a computed scale in {where_of(node)}")
                else:
                    walk.bind(name, 0, layout, "tie")
    walk.set(node, walk.dims(source))


def _prelu(walk: Walk, node: Node) -> None:
    source, weight = node.args
    layout = walk.dims(source)[1]
    if layout is not None and elements(walk.shape(weight) or ()) > 1:
        _bind_all(walk, weight, layout)
    walk.set(node, walk.dims(source))


def _reduce(walk: Walk, node: Node) -> None:
    source = node.args[0]
    dims, rank = walk.dims(source), len(walk.shape(source) or ())
    axes: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    if axes is None:
        axes = range(rank)
    reduced = {axis % rank for axis in ([axes] if isinstance(axes, int) else axes)}
    if any(dims[axis] for axis in reduced):
        walk.give_up(node)
        return
    keep = len(walk.shape(node) or ()) == rank
    walk.set(node, [dims[axis] for axis in range(rank) if keep or axis not in reduced])


def _softmax(walk: Walk, node: Node) -> None:
    source, axis = node.args[0], node.args[1]
    dims = walk.dims(source)
    if not isinstance(axis, int) or dims[axis]:
        walk.give_up(node)  # a share of a sum over channels changes when channels go
    else:
        walk.set(node, dims)


def _concatenate(walk: Walk, node: Node) -> None:
    sources: Any = node.args[0]
    rank = len(walk.shape(node) or ())
    axis: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    axis %= rank
    out: list[Layout | None] = []
    for position in range(rank):
        layouts = [walk.dims(source)[position] for source in sources]
        if position == axis:
            out.append(_joined(layouts, [(walk.shape(source) or ())[axis] for source in sources]))
            continue
        first = next((layout for layout in layouts if layout), None)
        if first is not None:
            for layout in layouts:
                walk.variables.tie(first, layout, where_of(node))
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
    """Dimensions are matched in blocks of equal product; merging one channel dimension with what follows it is exact."""
    source = node.args[0]
    before, after, dims = walk.shape(source), walk.shape(node), walk.dims(source)
    if before is None or after is None:
        walk.give_up(node)
        return
    out: list[Layout | None] = [None] * len(after)
    for olds, news in _blocks(before, after):
        tracked = [axis for axis in olds if dims[axis]]
        if not tracked:
            continue
        wide_olds = [axis for axis in olds if before[axis] > 1]
        wide_news = [axis for axis in news if after[axis] > 1]
        layout = dims[tracked[0]]
        if layout is None or len(tracked) > 1 or len(wide_news) != 1 or wide_olds[0] != tracked[0]:
            walk.give_up(node, f"reshape {before} -> {after} in {where_of(node)}")
            return
        out[wide_news[0]] = scaled(layout, elements(before[axis] for axis in wide_olds[1:]))
    walk.set(node, out)


def _blocks(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    blocks: list[tuple[list[int], list[int]]] = []
    old = new = 0
    while old < len(before) or new < len(after):
        olds, news, left, right = [], [], 1, 1
        if old < len(before):
            olds, left, old = [old], before[old], old + 1
        if new < len(after):
            news, right, new = [new], after[new], new + 1
        while left != right:
            if left < right and old < len(before):
                left, olds, old = left * before[old], [*olds, old], old + 1
            elif new < len(after):
                right, news, new = right * after[new], [*news, new], new + 1
            else:
                break
        blocks.append((olds, news))
    return blocks


def _permute(walk: Walk, node: Node) -> None:
    order: Any = node.args[1]
    dims = walk.dims(node.args[0])
    walk.set(node, [dims[axis] for axis in order])


def _transpose(walk: Walk, node: Node) -> None:
    dims = list(walk.dims(node.args[0]))
    first, second = (node.args[1], node.args[2]) if len(node.args) > 2 else (0, 1)
    if isinstance(first, int) and isinstance(second, int):
        dims[first], dims[second] = dims[second], dims[first]
    walk.set(node, dims)


def _slice(walk: Walk, node: Node) -> None:
    """A part of a dimension: exact where no channels lie along it."""
    source = node.args[0]
    axis: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if operator_name(node) in ("split", "split_with_sizes", "chunk", "unbind"):
        axis = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    dims = walk.dims(source)
    if dims and dims[axis]:
        if walk.shape(source) == walk.shape(node):
            walk.set(node, dims)
        else:
            walk.give_up(node, f"{operator_name(node)} of channels in {where_of(node)}")
        return
    value = node.meta.get("val")
    dropped = operator_name(node) in ("select", "unbind")
    left = [layout for position, layout in enumerate(dims) if not dropped or position != axis % len(dims)]
    if isinstance(value, list | tuple):
        walk.values[node] = [tuple(left) for item in value if isinstance(item, torch.Tensor)]
    else:
        walk.set(node, left)


def _table() -> dict[str, Any]:
    same = (
        "relu relu6 hardtanh hardswish hardsigmoid silu gelu sigmoid tanh elu selu celu leaky_relu mish softplus softsign "
        "log_sigmoid hardshrink softshrink dropout feature_dropout alpha_dropout clone contiguous detach alias clamp "
        "clamp_min clamp_max neg abs exp sqrt rsqrt square to _to_copy lift_fresh_copy expand expand_as rrelu threshold erf"
    )
    spatial = (
        "avg_pool2d max_pool2d adaptive_avg_pool2d adaptive_max_pool2d max_pool2d_with_indices avg_pool1d max_pool1d "
        "adaptive_avg_pool1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa lp_pool2d"
    )
    rules: dict[str, Any] = dict.fromkeys(same.split(), _same)
    rules.update(dict.fromkeys(spatial.split(), _spatial))
    rules.update(dict.fromkeys(["add", "sub", "mul", "div", "rsub", "maximum", "minimum", "pow"], _elementwise))
    rules.update(dict.fromkeys(["mean", "sum", "amax", "amin"], _reduce))
    rules.update(dict.fromkeys(["view", "reshape", "_unsafe_view", "flatten", "squeeze", "unsqueeze"], _reshape))
    rules.update(dict.fromkeys(["slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind"], _slice))
    rules.update(dict.fromkeys(["conv1d", "conv2d", "conv3d"], _convolution))
    rules.update(dict.fromkeys(["pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"], _pad))
    rules.update(dict.fromkeys(["softmax", "log_softmax", "_softmax", "_log_softmax"], _softmax))
    return {
        **rules,
        "linear": _linear,
        "batch_norm": _batch_norm,
        "prelu": _prelu,
        "cat": _concatenate,
        "concat": _concatenate,
        "permute": _permute,
        "transpose": _transpose,
        "t": _transpose,
    }


_RULES = _table()
# They compute nothing that is read; torch.export leaves them in as checks.
_IGNORED = ("_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range_for_size")
