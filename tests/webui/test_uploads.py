from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.errors import FileFormatError, NetadaptError
from netadapt_trt.space.store import load_space, space_to_json
from netadapt_trt.webui.uploads import TooLargeError, receive_space, receive_table

if TYPE_CHECKING:
    from netadapt_trt.webui.workspace import Workspace

ROOT = Path(__file__).parents[2]
PI = ROOT / "luts" / "raspberry-pi-3b" / "pytorch-fp32.lut.jsonl"
SPACES = [load_space("fbnet-cifar")]
TEXT = "\n".join(" ".join(["0.05"] * 9) for _ in range(22)).encode()
"""A table as HANNA's: 22 layers, 9 blocks, 50 ms each."""


class Endless:
    """A body of ``size`` bytes that is made as it is read; ``taken`` is how much was."""

    def __init__(self, size: int) -> None:
        self.size, self.taken = size, 0

    def read(self, size: int, /) -> bytes:
        piece = min(size, self.size - self.taken)
        self.taken += piece
        return b"1" * piece


def left(workspace: Workspace) -> list[str]:
    return sorted(path.relative_to(workspace.root).as_posix() for path in workspace.root.rglob("*") if path.is_file())


def test_upload_of_a_text_table_is_kept(workspace: Workspace) -> None:
    kept = receive_table(workspace, io.BytesIO(TEXT), "../../rpi speed.txt", spaces=SPACES)
    assert kept.name == "tables/rpi_speed.txt"
    assert "22 layers of 9 candidates" in kept.told
    assert (workspace.root / kept.name).read_bytes() == TEXT
    assert left(workspace) == ["tables/rpi_speed.txt"]


def test_upload_of_a_packed_text_table_is_kept_unpacked(workspace: Workspace) -> None:
    kept = receive_table(workspace, io.BytesIO(gzip.compress(TEXT)), "rpi.txt.gz", spaces=SPACES)
    assert kept.name == "tables/rpi.txt"
    assert (workspace.root / kept.name).read_bytes() == TEXT
    assert [item.name for item in workspace.items("table")] == [kept.name]


@pytest.mark.parametrize("packed", [False, True])
def test_upload_of_a_lut_is_kept_under_an_ending_that_is_listed(packed: bool, workspace: Workspace) -> None:
    data = gzip.compress(PI.read_bytes()) if packed else PI.read_bytes()
    kept = receive_table(workspace, io.BytesIO(data), "pi.json", spaces=SPACES)
    assert kept.name == ("tables/pi.lut.jsonl.gz" if packed else "tables/pi.lut.jsonl")
    assert "Raspberry Pi 3 Model B" in kept.told
    assert [item.name for item in workspace.items("table")] == [kept.name]


def test_upload_never_replaces_another_file(workspace: Workspace) -> None:
    first = receive_table(workspace, io.BytesIO(TEXT), "a.txt", spaces=SPACES)
    same = receive_table(workspace, io.BytesIO(TEXT), "a.txt", spaces=SPACES)
    other = receive_table(workspace, io.BytesIO(TEXT + b"\n"), "a.txt", spaces=SPACES)
    assert [first.name, same.name, other.name] == ["tables/a.txt", "tables/a.txt", "tables/a-2.txt"]
    assert left(workspace) == ["tables/a-2.txt", "tables/a.txt"]


def test_upload_does_not_follow_a_link_of_its_name(workspace: Workspace, tmp_path: Path) -> None:
    workspace.tables.mkdir()
    (workspace.tables / "a.txt").symlink_to(tmp_path / "outside.txt")
    kept = receive_table(workspace, io.BytesIO(TEXT), "a.txt", spaces=SPACES)
    assert kept.name == "tables/a-2.txt"
    assert not (tmp_path / "outside.txt").exists()


