from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from netadapt_trt.errors import CheckError, DataError, FileFormatError, SpecError
from netadapt_trt.training.evaluate import evaluate, evaluate_loss
from netadapt_trt.training.fine_tune import FineTune, fine_tune, learning_rate_at, total_steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netadapt_trt.training.split import Split

    Make = Callable[[], nn.Module]

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = FineTune(steps=24, batch_size=16, learning_rate=0.05, warmup_steps=2, schedule="cosine", seed=3)


def _same(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_fine_tune_learns(stripes: Split, small_network: Make) -> None:
    model = small_network()
    figures: list[tuple[int, dict[str, float]]] = []
    fine_tune(model, stripes, replace(SETTINGS, steps=60), log=lambda step, found: figures.append((step, found)))
    assert evaluate(model, stripes) > 0.95
    assert [step for step, _ in figures] == [10, 20, 30, 40, 50, 60]
    assert figures[-1][1]["loss"] < figures[0][1]["loss"]
    assert not model.training


def test_fine_tune_repeats_for_a_seed_and_leaves_the_global_generator_alone(stripes: Split, small_network: Make) -> None:
    before = torch.random.get_rng_state()
    models = [small_network() for _ in range(3)]
    for model, seed in zip(models, (3, 3, 4), strict=True):
        fine_tune(model, stripes, replace(SETTINGS, seed=seed))
    assert torch.equal(before, torch.random.get_rng_state())
    assert _same(models[0], models[1])
    assert not _same(models[0], models[2])


def test_fine_tune_continues_from_its_checkpoint_bit_for_bit(stripes: Split, small_network: Make, tmp_path: Path) -> None:
    whole = small_network()
    fine_tune(whole, stripes, SETTINGS)
    for stop in (1, 5, 6, 7, 20):
        checkpoint = tmp_path / f"{stop}.safetensors"
        with pytest.raises(KeyboardInterrupt):
            fine_tune(small_network(), _stopping(stripes, stop), SETTINGS, checkpoint=checkpoint, checkpoint_every_s=0)
        resumed = small_network()
        fine_tune(resumed, stripes, SETTINGS, checkpoint=checkpoint, checkpoint_every_s=0)
        assert _same(whole, resumed)
        again = small_network()
        fine_tune(again, stripes, SETTINGS, checkpoint=checkpoint)  # finished: nothing left to do
        assert _same(whole, again)


def _stopping(split: Split, after: int) -> Split:
    """The same split, whose store gives out after so many batches."""
    store: Any = split.store

    class Stopping:
        slow = False
        left = after

        def read(self, indices: Any) -> torch.Tensor:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            values: torch.Tensor = store.read(indices)
            return values

    return replace(split, store=Stopping())


def test_fine_tune_refuses_a_checkpoint_of_another_training(stripes: Split, small_network: Make, tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.safetensors"
    fine_tune(small_network(), stripes, SETTINGS, checkpoint=checkpoint)
    with pytest.raises(FileFormatError, match=r"learning_rate is 0\.05 there, 0\.1 now"):
        fine_tune(small_network(), stripes, replace(SETTINGS, learning_rate=0.1), checkpoint=checkpoint)
    other = small_network()
    other.head = nn.Linear(32, 4)
    with pytest.raises(FileFormatError, match="another network"):
        fine_tune(other, stripes, SETTINGS, checkpoint=checkpoint)
    with pytest.raises(FileFormatError, match="labels is"):
        fine_tune(small_network(), replace(stripes, labels=stripes.labels[::-1].copy()), SETTINGS, checkpoint=checkpoint)
    for content in (b"", b"nonsense", checkpoint.read_bytes()[:-7]):
        checkpoint.write_bytes(content)
        with pytest.raises(FileFormatError, match="not a training checkpoint"):
            fine_tune(small_network(), stripes, SETTINGS, checkpoint=checkpoint)


def test_fine_tune_says_when_the_loss_is_lost(stripes: Split, small_network: Make) -> None:
    model = small_network()
    nn.init.constant_(model.head.bias, math.nan)  # type: ignore[arg-type, union-attr]
    with pytest.raises(CheckError, match="lower the learning rate"):
        fine_tune(model, stripes, SETTINGS)


def test_fine_tune_says_when_the_last_update_lost_the_loss(stripes: Split, small_network: Make) -> None:
    with pytest.raises(CheckError, match="no longer finite after step 1 of 1"):  # before that step it was finite
        fine_tune(small_network(), stripes, replace(SETTINGS, steps=1, warmup_steps=0, learning_rate=1e38))


def test_fine_tune_says_when_the_network_has_too_few_outputs(stripes: Split, small_network: Make) -> None:
    model = small_network()
    model.head = nn.Linear(32, 2)
    with pytest.raises(DataError, match="--num-classes 3"):
        fine_tune(model, stripes, SETTINGS)
    with pytest.raises(DataError, match="2 outputs"):
        evaluate(model, stripes)


def test_fine_tune_puts_dropout_and_memory_format_back(stripes: Split, small_network: Make) -> None:
    model = small_network()
    seen: list[float] = []
    drop = model.get_submodule("drop")
    drop.register_forward_hook(lambda module, *_: seen.append(module.p))
    fine_tune(model, stripes, replace(SETTINGS, steps=2, dropout=0.0))
    assert set(seen) == {0.0}
    assert drop.p == 0.3
    assert model.get_parameter("conv.weight").is_contiguous()


def test_fine_tune_decays_weights_but_neither_biases_nor_norms(stripes: Split, small_network: Make) -> None:
    # With a learning rate that moves nothing else, decay alone shows: w <- w (1 - rate * decay) at momentum 0.
    model = small_network()
    before = {name: value.clone() for name, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]
    fine_tune(model, stripes, replace(SETTINGS, steps=1, warmup_steps=0, learning_rate=0.5, weight_decay=0.5, momentum=0.0))
    for name, value in model.named_parameters():
        assert torch.allclose(value, before[name] * (0.75 if value.dim() > 1 else 1.0))


def test_fine_tune_takes_the_main_scores_of_several(stripes: Split, small_network: Make) -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_network()

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, None]:
            return self.inner(images), None

    model = Several()
    fine_tune(model, stripes, replace(SETTINGS, steps=1))
    assert 0 <= evaluate(model, stripes) <= 1


def test_fine_tune_scores_after_each_epoch(stripes: Split, small_network: Make) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    fine_tune(
        small_network(),
        stripes,
        FineTune(epochs=2, batch_size=16),
        log=lambda step, found: told.append((step, found)),
        each_epoch=lambda model: {"mine": evaluate(model, stripes)},
    )
    assert [step for step, found in told if "mine" in found] == [6, 12]


def test_fine_tune_of_no_steps_changes_nothing(stripes: Split, small_network: Make) -> None:
    model = small_network()
    fine_tune(model, stripes, replace(SETTINGS, steps=0))
    assert _same(model, small_network())


def test_total_steps_leaves_incomplete_batches_out(stripes: Split) -> None:
    assert total_steps(stripes, FineTune(steps=7)) == 7
    assert total_steps(stripes, FineTune(epochs=2, batch_size=40)) == 4
    assert total_steps(stripes, FineTune(epochs=1.5, batch_size=16)) == 9
    assert total_steps(stripes, FineTune(epochs=3, batch_size=500)) == 3


def test_learning_rate_at_warms_up_and_follows_the_cosine() -> None:
    settings = FineTune(steps=12, learning_rate=0.4, warmup_steps=3, schedule="cosine")
    rates = [learning_rate_at(step, 11, settings) for step in range(11)]
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[7] == pytest.approx(0.2)  # half way from 3 to 11
    assert rates[10] == pytest.approx(0.2 * (1 + math.cos(math.pi * 7 / 8)))
    assert learning_rate_at(9, 11, replace(settings, schedule="constant")) == 0.4


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"steps": 1, "epochs": 1.0},
        {"steps": -1},
        {"epochs": math.nan},
        {"steps": 1, "batch_size": 0},
        {"steps": 1, "learning_rate": 0.0},
        {"steps": 1, "momentum": 1.0},
        {"steps": 1, "dropout": 1.0},
        {"steps": 1, "schedule": "linear"},
    ],
)
def test_fine_tune_settings_refuse_nonsense(bad: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        FineTune(**bad)


def test_evaluate_counts_by_hand(stripes: Split) -> None:
    class Constant(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([0.0, 0.0, math.log(2)]).expand(len(images), 3)

    accuracy, loss = evaluate_loss(Constant().train(), stripes, batch_size=7)
    assert accuracy == pytest.approx(1 / 3)  # always class 2
    # Probabilities 1/4, 1/4, 1/2, and each class a third of the time.
    assert loss == pytest.approx((2 * math.log(4) + math.log(2)) / 3, rel=1e-5)
    with pytest.raises(DataError, match="empty"):
        evaluate(Constant(), stripes.subset([]))


def test_evaluate_keeps_the_mode_and_the_statistics(stripes: Split, small_network: Make) -> None:
    model = small_network().train()
    before = model.get_buffer("norm.running_mean").clone()
    evaluate(model, stripes)
    assert model.training
    assert torch.equal(model.get_buffer("norm.running_mean"), before)
