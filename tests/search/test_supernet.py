"""The supernet runs what it is told to, and theta's gradient is that of the loss it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from netadapt_trt.search import steps
from netadapt_trt.search.cost import ExpectedCost
from netadapt_trt.search.steps import generator_of, step_theta, step_weights
from netadapt_trt.search.supernet import Supernet
from netadapt_trt.search.theta import Theta
from netadapt_trt.space.knobs import Knobs

if TYPE_CHECKING:
    from netadapt_trt.search.settings import Paths
    from netadapt_trt.space.schema import Space
    from netadapt_trt.space.table import SpaceTable


@pytest.fixture
def supernet(tiny: Space) -> Supernet:
    torch.manual_seed(0)
    return Supernet(tiny, 10)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = generator_of(5)
    return torch.randn(16, 1, 8, 8, generator=generator), torch.randint(0, 10, (16,), generator=generator)


def test_supernet_with_one_hot_weights_is_that_path(supernet: Supernet, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    columns = (1, 2, 3)
    weights = torch.nn.functional.one_hot(torch.tensor(columns), 4).double()
    torch.testing.assert_close(supernet.mixed(batch[0], weights), supernet.path(batch[0], columns))


def test_supernet_mixes_outputs_by_their_weights(supernet: Supernet, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    """One place by hand; the others decided."""
    weights = torch.tensor([[0.2, 0.5, 0.3, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    values = supernet.stem(batch[0])
    first = supernet.places[0]
    values = 0.2 * first[0](values) + 0.5 * first[1](values) + 0.3 * first[2](values)  # type: ignore[index]
    values = supernet.places[1][0](values)  # type: ignore[index]
    expected = supernet.classifier(supernet.head(values).mean((2, 3)))
    torch.testing.assert_close(supernet.mixed(batch[0], weights), expected)


def test_supernet_gates_leave_the_scores_of_the_active_path(
    supernet: Supernet, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    gates = torch.tensor([[1.0, 0.0]] * 3, dtype=torch.float64, requires_grad=True)
    scores = supernet.gated(batch[0], (0, 1, 2), (1, None, 3), gates)
    torch.testing.assert_close(scores, supernet.path(batch[0], (0, 1, 2)))


@pytest.mark.parametrize("nested", [False, True])
def test_supernet_gate_gradients_match_finite_differences(
    tiny: Space, batch: tuple[torch.Tensor, torch.Tensor], nested: bool
) -> None:
    torch.manual_seed(0)
    supernet = Supernet(tiny, 10, nested=nested).double()
    for name, parameter in supernet.named_parameters():
        if name.endswith("norms.2.weight"):  # residual blocks begin as skipping: without a difference, no slope
            torch.nn.init.ones_(parameter)
    images = batch[0].double()
    gates = torch.tensor([[1.0, 0.0]] * 3, dtype=torch.float64, requires_grad=True)
    active, others = (0, 2, 1), (1, 0, 3)

    def loss(values: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(supernet.gated(images, active, others, values), batch[1])

    (gradient,) = torch.autograd.grad(loss(gates), gates)
    for row in range(3):
        for column in range(2):
            moved = torch.zeros(3, 2, dtype=torch.float64)
            moved[row, column] = 1e-5
            with torch.no_grad():
                slope = (loss(gates + moved) - loss(gates - moved)) / 2e-5
            # Through an active gate flows what reaches the loss by all later places; the other gate's block adds to it only.
            assert float(gradient[row, column]) == pytest.approx(float(slope), rel=1e-4, abs=1e-7)


def test_gates_follow_the_gradient_of_the_expected_loss(tiny: Space) -> None:
    """Of a loss that is linear in what each block adds: ``p_i (L_i - sum of p_j L_j)`` in each place, by hand."""
    theta = Theta(tiny)
    with torch.no_grad():
        theta.values += torch.tensor([[0.0, 1.0, -1.0, 0.0], [2.0, 0.0, 0.5, 0.0], [0.0, 0.3, 3.0, -0.5]])
    losses = torch.tensor([[1.0, 2.0, 4.0, 0.0], [0.5, -1.0, 1.0, 0.0], [2.0, 1.0, 0.0, 3.0]], dtype=torch.float64)
    chances = theta.probabilities().detach()
    expected = chances * (losses - (chances * losses).sum(1, keepdim=True))
    total, draws, places = torch.zeros_like(expected), 6000, torch.arange(3)
    for number in range(draws):
        active, others, gates = steps._gates(theta, generator_of(4, number))
        assert gates.tolist() == [[1.0, 0.0]] * 3
        pair = torch.stack([losses[places, active], losses[places, [other or 0 for other in others]]], 1)
        total += torch.autograd.grad((gates * pair).sum(), theta.values)[0]
    torch.testing.assert_close(total / draws, expected, atol=0.04, rtol=0)


def test_supernet_trains_only_the_path_that_ran(batch: tuple[torch.Tensor, torch.Tensor], tiny: Space) -> None:
    """Of nested weights those that its blocks are made of: in each place as many first channels as the block has."""
    torch.manual_seed(0)
    supernet, theta = Supernet(tiny, 10, nested=True), Theta(tiny)
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9)
    before = {name: value.detach().clone() for name, value in supernet.named_parameters()}
    drawn = theta.draw(generator_of(9))
    step_weights(supernet, theta, optimizer, batch, paths="sampled", temperature=5.0, generator=generator_of(9))
    for place, column in enumerate(drawn[:2]):
        name = f"places.{place}.depthwise.weight"  # [24, 1, 5, 5]: 8 channels, at most 3 times
        changed = supernet.get_parameter(name).detach() != before[name]
        expected = torch.zeros_like(changed)
        inner = slice(0, 5) if column == 2 else slice(1, 4)
        expected[: 8 * (column + 1), :, inner, inner] = True
        assert torch.equal(changed, expected)
    assert {name.split(".")[0] for name in before if not torch.equal(supernet.get_parameter(name), before[name])} >= {
        "stem", "head", "classifier"
    }  # fmt: skip
    assert theta.values.grad is None


@pytest.mark.parametrize("paths", ["all", "sampled"])
def test_supernet_theta_step_moves_theta_and_not_the_weights(
    batch: tuple[torch.Tensor, torch.Tensor], table: SpaceTable, paths: Paths
) -> None:
    supernet, theta = Supernet(table.space, 10, nested=paths == "sampled"), Theta(table.space)
    optimizer = torch.optim.Adam([theta.values], lr=0.01)
    before = {name: value.detach().clone() for name, value in supernet.named_parameters()}
    step_theta(
        supernet, theta, optimizer, batch, paths=paths, temperature=5.0, generator=generator_of(9),
        cost=ExpectedCost(table), knobs=Knobs(alpha=1.0),
    )  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in supernet.named_parameters())
    assert all(parameter.requires_grad for parameter in supernet.parameters())
    moved = (theta.values.detach() != 1.0) & theta.offered
    assert moved[theta.offered].all()
    assert (theta.values.detach()[~theta.offered] == 1.0).all()


@pytest.mark.parametrize("paths", ["all", "sampled"])
def test_supernet_learns_what_is_to_be_learnt(tiny: Space, paths: Paths) -> None:
    """Ten classes of pictures that differ in one bright pixel."""
    torch.manual_seed(0)
    supernet, theta = Supernet(tiny, 10, nested=paths == "sampled"), Theta(tiny)
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.05, momentum=0.9)
    labels = torch.arange(40) % 10
    images = torch.randn(40, 1, 8, 8, generator=generator_of(1)) * 0.2
    images[torch.arange(40), 0, labels // 4 * 2, labels % 4 * 2] += 3
    losses = [
        step_weights(
            supernet, theta, optimizer, (images, labels), paths=paths, temperature=5.0, generator=generator_of(2, step)
        ).loss
        for step in range(120)
    ]
    assert sum(losses[-20:]) / 20 < losses[0] / 2
