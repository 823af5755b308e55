"""Which kernels of an engine run, read from the inspector's JSON: their ONNX names, tensors, and which of them only copy."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import BackendError

from ..attribution import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["read_entries"]

_ONNX_LAYER = re.compile(r"\[ONNX Layer: (.*?)\](?=$|[\x1e\x1f\s,;\[])")
_WRAPPING = re.compile(r"PWN\(|[()]")
# Our own writers' names for what brings a tensor into another type.
_CONVERSION = re.compile(r"(Quantize|Dequantize)Linear$|_fp16_*$|_fp32$")
# Myelin's own copies keep no ONNX name; its other kernels that keep none are not guessed at.
_MYELIN_COPY = re.compile(r"__myl_(Move|Tran|Copy|Cast|Resh)+_")
_RANGE = re.compile(r"\{ForeignNode\[(.*?)\.\.\.(.*?)\]\}")


def read_entries(text: str) -> tuple[Entry, ...]:
    """Entries in the order they run, from the inspector's JSON (engines built with DETAILED, or with names only).

    Raises BackendError for anything else.
    """
    try:
        # Not strict: the names in the metadata are separated by control characters, which some releases do not escape.
        layers = json.loads(text, strict=False)["Layers"]
        return tuple(_named(layer) if isinstance(layer, str) else _described(layer) for layer in layers)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendError(f"the engine inspector's answer is not understood ({error}): {text[:120]!r}") from error


def _described(layer: Mapping[str, Any]) -> Entry:
    name, kind = layer["Name"], layer.get("LayerType", "")
    nodes = tuple(dict.fromkeys(_ONNX_LAYER.findall(layer.get("Metadata") or ""))) or _nodes_in_name(name)
    return Entry(
        name=name,
        kind=kind,
        nodes=nodes,
        inputs=tuple(tensor["Name"] for tensor in layer.get("Inputs") or ()),
        outputs=tuple(tensor["Name"] for tensor in layer.get("Outputs") or ()),
        copies=_copies(name, kind, nodes),
    )


def _named(name: str) -> Entry:
    nodes = _nodes_in_name(name)
    return Entry(name=name, nodes=nodes, copies=_copies(name, "", nodes))


def _copies(name: str, kind: str, nodes: tuple[str, ...]) -> bool:
    if kind == "Reformat" or name.startswith("Reformatting CopyNode"):
        return True
    if nodes:
        return all(_CONVERSION.search(node) for node in nodes)
    return bool(_MYELIN_COPY.match(name))


def _nodes_in_name(name: str) -> tuple[str, ...]:
    """Names as TensorRT joins them: ``a + b``, ``a || b``, ``PWN(PWN(a), b)``; of ``{ForeignNode[a...b]}`` both ends."""
    if name.startswith(("Reformatting CopyNode", "__myl")):
        return ()
    foreign = _RANGE.search(name)
    if foreign:
        return (foreign[1], "...", foreign[2])
    parts = re.split(r" \+ | \|\| |, ", _WRAPPING.sub("", name))
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
