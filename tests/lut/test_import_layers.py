"""Tables of single layers: their keys are those of the planner, so that estimates find them."""

from __future__ import annotations

import gzip
import importlib
import pickle  # noqa: TID251 - written here, never read
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.errors import FileFormatError
from netadapt_trt.lut.estimator import NetworkEstimator
from netadapt_trt.lut.importers.formats import import_tables
from netadapt_trt.lut.importers.table import Conditions
from netadapt_trt.lut.store import LutWriter, merge_luts, read_lut

if TYPE_CHECKING:
    from pathlib import Path

    from netadapt_trt.plan.schema import Layer, Plan

hostile = importlib.import_module("hostile")

V100 = Conditions(device="V100", precision="fp16")
GPU = Conditions(device="GPU", batch=4)
LINES = """\
{Regular,1,3,32,32,16,3,2,0} 0.5
{Regular,1,64,14,14,32,1,1,1} 0.25
{Depthwise,1,24,16,16,24,5,1,0} 0.125
{Regular,1,3,32,32,8,3,2,0} -1
"""
KEYS = {
    "x0[1,a,32,32] Conv(x0 [b,a,3,3] [b] pads=1,1,1,1 strides=2,2)=y0": ((3, 16), 0.5),
    "x0[1,a,14,14] x1[1,b,14,14] Conv(x0 [b,a,1,1] [b])=y0 Add(y0 x1)=y1": ((64, 32), 0.25),
    "x0[1,a,16,16] Conv(x0 [a,1,5,5] [a] group=a pads=2,2,2,2)=y0": ((24,), 0.125),
}


def conv_table(path: Path, text: str = LINES) -> Path:
    path.write_text(text)
    return path


def test_convolutions_get_the_planner_s_keys(tmp_path: Path) -> None:
    out = tmp_path / "v.lut.jsonl"
    imported, _ = import_tables([conv_table(tmp_path / "t")], out, V100)
    lut = read_lut(out)
    assert {cell.layer: (cell.widths, cell.latency_ms.median) for cell in lut.cells if cell.latency_ms} == KEYS
    assert imported.notices[0].startswith("1 of 4 convolutions of batch 1 were not measured")
    assert (lut.identity.backend, lut.identity.batch, lut.identity.precision) == ("trt", 1, "fp16")


def test_estimator_finds_the_cells_of_a_real_network(tmp_path: Path, two_convolutions: tuple[Plan, list[Layer]]) -> None:
    text = """\
{Regular,1,3,32,32,8,3,2,0} 0.5
{Regular,1,3,32,32,4,3,2,0} 0.3
{Depthwise,1,8,16,16,8,3,1,0} 0.2
{Depthwise,1,4,16,16,4,3,1,0} 0.1
"""
    conditions = Conditions(device="V100", precision="fp16", activation="Relu")
    _, lut = import_tables([conv_table(tmp_path / "t", text)], tmp_path / "o.lut.jsonl", conditions)
    estimator = NetworkEstimator(lut, *two_convolutions)
    assert estimator.missing() == []
    assert estimator.raw({"g": 8}) == pytest.approx(0.7)
    assert estimator.raw({"g": 6}) == pytest.approx(0.4 + 0.15)  # half way between 4 and 8


@pytest.fixture
def two_convolutions() -> tuple[Plan, list[Layer]]:
    """Two convolutions with their activations, as the planner makes them of an ONNX graph."""
    import onnx.parser

    from netadapt_trt.plan.fragment import make_layer
    from netadapt_trt.plan.from_onnx import plan_from_onnx
    from netadapt_trt.plan.schema import Group

    model = onnx.parser.parse_model("""
<ir_version: 9, opset_import: ["" : 20]>
two (float[1,3,32,32] input) => (float[1,8,16,16] output)
<float[8,3,3,3] a_w, float[8] a_b, float[8,1,3,3] b_w, float[8] b_b>
{
  p = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2], dilations = [1, 1], group = 1> (input, a_w, a_b)
  q = Relu (p)
  r = Conv <group = 8, kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (q, b_w, b_b)
  output = Relu (r)
}
""")
    sizes = {"a_w": (8, 3, 3, 3), "a_b": (8,), "b_w": (8, 1, 3, 3), "b_b": (8,)}
    for value in list(model.graph.value_info):
        model.graph.initializer.append(onnx.TensorProto(name=value.name, dims=sizes[value.name], data_type=1))
    del model.graph.value_info[:]
    layouts = {
        name: tuple(((("g", 8, 1) if position == 0 else (None, size, 1)),) for position, size in enumerate(shape))
        for name, shape in sizes.items()
    }
    plan = plan_from_onnx(model, layouts, [Group("g", 8, ())], [], model_name="test", args={})
    names = [op.name for op in plan.ops]
    return plan, [make_layer(plan, names[:2]), make_layer(plan, names[2:])]


