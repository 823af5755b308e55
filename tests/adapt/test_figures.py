from __future__ import annotations

import pytest

from netadapt_trt.adapt.figures import figure, figures


@pytest.mark.parametrize(
    ("resource", "value", "told"),
    [
        ("latency", 0.123449, "0.1234 ms"),
        ("latency", 12.3456, "12.35 ms"),
        ("latency", 12345.6, "12346 ms"),
        ("latency", 0.0, "0 ms"),
        ("energy", 1.5, "1.500 mJ"),
        ("macs", 7_521_540, "7.522 M MACs"),
        ("macs", 0.5, "0.5 MACs"),
        ("params", 21.546, "21.55 parameters"),
        ("params", 998, "998 parameters"),
        ("memory", 1536, "1.500 KiB"),
    ],
)
def test_figure_has_a_unit_and_four_digits(resource: str, value: float, told: str) -> None:
    assert figure(resource, value) == told


def test_figures_share_the_unit_of_the_largest() -> None:
    assert figures("memory", (524_288, 2_097_152), 3) == (("0.500", "2.00"), "MiB")
