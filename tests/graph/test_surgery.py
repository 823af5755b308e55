from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch import nn

from netadapt_trt.errors import SpecError
from netadapt_trt.graph.surgery import cut, cut_to_widths, zero_consumers

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.graph.channels import Channels

    GroupsOf = Callable[..., Channels]


def _network() -> nn.Sequential:
    """Conv 3 -> 4, batch norm, PReLU, depthwise with multiplier 2, pointwise 8 -> 5, flatten 2x2, linear 20 -> 3."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.Conv2d(8, 5, 3),
        nn.Flatten(), nn.Linear(20, 3),
    )  # fmt: skip


SHAPE = (1, 3, 8, 8)
KEEP = {"0": [0, 2, 3], "4": [1, 4]}


def test_cut_keeps_exactly_the_rows_and_columns_named(groups_of: GroupsOf) -> None:
    model = _network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    small = cut(model, groups_of(model, SHAPE), KEEP).state_dict()

    # Channel c of the depthwise convolution's input owns filters 2c and 2c + 1; a channel of the 2x2 map owns 4 columns.
    depth = [0, 1, 4, 5, 6, 7]
    assert torch.equal(small["0.weight"], before["0.weight"][[0, 2, 3]])
    assert torch.equal(small["0.bias"], before["0.bias"][[0, 2, 3]])
    assert torch.equal(small["1.running_var"], before["1.running_var"][[0, 2, 3]])
    assert torch.equal(small["2.weight"], before["2.weight"][[0, 2, 3]])
    assert torch.equal(small["3.weight"], before["3.weight"][depth])
    assert torch.equal(small["4.weight"], before["4.weight"][[1, 4]][:, depth])
    assert torch.equal(small["6.weight"], before["6.weight"][:, [4, 5, 6, 7, 16, 17, 18, 19]])
    assert torch.equal(small["6.bias"], before["6.bias"])
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_cut_brings_the_modules_own_record_up_to_date(groups_of: GroupsOf) -> None:
    model = _network()

    small = cut(model, groups_of(model, SHAPE), KEEP)

    first, norm, act, depth, point, _, linear = (cast("Any", child) for child in small.children())
    assert (first.in_channels, first.out_channels, first.groups) == (3, 3, 1)
    assert (norm.num_features, act.num_parameters) == (3, 3)
    assert (depth.in_channels, depth.out_channels, depth.groups) == (3, 6, 3)
    assert (point.in_channels, point.out_channels) == (6, 2)
    assert (linear.in_features, linear.out_features) == (8, 3)


def test_cut_twice_follows_the_resized_groups(groups_of: GroupsOf) -> None:
    model = _network()
    channels = groups_of(model, SHAPE)

    once = cut(model, channels, {"0": [0, 2, 3]})
    twice = cut(once, channels.resized({"0": 3}), {"0": [1, 2], "4": [1, 4]})

    direct = cut(model, channels, {"0": [2, 3], "4": [1, 4]})
    assert all(torch.equal(tensor, direct.state_dict()[name]) for name, tensor in twice.state_dict().items())


def test_cut_keeps_a_shared_weight_shared(groups_of: GroupsOf) -> None:
    model = nn.Sequential(
        nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)
    )
    model[4].weight = model[2].weight

    small: Any = cut(model, groups_of(model, (1, 3)), {"0": [0, 1, 5]})

    # Used on its own output, the weight ties what it reads to what it makes.
    assert small[4].weight is small[2].weight
    assert small[2].weight.shape == (3, 3)
    assert (small[4].in_features, small[6].in_features) == (3, 3)


def test_cut_keeps_requires_grad_and_buffers(groups_of: GroupsOf) -> None:
    model = _network()
    model[0].weight.requires_grad_(False)

    small: Any = cut(model, groups_of(model, SHAPE), KEEP)

    assert not small[0].weight.requires_grad
    assert small[4].weight.requires_grad
    assert [name for name, _ in small.named_buffers()] == [name for name, _ in model.named_buffers()]


def test_cut_to_widths_keeps_the_first(groups_of: GroupsOf) -> None:
    model = _network()

    small: Any = cut_to_widths(model, groups_of(model, SHAPE), {"0": 2})

    assert torch.equal(small[0].weight, model.state_dict()["0.weight"][:2])


def test_zero_consumers_leaves_producers_alone(groups_of: GroupsOf) -> None:
    model = _network()

    masked = zero_consumers(model, groups_of(model, SHAPE), KEEP).state_dict()

    assert torch.equal(masked["0.weight"], model.state_dict()["0.weight"])
    assert masked["4.weight"][:, [2, 3]].abs().max() == 0
    assert torch.equal(masked["4.weight"][:, [0, 1, 4]], model.state_dict()["4.weight"][:, [0, 1, 4]])
    assert masked["6.weight"][:, [*range(4), *range(8, 16)]].abs().max() == 0


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"nowhere": [0]}, "no channel group 'nowhere'"),
        ({"6": [0]}, "channel group 6 cannot be cut: network output"),
        ({"0": []}, "at least one"),
        ({"0": [0, 4]}, "between 0 and 3"),
        ({"0": [-1]}, "between 0 and 3"),
        ({"0": [1, 1]}, "distinct"),
    ],
)
def test_cut_refuses_what_makes_no_sense(keep: dict[str, list[int]], message: str, groups_of: GroupsOf) -> None:
    model = _network()

    with pytest.raises(SpecError, match=message):
        cut(model, groups_of(model, SHAPE), keep)
