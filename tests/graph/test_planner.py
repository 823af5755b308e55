"""The two views of one network agree: what the plan writes is what the cut network exports."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.nn import functional

from netadapt_trt.graph.channel_groups import find_channel_groups
from netadapt_trt.graph.export import export_onnx
from netadapt_trt.graph.network import Network, open_network
from netadapt_trt.graph.planner import make_plan
from netadapt_trt.graph.surgery import cut_to_widths
from netadapt_trt.graph.trace import trace
from netadapt_trt.plan.partition import fused_layers
from netadapt_trt.plan.schema import Dim
from netadapt_trt.plan.sizes import network_memory_bytes, network_params
from netadapt_trt.plan.store import plan_hash
from netadapt_trt.plan.write import op_shapes, write_layer, write_network
from netadapt_trt.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.plan.schema import Plan

SHAPE = (1, 3, 8, 8)


class Gate(nn.Module):
    """Squeeze and excite, written with views and an expansion as many repositories do."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, channels // 2), nn.Linear(channels // 2, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, _, _ = x.shape
        gate = self.up(functional.relu(self.down(functional.adaptive_avg_pool2d(x, 1).view(batch, channels))))
        return x * torch.sigmoid(gate).view(batch, channels, 1, 1).expand_as(x)


class Tokens(nn.Module):
    """An MLP along the last dimension: its matrices are exported transposed and under other names."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(channels, 24), nn.Linear(24, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        mixed: torch.Tensor = tokens + self.two(functional.gelu(self.one(tokens)))
        return mixed.transpose(1, 2).reshape(x.shape)


class Preactivated(nn.Module):
    """A batch norm behind a concatenation: there is no convolution to fold it into."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.grow = nn.Conv2d(channels, 5, 3, padding=1, bias=False)
        self.norm, self.back = nn.BatchNorm2d(channels + 5), nn.Conv2d(channels + 5, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.back(functional.relu(self.norm(torch.cat([x, self.grow(x)], 1))))
        return result


class Scale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x * self.gamma


class Depthwise(nn.Module):
    """Two filters for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(channels, 2 * channels, 3, padding=1, groups=channels, bias=False)
        self.norm, self.point = nn.BatchNorm2d(2 * channels), nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.point(functional.relu6(self.norm(self.depth(x))))
        return result


class Normed(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norm(x))


class Padded(nn.Module):
    """Channels of zeros on both sides, as in the shortcuts of the first residual networks for CIFAR."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.back = nn.Conv2d(channels + 5, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.back(functional.pad(x[:, :, ::2, ::2], (0, 1, 0, 0, 2, 3)))
        return result


class Resized(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(x, size=(12, 12), mode="bilinear")


# As many odd things in one network as can follow each other: an export takes seconds.
NETWORKS: dict[str, list[Callable[[], nn.Module]]] = {
    "gates and norms": [
        lambda: Gate(12), lambda: Preactivated(12), lambda: Scale(12), lambda: Depthwise(12), lambda: nn.PReLU(12), nn.SiLU,
        nn.Hardswish, lambda: Padded(12),
    ],
    "other shapes": [
        lambda: Tokens(12), Resized, lambda: Normed(12), lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
        lambda: nn.ConvTranspose2d(12, 12, 2, 2),
    ],
}  # fmt: skip


class Between(nn.Module):
    """Things with a convolution before each, and a head with a batch norm behind a linear layer."""

    def __init__(self, *things: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.steps = nn.ModuleList([nn.Sequential(nn.Conv2d(12, 12, 1), thing()) for thing in things])
        self.hidden, self.norm = nn.Linear(12, 20, bias=False), nn.BatchNorm1d(20)
        self.head = nn.Linear(20, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for step in self.steps:
            x = step(x)
        x = functional.relu(self.norm(self.hidden(x.mean((2, 3)))))
        logits: torch.Tensor = self.head(functional.dropout(x, training=self.training))
        return logits


def network_of(model: nn.Module, shape: tuple[int, ...] = SHAPE) -> Network:
    traced = trace(model, shape)
    channels = find_channel_groups(traced)
    spec = ModelSpec(model="test:network", input_shape=shape)
    return Network(spec=spec, model=traced.model, channels=channels, widths=channels.full_widths())


def stirred(model: nn.Module) -> nn.Module:
    """No tensor is zeros or ones: an export must not fold away what a trained network has."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return model


def assert_views_agree(network: Network, plan: Plan, *, draws: int) -> None:
    draw = random.Random(0)
    for _ in range(draws):
        widths = {group.name: draw.randint(max(1, group.size // 4), group.size) for group in plan.groups}
        written = onnx.load_from_string(write_network(plan, widths, opset=20, ir_version=9))
        onnx.checker.check_model(written, full_check=True)
        small = stirred(cut_to_widths(network.model, network.channels, widths))
        assert op_shapes(written) == op_shapes(export_onnx(small, network.spec.input_shape))


@pytest.fixture(scope="module", params=list(NETWORKS))
def odd(request: pytest.FixtureRequest) -> tuple[Network, Plan]:
    torch.manual_seed(0)
    network = network_of(Between(*NETWORKS[request.param]))
    return network, make_plan(network)


def test_written_network_has_the_op_shapes_of_the_cut_ones_export(odd: tuple[Network, Plan]) -> None:
    network, plan = odd
    assert {group.name for group in plan.groups} >= {"stem.0", "hidden"}
    assert_views_agree(network, plan, draws=1)


def test_sizes_are_counted(odd: tuple[Network, Plan]) -> None:
    network, plan = odd
    # Batch norm is folded into what stands before it, so that parameters only get fewer.
    assert 0 < network_params(plan, {}) <= sum(parameter.numel() for parameter in network.model.parameters())
    whole, less = network_memory_bytes(plan, {}), network_memory_bytes(plan, {"stem.0": 6})
    assert 4 * network_params(plan, {}) < less < whole


class Shuffled(nn.Module):
    """FBNet's grouped block: 1x1, shuffle, depthwise, 1x1, added."""

    def __init__(self, channels: int, expansion: int, groups: int) -> None:
        super().__init__()
        wide, self.groups = channels * expansion, groups
        self.up = nn.Sequential(nn.Conv2d(channels, wide, 1, groups=groups, bias=False), nn.BatchNorm2d(wide), nn.ReLU())
        self.depth = nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide))
        self.down = nn.Sequential(nn.Conv2d(wide, channels, 1, groups=groups, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count, _, height, width = x.shape
        inner = self.up(x)
        rows = inner.view(count, self.groups, inner.shape[1] // self.groups, height, width)
        shuffled = rows.transpose(1, 2).reshape(inner.shape)
        made: torch.Tensor = self.down(functional.relu(self.depth(shuffled)))
        return x + made


@pytest.fixture(scope="module")
def shuffled() -> tuple[Network, Plan]:
    """Maps are as high as a half has channels, so that sizes alone do not tell which is which."""
    torch.manual_seed(0)
    bottleneck = nn.Conv2d(16, 16, 3, padding=1, groups=4)
    network = network_of(
        nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), Shuffled(16, 1, 2), Shuffled(16, 3, 2), bottleneck, nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
        )
    )  # fmt: skip
    return network, make_plan(network)


def test_grouped_convolutions_and_shuffles_follow_their_units(shuffled: tuple[Network, Plan]) -> None:
    network, plan = shuffled
    # The bottleneck's four groups divide the halves of the sum before it once more.
    assert {group.name: group.size for group in plan.groups} == {"0": 4, "1.up.0": 4, "2.up.0": 12, "3": 4}
    assert plan.weights["2.up.0.weight"].shape[:2] == (Dim(0, (("2.up.0", 4),)), Dim(0, (("0", 2),)))
    assert plan.weights["3.weight"].shape[:2] == (Dim(0, (("3", 4),)), Dim(0, (("0", 1),)))
    targets = [plan.constants[op.inputs[1]].values for op in plan.ops if op.op_type == "Reshape"]
    assert targets == [(0, 2, -1, 8, 8), (0, -1, 8, 8)] * 2
    assert [op.attributes["group"] for op in plan.ops if op.op_type == "Conv" and op.attributes.get("group", 1) != 1] == [
        2, Dim(0, (("1.up.0", 4),)), 2, 2, Dim(0, (("2.up.0", 4),)), 2, 4,
    ]  # fmt: skip
    assert_views_agree(network, plan, draws=2)


def test_written_shuffles_compute_what_the_cut_network_does(shuffled: tuple[Network, Plan]) -> None:
    """Down to one unit: one channel a group."""
    network, plan = shuffled
    widths = {"0": 1, "1.up.0": 1, "2.up.0": 5, "3": 2}
    small = cut_to_widths(network.model, network.channels, widths).eval()
    picture = torch.randn(SHAPE)
    exported = export_onnx(small, SHAPE)
    written = onnx.load_from_string(write_network(plan, widths, opset=20, ir_version=9))
    assert op_shapes(written) == op_shapes(exported)
    (result,) = ReferenceEvaluator(exported).run(None, {"input": picture.numpy()})
    with torch.no_grad():
        assert np.allclose(result, small(picture).numpy(), atol=1e-5)


def test_layers_of_shuffles_have_axes_of_their_own(shuffled: tuple[Network, Plan]) -> None:
    plan = shuffled[1]
    starts, activations = {"Conv", "Gemm"}, {"Relu"}
    for free in ({"Flatten", "Reshape"}, {"Flatten"}):
        layers = fused_layers(plan, starts=starts, activations=activations, add=True, free=free)
        for layer in layers:
            for extra in (0, 3):
                widths = [width + extra for width in layer.widths(plan.full_widths())]
                content = write_layer(plan, layer, widths, opset=20, ir_version=9)
                onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    keys = [layer.key for layer in layers]
    assert keys[1] == "x0[1,2a,8,8] Conv(x0 [2b,a,1,1] [2b] group=2)=y0 Relu(y0)=y1"
    assert keys[2] == "x0[1,2a,8,8] Reshape(x0 {5:0,2,-1,8,8}int64)=y0"
    assert keys[3] == "x0[1,a,b,8,8] Transpose(x0 perm=0,2,1,3,4)=y0"
    assert keys[4] == "x0[1,a,2,8,8] Reshape(x0 {4:0,-1,8,8}int64)=y0"


def test_written_network_runs(odd: tuple[Network, Plan]) -> None:
    content = write_network(odd[1], {"stem.0": 7, "hidden": 3}, opset=20, ir_version=9)
    (result,) = ReferenceEvaluator(onnx.load_from_string(content)).run(None, {"input": np.ones(SHAPE, dtype=np.float32)})
    assert np.asarray(result).shape == (1, 5)


def test_every_layer_of_odd_networks_can_be_written(odd: tuple[Network, Plan]) -> None:
    """Also at sizes that the network never has."""
    plan = odd[1]
    for layer in fused_layers(plan, starts={"Conv", "Gemm"}, activations={"Relu"}, add=True, free={"Flatten", "Reshape"}):
        for extra in (0, 3):
            widths = [width + extra for width in layer.widths(plan.full_widths())]
            content = write_layer(plan, layer, widths, opset=20, ir_version=9)
            onnx.checker.check_model(onnx.load_from_string(content), full_check=True)


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec(model="torchvision:squeezenet1_1", input_shape=(1, 3, 64, 64), num_classes=7, reset_head=True),
        pytest.param(
            ModelSpec(
                model="zoo:mobilenet_v1", input_shape=(1, 3, 32, 32), args={"width": "0.25", "stem": "cifar"}, num_classes=10
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda spec: spec.model,
)
def test_real_networks_are_written_as_they_export(spec: ModelSpec) -> None:
    network = open_network(spec)
    plan = make_plan(network)
    assert (plan.model, plan.args) == (spec.model, spec.args)
    assert (plan.num_classes, plan.reset_head) == (spec.num_classes, spec.reset_head)
    assert [group.name for group in plan.groups] == [group.name for group in network.channels.prunable]
    assert_views_agree(network, plan, draws=1)
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(
        write_network(plan, {}, opset=20, ir_version=9), providers=["CPUExecutionProvider"]
    )
    (result,) = session.run(None, {"input": np.random.default_rng(0).random(spec.input_shape, dtype=np.float32)})
    assert np.isfinite(result).all()
    assert result.any()


def test_plan_does_not_depend_on_the_weights() -> None:
    """A fresh batch norm has a bias of zeros, which the exporter drops when it folds it; a trained one has not."""
    torch.manual_seed(0)
    fresh, trained = network_of(Between()), network_of(stirred(Between()))
    before = {name: tensor.clone() for name, tensor in fresh.model.state_dict().items()}
    assert plan_hash(make_plan(fresh)) == plan_hash(make_plan(trained))
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh.model.state_dict().items())


def test_plan_lists_groups_frozen_channels_and_notices() -> None:
    plan = make_plan(network_of(Between(lambda: Normed(12))))
    assert [(group.name, group.size, group.weights) for group in plan.groups] == [
        ("stem.0", 12, ("stem.0.weight",)),
        ("hidden", 20, ("hidden.weight",)),
    ]
    reasons = {entry.name: entry.reason for entry in plan.frozen}
    assert reasons["head"] == "network output"
    assert "group_norm" in reasons["steps.0.0"]
    assert any("group_norm" in notice for notice in plan.notices)


def test_square_matrix_that_is_transposed_is_told_from_one_that_is_not() -> None:
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.two(functional.relu(self.one(x)))
            return result

    plan = make_plan(network_of(Square(), (1, 4, 6)))
    products = [op for op in plan.ops if op.op_type == "MatMul"]
    one = Dim(0, (("one", 1),))
    assert [plan.weights[op.inputs[1]].shape for op in products] == [(Dim(6), one), (one, Dim(6))]


def test_plan_of_a_cut_network_is_that_of_its_size() -> None:
    network = network_of(Between())
    widths = {"stem.0": 5, "hidden": 4}
    small = Network(
        spec=network.spec,
        model=cut_to_widths(network.model, network.channels, widths),
        channels=network.channels.resized(widths),
        widths={**network.widths, **widths},
    )
    plan = make_plan(small)
    assert {group.name: group.size for group in plan.groups} == {"stem.0": 5, "hidden": 4}
