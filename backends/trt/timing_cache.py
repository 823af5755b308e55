"""The timing cache: kernels that the builder has timed before, kept in one file per device and TensorRT version.

With it similar candidates build many times faster, and one layer signature gets the same kernel every time, which takes a
source of scatter out of a LUT.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from netadapt_trt.files import write_atomic

if TYPE_CHECKING:
    from .log import Log

__all__ = ["TimingCache", "cache_directory", "cache_file"]

State = Literal["new", "used", "mismatch", "unreadable"]


def cache_directory() -> Path | None:
    """``NETADAPT_TRT_CACHE`` (None where that is ``off``, as for decoded pictures), else the user's cache directory."""
    chosen = os.environ.get("NETADAPT_TRT_CACHE")
    if chosen == "off":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(base) / "netadapt-trt"


def cache_file(directory: Path, *, device: str, architecture: str, version: str, mode: str | None) -> Path:
    """The file of one device, version and power mode, such as ``orin-sm87-maxn-trt-10.3.0.timing``.

    Kernels are chosen by their times, and those depend on the mode's clocks. ``mode`` is None where there is none.
    """
    parts = (device, architecture, *([mode] if mode else []))
    slug = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")
    return directory / f"{slug}-trt-{version}.timing"


class TimingCache:
    """One build's use of the file. ``state`` and ``notices`` say what happened; a cache never makes a build fail."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state: State = "new"
        self.notices: list[str] = []
        self._content = b""

    def attach(self, config: Any, log: Log) -> None:
        """Give the builder what the file holds; an empty cache where it is missing, damaged or made elsewhere."""
        try:
            self._content = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            self._start_empty("unreadable", f"cannot be read ({error.strerror})")
        log.clear()
        if self._content:
            cache = config.create_timing_cache(self._content)
            # Damaged bytes give an empty cache and a warning, a cache of another device or version is refused.
            refused = cache is None or not config.set_timing_cache(cache, False)
            told = [line for line in (*log.errors(), *log.warnings()) if "timing cache" in line.lower()]
            if not refused and not told:
                self.state = "used"
                return
            self._start_empty("mismatch", "is damaged or was made by another device or TensorRT version")
        empty = config.create_timing_cache(b"")
        if empty is not None:  # else the builder times with one of its own
            config.set_timing_cache(empty, False)

    def _start_empty(self, state: State, why: str) -> None:
        self.state = state
        self.notices.append(f"the timing cache {self.path} {why}: starting with an empty one, the first builds take longer")

    def save(self, config: Any) -> None:
        """Write what the build added."""
        cache = config.get_timing_cache()
        if cache is None:
            return
        content = bytes(memoryview(cache.serialize()))
        if content == self._content:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, content)
        except OSError as error:
            self.notices.append(
                f"the timing cache {self.path} cannot be written ({error.strerror}): every build starts anew; "
                "set NETADAPT_TRT_CACHE to a directory that can be written"
            )
