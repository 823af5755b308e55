from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from netadapt_trt.errors import FileFormatError
from netadapt_trt.search.steps import generator_of
from netadapt_trt.search.theta import Theta, probabilities, read_theta, write_theta

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netadapt_trt.space.schema import Space


def test_theta_begins_undecided(tiny: Space) -> None:
    theta = Theta(tiny, 1.0)
    expected = [[1 / 3, 1 / 3, 1 / 3, 0], [1 / 3, 1 / 3, 1 / 3, 0], [0.25] * 4]
    np.testing.assert_allclose(theta.probabilities().detach().numpy(), expected, rtol=1e-14)
    assert theta.entropy() == pytest.approx((2 * math.log(3) + math.log(4)) / 3)
    np.testing.assert_allclose(probabilities(theta.array()), expected, rtol=1e-14)


def test_theta_draws_follow_its_probabilities(tiny: Space) -> None:
    theta = Theta(tiny)
    with torch.no_grad():
        theta.values[2] = torch.tensor([0.0, 1.0, 2.0, 0.5])
    generator = generator_of(1)
    drawn = Counter(theta.draw(generator)[2] for _ in range(4000))
    wanted = theta.probabilities()[2].tolist()
    for column, share in enumerate(wanted):
        assert drawn[column] / 4000 == pytest.approx(share, abs=0.03)
    assert all(column < 3 for _ in range(100) for column in theta.draw(generator)[:2])


def test_theta_pairs_are_two_different_candidates(tiny: Space) -> None:
    theta = Theta(tiny)
    for pairs in (theta.draw_pairs(generator_of(number)) for number in range(50)):
        assert all(len(set(pair)) == 2 for pair in pairs)
        assert all(set(pair) <= set(place.candidates) for pair, place in zip(pairs, tiny.places, strict=True))


def test_theta_pair_of_a_place_with_one_candidate_is_alone(tiny: Space) -> None:
    single = replace(tiny, blocks=tiny.blocks[:1])
    assert Theta(single).draw_pairs(generator_of(0))[0] == (0,)


def test_theta_gumbel_softmax_is_soft_when_hot_and_hard_when_cold(tiny: Space) -> None:
    theta = Theta(tiny)
    hot, cold = (theta.gumbel_softmax(value, generator_of(2)).detach() for value in (1000.0, 0.001))
    torch.testing.assert_close(hot, theta.probabilities().detach(), atol=0.01, rtol=0)
    assert cold.max(1).values.min() > 0.999
    assert cold.argmax(1).tolist() == list(theta.draw(generator_of(2)))


def test_theta_file_keeps_every_value(tiny: Space, tmp_path: Path) -> None:
    theta = Theta(tiny)
    with torch.no_grad():
        theta.values += torch.randn(theta.values.shape, dtype=torch.float64, generator=generator_of(3))
    write_theta(tmp_path / "theta.json", tiny, theta.array(), 7)
    values, epoch = read_theta(tmp_path / "theta.json", tiny)
    assert epoch == 7
    np.testing.assert_array_equal(values, theta.array())
    assert json.loads((tmp_path / "theta.json").read_text())["theta"][0][3] is None
    again = Theta(tiny)
    again.load(values)
    torch.testing.assert_close(again.logits(), theta.logits(), rtol=0, atol=0)


def change(path: Path, how: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda c: c["theta"].pop(), "a row for each of the 3 places"),
        (lambda c: c["theta"][1].pop(), "place 2 needs 4 entries"),
        (lambda c: c["theta"][1].__setitem__(0, None), "place 2, k3_e1: a finite number"),
        (lambda c: c["theta"][0].__setitem__(3, 1.0), "place 1, skip: null"),
        (lambda c: c["theta"][2].__setitem__(3, float("nan")), "place 3, skip: a finite number"),
        (lambda c: c["theta"][2].__setitem__(3, 10**400), "place 3, skip: a finite number"),
        (lambda c: c["theta"][2].__setitem__(3, -(10**400)), "place 3, skip: a finite number"),
        (lambda c: c.__setitem__("epoch", -1), "epoch"),
        (lambda c: c.__setitem__("version", 99), "upgrade"),
    ],
)
def test_theta_file_that_is_damaged_is_refused(
    tiny: Space, tmp_path: Path, how: Callable[[dict[str, Any]], None], words: str
) -> None:
    path = tmp_path / "theta.json"
    write_theta(path, tiny, Theta(tiny).array(), 1)
    change(path, how)
    with pytest.raises(FileFormatError, match=words):
        read_theta(path, tiny)


def test_theta_file_of_another_space_is_refused(tiny: Space, tmp_path: Path) -> None:
    other = replace(tiny, name="other", head_channels=24)
    write_theta(tmp_path / "theta.json", other, Theta(other).array(), 1)
    with pytest.raises(FileFormatError, match=r"theta of another space.*other.*'tiny'"):
        read_theta(tmp_path / "theta.json", tiny)
