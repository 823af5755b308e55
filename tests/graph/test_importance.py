from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from netadapt_trt.errors import SpecError
from netadapt_trt.graph.importance import importance, keep_indices, taylor_gradients

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.graph.channels import Channels


class Residual(nn.Module):
    """Two layers whose three channels are tied by a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(1, 3, (1, 2), bias=False), nn.BatchNorm2d(3)
        self.b, self.act, self.fc = nn.Conv2d(3, 3, 1, bias=False), nn.PReLU(3), nn.Linear(3, 2)
        with torch.no_grad():
            self.a.weight.copy_(torch.tensor([[3.0, 4.0], [1.0, -1.0], [0.0, 2.0]]).view(3, 1, 1, 2))
            self.b.weight.copy_(torch.tensor([[12.0, 0, 0], [0, 1, 1], [-2, 2, 1]]).view(3, 3, 1, 1))
            self.norm.weight.copy_(torch.tensor([0.5, -2.0, 1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.a(x))
        return self.fc(self.act(x + self.b(x)).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture
def residual(groups_of: Callable[..., Channels]) -> tuple[nn.Module, Channels]:
    model = Residual()
    return model, groups_of(model, (1, 1, 2, 3))


@pytest.mark.parametrize(
    ("method", "scores"),
    [
        ("l2", [(9 + 16 + 144) ** 0.5, (1 + 1 + 1 + 1) ** 0.5, (4 + 4 + 4 + 1) ** 0.5]),
        ("l1", [3 + 4 + 12, 1 + 1 + 2, 2 + 5]),
        ("bn_scale", [0.5, 2.0, 1.0]),
    ],
)
def test_importance_counts_the_filters_of_every_tied_layer(
    method: str, scores: list[float], residual: tuple[nn.Module, Channels]
) -> None:
    model, channels = residual

    assert importance(model, channels, "a", method).tolist() == pytest.approx(scores)  # type: ignore[arg-type]


def test_importance_taylor_is_the_squared_sum_of_weight_times_gradient(residual: tuple[nn.Module, Channels]) -> None:
    model, channels = residual
    taylor_gradients(model, [(torch.rand(4, 1, 2, 3), torch.tensor([0, 1, 0, 1]))] * 2)
    parts = [dict(model.named_parameters())[name] for name in ("a.weight", "b.weight")]

    expected = torch.zeros(3, dtype=torch.float64)
    for part in parts:
        assert part.grad is not None
        expected += (part * part.grad).double().flatten(1).sum(1).square()
    torch.testing.assert_close(importance(model, channels, "a", "taylor"), expected)


def test_importance_of_a_divided_layer_reads_its_own_part(groups_of: Callable[..., Channels]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(2, 1, bias=False), nn.Linear(2, 2, bias=False), nn.Linear(2, 3, bias=False)
            self.fc = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.cat([self.a(x), self.b(x)], 1) + self.c(x))  # type: ignore[no-any-return]

    model = Net()
    with torch.no_grad():
        model.b.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        model.c.weight.copy_(torch.tensor([[9.0, 9.0], [10.0, 20.0], [30.0, 40.0]]))

    assert importance(model, groups_of(model, (1, 2)), "b", "l1").tolist() == [33, 77]


def test_importance_refuses_what_it_cannot_score(residual: tuple[nn.Module, Channels]) -> None:
    model, channels = residual
    with pytest.raises(SpecError, match="no channel group 'x'"):
        importance(model, channels, "x")
    with pytest.raises(SpecError, match="unknown importance 'l3'; known: l2, l1, bn_scale, taylor"):
        importance(model, channels, "a", "l3")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="nothing to go by in channel group fc"):
        importance(model, channels, "fc", "bn_scale")
    with pytest.raises(SpecError, match="call taylor_gradients"):
        importance(model, channels, "a", "taylor")


def test_keep_indices_takes_the_highest_in_order_and_the_lower_of_equals() -> None:
    assert keep_indices(torch.tensor([1.0, 5.0, 3.0, 5.0, 3.0]), 3) == (1, 2, 3)


@pytest.mark.parametrize("width", [0, 4])
def test_keep_indices_refuses_impossible_widths(width: int) -> None:
    with pytest.raises(SpecError, match=f"cannot keep {width} of 3"):
        keep_indices(torch.ones(3), width)
