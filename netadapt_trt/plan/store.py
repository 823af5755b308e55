"""The plan file: JSON, checked on reading as if a stranger had written it.

``plan_hash`` is the identity of a network's structure: equal for equal graphs whatever the model or its modules are called.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError
from netadapt_trt.files import read_document, write_document
from netadapt_trt.plan.schema import Constant, Dim, FrozenChannels, Group, Op, Plan, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from netadapt_trt.plan.schema import Attribute

__all__ = ["FORMAT", "VERSION", "load_plan", "plan_hash", "save_plan"]

FORMAT = "netadapt-plan"
VERSION = 1

_DTYPES = (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
)  # fmt: skip


def save_plan(plan: Plan, path: Path) -> None:
    """Write ``plan`` to ``path`` in one step. Raises OSError."""
    write_document(path, format=FORMAT, version=VERSION, content=_plan_to_json(plan))


def load_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        FileFormatError: not a plan, of another version, or its parts do not fit together.
    """
    content = read_document(path, format=FORMAT, version=VERSION)
    try:
        plan = _plan_from_json(content)
        _check(plan)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise FileFormatError(f"{path} is a damaged plan: {error!r}; make it again with: netadapt-trt plan") from error
    return plan


def plan_hash(plan: Plan) -> str:
    """16 hexadecimal digits over graph and sizes, groups numbered in order; model, arguments and names do not count."""
    numbers = {group.name: f"g{index}" for index, group in enumerate(plan.groups)}
    names: dict[str, str] = {}

    def name(value: str) -> str:
        return "" if not value else names.setdefault(value, f"v{len(names)}")

    def dim(size: Dim) -> Any:
        return [size.const, sorted([numbers[group], factor] for group, factor in size.terms)]

    def attribute(value: Attribute) -> Any:
        return dim(value) if isinstance(value, Dim) else list(value) if isinstance(value, tuple) else value

    def source(value: str) -> Any:
        if value in plan.weights:
            return ["w", plan.weights[value].dtype, [dim(size) for size in plan.weights[value].shape]]
        if value in plan.constants:
            constant = plan.constants[value]
            return ["c", constant.dtype, list(constant.shape), list(constant.values)]
        return name(value)

    content = [
        [[name(value), [dim(size) for size in plan.tensors[value].shape]] for value in plan.inputs],
        [
            [
                op.op_type,
                [source(value) for value in op.inputs],
                [name(value) for value in op.outputs],
                sorted([key, attribute(value)] for key, value in op.attributes.items()),
            ]
            for op in plan.ops
        ],
        [name(value) for value in plan.outputs],
        [group.size for group in plan.groups],
    ]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()[:16]


def _dim_to_json(dim: Dim) -> Any:
    return dim.const if dim.fixed else {"const": dim.const, "groups": dict(dim.terms)}


def _dim_from_json(content: Any) -> Dim:
    if isinstance(content, dict):
        terms = tuple(sorted((str(group), _whole(factor)) for group, factor in content["groups"].items()))
        return Dim(_whole(content["const"]), terms)
    return Dim(_whole(content))


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _number_to_json(value: float) -> Any:
    """JSON has no infinity: it is written as a word."""
    return value if math.isfinite(value) else str(value)


def _number_from_json(value: Any) -> float:
    if isinstance(value, str) and value in ("inf", "-inf", "nan"):
        return float(value)
    if not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    return value


def _attribute_to_json(value: Attribute) -> Any:
    if isinstance(value, Dim):
        return {"dim": _dim_to_json(value)}
    if isinstance(value, tuple):
        return [_number_to_json(item) for item in value]
    return value if isinstance(value, str) or math.isfinite(value) else {"number": str(value)}


def _attribute_from_json(value: Any) -> Attribute:
    if isinstance(value, dict):
        return _number_from_json(value["number"]) if "number" in value else _dim_from_json(value["dim"])
    if isinstance(value, list):
        return tuple(_number_from_json(item) for item in value)
    if isinstance(value, int | float | str):
        return value
    raise ValueError(f"{value!r} is not an attribute")


def _tensors_to_json(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        name: {"dtype": tensor.dtype, "shape": [_dim_to_json(size) for size in tensor.shape]}
        for name, tensor in tensors.items()
    }


