from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.errors import FileFormatError, IdentityError, LockedError, TooNewError, TooOldError
from netadapt_trt.lut.schema import Cell, NetworkLine, Record, ReferenceLine, Session, format_record, parse_record
from netadapt_trt.lut.store import LutWriter, merge_luts, read_lut, stored_identity
from netadapt_trt.progress import QuietProgress
from netadapt_trt.spec import EnergyStats, Identity, LatencyStats

if TYPE_CHECKING:
    from pathlib import Path

MakeCell = Callable[..., Cell]
STATS = LatencyStats(median=0.5, p10=0.4, p90=0.6, n=12)


class Notices(QuietProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


def test_format_record_is_read_back_equal() -> None:
    records: list[Record] = [
        Session(
            id="a",
            date="2026-01-01",
            clocks={"governor": "performance", "mhz": 1400.5, "max": None},
            machine={"model": "Gerät"},
            power_source="ina3221",
            rails=("VDD_IN", "VDD_CPU"),
            sensor_step_mw=4.0,
        ),
        Cell(layer="Conv", widths=(), session="a", latency_ms=STATS),
        Cell(
            layer="Conv",
            widths=(3, 8),
            session="a",
            context="in_network",
            neighbours=("Relu", "Add"),
            latency_ms=STATS,
            host_latency_ms=replace(STATS, median=0.55),
            energy_mj=EnergyStats(total=2.0, dynamic=-0.1, stderr=0.0),
            power_mw={"VDD_IN": 5000.0},
            details={"sha256": "00ff"},
            flags=("noisy",),
        ),
        ReferenceLine(layer="Conv", widths=(3, 8), latency_ms=STATS, session="a"),
        NetworkLine(plan="00ff", widths={"b": 4, "a": 2}, latency_ms=STATS, session="a"),
        NetworkLine(
            plan="00ff",
            widths={"b": 4},
            latency_ms=STATS,
            host_latency_ms=STATS,
            details={"engine_size_bytes": 4096, "cuda_graph": "no", "cuda_graph_reason": "not supported"},
            flags=("throttled",),
            session="a",
        ),
    ]
    for record in records:
        assert parse_record(json.loads(format_record(record))) == record


def test_writer_makes_the_file_and_read_finds_every_line(lut_file: Path, identity: Identity) -> None:
    lut = read_lut(lut_file)
    assert lut.identity == identity
    assert [cell.widths for cell in lut.cells] == [(3, 8), (3, 16), (3, 32)]
    assert lut.layers() == ["Conv 3x3"]
    found = lut.cell("Conv 3x3", (3, 16))
    assert found is not None
    assert found.latency_ms == LatencyStats(median=1.0, p10=1.0, p90=1.0, n=10)
    assert lut.cell("Conv 3x3", (3, 17)) is None
    assert [path.name for path in lut_file.parent.iterdir()] == [lut_file.name]  # no stray lock file


def test_latest_unflagged_line_of_a_cell_wins(lut_file: Path, identity: Identity, make_cell: MakeCell) -> None:
    def median() -> float:
        cell = read_lut(lut_file).cell("L", (8,))
        assert cell is not None
        assert cell.latency_ms is not None
        return cell.latency_ms.median

    for value, flags, expected in (
        (9.0, ["noisy"], 9.0),
        (8.0, ["noisy"], 8.0),
        (1.0, [], 1.0),
        (7.0, ["noisy"], 1.0),
        (2.0, [], 2.0),
    ):
        with LutWriter(lut_file, identity) as writer:
            writer.append(make_cell("L", (8,), value, *flags))
        assert median() == expected


def test_energy_only_line_completes_a_cell(lut_file: Path, identity: Identity, make_cell: MakeCell) -> None:
    with LutWriter(lut_file, identity) as writer:
        writer.append(
            Cell(layer="Conv 3x3", widths=(3, 8), session="s1", energy_mj=EnergyStats(total=7.0), power_mw={"IN": 5.0})
        )
        writer.append(make_cell("Conv 3x3", (3, 8), 0.25))
    cell = read_lut(lut_file).cell("Conv 3x3", (3, 8))
    assert cell is not None
    assert cell.latency_ms is not None
    assert (cell.latency_ms.median, cell.energy_mj, cell.power_mw) == (0.25, EnergyStats(total=7.0), {"IN": 5.0})


def test_network_is_the_latest_at_these_widths_whatever_the_group_names(lut_file: Path, identity: Identity) -> None:
    with LutWriter(lut_file, identity) as writer:
        for median, widths in ((1.0, {"a": 4, "b": 8}), (2.0, {"a": 4, "b": 8}), (3.0, {"a": 4, "b": 4})):
            stats = LatencyStats(median=median, p10=median, p90=median, n=5)
            writer.append(NetworkLine(plan="h", widths=widths, latency_ms=stats, session="s1"))
    lut = read_lut(lut_file)
    line = lut.network("h", {"x": 4, "y": 8})
    assert line is not None
    assert line.latency_ms is not None
    assert line.latency_ms.median == 2.0
    assert lut.network("h", {"x": 4, "y": 8}, energy=True) is None
    assert lut.network("g", {"a": 4, "b": 8}) is None


@pytest.mark.parametrize("tail", ['{"type": "cell", "lay', "\0\0\0\0", '{"a": 1} {"b'])
def test_torn_tail_is_ignored_on_read_and_dropped_on_write(
    lut_file: Path, identity: Identity, make_cell: MakeCell, tail: str
) -> None:
    whole = lut_file.read_bytes()
    lut_file.write_bytes(whole + tail.encode())
    lut = read_lut(lut_file)
    assert lut.torn
    assert len(lut.cells) == 3
    assert lut_file.read_bytes() == whole + tail.encode()
    told = Notices()
    with LutWriter(lut_file, identity, progress=told) as writer:
        writer.append(make_cell("L", (8,), 1.0))
    assert "unfinished" in told.texts[0]
    assert lut_file.read_bytes().startswith(whole + b'{"type": "cell", "layer": "L"')
    assert not read_lut(lut_file).torn


def test_whole_last_line_without_newline_is_kept(lut_file: Path, identity: Identity, make_cell: MakeCell) -> None:
    lut_file.write_bytes(lut_file.read_bytes().rstrip(b"\n"))
    assert len(read_lut(lut_file).cells) == 3
    with LutWriter(lut_file, identity) as writer:
        writer.append(make_cell("L", (8,), 1.0))
    assert len(read_lut(lut_file).cells) == 4


@pytest.mark.parametrize("content", ["", '{"format": "net', '{"format": "netadapt-lut", "version": 1, "iden'])
def test_torn_header_is_started_anew(tmp_path: Path, identity: Identity, content: str) -> None:
    path = tmp_path / "lut"
    path.write_text(content)
    assert stored_identity(path) is None
    with pytest.raises(FileFormatError, match="no complete first line"):
        read_lut(path)
    with LutWriter(path, identity):
        pass
    assert stored_identity(path) == identity


@pytest.mark.parametrize("content", [b"my only copy of a poem", b"\x89PNG\r\n\x1a\n", b'{"weights": [1, 2]}', b"{}\n"])
def test_writer_leaves_a_file_of_another_kind_alone(tmp_path: Path, identity: Identity, content: bytes) -> None:
    path = tmp_path / "lut"
    path.write_bytes(content)
    with pytest.raises(FileFormatError), LutWriter(path, identity):
        pass
    assert path.read_bytes() == content


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "not JSON"),
        ("nonsense", "not JSON"),
        ("[]", "object was expected"),
        ('{"type": "cell", "widths": ' + DEEP, "nested too deeply"),
        ('{"type": "cell", "type": "cell"}', "'type' appears twice"),
        ('{"type": "blob"}', "type 'blob' is unknown"),
        ('{"type": 7}', "type must be a text"),
        ('{"type": "cell"}', "layer is missing"),
        ('{"type": "cell", "layer": "\\u001b[2J"}', "cannot be printed"),
        ('{"type": "cell", "layer": "\\ud800"}', "cannot be printed"),
        ('{"type": "cell", "layer": "L", "widths": 8}', "widths must be a list"),
        ('{"type": "cell", "layer": "L", "widths": [0]}', r"widths\[0\] must be an integer from 1"),
        ('{"type": "cell", "layer": "L", "widths": [true]}', r"widths\[0\] must be an integer"),
        ('{"type": "cell", "layer": "L", "widths": [8.0]}', r"widths\[0\] must be an integer"),
        ('{"type": "cell", "layer": "L", "widths": [1' + "0" * 400 + "]}", r"widths\[0\] must be an integer"),
        ('{"type": "cell", "layer": "L", "widths": [1' + "0" * 5000 + "]}", "Exceeds the limit"),
        (
            '{"type": "cell", "layer": "L", "widths": [8], "session": "s1", "context": "isolated"}',
            "needs latency_ms or energy",
        ),
        ('{"type": "session", "id": "s1", "date": "x"}', "'s1' appears twice"),
        ('{"type": "session", "id": "s2", "date": "x", "clocks": {"mhz": [1]}}', "clocks.mhz must be a number"),
        ('{"type": "network", "plan": "h", "widths": {"a": 0}, "session": "s1"}', "widths.a must be an integer"),
        ('{"type": "reference", "layer": "L", "widths": [8], "session": "s1"}', "latency_ms is missing"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, lines: list[str], identity: Identity, line: str, reason: str) -> None:
    path = tmp_path / "lut"
    path.write_text("\n".join([lines[0], lines[1], line, lines[2]]) + "\n")
    with pytest.raises(FileFormatError, match="line 3: .*" + reason):
        read_lut(path)
    before = path.read_bytes()
    with pytest.raises(FileFormatError, match="line 3"), LutWriter(path, identity):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("stats", "reason"),
    [
        ('{"median": NaN, "p10": 1, "p90": 1, "n": 3}', "NaN is not a number"),
        ('{"median": Infinity, "p10": 1, "p90": 1, "n": 3}', "Infinity is not a number"),
        ('{"median": 1e999, "p10": 1, "p90": 1, "n": 3}', "must be finite"),
        ('{"median": -1, "p10": 1, "p90": 1, "n": 3}', "latency_ms.median must be at least 1e-09"),
        ('{"median": 1, "p10": 2, "p90": 3, "n": 3}', "p10 <= median <= p90"),
        ('{"median": 1, "p10": 1, "p90": 1, "n": 0}', "latency_ms.n must be an integer"),
        ('{"median": "1", "p10": 1, "p90": 1, "n": 3}', "latency_ms.median must be a number"),
        ("[1]", "latency_ms must be an object"),
        ('{"median": 1, "p10": 1e-10, "p90": 1, "n": 3}', "latency_ms.p10 must be at least 1e-09"),
        (
            '{"median": 1, "p10": 1, "p90": 1, "n": 3}, "energy_mj": {"total": 1e-10}',
            "energy_mj.total must be at least 1e-09",
        ),
        (
            '{"median": 1, "p10": 1, "p90": 1, "n": 3}, "details": {"pace": 1e-309}',
            "details.pace must be from 0.001 to 1000",
        ),
        ('{"median": 1, "p10": 1, "p90": 1, "n": 3}, "details": {"pace": 1001}', "details.pace must be from 0.001 to 1000"),
        ('{"median": 1, "p10": 1, "p90": 1, "n": 3}, "details": {"pace": 0}', "details.pace must be from 0.001 to 1000"),
    ],
)
def test_bad_measurement_is_named(tmp_path: Path, lines: list[str], stats: str, reason: str) -> None:
    path = tmp_path / "lut"
    line = (
        '{"type": "cell", "layer": "L", "widths": [8], "context": "isolated", "session": "s1", "latency_ms": ' + stats + "}"
    )
    path.write_text("\n".join([*lines, line]) + "\n")
    with pytest.raises(FileFormatError, match="line 4: .*" + reason):
        read_lut(path)


