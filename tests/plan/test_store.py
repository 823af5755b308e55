"""Plan files: what is written is read; what a stranger or a torn disk wrote is refused."""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.errors import FileFormatError, TooNewError
from netadapt_trt.plan.schema import Constant, Dim, Group, Op
from netadapt_trt.plan.store import load_plan, plan_hash, save_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netadapt_trt.plan.schema import Plan


def edited(plan: Plan, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    save_plan(plan, path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_plan_survives_its_file(residual: Plan, tmp_path: Path) -> None:
    save_plan(residual, tmp_path / "p.json")
    assert load_plan(tmp_path / "p.json") == residual
    named = replace(residual, num_classes=7, reset_head=True)
    save_plan(named, tmp_path / "p.json")
    assert load_plan(tmp_path / "p.json") == named
    assert plan_hash(named) == plan_hash(residual)


def test_numbers_that_json_lacks_survive(residual: Plan, tmp_path: Path) -> None:
    infinite = Constant("high", "float32", (), (float("inf"),))
    ops = (*residual.ops[:-1], replace(residual.ops[-1], attributes={"alpha": float("-inf"), "transB": 1, "mode": "inf"}))
    plan = replace(residual, constants={**residual.constants, "high": infinite}, ops=ops)
    save_plan(plan, tmp_path / "p.json")
    assert load_plan(tmp_path / "p.json") == plan


def test_hash_ignores_what_things_are_called(residual: Plan) -> None:
    def renamed(size: Dim) -> Dim:
        return Dim(size.const, tuple((f"other.{name}", factor) for name, factor in size.terms))

    def tensors(entries: Any) -> Any:
        return {name: replace(entry, shape=tuple(renamed(s) for s in entry.shape)) for name, entry in entries.items()}

    def attributes(op: Op) -> Any:
        return {key: renamed(value) if isinstance(value, Dim) else value for key, value in op.attributes.items()}

    ops = tuple(replace(op, name=f"op{index}", attributes=attributes(op)) for index, op in enumerate(residual.ops))
    other = replace(
        residual,
        model="elsewhere",
        args={},
        notices=(),
        frozen=(),
        groups=tuple(Group(f"other.{group.name}", group.size, ()) for group in residual.groups),
        tensors=tensors(residual.tensors),
        weights=tensors(residual.weights),
        ops=ops,
    )
    assert plan_hash(other) == plan_hash(residual)


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: replace(plan, groups=(replace(plan.groups[0], size=5), plan.groups[1])),
        lambda plan: replace(plan, ops=(*plan.ops[:6], replace(plan.ops[6], op_type="Tanh"), *plan.ops[7:])),
        lambda plan: replace(plan, constants={**plan.constants, "high": Constant("high", "float32", (), (5.0,))}),
    ],
    ids=["size", "operator", "bound"],
)
def test_hash_tells_other_structures_apart(residual: Plan, change: Callable[[Plan], Plan]) -> None:
    assert plan_hash(change(residual)) != plan_hash(residual)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["ops"][0].update(inputs=["nowhere"]), "nowhere"),
        (lambda c: c.update(outputs=["nowhere"]), "nowhere"),
        (lambda c: c["groups"][0].update(size=0), "without channels"),
        (lambda c: c["groups"].append(c["groups"][0]), "two groups of one name"),
        (lambda c: c["tensors"]["a"]["shape"].__setitem__(0, 0), "size below 1"),
        (lambda c: c["tensors"]["a"].update(dtype="object"), "unknown type"),
        (lambda c: c["tensors"]["a"]["shape"].__setitem__(0, 1.5), "not a whole number"),
        (lambda c: c["tensors"].pop("a"), "'a' has no shape"),
        (lambda c: c["constants"]["low"].update(values=[1, 2]), "'low' is not what"),
        (lambda c: c["constants"]["low"].update(values=["7"]), "not a number"),
        (lambda c: c["ops"][0].update(attributes={"pads": None}), "not an attribute"),
        (lambda c: c["weights"]["c1_w"]["shape"].__setitem__(0, {"const": 0, "groups": {"ghost": 1}}), "ghost"),
        (lambda c: c.pop("ops"), "'ops'"),
    ],
)
def test_damaged_plan_is_refused(
    residual: Plan, tmp_path: Path, change: Callable[[dict[str, Any]], None], told: str
) -> None:
    with pytest.raises(FileFormatError, match=told):
        load_plan(edited(residual, tmp_path / "p.json", change))


def test_plan_of_a_newer_version_is_told_apart(residual: Plan, tmp_path: Path) -> None:
    with pytest.raises(TooNewError):
        load_plan(edited(residual, tmp_path / "p.json", lambda content: content.update(version=2)))


def test_no_edit_of_a_plan_raises_anything_but_its_own_error(residual: Plan, tmp_path: Path) -> None:
    draw = random.Random(0)
    path = tmp_path / "p.json"
    save_plan(residual, path)
    text = path.read_text()
    values: list[Any] = [None, -1, 0, 1.5, "x", [], {}, [None], {"const": 1}, True, 1 << 70]
    for _ in range(300):
        content = json.loads(text)
        where: Any = content
        while True:
            keys = list(where) if isinstance(where, dict) else list(range(len(where)))
            if not keys:
                break
            key = draw.choice(keys)
            if isinstance(where[key], dict | list) and where[key] and draw.random() < 0.8:
                where = where[key]
                continue
            where[key] = draw.choice(values)
            break
        path.write_text(json.dumps(content))
        with contextlib.suppress(FileFormatError):
            load_plan(path)
