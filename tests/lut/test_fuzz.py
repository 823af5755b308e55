"""Files that chance has damaged: the reader answers with a table or with an error of ours, nothing else."""

from __future__ import annotations

import importlib
import random
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.errors import FileFormatError, IdentityError
from netadapt_trt.lut.store import LutWriter, read_lut

if TYPE_CHECKING:
    from pathlib import Path

hostile, hostile_table = importlib.import_module("hostile"), importlib.import_module("hostile_table")


@pytest.fixture
def seed_content() -> bytes:
    content: bytes = hostile_table.seed_lut()
    return content


def test_seed_is_a_sound_table_of_every_kind_of_line(seed_content: bytes) -> None:
    assert hostile.lut_complaint(seed_content) is None
    assert hostile_table.estimates(seed_content) == dict.fromkeys(hostile_table.RESOURCES)
    for word in (b"in_network", b"neighbours", b'"pace"', b'"odd_even"', b'"mapped_share"', b'"reference"', b'"energy_mj"'):
        assert word in seed_content


def test_read_survives_thousands_of_damaged_files(seed_content: bytes) -> None:
    draw = random.Random(20260726)
    answers = [hostile.lut_complaint(hostile.mutated_lut(seed_content, draw)) for _ in range(1000)]
    messages = [answer for answer in answers if answer is not None]
    assert 250 < len(messages) < 1000
    assert all(message.startswith("fuzz") for message in messages)


def test_estimates_from_damaged_figures_are_numbers_or_refused(seed_content: bytes) -> None:
    """Warnings are errors here, too."""
    draw = random.Random(20261122)
    said: list[str | None] = []
    for number in range(30):
        data = hostile.other_figures(seed_content, draw, (1, 3, 20)[number % 3])
        if hostile.lut_complaint(data) is None:
            said += hostile_table.estimates(data).values()
    assert said.count(None) > 10
    assert all(words is None or words.startswith("fuzz ") for words in said)


def test_writer_leaves_damaged_files_alone_or_readable(tmp_path: Path, seed_content: bytes) -> None:
    draw, path = random.Random(7), tmp_path / "fuzz"
    for _ in range(200):
        content = hostile.mutated_lut(seed_content, draw)
        path.write_bytes(content)
        try:
            with LutWriter(path, hostile_table.IDENTITY):
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
