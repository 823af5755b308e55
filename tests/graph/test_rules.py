"""One tiny network per rule: groups worked out by hand, and the mask test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.graph.channels import Channels

    MaskTest = Callable[..., Channels]

SHAPE = (1, 3, 8, 8)


class Net(nn.Module):
    """Two 3x3 convolutions ``a`` (3 -> 8) and ``b`` (8 -> 8) with batch norm, something between, and a linear ``fc``."""

    def __init__(self, middle: int = 8, *, b: bool = True) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
        if b:
            self.b = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.fc = nn.Linear(middle, 5)

    def head(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class Chain(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.b(self.a(x).relu()).relu())


class Residual(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x).relu()
        return self.head(functional.relu_(self.b(x).add_(x)))


class Depthwise(Net):
    def __init__(self) -> None:
        super().__init__(16, b=False)
        self.depth = nn.Conv2d(8, 16, 3, padding=1, groups=8)  # multiplier 2
        self.norm = nn.BatchNorm2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(functional.relu6(self.norm(self.depth(self.a(x)))))


class Gate(Net):
    """Squeeze and excite; the gate is made by a convolution of its own."""

    def __init__(self) -> None:
        super().__init__(b=False)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        gate = functional.adaptive_avg_pool2d(x, 1)
        return self.head(x * functional.hardsigmoid(self.excite(functional.silu(self.squeeze(gate)))))


class LinearGate(Net):
    """The same with linear layers and views, as many repositories write it."""

    def __init__(self) -> None:
        super().__init__(b=False)
        self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        gate = functional.adaptive_avg_pool2d(x, 1).view(x.shape[0], -1)
        gate = self.excite(self.squeeze(gate).relu()).sigmoid()[:, :, None, None]
        return self.head(x * gate.expand_as(x))


class Dense(Net):
    def __init__(self) -> None:
        super().__init__(19)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.a(x)
        return self.head(torch.cat([first, x, self.b(first)], 1).relu())


class Flattened(Net):
    def __init__(self) -> None:
        super().__init__(8 * 4 * 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(self.b(self.a(x)), 2)
        return self.fc(functional.dropout(torch.flatten(x, 1), 0.0, self.training))  # type: ignore[no-any-return]


class Scaled(Net):
    """Parameters that are no layer's: one per channel, one that is reshaped first, one number."""

    weighting: torch.Tensor

    def __init__(self) -> None:
        super().__init__(b=False)
        self.scale = nn.Parameter(torch.rand(8, 1, 1) + 0.5)
        self.shift = nn.Parameter(torch.rand(8))
        self.register_buffer("weighting", torch.rand(1, 8, 1, 1) + 0.5)
        self.factor = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x) * self.scale + self.shift.view(1, -1, 1, 1)
        return self.head(functional.gelu(x * self.factor) * self.weighting)


class Prelu(Net):
    def __init__(self) -> None:
        super().__init__()
        self.act, self.one = nn.PReLU(8), nn.PReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.one(self.b(self.act(self.a(x)))))


class Twice(Net):
    """One convolution used on two values: their channels are one group."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        return self.head(self.c(x).relu() + self.c(self.b(x)).sigmoid())


class Shared(Net):
    """Two modules with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.d = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 1)
        self.d.weight = self.c.weight
        self.fc = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        return self.head(torch.cat([self.c(x), self.d(self.b(x))], 1))


