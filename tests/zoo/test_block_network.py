from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from netadapt_trt.errors import SpecError
from netadapt_trt.graph.export import export_onnx
from netadapt_trt.space.schema import SKIP, Block, Space, Stage, Stem
from netadapt_trt.space.store import load_space, save_space, space_to_json
from netadapt_trt.spec import ModelSpec
from netadapt_trt.zoo.block_network import Shuffle, block_network, make_block
from netadapt_trt.zoo.resolve import build_model

if TYPE_CHECKING:
    from pathlib import Path

TINY = Space(
    name="tiny",
    input_shape=(3, 9, 9),
    num_classes=4,
    stem=Stem(channels=8),
    stages=(Stage(8, 1, 1), Stage(12, 2, 2)),
    blocks=(Block("k3_e1", 3, 1), Block("k3_e2_g2", 3, 2, 2), Block("k5_e2", 5, 2)),
    head_channels=16,
)


def tiny(blocks: str, **more: int) -> nn.Module:
    return build_model(ModelSpec(model="zoo:block_network", input_shape=(1, 3, 9, 9), args=arguments(blocks), **more))  # type: ignore[arg-type]


def arguments(blocks: str) -> dict[str, str]:
    return {"space": json.dumps(space_to_json(TINY)), "blocks": blocks}


def test_block_network_parameters_follow_from_the_blocks() -> None:
    def unit(inputs: int, outputs: int, kernel: int, groups: int) -> int:
        return inputs // groups * outputs * kernel**2 + 2 * outputs  # the two of batch norm

    expected = unit(3, 8, 3, 1)
    expected += unit(8, 16, 1, 2) + unit(16, 16, 3, 16) + unit(16, 8, 1, 2)  # k3_e2_g2, 8 to 8
    expected += unit(8, 16, 1, 1) + unit(16, 16, 5, 16) + unit(16, 12, 1, 1)  # k5_e2, 8 to 12
    expected += 0  # skip
    expected += unit(12, 16, 1, 1) + 16 * 4 + 4
    assert sum(parameter.numel() for parameter in tiny("k3_e2_g2+k5_e2+skip").parameters()) == expected


def test_block_network_a_block_computes_what_it_says() -> None:
    """Against the same arithmetic written with functions, in eval mode with fresh statistics (mean 0, variance 1)."""
    torch.manual_seed(0)
    block = make_block(TINY, TINY.places[0], 1).eval()
    weights = dict(block.named_parameters())
    images = torch.randn(2, 8, 5, 5)
    scale = (1 + 1e-5) ** -0.5
    wide = torch.conv2d(images, weights["expand.conv.weight"], groups=2).mul(scale).relu()
    shuffled = torch.stack([wide[:, group * 8 + index] for index in range(8) for group in range(2)], 1)
    deep = torch.conv2d(shuffled, weights["depthwise.conv.weight"], padding=1, groups=16).mul(scale).relu()
    expected = images + torch.conv2d(deep, weights["project.conv.weight"], groups=2).mul(scale)
    torch.testing.assert_close(block(images), expected)


def test_block_network_no_input_is_added_where_shapes_change() -> None:
    block = make_block(TINY, TINY.places[1], 0).eval()
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    assert block(torch.ones(1, 8, 5, 5)).abs().max() == 0
    assert block(torch.ones(1, 8, 5, 5)).shape == (1, 12, 3, 3)


def test_block_network_shuffle_is_undone_by_its_inverse() -> None:
    values = torch.arange(2 * 6 * 2).view(2, 6, 1, 2).float()
    shuffled = Shuffle(2)(values)
    assert shuffled[0, :, 0, 0].tolist() == [0, 6, 2, 8, 4, 10]
    torch.testing.assert_close(Shuffle(3)(shuffled), values)


def test_block_network_names_its_layers() -> None:
    names = dict(tiny("k3_e1+k3_e1+skip").named_modules())
    assert {
        "stem.conv",
        "places.1.expand.conv",
        "places.2.depthwise.norm",
        "places.3",
        "head.conv",
        "classifier",
    } <= names.keys()
    assert isinstance(names["places.3"], nn.Identity)


def test_block_network_without_batch_norm_has_biases(tmp_path: Path) -> None:
    from dataclasses import replace

    save_space(replace(TINY, batch_norm=False), tmp_path / "bare.json")
    model = block_network(str(tmp_path / "bare.json"), "k3_e1+k3_e1+skip")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert all(module.bias is not None for module in model.modules() if isinstance(module, nn.Conv2d))


def test_block_network_classes_are_the_spaces_unless_told() -> None:
    assert tiny("k3_e1+k3_e1+skip")(torch.zeros(2, 3, 9, 9)).shape == (2, 4)
    assert tiny("k3_e1+k3_e1+skip", num_classes=7)(torch.zeros(2, 3, 9, 9)).shape == (2, 7)


@pytest.mark.parametrize("preset", ["fbnet-cifar", "fbnet-small"])
def test_block_network_of_a_preset_runs_and_exports(preset: str) -> None:
    space = load_space(preset)
    names = [space.columns[place.candidates[place.number % len(place.candidates)]] for place in space.places]
    assert SKIP in names or preset == "fbnet-small"
    shape = (1, *space.input_shape)
    model = build_model(
        ModelSpec(model="zoo:block_network", input_shape=shape, args={"space": preset, "blocks": "+".join(names)})
    )
    assert model(torch.zeros(shape)).shape == (1, space.num_classes)
    operators = {node.op_type for node in export_onnx(model, shape, opset=17).graph.node}
    assert operators <= {"Conv", "Relu", "Add", "Reshape", "Transpose", "GlobalAveragePool", "Flatten", "Gemm"}


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ("k3_e1+k3_e1", "2 blocks for the 3 layers"),
        ("k3_e1+k3_e9+skip", "layer 2.*'k3_e9'.*offered: k3_e1"),
        ("k3_e1+skip+skip", "layer 2.*'skip' is not offered.*k5_e2"),
        ("", "needs blocks"),
    ],
)
def test_block_network_says_what_does_not_fit(blocks: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        tiny(blocks)


def test_block_network_of_an_unknown_space_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="fbnet-cifar"):
        block_network("fbnet-cifra", "k3_e1")
    with pytest.raises(SpecError, match="neither a name, a file nor JSON"):
        block_network("{nonsense", "k3_e1")