def test_upload_that_says_it_is_too_large_is_refused_unread(workspace: Workspace) -> None:
    body = Endless(1 << 30)
    with pytest.raises(TooLargeError, match="1,073,741,824 bytes, an upload may have 67,108,864"):
        receive_table(workspace, body, "big.txt", spaces=SPACES, length=1 << 30)
    assert body.taken == 0
    assert left(workspace) == []


def test_upload_that_lies_about_its_size_ends_at_the_limit(workspace: Workspace) -> None:
    body = Endless(1 << 30)
    with pytest.raises(TooLargeError):
        receive_table(workspace, body, "big.txt", spaces=SPACES, length=None, limit=1 << 20)
    assert body.taken <= (1 << 20) + 1
    assert left(workspace) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\x00\x01\x02", "neither a LUT"),
        (b"hello", "neither a LUT"),
        (b"\x80\x04\x95", "neither a LUT"),
        (b"PK\x03\x04 zip", "neither a LUT"),
        (TEXT.replace(b"0.05", b"nan", 1), "cannot be a measurement"),
        (TEXT.replace(b"0.05", b"-1", 1), "cannot be a measurement"),
        (TEXT.replace(b"0.05 ", b"", 1), "line 1: 8 columns"),
        (TEXT[: TEXT.rindex(b"\n")], "21 rows"),
        (PI.read_bytes()[:3000] + b"\n{}\n", "line"),
        (b'{"format": "netadapt-lut", "version": 99}\n', "upgrade netadapt-trt"),
        (json.dumps(space_to_json(SPACES[0]), indent=1).encode(), "not a LUT"),
        (b"[" * 100_000, "neither a LUT"),
        (b"{" * 100_000, "not"),
        (gzip.compress(TEXT)[:-9], "my_table.txt ends in the middle"),
        (gzip.compress(TEXT)[:20] + bytes(9), "my_table.txt cannot be unpacked"),
        (gzip.compress(PI.read_bytes()[:3000] + b"\n{}\n"), "my_table.txt"),
    ],
)
def test_upload_of_a_bad_table_is_refused_and_nothing_is_left(data: bytes, words: str, workspace: Workspace) -> None:
    with pytest.raises(NetadaptError, match=words) as told:
        receive_table(workspace, io.BytesIO(data), "my table.txt", spaces=SPACES)
    assert str(workspace.root) not in str(told.value)
    assert ".upload-" not in str(told.value)
    assert left(workspace) == []


def test_upload_that_unpacks_to_gigabytes_is_refused(workspace: Workspace) -> None:
    bomb = gzip.compress(b"1 " * (1 << 26), 9)
    assert len(bomb) < 1 << 20
    with pytest.raises(FileFormatError, match="unpacks to more than"):
        receive_table(workspace, io.BytesIO(bomb), "small.txt.gz", spaces=SPACES)
    assert left(workspace) == []


def test_upload_that_is_packed_badly_is_called_by_its_name(workspace: Workspace) -> None:
    with pytest.raises(FileFormatError, match=r"^rpi\.txt\.gz ends in the middle of its compressed data"):
        receive_table(workspace, io.BytesIO(gzip.compress(TEXT)[:-9]), "rpi.txt.gz", spaces=SPACES)


def test_upload_of_a_space(workspace: Workspace) -> None:
    content = json.dumps(space_to_json(load_space("fbnet-small"))).encode()
    kept = receive_space(workspace, io.BytesIO(content), "mine.txt")
    assert kept.name == "spaces/mine.json"
    assert [item.name for item in workspace.items("space")] == ["spaces/mine.json"]


@pytest.mark.parametrize("data", [b"{}", b"no", b"\xff\xfe", b'{"format": "netadapt-space", "version": 1}'])
def test_upload_of_a_bad_space_is_refused(data: bytes, workspace: Workspace) -> None:
    with pytest.raises(NetadaptError):
        receive_space(workspace, io.BytesIO(data), "mine.json")
    assert left(workspace) == []
