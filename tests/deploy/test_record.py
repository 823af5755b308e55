from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.deploy.record import file_sha256, find_record, read_record, write_record
from netadapt_trt.errors import CheckError, FileFormatError

if TYPE_CHECKING:
    from pathlib import Path


def _model(path: Path, content: bytes) -> tuple[Path, str]:
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    write_record(path, {"files": {path.name: {"sha256": digest, "size_bytes": len(content)}}, "tag": content.decode()})
    return path, digest


def test_file_sha256_is_the_known_one_of_abc(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_record_is_found_beside_its_file(tmp_path: Path) -> None:
    path, digest = _model(tmp_path / "model.onnx", b"one")
    found = find_record(path, digest)
    assert found is not None
    assert found["tag"] == "one"


def test_record_of_another_model_is_not_overwritten(tmp_path: Path) -> None:
    first, first_digest = _model(tmp_path / "first.onnx", b"one")
    second, second_digest = _model(tmp_path / "second.onnx", b"two")
    assert read_record(tmp_path / "deploy.json")["tag"] == "one"
    for path, digest, tag in ((first, first_digest, "one"), (second, second_digest, "two")):
        found = find_record(path, digest)
        assert found is not None
        assert found["tag"] == tag


def test_record_is_replaced_when_its_model_is_written_again(tmp_path: Path) -> None:
    _model(tmp_path / "model.onnx", b"one")
    path, digest = _model(tmp_path / "model.onnx", b"two")
    assert (find_record(path, digest) or {})["tag"] == "two"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["deploy.json", "model.onnx"]


def test_record_of_a_changed_file_is_refused(tmp_path: Path) -> None:
    path, _ = _model(tmp_path / "model.onnx", b"one")
    with pytest.raises(CheckError, match="is not the file"):
        find_record(path, "0" * 64)


def test_record_is_none_without_one(tmp_path: Path) -> None:
    assert find_record(tmp_path / "model.onnx", "0" * 64) is None


def test_record_that_is_damaged_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "deploy.json").write_text("{")
    with pytest.raises(FileFormatError):
        find_record(tmp_path / "model.onnx", "0" * 64)