def test_table_of_several_batches_wants_one(tmp_path: Path) -> None:
    path = conv_table(tmp_path / "t", LINES + "{Regular,32,3,32,32,16,3,2,0} 4\n")
    with pytest.raises(FileFormatError, match=r"batches 1, 32, and a LUT is of one; add --batch 1"):
        import_tables([path], tmp_path / "o.lut.jsonl", V100)
    _, lut = import_tables([path], tmp_path / "o.lut.jsonl", Conditions(device="V100", precision="fp16", batch=32))
    (cell,) = lut.cells
    assert cell.layer.startswith("x0[32,a,32,32]")
    assert lut.identity.batch == 32


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{Sparse,1,3,32,32,16,3,2,0} 0.5", "line 5: .* is not {Regular"),
        ("{Regular,1,3,32,32,16,3,2,0} fast", "line 5: 'fast' is not a number"),
        ("{Regular,1,3,32,32,16,3,1,0} nan", "line 5: nan is not a time"),
        ("{Regular,1,3,32,32,16,3,1,0} -2", "line 5: -2 is not a time"),
        ("{Regular,1,3,32,32,16,5,1,0} 1e-10", "line 5: 1e-10 ms is not a time; say the file's --unit"),
        ("{Regular,1,3,0,32,16,3,1,0} 1", "line 5: sizes go from 1"),
        ("{Depthwise,1,24,16,16,12,3,1,0} 1", "line 5: a depthwise convolution has 24 channels in and 12 out"),
        ("{Regular,1,3,32,32,16,3,2,0} 0.6", "line 5: this convolution is there twice"),
    ],
)
def test_bad_line_is_an_error_that_names_it(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(FileFormatError, match=complaint):
        import_tables([conv_table(tmp_path / "t", LINES + line)], tmp_path / "o.lut.jsonl", V100)


def test_precision_that_is_nowhere_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="add --precision"):
        import_tables([conv_table(tmp_path / "t")], tmp_path / "o.lut.jsonl", Conditions(device="V100"))


def test_existing_table_is_left_alone(tmp_path: Path) -> None:
    out = conv_table(tmp_path / "o.lut.jsonl", "mine")
    with pytest.raises(FileFormatError, match="exists"):
        import_tables([conv_table(tmp_path / "t")], out, V100)
    assert out.read_text() == "mine"


def test_compressed_table_is_read_and_never_written(tmp_path: Path) -> None:
    source, packed, plain = tmp_path / "t.gz", tmp_path / "v.lut.jsonl.gz", tmp_path / "v.lut.jsonl"
    source.write_bytes(gzip.compress(LINES.encode()))
    import_tables([source], packed, V100)
    import_tables([conv_table(tmp_path / "t")], plain, V100)
    before = packed.read_bytes()
    assert read_lut(packed).cells[0].latency_ms == read_lut(plain).cells[0].latency_ms
    with pytest.raises(FileFormatError, match="gunzip"), LutWriter(packed, read_lut(packed).identity):
        pass
    with pytest.raises(FileFormatError, match="compressed"):
        merge_luts([plain], packed)
    assert packed.read_bytes() == before
    assert len(merge_luts([packed], tmp_path / "merged.lut.jsonl").cells) == 3


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"x" + data, lambda data: data[:40] + b"\0" + data[41:]]
)
def test_damaged_compressed_table_is_an_error(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "v.lut.jsonl.gz"
    import_tables([conv_table(tmp_path / "t")], path, V100)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileFormatError, match="copy the file again"):
        read_lut(path)


def test_compressed_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "v.lut.jsonl.gz"
    path.write_bytes(gzip.compress(bytes(1 << 20)) * 300)  # 300 MiB of zeros in 300 kB
    with pytest.raises(FileFormatError, match="unpacks to more than"):
        read_lut(path)


