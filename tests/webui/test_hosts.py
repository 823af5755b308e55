from __future__ import annotations

import socket

import pytest

from netadapt_trt.errors import SpecError
from netadapt_trt.webui.hosts import check_name, is_known, is_local, names_of


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.0.0.2", True), ("0.0.0.0", False), ("::", False),  # noqa: S104
     ("192.0.2.7", False), ("box", False), ("", False)],
)  # fmt: skip
def test_is_local_is_what_only_this_machine_reaches(host: str, local: bool) -> None:
    assert is_local(host) == local


def test_names_of_a_local_server_are_localhost_and_what_is_allowed() -> None:
    assert names_of("127.0.0.1") == {"localhost"}
    assert names_of("127.0.0.1", ["box.example"]) == {"localhost", "box.example"}


def test_names_of_an_opened_server_are_this_machines() -> None:
    names = names_of("box.example")
    assert {"localhost", "box.example", socket.gethostname().lower()} <= names
    assert "0.0.0.0" not in names_of("0.0.0.0")  # noqa: S104


@pytest.mark.parametrize(
    ("host", "known"),
    [("localhost", True), ("LOCALHOST.", True), ("127.0.0.1", True), ("192.0.2.7", True), ("2001:db8::1", True),
     ("evil.example", False), ("localhost.evil.example", False), ("192.0.2.7.evil.example", False), ("", False),
     ("192.0.2", False)],
)  # fmt: skip
def test_is_known_takes_addresses_and_known_names(host: str, known: bool) -> None:
    assert is_known(host, {"localhost"}) == known


@pytest.mark.parametrize("text", ["http://box", "box:80", "", "a b", "*", "*.example", "-x", "x" * 64, "a..b", "[::1]"])
def test_check_name_refuses_what_is_no_name(text: str) -> None:
    with pytest.raises(SpecError, match="is no host name"):
        check_name(text)


def test_check_name_is_in_small_letters() -> None:
    assert check_name("Box.Example.") == "box.example"