def _tensors_from_json(content: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        str(name): Tensor(str(name), str(entry["dtype"]), tuple(_dim_from_json(size) for size in entry["shape"]))
        for name, entry in content.items()
    }


def _plan_to_json(plan: Plan) -> dict[str, Any]:
    return {
        "model": plan.model,
        "args": dict(plan.args),
        "num_classes": plan.num_classes,
        "reset_head": plan.reset_head,
        "hash": plan_hash(plan),
        "notices": list(plan.notices),
        "inputs": list(plan.inputs),
        "outputs": list(plan.outputs),
        "groups": [{"name": g.name, "size": g.size, "weights": list(g.weights)} for g in plan.groups],
        "frozen": [{"name": f.name, "size": f.size, "reason": f.reason} for f in plan.frozen],
        "tensors": _tensors_to_json(plan.tensors),
        "weights": _tensors_to_json(plan.weights),
        "constants": {
            name: {"dtype": c.dtype, "shape": list(c.shape), "values": [_number_to_json(value) for value in c.values]}
            for name, c in plan.constants.items()
        },
        "ops": [
            {
                "name": op.name,
                "op_type": op.op_type,
                "inputs": list(op.inputs),
                "outputs": list(op.outputs),
                "attributes": {key: _attribute_to_json(value) for key, value in op.attributes.items()},
            }
            for op in plan.ops
        ],
    }


def _plan_from_json(content: Mapping[str, Any]) -> Plan:
    return Plan(
        model=str(content["model"]),
        args={str(key): str(value) for key, value in content["args"].items()},
        num_classes=None if content.get("num_classes") is None else _whole(content["num_classes"]),
        reset_head=bool(content.get("reset_head", False)),
        notices=tuple(str(text) for text in content["notices"]),
        inputs=tuple(str(name) for name in content["inputs"]),
        outputs=tuple(str(name) for name in content["outputs"]),
        groups=tuple(
            Group(str(g["name"]), _whole(g["size"]), tuple(str(name) for name in g["weights"])) for g in content["groups"]
        ),
        frozen=tuple(FrozenChannels(str(f["name"]), _whole(f["size"]), str(f["reason"])) for f in content["frozen"]),
        tensors=_tensors_from_json(content["tensors"]),
        weights=_tensors_from_json(content["weights"]),
        constants={
            str(name): Constant(
                str(name),
                str(c["dtype"]),
                tuple(_whole(size) for size in c["shape"]),
                tuple(_number_from_json(value) for value in c["values"]),
            )
            for name, c in content["constants"].items()
        },
        ops=tuple(
            Op(
                str(op["name"]),
                str(op["op_type"]),
                tuple(str(name) for name in op["inputs"]),
                tuple(str(name) for name in op["outputs"]),
                {str(key): _attribute_from_json(value) for key, value in op["attributes"].items()},
            )
            for op in content["ops"]
        ),
    )


def _check(plan: Plan) -> None:
    """Raises ValueError when names do not resolve or sizes are not positive at full width."""
    full = plan.full_widths()
    if len(full) != len(plan.groups) or any(size < 1 for size in full.values()):
        raise ValueError("two groups of one name, or a group without channels")
    known = {*plan.inputs, *plan.weights, *plan.constants, ""}
    for op in plan.ops:
        unknown = [name for name in op.inputs if name not in known]
        if unknown:
            raise ValueError(f"op {op.name} reads {unknown[0]!r}, which nothing makes")
        known.update(op.outputs)
    lost = [name for name in plan.outputs if name not in known]
    if lost:
        raise ValueError(f"the output {lost[0]!r} is made by no op")
    for op in plan.ops:
        for name in (*op.inputs, *op.outputs):
            if name and name not in plan.tensors and name not in plan.weights and name not in plan.constants:
                raise ValueError(f"{name!r} has no shape")
    for tensor in (*plan.tensors.values(), *plan.weights.values()):
        if any(size.value(full) < 1 for size in tensor.shape):
            raise ValueError(f"{tensor.name!r} has a size below 1")
        if tensor.dtype not in _DTYPES:
            raise ValueError(f"{tensor.name!r} is of unknown type {tensor.dtype!r}")
    for constant in plan.constants.values():
        if constant.dtype not in _DTYPES or math.prod(constant.shape) != len(constant.values):
            raise ValueError(f"the constant {constant.name!r} is not what its type and shape say")