@pytest.mark.parametrize("protocol", range(6))
def test_netadapt_pickle_of_any_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "lut.pkl"
    path.write_bytes(hostile.table_pickle(protocol))
    _, lut = import_tables([path], tmp_path / "o.lut.jsonl", GPU, format="netadapt-pickle")
    key = "x0[4,a,32,32] Conv(x0 [b,a,3,3] [b] pads=1,1,1,1 strides=2,2)=y0"
    found = {(cell.layer, cell.widths): cell.latency_ms.median for cell in lut.cells if cell.latency_ms}
    assert found == {(key, (3, 8)): 1.0, (key, (3, 16)): 2.0}


def entry(**changes: Any) -> dict[str, Any]:
    base = {
        "is_depthwise": False, "kernel_size": (1, 1), "stride": (1, 1), "padding": (0, 0), "groups": 1,
        "layer_type_str": "Linear", "input_feature_map_size": [1, 8, 1, 1], "latency": {(8, 10): 0.001},
    }  # fmt: skip
    return base | changes


def imported(tmp_path: Path, table: object, conditions: Conditions = GPU) -> Any:
    (tmp_path / "lut.pkl").write_bytes(pickle.dumps(table, 4))
    return import_tables([tmp_path / "lut.pkl"], tmp_path / "o.lut.jsonl", conditions)


def test_netadapt_linear_depthwise_and_the_rest(tmp_path: Path) -> None:
    depthwise = entry(
        layer_type_str="Conv2d", is_depthwise=True, groups=8, kernel_size=3, padding=1, latency={(8, 8): 0.004}
    ) | {"input_feature_map_size": [1, 8, 16, 16]}
    table, lut = imported(tmp_path, {"fc": entry(), "dw": depthwise, "up": entry(layer_type_str="ConvTranspose2d")})
    assert {cell.layer: cell.widths for cell in lut.cells} == {
        "x0[4,a] Gemm(x0 [b,a] [b] transB=1)=y0": (8, 10),
        "x0[4,a,16,16] Conv(x0 [a,1,3,3] [a] group=a pads=1,1,1,1)=y0": (8,),
    }
    assert "'up'" in table.notices[0] or "up' ('ConvTranspose2d')" in table.notices[0]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ([{(3, 16): 442368}], "no table of latencies by layer name"),  # their example of FLOPs
        ({"a": entry(latency=[1])}, "layer 'a': its latency is not a table"),
        ({"a": entry(latency={8: 1.0})}, "8 is not .features in, features out."),
        ({"a": entry(latency={(8, 8): float("nan")})}, "nan is not a time"),
        ({"a": entry(latency={(8, 8): -1.0})}, "-1.0 is not a time"),
        ({"a": entry(latency={(8, 8): "fast"})}, "'fast' is not a time"),
        ({"a": entry(latency={(8, 8): 1e-13})}, "1e-13 is not a time"),  # seconds
        ({"a": entry(latency={(0, 8): 1.0})}, "is not .features in, features out."),
        ({"a": entry(layer_type_str="Conv2d", kernel_size="3")}, "kernel_size is not a whole number"),
        ({"a": entry(layer_type_str="Conv2d", stride=(0, 1))}, "stride is not a whole number"),
        ({"a": entry(layer_type_str="Conv2d", groups=2)}, "is_depthwise and groups"),
        ({"a": entry(layer_type_str="Conv2d", input_feature_map_size=[8, 1, 1])}, "input_feature_map_size"),
        ({"a": entry(layer_type_str="Conv2d", kernel_size=3)}, "the kernel is larger than the picture"),
        ({"a": entry(layer_type_str="RNN")}, "no Conv2d and no Linear"),
        ({}, "no table of latencies"),
    ],
)
def test_netadapt_table_that_is_wrong_is_named(tmp_path: Path, table: object, complaint: str) -> None:
    with pytest.raises(FileFormatError, match=complaint):
        imported(tmp_path, table)


def test_netadapt_batch_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="add --batch"):
        imported(tmp_path, {"a": entry()}, Conditions(device="GPU"))


def test_netadapt_shared_entry_is_read_once(tmp_path: Path) -> None:
    """A thousand names for one table of a thousand cells are a thousand cells."""
    shared = entry(latency={(8, width): 0.001 for width in range(1, 1001)})
    _, lut = imported(tmp_path, {f"layer{number}": shared for number in range(1000)})
    assert len(lut.cells) == 1000


@pytest.mark.parametrize("data", [b"", b"hello", b"1 2 3\n", b"\x00" * 50, b"{}\n"])
def test_unknown_content_asks_for_the_format(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(FileFormatError, match="add --format"):
        import_tables([tmp_path / "t"], tmp_path / "o.lut.jsonl", V100)