def test_line_of_unknown_session_is_named(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "lut"
    path.write_text("\n".join([lines[0], lines[2]]) + "\n")
    with pytest.raises(FileFormatError, match="line 2: session 's1' has not been introduced"):
        read_lut(path)


def test_bytes_that_are_no_text_are_named(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "lut"
    path.write_bytes(lines[0].encode() + b'\n{"type": "\xff"}\n')
    with pytest.raises(FileFormatError, match="line 2: it is not UTF-8"):
        read_lut(path)


def test_overlong_line_is_named(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "lut"
    path.write_text(lines[0] + '\n{"type": "' + "x" * (1 << 20) + '"}\n')
    with pytest.raises(FileFormatError, match=r"line 2: it is 10485.. bytes long"):
        read_lut(path)


def test_missing_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="does not exist; measure one with: netadapt-trt profile"):
        read_lut(tmp_path / "none")


@pytest.mark.parametrize(("version", "error"), [(2, TooNewError), (0, TooOldError)])
def test_versions_too_old_and_too_new_differ(tmp_path: Path, lines: list[str], version: int, error: type[Exception]) -> None:
    path = tmp_path / "lut"
    path.write_text(json.dumps({**json.loads(lines[0]), "version": version}) + "\n")
    with pytest.raises(error):
        read_lut(path)


@pytest.mark.parametrize("change", [{"threads": 0}, {"threads": "2"}, {"precision": "fp8"}, {"device": None}])
def test_bad_identity_is_refused(tmp_path: Path, lines: list[str], change: dict[str, object]) -> None:
    header = json.loads(lines[0])
    header["identity"].update(change)
    path = tmp_path / "lut"
    path.write_text(json.dumps(header) + "\n")
    with pytest.raises(FileFormatError, match=f"line 1: identity.{next(iter(change))}"):
        read_lut(path)


def test_other_identity_is_refused_with_key_and_both_values(lut_file: Path, identity: Identity) -> None:
    before = lut_file.read_bytes()
    other = replace(identity, threads=4, device="orin")
    with (
        pytest.raises(
            IdentityError, match=r"device: the LUT has 'fake-device', this run 'orin'; threads: the LUT has 1, this run 4"
        ),
        LutWriter(lut_file, other),
    ):
        pass
    assert lut_file.read_bytes() == before


def test_other_json_documents_are_called_by_their_name(tmp_path: Path) -> None:
    path = tmp_path / "net.plan.json"
    path.write_text(json.dumps({"format": "netadapt-plan", "version": 1}, indent=1))
    with pytest.raises(FileFormatError, match="is not a LUT: it is a JSON document of format 'netadapt-plan'"):
        read_lut(path)


def test_tables_of_two_devices_are_not_merged(tmp_path: Path, lut_file: Path, identity: Identity) -> None:
    other = tmp_path / "other"
    with LutWriter(other, replace(identity, device="orin")):
        pass
    with pytest.raises(IdentityError, match=r"different conditions \(device: 'fake-device' and 'orin'\) and stay apart"):
        merge_luts([lut_file, other], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_second_writer_is_locked_out(lut_file: Path, identity: Identity) -> None:
    with LutWriter(lut_file, identity):
        with pytest.raises(LockedError, match="written by another process"), LutWriter(lut_file, identity):
            pass
        with pytest.raises(LockedError):
            merge_luts([lut_file], lut_file)
    with LutWriter(lut_file, identity):
        pass


def test_lock_is_released_when_entering_fails(lut_file: Path, identity: Identity) -> None:
    with pytest.raises(IdentityError), LutWriter(lut_file, replace(identity, batch=2)):
        pass
    with lut_file.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_writer_refuses_what_could_not_be_read_back(lut_file: Path, identity: Identity, make_cell: MakeCell) -> None:
    before = lut_file.read_bytes()
    with LutWriter(lut_file, identity) as writer:
        for bad in (make_cell("L", (0,), 1.0), make_cell("L", (8,), 0.0), make_cell("L", (8,), float("nan"))):
            with pytest.raises(ValueError, match=r"."):
                writer.append(bad)
        with pytest.raises(ValueError, match="has not been introduced"):
            writer.append(make_cell("L", (8,), 1.0, session="other"))
    assert lut_file.read_bytes() == before


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_full_disk_is_told_and_loses_nothing(
    lut_file: Path, identity: Identity, make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    before = lut_file.read_bytes()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with LutWriter(lut_file, identity) as writer:
        monkeypatch.setattr(os, failing, full)
        with pytest.raises(OSError, match="what was measured before is kept: free some space") as caught:
            writer.append(make_cell("L", (8,), 1.0))
        monkeypatch.undo()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(lut_file))
    assert lut_file.read_bytes() == before


# Run in a child process: the limit would hold for pytest's own output too.
APPEND_WITH_FORTY_BYTES_LEFT = """
import os, pathlib, resource, sys
from netadapt_trt.lut.schema import Cell
from netadapt_trt.lut.store import LutWriter, read_lut
from netadapt_trt.spec import LatencyStats

path = pathlib.Path(sys.argv[1])
cell = Cell(layer="L", widths=(8,), latency_ms=LatencyStats(median=1.0, p10=1.0, p90=1.0, n=12), session="s1")
with LutWriter(path, read_lut(path).identity) as writer:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 40, hard))
    try:
        writer.append(cell)
    except OSError as error:
        sys.stderr.write(str(error))
        sys.exit(7)
"""


def test_half_a_line_that_still_fitted_is_taken_back(lut_file: Path) -> None:
    before = lut_file.read_bytes()
    child = subprocess.run(
        [sys.executable, "-c", APPEND_WITH_FORTY_BYTES_LEFT, str(lut_file)], capture_output=True, text=True, check=False
    )
    assert child.returncode == 7, child.stderr
    assert "free some space" in child.stderr
    assert lut_file.read_bytes() == before


def test_merge_keeps_sessions_and_drops_what_is_there_twice(
    tmp_path: Path, lut_file: Path, identity: Identity, make_cell: MakeCell
) -> None:
    other = tmp_path / "other"
    other.write_bytes(lut_file.read_bytes())  # begun as a copy
    with LutWriter(other, identity) as writer:
        writer.append(Session(id="s0", date="2025-06-01"), make_cell("Conv 3x3", (3, 8), 9.0, session="s0"))
        writer.append(ReferenceLine(layer="Conv 3x3", widths=(3, 8), latency_ms=STATS, session="s0"))
    merged = merge_luts([other, lut_file], tmp_path / "merged")
    assert list(merged.sessions) == ["s0", "s1"]
    again = read_lut(tmp_path / "merged")
    assert again.cells == merged.cells
    assert [cell.session for cell in again.cells] == ["s0", "s1", "s1", "s1"]
    assert len(again.references) == 1
    cell = again.cell("Conv 3x3", (3, 8))
    assert cell is not None
    assert cell.session == "s1"  # the later session, though it was named last
    merge_luts([tmp_path / "merged", other], tmp_path / "merged")
    assert read_lut(tmp_path / "merged").cells == again.cells


def test_merge_refuses_other_conditions_and_clashing_sessions(
    tmp_path: Path, lut_file: Path, identity: Identity, make_cell: MakeCell
) -> None:
    with LutWriter(tmp_path / "b", replace(identity, runtime_version="2")):
        pass
    with pytest.raises(IdentityError, match="runtime_version"):
        merge_luts([lut_file, tmp_path / "b"], tmp_path / "out")
    with LutWriter(tmp_path / "c", identity) as writer:
        writer.append(Session(id="s1", date="1999-01-01"))
    with pytest.raises(FileFormatError, match="session 's1' differs"):
        merge_luts([lut_file, tmp_path / "c"], tmp_path / "out")
    with pytest.raises(FileFormatError, match="nothing to merge"):
        merge_luts([], tmp_path / "out")
    assert not (tmp_path / "out").exists()
