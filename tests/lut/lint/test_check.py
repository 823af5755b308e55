"""All rules together, as a user meets them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.lut.lint.check import check
from netadapt_trt.lut.store import read_lut

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.lut.store import Lut

LUTS = sorted((Path(__file__).parents[3] / "luts").rglob("*.lut.jsonl"))


def test_check_names_everything_doubtful(empty: Callable[[], Any]) -> None:
    table = empty()
    table.session("s1", clocks={"governor": "powersave"}, machine={"other_load": 0.9})
    table.cell("conv", (3, 8), 0.9)  # slower than 16
    table.cell("conv", (3, 16), 0.5, n=3)
    table.cell("conv", (3, 24), 0.6, spread=(0.0, 0.6))
    table.cell("conv", (3, 32), 0.7, spread=(0.0, 1.4), flags=("noisy",))
    table.references([1.0, 1.3])
    table.lut.torn = True
    found = check(table.lut)
    assert [(finding.rule, finding.severity) for finding in found] == [
        ("torn", "warning"),
        ("load", "warning"),
        ("drift", "warning"),
        ("noisy", "warning"),
        ("spread", "warning"),
        ("few-runs", "warning"),
        ("bad-cells", "warning"),
        ("governor", "info"),
    ]
    assert all(finding.why and finding.action for finding in found)


def test_check_of_a_sound_table_is_silent(make_lut: Callable[..., Lut]) -> None:
    assert check(make_lut({"conv": {(3, 8): 1.0, (3, 16): 2.0}})) == []


def test_check_of_an_empty_table_is_an_error(make_lut: Callable[..., Lut]) -> None:
    (found,) = check(make_lut({}))
    assert found.severity == "error"
    assert found.action == "run: netadapt-trt profile PLAN --backend fake --precision fp32 --lut LUT"


@pytest.mark.parametrize("path", LUTS, ids=lambda path: path.stem)
def test_check_of_a_committed_table_says_each_thing_once(path: Path) -> None:
    lut = read_lut(path)
    found = check(lut)
    assert all("--backend pytorch" not in finding.action for finding in found)
    assert len({finding.rule for finding in found}) == len(found) < 10
    assert all(len(finding.text) < 200 and finding.severity != "error" for finding in found)


def test_check_survives_absurd_tables(empty: Callable[[], Any]) -> None:
    """Warnings are errors here: nothing may overflow, divide by zero or stumble over a key."""
    draw = random.Random(20261121)
    keys = [
        *(
            "x0[1,a,8,8] Conv(x0 [b,a,3,3] strides=0,0)=y0 Gemm(y0 [999999999a,b])=y1",
            "x0[1,a,8,8] Relu(x0)=y0",
            "x0[1,,8] Conv()=y0",
        ),
        *(
            "x0[" + "a," * 60 + "9] MatMul(x0 [a,b])=y0",
            "rpi 1 skip",
            "rpi 1 k3",
            "skip",
            "",
            "x0[1,a,8] Conv(x0 [b,a,3] pads=-1,x)=y0 Foo( )=",
        ),
    ]
    figures = (1e-320, 1e-9, 0.5, 1.0, 2.0, 1e12)
    for _ in range(100):
        table = empty()
        table.session("s1", clocks={"locked": "no", "gpu_min_mhz": "x", "gpu_max_mhz": 2}, machine={"other_load": 1e300})
        table.session("s2", machine={"other_load": "x"}, power_mode="15W")
        for _ in range(30):
            name, ms = draw.choice(("s1", "s2")), draw.choice(figures)
            widths = tuple(draw.choice((1, 8, 16, 2**31)) for _ in range(draw.choice((0, 1, 2, 2, 2, 3))))
            values = {"mj": draw.choice((None, *figures)), "dynamic": -1.0, "power_mw": {"a": draw.choice((0.0, *figures))}}
            spread = (0.0, draw.choice((0.0, 1.0, 1e12)))
            table.cell(draw.choice(keys), widths, ms, session=name, spread=spread, n=draw.choice((1, 50)), **values)
            table.references([draw.choice(figures)], name)
            details = {"pace": draw.choice(figures), "odd_even": draw.choice((0.0, -1.0, 1e300, *figures))}
            table.network(
                draw.choice(figures), name, rounds=draw.choice(figures), mapped_share=draw.choice(figures), **details
            )
        assert check(table.lut)


def test_check_copes_with_many_cells_from_within_networks(table: Any) -> None:
    key = "x0[1,a,8,8] Conv(x0 [b,a,1,1] [b])=y0"
    for index in range(600):
        widths = (1 + index * 37 % 251, 1 + index * 53 % 241)
        ms = 0.01 + 1e-5 * widths[0] * widths[1] * (1 + index % 7 / 10)  # up to 1 ms, without spread as profile writes them
        table.cell(key, widths, ms, n=20, context="in_network", neighbours=("conv",))
    assert check(table.lut) == []
