"""Counts of the residual network, worked out by hand from its shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.plan.sizes import PlanSizes, network_macs, network_memory_bytes, network_params

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.plan.schema import Plan

    FromText = Callable[..., Plan]


def test_macs_of_the_whole_and_of_a_cut_network(residual: Plan) -> None:
    # c1 6x8x8x3x9, dw 6x4x4x9, c2 4x4x4x6, c3 4x4x4x4, fc 10x4
    assert network_macs(residual, {}) == 10368 + 864 + 384 + 256 + 40
    assert network_macs(residual, {"one": 3, "two": 2}) == 5184 + 432 + 96 + 64 + 20


def test_params_of_the_whole_and_of_a_cut_network(residual: Plan) -> None:
    # weights and bias of c1, dw, c2, c3, fc
    assert network_params(residual, {}) == (162 + 6) + (54 + 6) + (24 + 4) + (16 + 4) + (40 + 10)
    assert network_params(residual, {"one": 3, "two": 2}) == (81 + 3) + (27 + 3) + (6 + 2) + (4 + 2) + (20 + 10)


def test_memory_is_weights_and_the_peak_of_live_activations(residual: Plan) -> None:
    # The most is alive while Clip runs: its input and its output, 6x8x8 each; the network's input is read no more.
    assert network_memory_bytes(residual, {}) == 4 * (326 + 2 * 384)
    # With one channel the peak is at the first convolution: 3x8x8 in, 1x8x8 out.
    params = (27 + 1) + (9 + 1) + (4 + 4) + (16 + 4) + 50
    assert network_memory_bytes(residual, {"one": 1}) == 4 * (params + 192 + 64)


def test_activation_that_is_added_later_stays_alive(from_text: FromText) -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]>
    g (float[1,4,2,2] x) => (float[1,4,2,2] y) <float[4,4,1,1] w> {
      a = Conv (x, w)  b = Relu (a)  c = Tanh (b)  y = Add (c, x)
    }"""
    plan = from_text(text, {"w": [4, 4, 1, 1]})
    # 16 numbers each: x lives to the end, so three are alive at once from Relu on.
    assert network_memory_bytes(plan, {}) == 4 * (16 + 3 * 16)


def test_flatten_shares_the_storage_of_its_input(from_text: FromText) -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]>
    g (float[1,4,2,2] x) => (float[1,16] y) { a = Relu (x)  b = Flatten (a)  y = Tanh (b) }"""
    assert network_memory_bytes(from_text(text, {}), {}) == 4 * (2 * 16)


def test_view_of_a_weight_is_stored_by_itself(from_text: FromText) -> None:
    """As Swin's tables of positions are read."""
    text = """<ir_version: 9, opset_import: ["" : 20]>
    g (float[1,4] x) => (float[1,4] y) <float[2,2] w, int64[2] s = {1, 4}> { a = Reshape (w, s)  y = Add (x, a) }"""
    # w, then x, a and y at once
    assert network_memory_bytes(from_text(text, {"w": [2, 2]}), {}) == 4 * (4 + 3 * 4)


def test_many_settings_at_once_equal_each_alone(residual: Plan) -> None:
    sizes = PlanSizes(residual)
    widths = np.array([[a, b] for a in range(1, 7) for b in range(1, 5)])
    settings = [{"one": int(a), "two": int(b)} for a, b in widths]
    assert sizes.macs(widths).tolist() == [network_macs(residual, setting) for setting in settings]
    assert sizes.params(widths).tolist() == [network_params(residual, setting) for setting in settings]
    assert sizes.memory_bytes(widths).tolist() == [network_memory_bytes(residual, setting) for setting in settings]


def test_network_without_weights_counts_nothing(from_text: FromText) -> None:
    text = '<ir_version: 9, opset_import: ["" : 20]> g (float[1,4,2,2] x) => (float[1,4,2,2] y) { y = Relu (x) }'
    plan = from_text(text, {})
    assert (network_macs(plan, {}), network_params(plan, {}), network_memory_bytes(plan, {})) == (0, 0, 4 * 32)
