"""What knobs weigh at the start of a search, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from netadapt_trt.errors import SpecError
from netadapt_trt.space.knobs import Knobs, Start, doubtful_weight, start, worst
from netadapt_trt.space.schema import Block, Space, Stage, Stem
from netadapt_trt.space.table import SpaceTable

TWO = Space(
    name="two",
    input_shape=(3, 8, 8),
    num_classes=4,
    stem=Stem(channels=4),
    stages=(Stage(4, 2, 1),),
    blocks=(Block("a", 3, 1), Block("b", 3, 2)),
    head_channels=8,
)
NAN = math.nan


def table(*, energy: bool = True) -> SpaceTable:
    """Milliseconds 1000 2000 -, 3000 4000 500; millijoules 4 8 -, 16 20 0; stem and head 500 ms, 2 mJ."""
    millijoules = np.array([[4.0, 8.0, NAN], [16.0, 20.0, 0.0]])
    return SpaceTable(
        TWO,
        np.array([[1000.0, 2000.0, NAN], [3000.0, 4000.0, 500.0]]),
        millijoules if energy else np.full((2, 3), NAN),
        fixed_latency_ms=500.0,
        fixed_energy_mj=2.0 if energy else 0.0,
        source="by hand",
    )


def test_start_by_hand() -> None:
    """LAT0 = 0.5 + 1.5 + 2.5 = 4.5 s; ENER0 = 2 + 6 + 12 = 20 mJ = 0.02 J."""
    found = start(table(), Knobs(alpha=2.0, beta=0.5, gamma=3.0, delta=2.0))
    assert found.lat_s == pytest.approx(4.5, rel=1e-12)
    assert found.ener_j == pytest.approx(0.02, rel=1e-12)
    assert found.vlat == pytest.approx(2 * math.sqrt(4.5), rel=1e-12)
    assert found.vener == pytest.approx(3 * 0.0004, rel=1e-12)
    assert found.energy_dominance == pytest.approx(0.0012 / (2 * math.sqrt(4.5)), rel=1e-12)
    assert found.latency_dominance == pytest.approx(2 * math.sqrt(4.5) / 0.0012, rel=1e-12)


def test_a_term_that_is_off_dominates_nothing() -> None:
    found = start(table(), Knobs(alpha=1.0, beta=1.0, gamma=0.0))
    assert (found.vener, found.energy_dominance, found.latency_dominance) == (0.0, 0.0, None)
    found = start(table(), Knobs(alpha=0.0, beta=1.0, gamma=1.0, delta=1.0))
    assert (found.vlat, found.energy_dominance, found.latency_dominance) == (0.0, None, 0.0)


def test_without_a_table_of_energy() -> None:
    found = start(table(energy=False), Knobs(alpha=1.0, beta=1.0))
    assert found.lat_s == pytest.approx(4.5)
    assert found.ener_j is None
    assert found.vener == 0.0
    with pytest.raises(SpecError, match=r"gamma is 0\.1, but by hand says nothing of energy"):
        start(table(energy=False), Knobs(gamma=0.1))


def test_children_and_expectations_by_hand() -> None:
    costs = table()
    assert costs.latency((0, 2)) == 500 + 1000 + 500
    assert costs.energy((1, 1)) == 2 + 8 + 20
    assert worst(costs.latency_ms, costs.fixed_latency_ms) == 500 + 2000 + 4000
    probabilities = np.array([[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]])
    assert costs.expected_latency(probabilities) == pytest.approx(500 + 250 + 1500 + 2000 + 250)
    assert costs.expected_energy(probabilities) == pytest.approx(2 + 1 + 6 + 10 + 0)
    with pytest.raises(SpecError, match="'skip' is not offered there"):
        costs.latency((2, 0))
    assert math.isnan(table(energy=False).energy((0, 0)))


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma", "delta"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-0.1, "below 0 it would reward"),
        (math.nan, "must be a finite number"),
        (math.inf, "must be a finite number"),
        (10**400, "inf; it must be a finite number"),
        (-(10**400), "-inf; it must be a finite number"),
    ],
)
def test_knobs_that_make_no_sense(name: str, value: float, words: str) -> None:
    with pytest.raises(SpecError, match=f"{name} is .*{words}"):
        Knobs(**{name: value})


def test_a_knob_that_cannot_even_be_printed() -> None:
    """Python refuses to write integers of more than 4300 digits; the message does not try."""
    with pytest.raises(SpecError, match="alpha is -inf"):
        Knobs(alpha=-(10**5000))


def test_knobs_of_wrong_kinds() -> None:
    for value in ("1", None, True):
        with pytest.raises(SpecError, match="alpha must be a number"):
            Knobs(alpha=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("knobs", [Knobs(alpha=1e300), Knobs(alpha=1e200, beta=10)])
def test_knobs_that_overflow(knobs: Knobs) -> None:
    with pytest.raises(SpecError, match="no search can learn from that"):
        start(table(), knobs)


def test_energy_that_overflows_only_for_the_dearest_child() -> None:
    """ENER is 0.03 J at most: 1e16 times its tenth power is 6. On a scale of joules 30 J are at most: 6e30."""
    large = SpaceTable(TWO, table().latency_ms, table().energy_mj * 1e3, source="large")
    with pytest.raises(SpecError, match=r"gamma 1e\+16 and delta 10"):
        start(large, Knobs(gamma=1e16, delta=10.0))
    assert 0 < start(table(), Knobs(gamma=1e16, delta=10.0)).vener < 6


@pytest.mark.parametrize("name", ["beta", "delta"])
def test_powers_above_ten_are_slips(name: str) -> None:
    with pytest.raises(SpecError, match=f"{name} is 1e.308; powers go up to 10"):
        Knobs(**{name: 1e308})


def test_knobs_read_back() -> None:
    knobs = Knobs(alpha=1, beta=0.25, gamma=3.5, delta=0)
    assert Knobs.from_json(knobs.to_json()) == knobs


@pytest.mark.parametrize(
    ("vlat", "vener", "words"),
    [(0.0115, 0.0114, "hardly count"), (0.02, 0.01, ""), (229.0, 0.0, ""), (231.0, 0.0, "no say")],
)
def test_knobs_that_weigh_nothing_or_all_are_doubted(vlat: float, vener: float, words: str) -> None:
    """Guessing one of ten has a cross-entropy of 2.303: its hundredth is 0.02303, its hundredfold 230.3."""
    begun = Start(lat_s=1.0, ener_j=1.0, vlat=vlat, vener=vener, energy_dominance=None, latency_dominance=None)
    said = " ".join(doubtful_weight(begun, 10))
    assert (words in said) if words else not said
