"""Which names the server answers to. A page of another site may point a name of its own at this machine (DNS rebinding), and
the browser then takes both for one site: whoever asks for a name that nobody gave this machine is refused.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING

from netadapt_trt.errors import SpecError
from netadapt_trt.files import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["check_name", "is_known", "is_local", "names_of"]

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def is_local(host: str) -> bool:
    """Whether only this machine reaches what listens on ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_name(text: str) -> str:
    """``text`` as a host name in small letters. Raises SpecError for what is none: an address with a port, a URL."""
    name = _plain(text)
    if len(name) > 253 or not (_NAME.fullmatch(name) or _is_address(name)):
        raise SpecError(
            f"{shown(text)} is no host name; give the name alone, without http:// and without a port, as in box.example.org"
        )
    return name


def names_of(host: str, allowed: Iterable[str] = ()) -> frozenset[str]:
    """The names of a server that listens on ``host``: that one, this machine's own where others reach it, ``allowed``."""
    names = {"localhost", *allowed}
    if not is_local(host):
        own = socket.gethostname()
        # .local is how machines of one room find each other (mDNS).
        names |= {host, own, own.partition(".")[0], f"{own.partition('.')[0]}.local", socket.getfqdn()}
    return frozenset(plain for name in names if (plain := _plain(name)) and not _is_address(plain))


def is_known(host: str, names: Collection[str]) -> bool:
    """Whether a request for ``host`` is for this server. Any address is: nobody can point an address elsewhere."""
    plain = _plain(host)
    return plain in names or _is_address(plain)


def _plain(name: str) -> str:
    return name.strip().rstrip(".").lower()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
