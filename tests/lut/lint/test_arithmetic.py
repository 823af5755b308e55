from __future__ import annotations

import pytest

from netadapt_trt.lut.blocks import block_key
from netadapt_trt.lut.lint.arithmetic import is_skip, macs, place_of, shape_in

CONV = "x0[1,a,32,32] Conv(x0 [b,a,3,3] [b] pads=1,1,1,1 strides=2,2)=y0 Relu(y0)=y1"
DEPTHWISE = "x0[1,a,8,8] Conv(x0 [a,1,3,3] [a] group=a pads=1,1,1,1)=y0"
CHAIN = "x0[2,a,9,9] Conv(x0 [b,a,3,3] [b])=y0 Relu(y0)=y1 Conv(y1 [2b+1,b,1,1])=y2"
GEMM = "x0[4,a] Gemm(x0 [b,a] [b] transB=1)=y0"
ADD = "x0[1,a,8,8] x1[1,a,8,8] Add(x0 x1)=y0 Relu(y0)=y1"


@pytest.mark.parametrize(
    ("key", "widths", "count"),
    [
        (CONV, (3, 16), 16 * 16 * 16 * 3 * 9),  # 16 channels of 16x16, each of 3x3x3
        (DEPTHWISE, (10,), 10 * 64 * 9),
        (CHAIN, (3, 4), 2 * 49 * (4 * 3 * 9 + 9 * 4)),  # 7x7 twice, 9 channels in the end
        (GEMM, (512, 10), 4 * 512 * 10),
        ("x0[1,5,a] MatMul(x0 [a,7])=y0", (6,), 5 * 6 * 7),
        (ADD, (8,), 0),
        ("x0[1,a,8,8] Flatten(x0)=y0 Gemm(y0 [b,64a] transB=1)=y1", (8, 10), None),  # a shape the key does not say
        ("rpi 3 k3 e6", (), None),
        ("x0[1,c] Gemm(x0 [b,c] transB=1)=y0", (8, 10), None),  # a letter without a width
    ],
)
def test_macs_by_hand(key: str, widths: tuple[int, ...], count: int | None) -> None:
    assert macs(key, widths) == count


@pytest.mark.parametrize(
    ("key", "skips"),
    [
        (CONV, False),
        (GEMM, False),
        (ADD, True),
        ("x0[1,a,2,2] GlobalAveragePool(x0)=y0", True),
        ("x0[1,a,4,4]uint8 DequantizeLinear(x0 {1} {0}uint8)=y0 Conv(y0 [b,a,1,1] [b])=y1", False),
        ("hanna layer 3 skip", True),
        ("hanna layer 3 k3e1", False),
        ("hanna layer 3 skipped", False),
        (block_key(3, "skip"), True),
        (block_key(3, "k5_e6"), False),
        (block_key(3, "no-skip"), False),
        ("", False),
        ("Conv 3x3", False),
    ],
)
def test_is_skip_where_nothing_is_computed(key: str, skips: bool) -> None:
    assert is_skip(key) == skips


def test_place_of_is_what_choices_share() -> None:
    assert place_of("hanna layer 3 skip") == place_of("hanna layer 3 k3e1") == "hanna layer 3"
    assert place_of(block_key(3, "skip")) == place_of(block_key(3, "k5_e6")) == "named block, no ONNX fragment: layer=3"
    assert place_of(block_key(13, "skip")) != place_of(block_key(3, "skip"))
    assert place_of(ADD) == "x0[1,a,8,8] x1[1,a,8,8]"
    assert shape_in(ADD, (24,)) == (1, 24, 8, 8)
    assert shape_in("hanna layer 3 skip", ()) is None
