"""The tables under luts/: readable, in the folder of their device, and the imported ones as their sources have them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from netadapt_trt.lut.blocks import read_block_table
from netadapt_trt.lut.fields import parse_object
from netadapt_trt.lut.packed import read_table_bytes
from netadapt_trt.lut.schema import Session, parse_header, parse_record
from netadapt_trt.lut.store import read_lut

LUTS = Path(__file__).parents[2] / "luts"
TABLES = sorted(LUTS.glob("*/*.lut.jsonl*"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: str(path.relative_to(LUTS)))
def test_table_lies_in_the_folder_of_its_device(path: Path) -> None:
    header, second, *_ = read_table_bytes(path).split(b"\n", 2)
    identity, session = parse_header(parse_object(header), where=str(path)), parse_record(parse_object(second))
    assert json.loads((path.parent / "device.json").read_text())["device"] == identity.device
    assert path.name.startswith(f"{identity.backend}-{identity.precision}")
    assert isinstance(session, Session)
    if "imported_from" in session.settings:
        assert session.settings["licence"] != "unknown"
        assert str(session.settings["source"]).startswith("github.com/")


def test_hanna_table_holds_what_its_files_say() -> None:
    table = read_block_table(read_lut(LUTS / "raspberry-pi-3b" / "pytorch-fp32.lut.jsonl"))
    assert table.latency_ms.shape == table.energy_mj.shape == (22, 9)
    # First and last numbers of rpi_speed.txt and new_rpi_energy.txt, seconds and joules there.
    assert (table.latency_ms[0, 0], table.energy_mj[0, 0]) == (308.029603958, 674.5493723)
    assert (table.latency_ms[21, 8], table.energy_mj[21, 7]) == (76.2333869934, 3946.204664)
    # The first layer of each stage changes size or channels: no skip there.
    assert np.argwhere(np.isnan(table.energy_mj)).tolist() == [[row, 8] for row in (0, 1, 5, 9, 13, 17, 21)]


def test_v100_table_holds_what_its_file_says() -> None:
    lut = read_lut(LUTS / "tesla-v100" / "trt-fp16-batch128.lut.jsonl.gz")
    # {Regular,128,3,480,480,128,7,2,1} 14.6305
    key = "x0[128,a,480,480] x1[128,b,240,240] Conv(x0 [b,a,7,7] [b] pads=3,3,3,3 strides=2,2)=y0 Add(y0 x1)=y1"
    cell = lut.cell(key, (3, 128))
    assert cell is not None
    assert cell.latency_ms is not None
    assert cell.latency_ms.median == 14.6305
    assert len(lut.cells) == 18055  # of 18516 lines, 461 of them -1
