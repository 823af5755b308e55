from __future__ import annotations

from netadapt_trt.adapt.uniform import find_uniform, uniform_networks

SIZES = {"a": 32, "b": 16, "c": 4}
STEPS = {"a": 8, "b": 8, "c": 8}


def total(widths: dict[str, int]) -> float:
    return float(sum(widths.values()))


def test_uniform_networks_are_all_that_one_multiplier_makes() -> None:
    found = [(n.multiplier, n.widths["a"], n.widths["b"], n.widths["c"]) for n in uniform_networks(SIZES, STEPS)]
    # a breaks at 1/4, 1/2, 3/4; b at 1/2; c has only one width; nothing falls below a step
    assert found == [(0.25, 8, 8, 4), (0.5, 16, 8, 4), (0.75, 24, 8, 4), (1.0, 32, 16, 4)]


def test_uniform_networks_stay_on_their_side_of_a_break() -> None:
    networks = uniform_networks({"a": 24, "b": 56}, {"a": 8, "b": 8})
    by_multiplier = {n.multiplier: n.widths for n in networks}
    assert by_multiplier[16 / 24] == {"a": 16, "b": 32}  # 37.3 rounded down
    assert by_multiplier[40 / 56] == {"a": 16, "b": 40}  # 17.1 rounded down
    assert 8 / 24 not in by_multiplier  # the same network as 2/7 makes: {8, 16}


def test_find_uniform_by_estimate_takes_the_widest_that_fits() -> None:
    found = find_uniform(uniform_networks(SIZES, STEPS), estimate=total, limit=30.0, measured_share=None)
    assert found is not None
    assert found.multiplier == 0.5  # 16 + 8 + 4 = 28
    assert find_uniform(uniform_networks(SIZES, STEPS), estimate=total, limit=10.0, measured_share=None) is None


def test_find_uniform_believes_the_measurement_both_ways() -> None:
    networks = uniform_networks(SIZES, STEPS)
    faster = find_uniform(networks, estimate=total, limit=30.0, measured_share=lambda widths: total(widths) / 36)
    assert faster is not None
    assert faster.multiplier == 0.75  # 24 + 8 + 4 = 36 fits when measured
    slower = find_uniform(networks, estimate=total, limit=30.0, measured_share=lambda widths: total(widths) / 20)
    assert slower is not None
    assert slower.multiplier == 0.25  # 8 + 8 + 4 = 20


def test_find_uniform_looks_past_a_dent() -> None:
    networks = uniform_networks({"a": 64}, {"a": 8})
    slow = {24, 32}
    found = find_uniform(
        networks,
        estimate=total,
        limit=16.0,
        measured_share=lambda widths: 2.0 if widths["a"] in slow or widths["a"] > 40 else 0.9,
    )
    assert found is not None
    assert found.widths == {"a": 40}


def test_find_uniform_may_find_none() -> None:
    assert find_uniform(uniform_networks(SIZES, STEPS), estimate=total, limit=30.0, measured_share=lambda _: 2.0) is None
