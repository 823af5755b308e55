"""Files that chance has damaged: the reader answers with a table or with an error of ours, nothing else."""

from __future__ import annotations

import importlib
import random
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.errors import FileFormatError, IdentityError
from netadapt_trt.lut.schema import NetworkLine, ReferenceLine
from netadapt_trt.lut.store import LutWriter, read_lut
from netadapt_trt.spec import EnergyStats, Identity, LatencyStats

if TYPE_CHECKING:
    from pathlib import Path

hostile = importlib.import_module("hostile")


@pytest.fixture
def seed_content(lut_file: Path, identity: Identity) -> bytes:
    stats = LatencyStats(median=1.0, p10=0.9, p90=1.1, n=5)
    with LutWriter(lut_file, identity) as writer:
        writer.append(ReferenceLine(layer="Conv 3x3", widths=(3, 8), latency_ms=stats, session="s1"))
        writer.append(
            NetworkLine(plan="h", widths={"a": 8}, latency_ms=stats, energy_mj=EnergyStats(total=1.0), session="s1")
        )
    return lut_file.read_bytes()


def test_read_survives_thousands_of_damaged_files(seed_content: bytes) -> None:
    draw = random.Random(20260726)
    answers = [hostile.lut_complaint(hostile.mutated_lut(seed_content, draw)) for _ in range(4000)]
    messages = [answer for answer in answers if answer is not None]
    assert 1000 < len(messages) < 4000
    assert all(message.startswith("fuzz") for message in messages)


def test_writer_leaves_damaged_files_alone_or_readable(tmp_path: Path, seed_content: bytes, identity: Identity) -> None:
    draw, path = random.Random(7), tmp_path / "fuzz"
    for _ in range(200):
        content = hostile.mutated_lut(seed_content, draw)
        path.write_bytes(content)
        try:
            with LutWriter(path, identity):
                pass
        except (FileFormatError, IdentityError):
            assert path.read_bytes() == content
        else:
            assert not read_lut(path).torn


def test_complaint_does_not_repeat_a_megabyte() -> None:
    for header in (b'{"format": "' + b"x" * 70_000 + b'"}', b'{"format": ' + b"[" * 200 + b"]" * 200 + b"}"):
        complaint = hostile.lut_complaint(header + b"\n")
        assert complaint is not None
        assert len(complaint) < 200
