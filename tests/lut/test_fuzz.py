"""Files that chance has damaged: the reader answers with a table or with an error of ours, nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from netadapt_trt.errors import FileFormatError, IdentityError
from netadapt_trt.lut.lint.check import check
from netadapt_trt.lut.schema import NetworkLine, ReferenceLine
from netadapt_trt.lut.store import LutWriter, parse_lut, read_lut
from netadapt_trt.lut.summary import summarise
from netadapt_trt.spec import EnergyStats, Identity, LatencyStats

SPICES = [
    b"NaN", b"-1", b"1e400", b"{", b"}", b"[", b"]", b'"', b"\n", b"\0", b"\xff", b"null", b"true", b"\\ud800", b",",
    b"[" * 5000, b"9" * 400, b"9" * 5000, b'{"type": "cell"}', b'"session"', b"\r\n", b"\xef\xbb\xbf",
]  # fmt: skip


def _mutate(data: bytes, draw: random.Random) -> bytes:
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        at, length = draw.randrange(len(data) + 1), draw.choice((0, 1, 1, 4, 40))
        match draw.randrange(5):
            case 0:
                data = data[:at] + draw.choice(SPICES) + data[at + length :]
            case 1:
                data = data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
            case 2:
                data = data[:at]
            case 3:
                data = data[:at] + data[at + length :]
            case 4:
                parts = data.split(b"\n")
                draw.shuffle(parts)
                data = b"\n".join(parts)
        data = data or b"\n"
    return data


@pytest.fixture
def seed_content(lut_file: Path, identity: Identity) -> bytes:
    stats = LatencyStats(median=1.0, p10=0.9, p90=1.1, n=5)
    with LutWriter(lut_file, identity) as writer:
        writer.append(ReferenceLine(layer="Conv 3x3", widths=(3, 8), latency_ms=stats, session="s1"))
        writer.append(
            NetworkLine(plan="h", widths={"a": 8}, latency_ms=stats, energy_mj=EnergyStats(total=1.0), session="s1")
        )
    return lut_file.read_bytes()


def _complaint(data: bytes) -> str | None:
    try:
        lut = parse_lut(data, Path("fuzz"))
        summarise(lut)
        check(lut)
    except FileFormatError as error:
        return str(error)
    return None


def test_read_survives_thousands_of_damaged_files(seed_content: bytes) -> None:
    draw = random.Random(20260726)
    answers = [_complaint(_mutate(seed_content, draw)) for _ in range(4000)]
    messages = [answer for answer in answers if answer is not None]
    assert 1000 < len(messages) < 4000
    assert all(message.startswith("fuzz") for message in messages)


def test_writer_leaves_damaged_files_alone_or_readable(tmp_path: Path, seed_content: bytes, identity: Identity) -> None:
    draw, path = random.Random(7), tmp_path / "fuzz"
    for _ in range(200):
        content = _mutate(seed_content, draw)
        path.write_bytes(content)
        try:
            with LutWriter(path, identity):
                pass
        except (FileFormatError, IdentityError):
            assert path.read_bytes() == content
        else:
            assert not read_lut(path).torn
