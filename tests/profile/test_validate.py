"""Tables against networks they do not hold: on the fake device both sides are formulas, so every figure is known."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.backend import load_backend
from netadapt_trt.errors import CoverageError, IdentityError, SpecError
from netadapt_trt.lut.store import Lut, read_lut
from netadapt_trt.plan.store import plan_hash
from netadapt_trt.profile.held_out import choose_anchors, held_out, portions
from netadapt_trt.profile.run import profile
from netadapt_trt.profile.validate import Patience, validate
from netadapt_trt.profile.validation import Portion, ValidatedNetwork, agreement, write_validation
from netadapt_trt.profile.verdict import verdict
from netadapt_trt.progress import QuietProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import ModuleType

    from netadapt_trt.plan.schema import Plan
    from netadapt_trt.spec import LatencyStats


class Notices(QuietProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netadapt_trt.profile.session.other_load", lambda: None)
    monkeypatch.setattr("netadapt_trt.measure.machine.other_load", lambda: None)
    monkeypatch.delenv("NETADAPT_FAKE_NOISE", raising=False)


@pytest.fixture(scope="module")
def plan(clockwork: ModuleType) -> Plan:
    """Groups of 32 and 48: the grid of 8 holds all their widths, so no estimate has to interpolate."""
    found: Plan = clockwork.make_plan(32, 48)
    return found


@pytest.fixture(scope="module")
def lut(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Lut:
    path = tmp_path_factory.mktemp("validate") / "fake.lut.jsonl"
    profile(plan, load_backend("fake"), path)
    return read_lut(path)


def remade(
    lut: Lut, *, cells: float = 1.0, networks: float = 1.0, keep: Callable[[dict[str, int]], bool] = lambda _: True
) -> Lut:
    """The same table with its times multiplied, and only those whole networks whose widths ``keep`` wants."""

    def times(stats: LatencyStats | None, factor: float) -> LatencyStats:
        assert stats is not None
        return replace(stats, median=stats.median * factor, p10=stats.p10 * factor, p90=stats.p90 * factor)

    made = Lut(lut.identity, lut.path)
    for session in lut.sessions.values():
        made.add(session)
    for cell in lut.cells:
        made.add(replace(cell, latency_ms=times(cell.latency_ms, cells)))
    for line in lut.networks:
        if keep(dict(line.widths)):
            made.add(replace(line, latency_ms=times(line.latency_ms, networks)))
    return made


def fake_ms(a: int, b: int) -> tuple[float, float]:
    """The formula for one network: end to end, and the sum of its four layers timed alone. Milliseconds."""

    def layer(rate: float, macs: int, elements: int) -> float:
        return 0.003 + max(macs / rate, 4 * elements / 10e6)

    padded_a, padded_b = -(-a // 16) * 16, -(-b // 16) * 16
    layers = [
        layer(20e6, 64 * 9 * 3 * padded_a, 3 * 64 + 27 * a + a + 64 * a),
        layer(20e6, 64 * padded_a * padded_b, 64 * a + a * b + b + 64 * b),
        layer(2e6, 64 * b, 64 * b + b),
        layer(20e6, padded_b * 16, b + 10 * b + 10 + 10),
    ]
    return 0.005 + 0.8 * sum(layers), sum(0.005 + one for one in layers)


def networks_of(*pairs: tuple[float, float], **more: Any) -> list[ValidatedNetwork]:
    plain: dict[str, Any] = {"isolated_sum_ms": None, "repeatability": 0.0, "extrapolated": (), "portion": 0, **more}
    return [
        ValidatedNetwork(widths={"a": 8}, estimate_ms=one, table_ms=one, measured_ms=other, sigma_ms=None, **plain)
        for one, other in pairs
    ]


def test_agreement_is_what_one_works_out_by_hand() -> None:
    # Errors +4 %, -8 %, +30 %.
    networks = networks_of((1.04, 1.0), (1.84, 2.0), (5.2, 4.0))
    networks[2] = replace(networks[2], isolated_sum_ms=6.0, table_ms=4.0)
    networks[0], networks[1] = replace(networks[0], sigma_ms=0.05), replace(networks[1], sigma_ms=0.05)
    found = agreement(networks, repeatability=0.03)
    assert found.within_1_sigma == pytest.approx(1 / 2)  # 0.04 and 0.16 off; the third knows of none
    assert agreement(networks_of((1.0, 1.0)), repeatability=0.0).within_1_sigma is None
    assert found.mape == pytest.approx(0.14)
    assert found.bias == pytest.approx(1 + 0.26 / 3)
    assert found.spearman == pytest.approx(1.0)
    assert (found.within_5pct, found.within_10pct) == pytest.approx((1 / 3, 2 / 3))
    assert found.within_3x_repeatability == pytest.approx(2 / 3)  # within 9 %
    assert found.mape_without_drift_correction == pytest.approx(0.04)
    assert (found.isolated_sum_mape, found.isolated_sum_bias, found.isolated_networks) == pytest.approx((0.5, 1.5, 1))


def test_validate_measures_the_formula_and_sums_its_layers(plan: Plan, lut: Lut) -> None:
    result = validate(plan, load_backend("fake"), lut, networks=6, isolated=3)
    for network in result.networks:
        whole, alone = fake_ms(network.widths["a"], network.widths["b"])
        assert network.measured_ms == pytest.approx(whole, rel=1e-6)
        assert network.isolated_sum_ms in (None, pytest.approx(alone, rel=1e-6))
        assert network.repeatability == 0
    assert [network.isolated_sum_ms is not None for network in result.networks] == [True, False] * 3
    assert result.drift == pytest.approx(1.0, rel=1e-5)  # a table keeps six digits
    assert (result.repeatability_mape, result.rounds, result.stopped) == (0.0, Patience().rounds, None)
    assert result.agreement.mape < 0.05


def test_validate_of_a_table_without_networks_has_the_error_of_the_plain_sum(plan: Plan, lut: Lut) -> None:
    told = validate(plan, load_backend("fake"), remade(lut, keep=lambda _: False), networks=5, isolated=5)
    ratios = []
    for network in told.networks:
        whole, alone = fake_ms(network.widths["a"], network.widths["b"])
        ratios.append(alone / whole)
    assert told.agreement.mape == pytest.approx(sum(ratios) / 5 - 1, rel=1e-4)
    assert told.agreement.isolated_sum_mape == pytest.approx(told.agreement.mape, rel=1e-4)
    assert told.drift is None
    assert any("drift is taken as 1" in line for line in told.verdict)


def test_validate_takes_drift_out_and_says_so(plan: Plan, lut: Lut) -> None:
    """All times of the table a quarter too long: the machine is faster now, and the table is as right as before."""
    backend = load_backend("fake")
    right = validate(plan, backend, lut, networks=5, isolated=0)
    slow = validate(plan, backend, remade(lut, cells=1.25, networks=1.25), networks=5, isolated=0)
    assert slow.drift == pytest.approx(0.8, rel=1e-5)
    assert slow.agreement.mape == pytest.approx(right.agreement.mape, abs=1e-5)
    left_in = sum(abs(1.25 * network.table_ms / network.measured_ms - 1) for network in right.networks) / 5
    assert slow.agreement.mape_without_drift_correction == pytest.approx(left_in, rel=1e-4)
    assert len(slow.portions[0].anchors) == 4  # the uncut network and three more of the table
    for anchor in slow.portions[0].anchors:
        assert anchor.then_ms is not None
        assert anchor.then_ms == pytest.approx(1.25 * fake_ms(anchor.widths["a"], anchor.widths["b"])[0], rel=1e-5)
        assert anchor.now_ms == pytest.approx(anchor.then_ms * 0.8, rel=1e-5)
    assert any(line.startswith("drift 0.800") and f"{left_in:.1%}" in line for line in slow.verdict)


def test_validate_does_not_take_a_wrong_table_for_drift(plan: Plan, lut: Lut) -> None:
    """The uncut network and its cells are right, narrower cells three times too long: the table is off, not the machine."""
    full = plan.full_widths()
    right = remade(lut, keep=lambda widths: widths == full)
    uncut = {(layer.key, layer.widths(full)) for layer in load_backend("fake").partition(plan)}
    wrong = Lut(lut.identity, lut.path)
    for session in lut.sessions.values():
        wrong.add(session)
    slow = remade(lut, cells=3.0)
    for one, three in zip(right.cells, slow.cells, strict=True):
        wrong.add(one if (one.layer, one.widths) in uncut else three)
    wrong.add(right.networks[0])
    result = validate(plan, load_backend("fake"), wrong, networks=5, isolated=0)
    assert result.drift == pytest.approx(1.0, rel=1e-5)
    assert result.agreement.bias > 1.5
    assert result.agreement.mape == pytest.approx(result.agreement.mape_without_drift_correction, rel=1e-4)
    assert "That is poor" in result.verdict[0]


def test_held_out_networks_are_not_the_table_s(plan: Plan, lut: Lut) -> None:
    held = {tuple(line.widths.values()) for line in lut.networks}
    told = Notices()
    result = validate(plan, load_backend("fake"), lut, networks=5, isolated=0, progress=told)
    drawn = [tuple(network.widths.values()) for network in result.networks]
    assert len(set(drawn)) == 5
    assert not held & set(drawn)
    assert result.redrawn > 0  # 24 settings in all, the table holds the likely ones
    assert any("stand in the table" in text for text in told.texts)


def test_held_out_begins_alike_for_any_count(plan: Plan) -> None:
    few, _ = held_out(plan, 3, 1, [])
    more, _ = held_out(plan, 6, 1, [])
    assert more[:3] == few
    without, passed = held_out(plan, 2, 1, few[:1])
    assert without == few[1:]
    assert passed >= 1


def test_held_out_of_a_network_with_too_few_settings(plan: Plan) -> None:
    every = [{"a": a, "b": b} for a in (8, 16, 24, 32) for b in (8, 16, 24, 32, 40, 48)]
    with pytest.raises(SpecError, match="a finer --granularity has more"):
        held_out(plan, 1, 1, every)
    with pytest.raises(SpecError, match=r"only 1 different .* --networks 1"):
        held_out(plan, 2, 1, [widths for widths in every if widths != {"a": 16, "b": 24}])


def test_portions_hold_what_fits_beside_the_anchor(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    # Weights and biases: 27a + a + ab + b + 10b + 10; uncut (32, 48): 2970, half of it (16, 24): 1106. Four bytes each.
    monkeypatch.setattr("netadapt_trt.profile.held_out.portion_bytes", lambda: 4.0 * (2970 + 2 * 1106))
    full, half = plan.full_widths(), {"a": 16, "b": 24}
    assert [len(part) for part in portions(plan, [half] * 5, [full])] == [2, 2, 1]
    # The uncut network would fill more than half of a portion: a narrower one that the table holds is the anchor.
    assert choose_anchors(plan, [(full, 1.0), (half, 0.4)]) == [half]
    assert choose_anchors(plan, [(full, 1.0)]) == [full]


def test_choose_anchors_leave_a_slow_network_out(plan: Plan) -> None:
    full, half, less = plan.full_widths(), {"a": 16, "b": 24}, {"a": 8, "b": 8}
    assert choose_anchors(plan, [(full, 250.0), (half, 90.0)], 1) == [full]
    assert choose_anchors(plan, [(full, 900.0), (less, 80.0), (half, 250.0)], 1) == [half]


def test_choose_anchors_are_spread_over_the_times(plan: Plan) -> None:
    full = plan.full_widths()
    known = [(full, 9.0), *(({"a": 8, "b": 8 * number}, float(number)) for number in range(1, 7))]
    # Six others in order of their times, three of them wanted: the middle one of each third, rounded up.
    assert choose_anchors(plan, known, 4) == [full, *({"a": 8, "b": 8 * number} for number in (2, 4, 6))]


def test_validate_in_portions_has_a_drift_of_each(plan: Plan, lut: Lut, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netadapt_trt.profile.held_out.portion_bytes", lambda: 4.0 * 2 * 2970)
    told = Notices()
    result = validate(plan, load_backend("fake"), lut, networks=6, isolated=2, progress=told)
    assert len(result.portions) > 1
    assert sum(portion.networks for portion in result.portions) == 6
    assert all(portion.drift == pytest.approx(1.0, rel=1e-5) for portion in result.portions)
    assert [network.portion for network in result.networks] == sorted(network.portion for network in result.networks)
    assert any(f"in {len(result.portions)} portions" in text for text in told.texts)
    seconds = iter(range(1000))
    patience = Patience(time_limit_s=0.5)
    cut = validate(
        plan,
        load_backend("fake"),
        lut,
        networks=6,
        isolated=0,
        patience=patience,
        clock=lambda: next(seconds),
        progress=told,
    )
    assert cut.stopped == "time limit"
    assert len(cut.portions) == 1
    assert len(cut.networks) == cut.portions[0].networks < 6
    assert any("stopped at the time limit" in text for text in told.texts)


def ragged(clockwork: ModuleType, turns: list[float]) -> Any:
    """A backend each of whose turns (one warm-up run, three that count) is longer by the next factor; the last one stays."""

    def stretch(_: int) -> Iterator[float]:
        for factor in turns:
            yield from [factor] * 4
        while True:
            yield turns[-1]

    made = clockwork.Clockwork(stretch=stretch)
    made.simulated = True
    return made


@pytest.mark.parametrize(
    ("turns", "rounds", "noise"),
    [
        # Odd rounds 1.1, even ones 1: it never gets better than 10 %, so the limit ends it.
        ([1.1, 1.0] * 6, 12, 0.1),
        # Only the first round is disturbed: the quieter two of three odd ones leave it out.
        ([1.5, 1.0], 6, 0.0),
        # Rounds 1, 3 and 5 are 1.1. The quietest two of four odd ones are 1 and 1.1, so 5 % remain; of five they are both 1.
        ([1.1, 1.0] * 3 + [1.0], 10, 0.0),
        # The same with the limit in between.
        ([1.1, 1.0] * 3 + [1.0], 8, 0.05),
    ],
)  # fmt: skip
def test_validate_takes_more_rounds_while_the_machine_is_noisy(
    clockwork: ModuleType, plan: Plan, tmp_path: Path, turns: list[float], rounds: int, noise: float
) -> None:
    profile(plan, clockwork.Clockwork(), tmp_path / "c.lut.jsonl", effort=clockwork.QUICK, sampling=clockwork.STILL)
    table = read_lut(tmp_path / "c.lut.jsonl")
    patience = Patience(rounds=6, most=8 if noise == 0.05 else 12, wanted=0.02)
    result = validate(plan, ragged(clockwork, turns), table, networks=3, isolated=0, patience=patience)
    assert result.rounds == rounds
    assert result.repeatability_mape == pytest.approx(noise)
    assert any("noisy" in line for line in result.verdict) == (noise > 0.02)


def test_validate_int8_tables_with_int8_networks(clockwork: ModuleType, plan: Plan, tmp_path: Path) -> None:
    class Quantised(clockwork.Clockwork):  # type: ignore[misc, name-defined]
        def identity(self, **conditions: Any) -> Any:
            recipe = "qdq-ort-x86" if conditions["precision"] == "int8" else "none"
            return replace(super().identity(**conditions), recipe=recipe)

    models: list[bytes] = []
    profile(plan, Quantised(), tmp_path / "q.lut.jsonl", precision="int8", effort=clockwork.QUICK, sampling=clockwork.STILL)
    backend = Quantised(on_compile=lambda _, model: models.append(model))
    backend.simulated = True
    result = validate(plan, backend, read_lut(tmp_path / "q.lut.jsonl"), networks=2, isolated=1)
    assert result.identity["precision"] == "int8"
    assert len(models) == 4 + 2 + 4  # the anchors, two networks; four layers of one of them
    assert sum(b"QuantizeLinear" in model for model in models) >= 6  # pooling alone may stay as it is
    assert set(backend.threads) == {result.identity["threads"]}


def test_validate_refuses_a_table_of_another_device(plan: Plan, lut: Lut) -> None:
    other = remade(lut)
    other.identity = replace(lut.identity, device="Orin", runtime_version="10.3")
    with pytest.raises(IdentityError, match="device: the LUT has 'Orin', here it is 'fake-device'; runtime_version"):
        validate(plan, load_backend("fake"), other)


def test_validate_refuses_a_table_that_lacks_layers(plan: Plan, lut: Lut) -> None:
    empty = Lut(lut.identity, lut.path)
    with pytest.raises(CoverageError, match=r"lacks latency of 4 layers .*netadapt-trt profile"):
        validate(plan, load_backend("fake"), empty)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"networks": 0}, "at least one"),
        ({"patience": Patience(rounds=4)}, "at least 5 rounds"),
        ({"patience": Patience(rounds=8, most=6)}, "may not be lower"),
        ({"patience": Patience(wanted=0.0)}, "must be positive"),
        ({"isolated": -1}, "not negative"),
    ],
)
def test_validate_refuses_what_makes_no_sense(plan: Plan, lut: Lut, more: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        validate(plan, load_backend("fake"), lut, **more)


def test_write_validation_leaves_a_document_with_the_contract_s_keys(plan: Plan, lut: Lut, tmp_path: Path) -> None:
    write_validation(tmp_path / "v.json", validate(plan, load_backend("fake"), lut, networks=3, isolated=1))
    document = json.loads((tmp_path / "v.json").read_text())
    assert (document["format"], document["version"]) == ("netadapt-validation", 1)
    for key in ("mape", "spearman", "repeatability_mape", "isolated_sum_mape", "within_5pct", "within_10pct", "drift"):
        assert isinstance(document[key], float)
    assert document["plan"] == plan_hash(plan)
    assert document["channels"] == 80
    assert len(document["networks"]) == 3


def told(networks: list[ValidatedNetwork], *, repeatability: float, drift: float | None = 1.0) -> str:
    portion = Portion(anchors=(), drift=drift, networks=1, rounds=6, repeatability=repeatability)
    figures = agreement(networks, repeatability)
    words = verdict(figures, networks, [portion], repeatability=repeatability, wanted=0.02, profile_command="PROFILE")
    return "\n".join(words)


def test_verdict_says_how_good_what_is_worst_and_what_next() -> None:
    scattered = networks_of((1.3, 1.0), (0.7, 1.0), (1.0, 1.0))
    words = told(scattered, repeatability=0.01)
    assert "off by 20.0%" in words
    assert "That is poor" in words
    assert "worst is network 1: estimate 1.3 ms, measured 1 ms (+30.0%)" in words
    assert "the error scatters" in words
    assert "one factor for all" in told(networks_of((1.2, 1.0), (1.25, 1.0)), repeatability=0.01)
    assert "measure what lacks: PROFILE" in told(
        networks_of((1.3, 1.0), (0.7, 1.0), extrapolated=("k",)), repeatability=0.01
    )
    assert "within three times the noise" in told(networks_of((1.05, 1.0)), repeatability=0.02)
    assert "That is good" in told(networks_of((1.03, 1.0)), repeatability=0.001)
    assert "That is usable" in told(networks_of((1.08, 1.0)), repeatability=0.001)
    assert "this machine is noisy" in told(scattered, repeatability=0.05)