class SumWithConcat(Net):
    """The filters of ``c`` are added to two layers side by side: they divide at the seam."""

    def __init__(self) -> None:
        super().__init__(16)
        self.c = nn.Conv2d(3, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.a(x)
        return self.head(self.c(x) + torch.cat([first, self.b(first)], 1))


class PaddedShortcut(Net):
    """A shortcut without weights: new channels are zeros (the CIFAR networks of He et al., 2016)."""

    def __init__(self) -> None:
        super().__init__(12, b=False)
        self.c = nn.Conv2d(8, 12, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x).relu()
        shortcut = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head(self.c(x) + shortcut)


class Resampled(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.interpolate(functional.avg_pool2d(self.a(x), 2), scale_factor=2, mode="bilinear")
        x = functional.pad(x, (1, 1, 1, 1), mode="reflect")
        return self.head(self.b(functional.adaptive_max_pool2d(x, 4)))


class ChannelsLast(Net):
    """Tokens: linear layers over the last dimension."""

    def __init__(self) -> None:
        super().__init__(b=False)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        tokens = self.down(functional.gelu(self.up(x.flatten(2).transpose(1, 2))))
        return self.head(x + tokens.permute(0, 2, 1).reshape(x.shape[0], -1, 8, 8))


class Squeezed(Net):
    def __init__(self) -> None:
        super().__init__(b=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.adaptive_avg_pool2d(self.a(x), 1).squeeze(-1).squeeze(-1)
        return self.fc(functional.hardswish(x.unsqueeze(1).squeeze(1)))  # type: ignore[no-any-return]


class NormedConcat(Net):
    """One batch norm over two layers side by side: each has its own part of the statistics."""

    def __init__(self) -> None:
        super().__init__(16)
        self.norm = nn.BatchNorm2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.a(x)
        return self.head(self.norm(torch.cat([self.b(first), first], 1)).relu())


class TiedLinear(Net):
    """Linear layers in a row, two of them with one square weight: what goes in and what comes out are one group."""

    def __init__(self) -> None:
        super().__init__(6, b=False)
        self.up, self.one, self.two = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.two.weight = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(self.a(x).mean((2, 3))).tanh()
        return self.fc(self.two(self.one(x).relu()))  # type: ignore[no-any-return]


class PlainNorms(Net):
    """Norms without affine values, or with those of the input itself; padding that wraps around."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.own = nn.BatchNorm2d(8, affine=False), nn.InstanceNorm2d(8, affine=True)
        self.wrapped = nn.Conv2d(8, 6, 3, padding=1, padding_mode="circular")
        self.fc = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.wrapped(self.own(self.b(self.plain(self.a(x)))).relu()).square())


# Network, prunable groups in order with their sizes.
CASES: list[tuple[type[nn.Module], dict[str, int]]] = [
    (Chain, {"a.0": 8, "b.0": 8}),
    (Residual, {"a.0": 8}),
    (Depthwise, {"a.0": 8}),
    (Gate, {"a.0": 8, "squeeze": 4}),
    (LinearGate, {"a.0": 8, "squeeze": 4}),
    (Dense, {"a.0": 8, "b.0": 8}),
    (Flattened, {"a.0": 8, "b.0": 8}),
    (Scaled, {"a.0": 8}),
    (Prelu, {"a.0": 8, "b.0": 8}),
    (Twice, {"a.0": 8, "c": 8}),
    (Shared, {"a.0": 8, "c": 6}),
    (SumWithConcat, {"a.0": 8, "b.0": 8}),
    (PaddedShortcut, {"a.0": 8}),
    (Resampled, {"a.0": 8, "b.0": 8}),
    (ChannelsLast, {"a.0": 8, "up": 12}),
    (Squeezed, {"a.0": 8}),
    (NormedConcat, {"a.0": 8, "b.0": 8}),
    (TiedLinear, {"a.0": 8, "up": 6}),
    (PlainNorms, {"a.0": 8, "b.0": 8, "wrapped": 6}),
]


@pytest.mark.parametrize(("network", "expected"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_rule_finds_the_groups_and_passes_the_mask_test(
    network: type[nn.Module], expected: dict[str, int], mask_test: MaskTest
) -> None:
    torch.manual_seed(0)
    channels = mask_test(network(), SHAPE)

    assert {group.name: group.size for group in channels.prunable} == expected
    assert channels.unsupported == ()
    assert channels.unreached == ()
    assert channels.groups["fc"].reason == "network output"


def test_slices_of_a_chain_are_those_worked_out_by_hand(groups_of: Callable[..., Channels]) -> None:
    channels = groups_of(Chain(), SHAPE)

    found = {(s.parameter, s.dim): (s.role, [(p.group, p.channels, p.inner) for p in s.layout]) for s in channels.slices}

    first, second, output = [("a.0", 8, 1)], [("b.0", 8, 1)], [("fc", 5, 1)]
    assert found == {
        ("a.0.weight", 0): ("produce", first),
        ("a.0.bias", 0): ("tie", first),
        **{(f"a.1.{name}", 0): ("tie", first) for name in ("weight", "bias", "running_mean", "running_var")},
        ("b.0.weight", 0): ("produce", second),
        ("b.0.weight", 1): ("consume", first),
        **{(f"b.1.{name}", 0): ("tie", second) for name in ("weight", "bias", "running_mean", "running_var")},
        ("fc.weight", 0): ("produce", output),
        ("fc.weight", 1): ("consume", second),
        ("fc.bias", 0): ("tie", output),
    }


def test_flatten_gives_each_channel_its_map(groups_of: Callable[..., Channels]) -> None:
    channels = groups_of(Flattened(), SHAPE)

    (columns,) = [s.layout for s in channels.slices if (s.parameter, s.dim) == ("fc.weight", 1)]

    assert [(p.group, p.channels, p.inner) for p in columns] == [("b.0", 8, 16)]


def test_concat_keeps_its_order_and_the_picture_between(groups_of: Callable[..., Channels]) -> None:
    channels = groups_of(Dense(), SHAPE)

    (columns,) = [s.layout for s in channels.slices if (s.parameter, s.dim) == ("fc.weight", 1)]

    assert [(p.group, p.channels, p.inner) for p in columns] == [("a.0", 8, 1), (None, 3, 1), ("b.0", 8, 1)]


def test_depthwise_multiplier_gives_each_channel_its_filters(groups_of: Callable[..., Channels]) -> None:
    channels = groups_of(Depthwise(), SHAPE)

    found = {s.parameter: (s.role, s.layout[0].inner) for s in channels.slices if s.parameter.startswith(("depth", "norm"))}

    assert found["depth.weight"] == ("tie", 2)
    assert found["norm.running_var"] == ("tie", 2)


def test_sum_with_a_concatenation_divides_the_filters(groups_of: Callable[..., Channels]) -> None:
    channels = groups_of(SumWithConcat(), SHAPE)

    (rows,) = [s for s in channels.slices if (s.parameter, s.dim) == ("c.weight", 0)]

    assert [(p.group, p.channels) for p in rows.layout] == [("a.0", 8), ("b.0", 8)]
    assert rows.role == "produce"


def test_padded_shortcut_freezes_only_what_meets_the_zeros(groups_of: Callable[..., Channels]) -> None:
    channels = groups_of(PaddedShortcut(), SHAPE)

    # Two zeros stand before the eight channels and two behind them.
    assert {name: (group.size, group.prunable) for name, group in channels.groups.items()} == {
        "a.0": (8, True),
        "c[0:2]": (2, False),
        "c[10:12]": (2, False),
        "fc": (5, False),
    }


def test_conv1d_and_batch_norm_of_vectors(mask_test: MaskTest) -> None:
    model = nn.Sequential(
        nn.Conv1d(2, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(18, 7), nn.BatchNorm1d(7),
        nn.ELU(), nn.Linear(7, 3),
    )  # fmt: skip

    channels = mask_test(model, (1, 2, 8))

    assert [group.name for group in channels.prunable] == ["0", "5"]


def test_prunable_share_counts_elements_that_a_cut_can_remove(groups_of: Callable[..., Channels]) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))

    # 12 + 4 of the first layer and the 8 columns of the second; its bias of 2 stays.
    assert groups_of(model, (1, 3)).prunable_share(model) == pytest.approx(24 / 26)
