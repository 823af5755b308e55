"""The reader of pickles that runs nothing: what it admits in all protocols, and everything it refuses."""

from __future__ import annotations

import importlib
import pickle  # noqa: TID251 - written here, and run once as a control
import random
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netadapt_trt.errors import FileFormatError
from netadapt_trt.lut.importers.plain_pickle import MAX_BYTES, load_plain

hostile = importlib.import_module("hostile")

PLAIN: list[Any] = [
    {"a": [1, 2.5, -7, True, None, "\u00fc\n"], (3, 4): {"b": ()}},
    {"bytes": b"\x00\xff", "far": -(2**60), "small": [0, 255, 256, 65536, 2**31]},
    [{1, 2}, frozenset({"x"}), (1, (2, (3, 4, 5, 6)))],
    OrderedDict([("first", 1), ("second", 2)]),
]
ATTACKS = hostile.attacks(Path("canary-of-names"))
READ_ANYWAY = {"a list in itself", "memo entry of 2^32"}
"""Odd, and harmless to read: what reads the table further looks at what it expects and at nothing else."""


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", PLAIN, ids=range(len(PLAIN)))
def test_plain_values_come_back_equal(value: Any, protocol: int) -> None:
    found = load_plain(pickle.dumps(value, protocol), "file")
    assert found == value
    assert type(found) is (dict if isinstance(value, OrderedDict) else type(value))


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_numbers_come_back_as_plain_ones(protocol: int) -> None:
    value = [np.float64(1.5), np.float32(-0.25), np.int64(-(2**40)), np.uint8(200), np.bool_(True), np.float16(2.0)]
    found = load_plain(pickle.dumps(value, protocol), "file")
    assert found == [1.5, -0.25, -(2**40), 200, True, 2.0]
    assert [type(item) for item in found] == [float, float, int, int, bool, float]


def test_numpy_big_endian_is_honoured() -> None:
    value = np.array([258], dtype=">i2")[0]
    data = (
        pickle.dumps(np.int16(258), 2)
        .replace(b"\x02\x01", b"\x01\x02")
        .replace(b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00>")
    )
    assert load_plain(data, "file") == value == 258


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - READ_ANYWAY - {"a set made of a large list, often"}))
def test_attack_is_refused(name: str) -> None:
    with pytest.raises(FileFormatError, match=r"^file byte \d+: "):
        load_plain(ATTACKS[name], "file")


@pytest.mark.parametrize("name", sorted(READ_ANYWAY))
def test_odd_but_harmless_is_read(name: str) -> None:
    load_plain(ATTACKS[name], "file")


def test_no_attack_leaves_a_trace_or_loads_a_module(tmp_path: Path) -> None:
    canary, before = tmp_path / "canary", set(sys.modules)
    for data in hostile.attacks(canary).values():
        if len(data) < 1000:  # the others only take long
            hostile.pickle_complaint(data)
    assert not canary.exists()
    assert "antigravity" not in set(sys.modules) - before


@pytest.mark.parametrize("name", ["os.system in protocol 2", "exec nested in protocol 4", "INST", "OBJ", "STACK_GLOBAL"])
def test_attack_would_work_on_python_s_own_reader(tmp_path: Path, name: str) -> None:
    """The control: without it, a canary that never appears would say nothing."""
    canary = tmp_path / "canary"
    pickle.loads(hostile.attacks(canary)[name])  # noqa: S301 - our own bytes, which make one empty file
    assert canary.exists()


def test_refusal_names_what_was_asked_for() -> None:
    with pytest.raises(FileFormatError, match=r"file byte \d+: it names posix\.system, .*nothing in it was run"):
        load_plain(ATTACKS["os.system nested in protocol 4"], "file")


def test_every_truncation_is_refused() -> None:
    data = hostile.table_pickle(4)
    for length in range(len(data)):
        with pytest.raises(FileFormatError):
            load_plain(data[:length], "file")


def test_file_of_more_bytes_than_admitted_is_refused() -> None:
    with pytest.raises(FileFormatError, match="at most 33554432 are read"):
        load_plain(b"N" * (MAX_BYTES + 1), "file")


def test_steps_are_counted() -> None:
    """A copy costs as many steps as it has members: ten copies of 400,000 are too many, though the file is small."""
    with pytest.raises(FileFormatError, match="more than 4000000 steps"):
        load_plain(ATTACKS["a set made of a large list, often"], "file")


def test_hundreds_of_damaged_tables_read_or_are_refused(tmp_path: Path) -> None:
    draw = random.Random(20261121)
    seeds = [hostile.table_pickle(protocol) for protocol in range(6)]
    answers = [hostile.pickle_complaint(hostile.mutated_pickle(draw.choice(seeds), draw)) for _ in range(2000)]
    refused = [answer for answer in answers if answer is not None]
    assert 1000 < len(refused) < 2000
    assert all(answer.startswith("fuzz") for answer in refused)
