"""The rail table: boards by their rails, totals that count nothing twice, labels that cannot be right."""

from __future__ import annotations

import numpy as np
import pytest

from netadapt_trt.power.rails import BOARDS, match_board, total_mw, total_series, total_step_mw, why_no_total

ORIN = {"VDD_GPU_SOC": 2390.0, "VDD_CPU_CV": 796.0, "VIN_SYS_5V0": 3522.0}


def test_match_board_goes_by_the_set_and_drops_unconnected_rails() -> None:
    board = match_board(["NC", "VIN_SYS_5V0", "VDD_CPU_CV", "NC", "VDD_GPU_SOC"])
    assert board is not None
    assert board.name == "Jetson AGX Orin"
    assert not board.gpu_alone


@pytest.mark.parametrize("rails", [[], ["NC"], ["VDD_IN"], ["VDD_IN", "VDD_GPU", "VDD_CPU", "VDD_NEW"], ["VDD_GPU", "VIN"]])
def test_match_board_knows_no_other_set(rails: list[str]) -> None:
    assert match_board(rails) is None


def test_match_board_each_row_is_found_by_its_own_rails_with_and_without_the_extra_ones() -> None:
    for board in BOARDS:
        assert match_board(board.rails) is board
        assert match_board(board.rails | board.extra) is board


def test_boards_totals_are_rails_of_the_board_and_never_extra_ones() -> None:
    for board in BOARDS:
        assert board.total
        assert set(board.total) <= board.rails
        assert {board.gpu, board.cpu} - {None} <= board.rails
        assert set(board.steps_mw) <= board.rails | board.extra


def test_total_mw_leaves_out_a_rail_that_another_one_feeds() -> None:
    assert total_mw(ORIN | {"VDDQ_VDD2_1V8AO": 301.0}) == 2390.0 + 796.0 + 3522.0


def test_total_mw_of_unknown_rails_is_none_and_says_which() -> None:
    assert total_mw({"VDD_X": 1.0}) is None
    assert "VDD_X" in str(why_no_total({"VDD_X": 1.0}))
    assert total_mw({}) is None


def test_total_mw_keeps_negative_parts() -> None:
    assert total_mw({"VDD_GPU": -392.0, "VDD_CPU_SOC_MSS": 4000.0, "VIN_SYS_5V0": 5000.0}) == 8608.0


@pytest.mark.parametrize(
    ("gpu_mw", "total"),
    [(8791.0, None), (3115.0, 3075.0), (3116.0, None)],  # one step of 40 mW above the input is rounding, more is not
)
def test_total_mw_below_a_part_is_suspicious(gpu_mw: float, total: float | None) -> None:
    readings = {"POM_5V_IN": 3075.0, "POM_5V_GPU": gpu_mw, "POM_5V_CPU": 1000.0}
    assert total_mw(readings) == total
    assert (why_no_total(readings) is None) == (total is not None)


def test_total_mw_a_carrier_may_draw_more_than_the_module() -> None:
    tx1 = {"VDD_IN": 3000.0, "VDD_GPU": 100.0, "VDD_CPU": 200.0, "VDD_MUX": 9000.0}
    assert total_mw(tx1) == 3000.0


def test_total_mw_adds_packages_and_not_what_is_inside_or_beside_them() -> None:
    readings = {"package-0": 30e3, "package-0:core": 20e3, "package-0:dram": 5e3, "package-1": 40e3, "psys": 90e3}
    assert total_mw(readings) == 70e3


def test_total_mw_of_a_lone_psys_is_none() -> None:
    assert total_mw({"psys": 5.0}) is None


def test_total_mw_of_a_graphics_card_and_an_external_meter_is_their_only_rail() -> None:
    assert total_mw({"gpu-3": 70e3}) == 70e3
    assert total_mw({"external": 12e3}) == 12e3


def test_total_series_adds_columns_in_any_order() -> None:
    rails = ("VIN_SYS_5V0", "VDDQ_VDD2_1V8AO", "VDD_GPU_SOC", "VDD_CPU_CV")
    power = np.array([[3000.0, 300.0, 400.0, 800.0], [3100.0, 300.0, -400.0, 800.0]])
    total = total_series(rails, power)
    assert total is not None
    assert total.tolist() == [4200.0, 3500.0]


def test_total_series_judges_labels_by_the_mean() -> None:
    rails = ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")
    one_spike = np.array([[3000.0, 500.0, 500.0], [3000.0, 5000.0, 500.0]])  # the GPU's mean, 2750, is below the input
    assert total_series(rails, one_spike) is not None
    assert total_series(rails, one_spike[1:]) is None


def test_total_series_of_no_samples_is_empty_and_of_unknown_rails_none() -> None:
    empty = total_series(("external",), np.empty((0, 1)))
    assert empty is not None
    assert empty.shape == (0,)
    assert total_series(("x",), np.ones((3, 1))) is None


def test_total_step_mw_adds_squares_and_prefers_what_the_source_knows() -> None:
    assert total_step_mw(ORIN) == pytest.approx((2 * 400.0**2 + 100.0**2) ** 0.5)
    assert total_step_mw(ORIN, {"VDD_GPU_SOC": 300.0}) == pytest.approx((300.0**2 + 400.0**2 + 100.0**2) ** 0.5)
    assert total_step_mw(["VDD_IN", "VDD_GPU", "VDD_CPU"]) is None
    assert total_step_mw(["VDD_X"]) is None
