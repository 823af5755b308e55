"""A child's plan made without PyTorch is the one that tracing the same network gives, layer by layer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from netadapt_trt.backend import CompileOptions, load_backend
from netadapt_trt.errors import SpecError
from netadapt_trt.plan.sizes import network_params
from netadapt_trt.plan.write import write_network
from netadapt_trt.space.children import arrangement, space_layers
from netadapt_trt.space.plan import child_plan, choice_of, names_of
from netadapt_trt.space.schema import Block, Space, Stage, Stem
from netadapt_trt.space.store import load_space

if TYPE_CHECKING:
    from netadapt_trt.plan.schema import Plan

UNEVEN = Space(
    name="uneven",
    input_shape=(1, 15, 9),
    num_classes=3,
    stem=Stem(channels=8, kernel=5, stride=1),
    stages=(Stage(8, 2, 2), Stage(12, 2, 1)),
    blocks=(Block("a", 3, 2, 2), Block("b", 5, 1, 4), Block("c", 3, 1)),
    head_channels=20,
    batch_norm=False,
)


def traced(space: Space, blocks: tuple[str, ...]) -> Plan:
    from netadapt_trt.graph.network import open_network
    from netadapt_trt.graph.planner import make_plan
    from netadapt_trt.space.store import space_to_json
    from netadapt_trt.spec import ModelSpec

    args = {"space": json.dumps(space_to_json(space)), "blocks": "+".join(blocks)}
    return make_plan(open_network(ModelSpec(model="zoo:block_network", input_shape=(1, *space.input_shape), args=args)))


def layers(plan: Plan) -> list[tuple[str, tuple[int, ...]]]:
    return [(layer.key, layer.widths(plan.full_widths())) for layer in load_backend("ort").partition(plan)]


@pytest.mark.parametrize(
    ("space", "round", "child"),
    [("fbnet-small", 0, 1), ("fbnet-small", 0, 8), ("fbnet-cifar", 2, 5), (UNEVEN, 0, 0), (UNEVEN, 0, 1)],
)
def test_layers_are_those_of_the_traced_network(space: str | Space, round: int, child: int) -> None:
    pytest.importorskip("torch")
    opened = load_space(space) if isinstance(space, str) else space
    blocks = names_of(opened, arrangement(opened, round)[child])
    assert layers(child_plan(opened, blocks)) == layers(traced(opened, blocks))


def test_parameters_counted_by_hand() -> None:
    """Stem 1x25x8+8; a: 8x16/2 + 16, 16x9 + 16, 16x8/2 + 8; skip; c: 8x8+8, 8x9+8, 8x12+12; skip; head 12x20+20, 20x3+3."""
    space = UNEVEN
    by_hand = 208 + (64 + 16 + 144 + 16 + 64 + 8) + (72 + 80 + 108) + 260 + 63
    assert network_params(child_plan(space, ("a", "skip", "c", "skip")), {}) == by_hand


def test_a_child_runs_and_has_the_right_output() -> None:
    pytest.importorskip("onnxruntime")
    backend = load_backend("ort")
    opset, ir_version = backend.opset()
    plan = child_plan(UNEVEN, ("b", "a", "a", "b"))
    model = write_network(plan, {}, opset=opset, ir_version=ir_version)
    with backend.compile(model, CompileOptions(threads=1)) as exe:
        outputs = exe.infer({"input": np.zeros((1, 1, 15, 9), np.float32)})
    assert outputs["output"].shape == (1, 3)


def test_the_shuffle_takes_channels_from_each_group_in_turn() -> None:
    """Channel g * C / groups + i goes to place i * groups + g: of 8 channels in 4 groups, 0 2 4 6 1 3 5 7."""
    plan = child_plan(UNEVEN, ("b", "skip", "c", "skip"))
    values = np.arange(8).reshape(1, 8, 1, 1)
    for op in plan.ops:
        if "shuffle" not in op.name:
            continue
        if op.op_type == "Transpose":
            values = values.transpose(op.attributes["perm"])  # type: ignore[arg-type]
        else:
            target = [size.const for size in plan.tensors[op.outputs[0]].shape]
            values = values.reshape([*target[:-2], 1, 1])
    assert values.ravel().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        (("a",), "1 blocks for the 4 layers"),
        (("skip", "a", "a", "a"), "layer 1: 'skip' is not offered there; offered: a, b, c"),
        (("a", "a", "a", "d"), "layer 4: 'd' is no block of this space"),
    ],
)
def test_blocks_that_do_not_fit(blocks: tuple[str, ...], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        child_plan(UNEVEN, blocks)


def test_names_and_choices_are_inverse() -> None:
    names = ("a", "skip", "c", "b")
    assert choice_of(UNEVEN, names) == (0, 3, 2, 1)
    assert names_of(UNEVEN, (0, 3, 2, 1)) == names
    for wrong in ((0, 4, 0, 0), (0, -1, 0, 0), (0, 0)):
        with pytest.raises(SpecError):
            names_of(UNEVEN, wrong)


def test_an_arrangement_shows_every_block_at_every_place() -> None:
    for number in range(4):
        children = arrangement(UNEVEN, number, seed=5)
        assert len(children) == 4
        for row, place in enumerate(UNEVEN.places):
            assert {child[row] for child in children} == set(place.candidates)
    assert arrangement(UNEVEN, 0) == [(0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2), (0, 3, 0, 3)]
    assert arrangement(UNEVEN, 1, seed=5) == arrangement(UNEVEN, 1, seed=5) != arrangement(UNEVEN, 1, seed=6)


def test_layers_of_blocks_belong_to_their_places() -> None:
    found = space_layers(UNEVEN, load_backend("fake").partition)
    assert found.blocks[1, 3] == ()  # a skip
    assert len(found.blocks[0, 0]) == 4  # 1x1 + relu, the shuffle's transpose, depthwise + relu, 1x1
    assert len(found.blocks[1, 2]) == 3  # without a shuffle; the sum is in the last 1x1
    assert "Add" in found.blocks[1, 2][2][0]
    assert len(found.fixed) == 4  # stem, head, mean, linear
